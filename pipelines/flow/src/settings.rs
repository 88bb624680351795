//! Conversion of a run's configuration to the settings of each role.

use std::path::Path;

use vintage_archive::Reader;
use vintage_control::{INCOMPLETE_AFTER_RECORDS, Name, PolicyVersion};
use vintage_learner::{Blend, Settings, trainer::model_config};
use vintage_model::BaseModel;
use vintage_rollout::{GateConfig, PromptsConfig, RolloutConfig};
use vintage_store::Weights;

use crate::{Result, config};

/// Returns the settings of a run's learner, which blends in the archive `blended` if there is one.
pub(crate) async fn learner_settings(
    config: &config::RunConfig,
    weights: &Weights,
    blended: Option<&Reader>,
) -> Result<Settings> {
    let model = model_config(weights).await?;
    let learner = &config.learner;
    Ok(Settings {
        learner: learner.name.clone(),
        policy: learner.policy.clone(),
        lineages: Some(
            learner
                .trained_lineages()
                .iter()
                .map(ToString::to_string)
                .collect(),
        ),
        steps: learner.steps,
        seed: config.seed,
        groups_per_update: learner.prompts_per_update,
        micro_batch_tokens: learner.micro_batch_tokens,
        context: model.max_position_embeddings,
        vocabulary: model.vocab_size,
        checkpoint_every: learner.checkpoint_every,
        publish_every: learner.publish_every,
        keep_versions: learner.keep_versions,
        keep_checkpoints: learner.keep_checkpoints,
        pin_every: if config.evaluation.every > 0 {
            config.evaluation.every
        } else {
            u64::MAX
        },
        max_age: learner.max_age,
        incomplete_after_records: INCOMPLETE_AFTER_RECORDS,
        algorithm: config.algorithm(),
        optimizer: learner.optimizer.clone(),
        training: learner.training(),
        base_model: Some(base_model(config, weights)?),
        device: learner.device,
        blend: blended.map(|archive| Blend {
            source: archive.topic().to_owned(),
            groups: learner.blended_groups(),
        }),
    })
}

/// Returns the name of the base model: the folder or hub model behind `model.path` if it is found,
/// else the location of version 0 in the store.
fn base_model(config: &config::RunConfig, weights: &Weights) -> Result<BaseModel> {
    let path = config.model.path.as_deref();
    let named = path.map_or(Ok(None), BaseModel::of)?;
    Ok(named.unwrap_or_else(|| BaseModel {
        name_or_path: weights.location(PolicyVersion::ZERO),
        revision: None,
    }))
}

/// Returns the settings of a run's local producer.
pub(crate) fn rollout_config(config: &config::RunConfig, prompts: &Path) -> Result<RolloutConfig> {
    let rollout = &config.rollout;
    let rollout = RolloutConfig {
        producer: producer_name(),
        prompts: PromptsConfig {
            path: prompts.to_owned(),
        },
        group_size: rollout.group_size,
        max_tokens: rollout.max_tokens,
        temperature: rollout.temperature as f32,
        top_p: rollout.top_p as f32,
        top_k: rollout.top_k,
        concurrent_groups: rollout.concurrent_groups,
        gate: GateConfig {
            max_staleness: config.gate.max_staleness,
            exact: config.gate.exact,
        },
        reward: rollout.reward.clone(),
    };
    rollout.check()?;
    Ok(rollout)
}

fn producer_name() -> Name {
    RolloutConfig::default().producer
}
