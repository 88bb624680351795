use serde::{Deserialize, Serialize};
use vintage_control::{
    KlPenalty, LoraSettings, Name, OptimizerSettings, PolicyVersion, Precision, Reuse, Training,
    UpdateNumber,
};

use crate::{
    device::Device,
    mismatch::MismatchConfig,
    name::name,
    problems::{Problems, positive, seconds, share},
    reuse::{KlConfig, ReincarnationConfig, ReplayConfig},
    start::Start,
};

/// Section `[learner]`: training, checkpoints, and sources of rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerConfig {
    /// Name of the learner, under which its plans, results and checkpoints are stored.
    pub name: Name,
    /// Policy that the learner trains and publishes.
    pub policy: Name,
    /// Total number of updates.
    pub steps: u64,
    /// Number of prompt groups per update.
    pub prompts_per_update: usize,
    /// Number of prompt and completion tokens that the model takes together. A prompt counts in every row
    /// that has it, though rows of one group have it computed once.
    pub micro_batch_tokens: usize,
    /// Device that computes updates: `cpu`, `cuda` or `cuda:N`.
    pub device: Device,
    /// Precision to which factors of matrix products are rounded; weights and moments stay f32.
    pub compute: Precision,
    /// True to keep only each layer's input for the backward pass, and compute the rest again: the
    /// same bits, less memory, more time.
    pub recompute: bool,
    /// Number of updates between checkpoints.
    pub checkpoint_every: u64,
    /// Number of updates between published versions.
    pub publish_every: u64,
    /// Number of newest versions kept in the store; version 0 and a checkpoint's base are always
    /// kept.
    pub keep_versions: u64,
    /// Number of newest checkpoints kept.
    pub keep_checkpoints: usize,
    /// Time in seconds for which a learner waits for a store that is away or full before it gives up.
    /// `vintage run` waits for a bucket alone.
    pub patience_seconds: f64,
    /// Maximum age of a group in updates; older ones are refused. Unset = no limit but
    /// `gate.max_staleness`, which applies to granted groups.
    pub max_age: Option<u64>,
    /// Source of the learner's rollouts.
    pub source: SourceKind,
    /// Folder or URL of a run whose archive is read with `source = "archive"` (unset = this run's
    /// own) or gives groups with `source = "blend"` or `"hybrid"`.
    pub archive: Option<String>,
    /// Share of an update's groups that `source = "blend"` and `"hybrid"` take from the archive.
    pub blend_share: f64,
    /// Number of the archive's groups that `source = "hybrid"` reads ahead, and from which it draws.
    pub archive_ahead: usize,
    /// Number of optimizer steps on each update's groups.
    pub reuse: u32,
    /// Position at which the learner begins to read, if it never read before: `earliest`, `latest`,
    /// `offset=P:O,…`, `time=…` or `version=V`.
    pub start: String,
    /// Learner whose batches this one trains on, by following its plans; unset = plan itself.
    pub follow_plans: Option<Name>,
    /// Policies whose rollouts the learner trains on; empty = its own.
    pub lineages: Vec<Name>,
    /// Section `[learner.optimizer]`: AdamW.
    pub optimizer: OptimizerSettings,
    /// Section `[learner.lora]`: adapters that are trained instead of the model's own weights.
    pub lora: LoraConfig,
    /// Section `[learner.publish]`: form in which versions are stored for producers.
    pub publish: PublishConfig,
    /// Section `[learner.replay]`: groups of earlier updates that are trained again.
    pub replay: ReplayConfig,
    /// Section `[learner.kl]`: penalty on the distance from earlier versions.
    pub kl: KlConfig,
    /// Section `[learner.reincarnation]`: going on from a version as from a new model.
    pub reincarnation: ReincarnationConfig,
    /// Section `[learner.mismatch]`: checks of the log-probs that engines report.
    pub mismatch: MismatchConfig,
}

/// Section `[learner.publish]`: form in which versions are stored for producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// Precision to which published weights are rounded: `f32` or `bf16`. Training stays in f32, and
    /// version 0 as it was given.
    pub precision: Precision,
    /// Number of published versions of which one at least is stored whole; the others are stored as
    /// the change from the version before. 1 stores every version whole. Versions that are evaluated
    /// or have a checkpoint are whole, too.
    pub full_every: u64,
    /// True if the versions of a run that trains adapters (`learner.lora.rank`) are stored as their
    /// adapters alone, in PEFT's files, and read as version 0 with them merged. The last version is
    /// stored whole.
    pub adapters: bool,
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            full_every: 1,
            adapters: true,
        }
    }
}

