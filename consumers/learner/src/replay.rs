//! Re-running a learner's plans from its log, and comparing bits.

use std::collections::BTreeMap;

use vintage_control::{PartitionResume, Plan, PolicyVersion, Sha256};
use vintage_model::ModelConfig;
use vintage_settings::LearnerConfig;
use vintage_store::{Records, Weights};

use crate::{
    Error, Extent, Result, Settings, fingerprint,
    intake::{Announced, Intake, ReadyGroup},
    source::Source,
    trainer::{Saved, Trainer, in_order, model_config, what_is_missing},
};

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Updates run again.
    pub updates: u64,
    /// Digest of the last version.
    pub weights_sha256: Sha256,
    /// `model.safetensors` of the last version.
    pub weights: bytes::Bytes,
    /// Where the record and this machine first disagree.
    pub deviation: Option<Deviation>,
}

/// The first disagreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// The update.
    pub update: PolicyVersion,
    /// What differs.
    pub detail: String,
    /// Whether plan and machine have other fingerprints, so that other bits are no fault.
    pub other_machine: bool,
    /// Whether updates were computed on a card, which need not repeat its bits either.
    pub on_card: bool,
}

/// What a replay reads.
pub struct Recording<'a> {
    /// The run's rollouts.
    pub source: &'a mut dyn Source,
    /// Where the learner began to read them; empty: at the beginning.
    pub start: &'a [PartitionResume],
    /// The archive that was blended in, if one was.
    pub blended: Option<&'a mut dyn Source>,
    /// How far the learner came by all its records: where its plans must reach.
    pub extent: &'a Extent,
}

/// Intakes of a replay, made at its first plan.
struct Intakes {
    own: Intake,
    blended: Option<Intake>,
}

impl Intakes {
    fn new(plan: &Plan, config: &ModelConfig, start: &[PartitionResume]) -> Self {
        let settings = settings_of(plan, config.max_position_embeddings, config.vocab_size);
        Self {
            own: Intake::new(settings, start, &BTreeMap::new()),
            blended: None,
        }
    }

    /// Reads until every record of `plan` has come, and takes the plan's groups.
    async fn groups_of(
        &mut self,
        plan: &Plan,
        config: &ModelConfig,
        recording: &mut Recording<'_>,
    ) -> Result<Vec<ReadyGroup>> {
        let own = read(plan, &mut self.own, recording.source).await?;
        let groups = plan.groups.iter().map(|group| &group.source);
        let refused = plan.rejections.iter().map(|refused| &refused.source);
        let Some(name) = groups.chain(refused).flatten().next() else {
            return Ok(own);
        };
        let Some(source) = recording.blended.as_deref_mut() else {
            return Err(Error::Settings(format!(
                "plan {} blends in groups of {name}, and no archive of it is at hand: name the \
                 folder that holds it as learner.archive in the config.toml of the learner",
                plan.version
            )));
        };
        let intake = self
            .blended
            .get_or_insert_with(|| Self::new(plan, config, &[]).own.of_archive(name));
        let blended = read(plan, intake, source).await?;
        Ok(in_order(plan, own, blended))
    }

    fn finish(&mut self, plan: &Plan) {
        self.own.finish(plan);
        if let Some(blended) = &mut self.blended {
            blended.finish(plan);
        }
    }
}

async fn read(
    plan: &Plan,
    intake: &mut Intake,
    source: &mut dyn Source,
) -> Result<Vec<ReadyGroup>> {
    loop {
        if let Some(groups) = intake.take_planned(plan)? {
            return Ok(groups);
        }
        let Some(incoming) = source.next().await? else {
            return Err(what_is_missing(plan, intake));
        };
        // A recorded log holds only groups of announced versions.
        intake.take(incoming, Announced::Any)?;
    }
}

