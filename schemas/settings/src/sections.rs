//! Small sections of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vintage_control::M2Scope;

use crate::problems::{Problems, positive, seconds, share};

/// Section `[m2po]`: settings of the M2PO algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct M2poConfig {
    /// Budget τ on the second moment of the log-ratio over the trust-region set.
    pub threshold: f64,
    /// Tokens that share a budget (`m2po`): `batch`, `micro_batch` or `staleness`, which gives each
    /// of the ranges 0, 1, 2 to 3, 4 to 7 and so on, in updates, a budget of its own.
    pub scope: M2Scope,
    /// Bound to which |log-ratio| is clamped before `exp`, in every algorithm; clamped tokens are
    /// counted.
    pub log_ratio_clamp: f64,
}

impl Default for M2poConfig {
    fn default() -> Self {
        Self {
            threshold: 0.04,
            scope: M2Scope::Batch,
            log_ratio_clamp: 20.0,
        }
    }
}

impl M2poConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        let ok = positive(self.threshold);
        problems.require(ok, "m2po.threshold", "must be above 0");
        let ok = positive(self.log_ratio_clamp);
        problems.require(ok, "m2po.log_ratio_clamp", "must be above 0");
    }
}

/// Section `[grpo]`: settings of the GRPO algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoConfig {
    /// Clip range ε on both sides of ratio 1, or of the proximal policy (`grpo`, `m2po_areal`,
    /// `mix_ppg`, `decoupled_ppo`, `tis`, `seq_tis`, `icepop`, `seq_mis`, `geo_rs`, `k3_rs`,
    /// `sequence_mask`).
    pub clip_eps: f64,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self { clip_eps: 0.2 }
    }
}

impl GrpoConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        let ok = self.clip_eps > 0.0 && self.clip_eps < 1.0;
        problems.require(ok, "grpo.clip_eps", "must be between 0 and 1");
    }
}

/// Section `[model]`: model that a run starts from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Folder with a Hugging Face style `config.json`, `*.safetensors` and `tokenizer.json`, or
    /// `hf://NAME[@REVISION]` for a model of the Hugging Face hub, from its local cache or
    /// downloaded into it; unset = a tiny decoder of about 0.1 M parameters over the characters of
    /// the prompts.
    pub path: Option<PathBuf>,
}

/// Section `[warm_start]`: supervised steps on noisy demonstrations, before version 0. They apply
/// to the tiny decoder only; a model from a folder is used unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmStartConfig {
    /// Number of optimizer steps; 0 = none.
    pub steps: u64,
    /// Number of demonstrations per step.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub lr: f64,
    /// Number of steps over which the learning rate rises from 0.
    pub warmup: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Teacher of the demonstrations; unset = the one of the built-in task, and the rows' own answers
    /// for prompts of your own.
    pub teacher: Option<TeacherKind>,
    /// Probability of a slip of the teacher at each digit or character; without effect on the one that
    /// shuffles.
    pub slip: f64,
}

impl Default for WarmStartConfig {
    fn default() -> Self {
        Self {
            steps: 2000,
            batch: 128,
            lr: 1e-3,
            warmup: 50,
            weight_decay: 0.01,
            teacher: None,
            slip: 0.2,
        }
    }
}

impl WarmStartConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.steps == 0 || self.batch > 0,
            "warm_start.batch",
            "must be at least 1",
        );
        problems.require(positive(self.lr), "warm_start.lr", "must be above 0");
        problems.require(
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
            "warm_start.weight_decay",
            "must not be negative",
        );
        problems.require(
            share(self.slip),
            "warm_start.slip",
            "is a probability, from 0 to 1",
        );
    }
}

/// Teacher that turns prompts and answers into demonstrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeacherKind {
    /// Adds up the prompt's digits modulo 10. At a slip it writes a uniformly drawn digit, and
    /// continues the sum from there.
    RunningSum,
    /// Copies the answer. At a slip it writes a uniformly drawn character of all answers.
    Answers,
    /// Writes the characters of the answer in a random order, each order as often as any other: it shows
    /// what an answer looks like, and not which one is right. It knows no slips.
    Shuffled,
}

/// Section `[archive]`: the Parquet archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Size in bytes of its messages at which a file is closed.
    pub roll_bytes: u64,
    /// Age in seconds of its first message at which a file is closed.
    pub roll_seconds: f64,
    /// Time in seconds for which an archive waits for a store without space, permission or network
    /// before it gives up. `vintage run` waits for a bucket alone.
    pub patience_seconds: f64,
    /// Consumer group whose sinks share the partitions; unset = every sink archives all of them.
    pub group: Option<String>,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            roll_bytes: 64 << 20,
            roll_seconds: 60.0,
            patience_seconds: 600.0,
            group: None,
        }
    }
}

impl ArchiveConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.roll_bytes > 0,
            "archive.roll_bytes",
            "must be at least 1",
        );
        problems.require(
            seconds(self.patience_seconds),
            "archive.patience_seconds",
            "must be 0 or more, and no longer than a clock can count",
        );
        problems.require(
            self.roll_seconds > 0.0 && seconds(self.roll_seconds),
            "archive.roll_seconds",
            "must be above 0, and no longer than a clock can count",
        );
    }
}

/// Section `[evaluation]`: accuracy on held-out prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Number of updates between evaluations; 0 = none in between. Version 0 and the last version
    /// are always evaluated.
    pub every: u64,
    /// Number of held-out prompts in an evaluation, taken from the start of the file.
    pub prompts: usize,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            every: 25,
            prompts: 512,
        }
    }
}

impl EvaluationConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        let ok = self.prompts > 0;
        problems.require(ok, "evaluation.prompts", "must be at least 1");
    }
}

/// Section `[topics]`: partitions and replication of the Kafka topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Number of partitions of the rollouts topic.
    pub partitions: i32,
    /// Number of replicas of each partition; unset = 3 with three or more brokers, else one per
    /// broker. With 3, a record is acknowledged once 2 replicas hold it.
    pub replication: Option<i32>,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            partitions: 4,
            replication: None,
        }
    }
}

impl TopicsConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        let ok = self.partitions > 0;
        problems.require(ok, "topics.partitions", "must be at least 1");
        let ok = self.replication.is_none_or(|copies| copies > 0);
        problems.require(ok, "topics.replication", "must be at least 1");
    }
}

/// Section `[metrics]`: the endpoints of every role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address that serves live page, health and metrics, `IP:PORT`, or a port on 127.0.0.1; unset =
    /// none.
    pub listen: Option<String>,
}

/// Section `[local]`: the broker of `broker = "local"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Number of broker nodes: 1, or 3 for replication; unset = as many as its folder has, or 1.
    pub nodes: Option<u16>,
}

impl LocalConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.nodes.is_none_or(|nodes| nodes == 1 || nodes == 3),
            "local.nodes",
            "must be 1 or 3: other numbers make no quorum worth having",
        );
    }
}