/// Section `[learner.lora]`: LoRA adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank of the adapters; unset = no adapters, every weight is trained.
    pub rank: Option<usize>,
    /// Scale of the adapters: their output is multiplied by alpha / rank.
    pub alpha: f64,
    /// Linear layers that have an adapter, by their PEFT names.
    pub target_modules: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: None,
            alpha: 32.0,
            target_modules: LoraSettings::all_modules(),
        }
    }
}

impl From<Option<LoraSettings>> for LoraConfig {
    fn from(lora: Option<LoraSettings>) -> Self {
        lora.map_or_else(Self::default, |lora| Self {
            rank: Some(lora.rank),
            alpha: lora.alpha,
            target_modules: lora.target_modules,
        })
    }
}

impl LoraConfig {
    fn check(&self, problems: &mut Problems) {
        if let Some(lora) = &self.settings()
            && let Some((field, problem)) = lora.problem()
        {
            let key = match field {
                "rank" => "learner.lora.rank",
                "alpha" => "learner.lora.alpha",
                _ => "learner.lora.target_modules",
            };
            problems.refuse(key, problem);
        }
        problems.require(
            self.rank.is_some() || *self == Self::default(),
            "learner.lora.rank",
            "is unset, and without it the other settings of learner.lora do nothing: set it, or \
             leave them out",
        );
    }

    /// Returns the settings of the adapters as plans record them; `None` without adapters.
    pub fn settings(&self) -> Option<LoraSettings> {
        self.rank.map(|rank| LoraSettings {
            rank,
            alpha: self.alpha,
            target_modules: self.target_modules.clone(),
        })
    }
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            name: name("lead"),
            policy: name("lead"),
            steps: 400,
            prompts_per_update: 16,
            micro_batch_tokens: 8192,
            device: Device::Cpu,
            compute: Precision::F32,
            recompute: false,
            checkpoint_every: 25,
            publish_every: 1,
            keep_versions: 4,
            keep_checkpoints: 3,
            patience_seconds: 600.0,
            max_age: None,
            source: SourceKind::Log,
            archive: None,
            blend_share: 0.25,
            archive_ahead: 256,
            reuse: 1,
            start: "earliest".to_owned(),
            follow_plans: None,
            lineages: Vec::new(),
            optimizer: OptimizerSettings {
                lr: 1e-4,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.01,
                decay_vectors: true,
                grad_clip: 1.0,
            },
            lora: LoraConfig::default(),
            publish: PublishConfig::default(),
            replay: ReplayConfig::default(),
            kl: KlConfig::default(),
            reincarnation: ReincarnationConfig::default(),
            mismatch: MismatchConfig::default(),
        }
    }
}

/// Source of a learner's rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Log of the run.
    Log,
    /// Archive, read from its beginning to its end. The plans are a function of the archive and the
    /// seed alone, whether or not the learner was killed.
    Archive,
    /// Log of the run, and another run's archive, which gives a share of every update's groups.
    Blend,
    /// Log and archive as in `blend`, with the archive's groups in an order that the seed draws: archive and log
    /// advance together, as in H2O and HyGLOW (arXiv 2401.09681).
    Hybrid,
}

impl SourceKind {
    /// Returns true if an archive gives a share of every update's groups.
    pub fn blends(self) -> bool {
        matches!(self, Self::Blend | Self::Hybrid)
    }
}