/// Runs every plan of a learner from version 0 and compares each version's digest with those that
/// the next plan, the result, the checkpoint and the published weights recorded, whichever are
/// there. Where a plan is missing though other records are of later updates, that is a deviation.
pub async fn replay(
    records: &Records,
    weights: &Weights,
    mut recording: Recording<'_>,
    mut progress: impl FnMut(PolicyVersion),
) -> Result<Replayed> {
    let mut deviation = None;
    let mut next = match records.plan(PolicyVersion::ZERO).await {
        Ok(next) => next,
        Err(error) => {
            deviation = Some(finding(PolicyVersion::ZERO, error.into())?);
            None
        }
    };
    let (training, seed, device) = next.as_ref().map_or_else(Default::default, |plan| {
        let device = fingerprint::device_of(&plan.fingerprint);
        (plan.training.clone(), plan.seed, device)
    });
    let mut trainer = Trainer::load(weights, Saved::default(), &training, seed, device).await?;
    let config = model_config(weights).await?;
    let mut intakes: Option<Intakes> = None;
    let here = trainer.fingerprint().clone();
    while let Some(plan) = next {
        let update = trainer.version();
        if plan.version != update {
            let detail = format!("its plan says that it is of update {}", plan.version);
            deviation = Some(finding(update, Error::Record(detail))?);
            break;
        }
        let start = recording.start;
        let intakes = intakes.get_or_insert_with(|| Intakes::new(&plan, &config, start));
        let groups = intakes.groups_of(&plan, &config, &mut recording).await;
        let trained = match groups {
            Ok(groups) => trainer.run(plan.clone(), groups).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = trained {
            deviation = Some(finding(update, error)?);
            break;
        }
        intakes.finish(&plan);
        progress(trainer.version());
        next = match records.plan(trainer.version()).await {
            Ok(next) => next,
            Err(error) => {
                deviation = Some(finding(trainer.version(), error.into())?);
                break;
            }
        };
        let computed = trainer.weights_sha256();
        let recorded = match recorded_digests(records, weights, update, next.as_ref()).await {
            Ok(recorded) => recorded,
            Err(error) => {
                deviation = Some(finding(update, error)?);
                break;
            }
        };
        let other = recorded.into_iter().find(|digest| *digest != computed);
        if let Some(recorded) = other {
            let detail = Error::Diverged {
                update,
                computed,
                recorded,
            }
            .to_string();
            let other_machine = plan.fingerprint != here;
            deviation = Some(Deviation {
                update,
                detail,
                other_machine,
                on_card: !trainer.is_exact(),
            });
            break;
        }
    }
    if deviation.is_none() {
        let update = trainer.version();
        let gap = recording.extent.gap(update);
        deviation = gap.map(|detail| Deviation {
            update,
            detail,
            other_machine: false,
            on_card: false,
        });
    }
    Ok(Replayed {
        updates: trainer.version().0,
        weights_sha256: trainer.weights_sha256(),
        weights: trainer.weights().await?,
        deviation,
    })
}

/// What speaks against the record, as a deviation at `update`; any other failure as it is.
fn finding(update: PolicyVersion, error: Error) -> Result<Deviation> {
    let against = matches!(
        error,
        Error::ContentChanged { .. }
            | Error::PlannedButRefused { .. }
            | Error::RecordMissing { .. }
            | Error::Record(_)
            | Error::Diverged { .. }
            | Error::NotFinite { .. }
            | Error::Weigh { .. }
            | Error::Store(vintage_store::Error::Json { .. })
    );
    if !against {
        return Err(error);
    }
    Ok(Deviation {
        update,
        detail: error.to_string(),
        other_machine: false,
        on_card: false,
    })
}

/// What was recorded of the version that `update` gave: by the plan after it, its result, its
/// checkpoint and its published weights.
async fn recorded_digests(
    records: &Records,
    weights: &Weights,
    update: PolicyVersion,
    next: Option<&Plan>,
) -> Result<Vec<Sha256>> {
    let result = records.result(update).await?;
    let checkpoint = records.checkpoint(update.next()).await?;
    let published = weights.manifest(update.next()).await?;
    // A plan of another update says nothing of this version.
    let next = next.filter(|plan| plan.version == update.next());
    let said = [
        next.map(|plan| plan.weights_sha256),
        result.map(|result| result.weights_sha256),
        checkpoint.map(|manifest| manifest.weights_sha256),
        published.map(|manifest| manifest.weights_sha256),
    ];
    Ok(said.into_iter().flatten().collect())
}

/// Settings as far as a plan and its model tell them: a replay chooses nothing.
fn settings_of(plan: &Plan, context: usize, vocabulary: usize) -> Settings {
    let learner = LearnerConfig {
        name: plan.learner.clone(),
        policy: plan.policy.clone(),
        steps: u64::MAX,
        prompts_per_update: usize::MAX,
        micro_batch_tokens: usize::MAX,
        compute: plan.training.compute,
        recompute: plan.training.recompute,
        checkpoint_every: u64::MAX,
        keep_versions: u64::MAX,
        keep_checkpoints: usize::MAX,
        optimizer: plan.optimizer.clone(),
        lora: plan.training.lora.clone().into(),
        ..LearnerConfig::default()
    };
    Settings {
        any_policy: true,
        pin_every: 1,
        incomplete_after_records: u64::MAX >> 1,
        ..Settings::new(
            learner,
            plan.seed,
            plan.algorithm.clone(),
            context,
            vocabulary,
        )
    }
}
