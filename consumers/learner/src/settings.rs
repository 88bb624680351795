use serde::{Deserialize, Serialize};
use vintage_control::{Algorithm, Name, OptimizerSettings, Training};
use vintage_model::{BaseModel, Place};

/// Settings of a learner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the learner, under which its plans, results and checkpoints are stored.
    pub learner: Name,
    /// Lineage that the learner trains and whose versions it publishes.
    pub policy: Name,
    /// Lineages whose rollouts the learner trains on; `None` means any.
    pub lineages: Option<Vec<String>>,
    /// Total number of updates.
    pub steps: u64,
    /// Seed of the run, from which initial adapters are drawn; plans record it.
    pub seed: u64,
    /// Prompt groups per update, those of a blended archive included.
    pub groups_per_update: usize,
    /// Maximum tokens (prompt and completion) per micro-batch.
    pub micro_batch_tokens: usize,
    /// Maximum length of prompt and completion that the model takes, in tokens.
    pub context: usize,
    /// Size of the vocabulary; every token id is below it.
    pub vocabulary: usize,
    /// Number of updates between checkpoints.
    pub checkpoint_every: u64,
    /// Number of updates between published versions.
    pub publish_every: u64,
    /// Number of newest versions kept in the store; version 0 and the versions of checkpoints are
    /// always kept.
    pub keep_versions: u64,
    /// Number of newest checkpoints kept.
    pub keep_checkpoints: usize,
    /// Divisor of the versions that are also kept, for evaluation.
    pub pin_every: u64,
    /// Maximum staleness in updates, above which a group is refused; `None` trains on any age.
    pub max_age: Option<u64>,
    /// Number of further records after which a group with missing parts is refused.
    pub incomplete_after_records: u64,
    /// Algorithm of the loss, with its settings.
    pub algorithm: Algorithm,
    /// Settings of the optimizer.
    pub optimizer: OptimizerSettings,
    /// Precision, recomputation and adapters of training.
    pub training: Training,
    /// Base model that saved adapters name: version 0, by the name it has elsewhere.
    #[serde(default)]
    pub base_model: Option<BaseModel>,
    /// Place at which updates are computed.
    pub device: Place,
    /// Archive that provides a share of every update, if any.
    pub blend: Option<Blend>,
}

/// Share of every update that comes from an archive instead of the run's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blend {
    /// Archived topic, as plans name it.
    pub source: String,
    /// Number of groups per update that come from the archive.
    pub groups: usize,
}

impl Settings {
    /// Returns true if the learner trains on rollouts of this lineage.
    pub fn trains_on(&self, policy: &str) -> bool {
        match &self.lineages {
            None => true,
            Some(lineages) => lineages.iter().any(|lineage| lineage == policy),
        }
    }

    /// Returns the number of groups per update that come from the run's own log.
    pub fn own_groups(&self) -> usize {
        self.groups_per_update - self.blend.as_ref().map_or(0, |blend| blend.groups)
    }
}