impl LearnerConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        for (ok, key) in [
            (self.steps > 0, "learner.steps"),
            (self.prompts_per_update > 0, "learner.prompts_per_update"),
            (self.micro_batch_tokens > 0, "learner.micro_batch_tokens"),
            (self.checkpoint_every > 0, "learner.checkpoint_every"),
            (self.publish_every > 0, "learner.publish_every"),
            (self.publish.full_every > 0, "learner.publish.full_every"),
            (self.keep_versions > 0, "learner.keep_versions"),
            (self.keep_checkpoints > 0, "learner.keep_checkpoints"),
            (self.reuse > 0, "learner.reuse"),
            (self.archive_ahead > 0, "learner.archive_ahead"),
        ] {
            problems.require(ok, key, "must be at least 1");
        }
        problems.require(
            seconds(self.patience_seconds),
            "learner.patience_seconds",
            "must be 0 or more, and no longer than a clock can count",
        );
        self.check_source(problems);
        problems.require(
            self.follow_plans.as_ref() != Some(&self.name),
            "learner.follow_plans",
            "must name another learner",
        );
        if let Err(why) = self.start.parse::<Start>() {
            problems.refuse("learner.start", why);
        }
        self.lora.check(problems);
        self.check_reuse(problems);
        self.mismatch.check(problems);
        check_optimizer(&self.optimizer, problems);
    }

    fn check_source(&self, problems: &mut Problems) {
        problems.require(
            self.archive.is_none() || self.source != SourceKind::Log,
            "learner.archive",
            "is read with learner.source = \"archive\", \"blend\" or \"hybrid\" only",
        );
        problems.require(
            self.archive.is_some() || !self.source.blends(),
            "learner.archive",
            "must name another run with learner.source = \"blend\" or \"hybrid\": the own archive holds what the \
             log holds",
        );
        problems.require(
            !self.source.blends()
                || (share(self.blend_share)
                    && (1..self.prompts_per_update).contains(&self.blended_groups())),
            "learner.blend_share",
            "must come to at least one group of learner.prompts_per_update, and leave one to the log",
        );
    }

    fn check_reuse(&self, problems: &mut Problems) {
        self.replay.check(self.prompts_per_update, problems);
        self.kl.check(self.publish_every, problems);
        self.reincarnation.check(self.steps, problems);
        problems.require(
            self.blended_groups() + self.replayed_groups() < self.prompts_per_update,
            "learner.replay.share",
            "and learner.blend_share together must leave a group of learner.prompts_per_update to \
             the log",
        );
    }

    /// Returns the use of data more than once that the plan of `update` records.
    pub fn reuse_of(&self, update: UpdateNumber) -> Reuse {
        let past = self.reincarnation.is_past(update);
        let kl = (self.kl.beta > 0.0).then(|| KlPenalty {
            beta: self.kl.beta,
            share: self.kl.share(update),
            reference: self.reincarnation.reference(update),
            previous: PolicyVersion(update.version_before().0.saturating_sub(1)),
        });
        Reuse {
            passes: if past { 1 } else { self.reuse },
            replay: self.replay.rule().filter(|_| !past),
            kl,
            reset_optimizer: self.reincarnation.reset_optimizer
                && self.reincarnation.at == Some(update.0),
        }
    }

    /// Returns the settings of training that plans record: precisions, recomputation and adapters.
    pub fn training(&self) -> Training {
        Training {
            compute: self.compute,
            recompute: self.recompute,
            lora: self.lora.settings(),
            publish: self.publish.precision,
        }
    }

    /// Returns the number of groups per update that come from the blended archive.
    pub fn blended_groups(&self) -> usize {
        if self.source.blends() {
            (self.prompts_per_update as f64 * self.blend_share).round() as usize
        } else {
            0
        }
    }

    /// Returns the number of groups per update that earlier updates trained.
    pub fn replayed_groups(&self) -> usize {
        (self.prompts_per_update as f64 * self.replay.share).round() as usize
    }

    /// Returns the number of new groups per update that come from the run's log.
    pub fn live_groups(&self) -> usize {
        let others = self.blended_groups() + self.replayed_groups();
        self.prompts_per_update.saturating_sub(others)
    }

    /// Returns true if rollouts of this policy are trained on.
    pub fn trains_on(&self, policy: &str) -> bool {
        match &self.lineages[..] {
            [] => self.policy.as_str() == policy,
            trained_on => trained_on.iter().any(|name| name.as_str() == policy),
        }
    }

    /// Returns the policies that the learner trains on: those in `lineages`, or its own if none.
    pub fn trained_policies(&self) -> Vec<Name> {
        if self.lineages.is_empty() {
            vec![self.policy.clone()]
        } else {
            self.lineages.clone()
        }
    }
}

fn check_optimizer(optimizer: &OptimizerSettings, problems: &mut Problems) {
    problems.require(
        positive(optimizer.lr),
        "learner.optimizer.lr",
        "must be above 0",
    );
    for (key, beta) in [
        ("learner.optimizer.beta1", optimizer.beta1),
        ("learner.optimizer.beta2", optimizer.beta2),
    ] {
        problems.require(
            (0.0..1.0).contains(&beta),
            key,
            "must be at least 0 and below 1",
        );
    }
    problems.require(
        positive(optimizer.eps),
        "learner.optimizer.eps",
        "must be above 0",
    );
    problems.require(
        optimizer.weight_decay >= 0.0 && optimizer.weight_decay.is_finite(),
        "learner.optimizer.weight_decay",
        "must not be negative",
    );
    problems.require(
        positive(optimizer.grad_clip),
        "learner.optimizer.grad_clip",
        "must be above 0 and finite; 1e30 clips nothing",
    );
}
