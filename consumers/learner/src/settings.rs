use serde::{Deserialize, Serialize};
use vintage_control::{Algorithm, Name, OptimizerSettings, Training};
use vintage_model::{BaseModel, Place};

/// What a learner needs to know before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its name: of its plans, results and checkpoints.
    pub learner: Name,
    /// The lineage it trains and whose versions it publishes.
    pub policy: Name,
    /// Lineages whose rollouts it trains on; `None` = any.
    pub lineages: Option<Vec<String>>,
    /// Updates to do in all.
    pub steps: u64,
    /// The run's seed, for the record.
    pub seed: u64,
    /// Prompt groups an update consumes.
    pub groups_per_update: usize,
    /// Tokens (prompt and completion) that go through the model together.
    pub micro_batch_tokens: usize,
    /// Longest prompt and completion the model takes.
    pub context: usize,
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Updates between checkpoints.
    pub checkpoint_every: u64,
    /// Updates between published versions.
    pub publish_every: u64,
    /// Newest versions kept in the store; version 0 and checkpoints' versions always are.
    pub keep_versions: u64,
    /// Newest checkpoints kept.
    pub keep_checkpoints: usize,
    /// Every version divisible by this is kept as well, for evaluation.
    pub pin_every: u64,
    /// Groups older than this many updates are refused; `None` trains on any age.
    pub max_age: Option<u64>,
    /// A group whose parts are still missing after this many further records is refused.
    pub incomplete_after_records: u64,
    /// The loss.
    pub algorithm: Algorithm,
    /// The optimizer.
    pub optimizer: OptimizerSettings,
    /// What of the model is trained, and how.
    pub training: Training,
    /// What adapters say they were trained on: version 0 by the name it has elsewhere.
    #[serde(default)]
    pub base_model: Option<BaseModel>,
    /// Where updates are computed.
    pub device: Place,
    /// Another log that a share of every update comes from.
    pub blend: Option<Blend>,
}

/// Groups out of an archive, beside those of the run's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blend {
    /// The archived topic, as plans name it.
    pub source: String,
    /// Groups of an update that come from it.
    pub groups: usize,
}

impl Settings {
    /// Whether rollouts of this lineage are trained on.
    pub fn trains_on(&self, policy: &str) -> bool {
        match &self.lineages {
            None => true,
            Some(lineages) => lineages.iter().any(|lineage| lineage == policy),
        }
    }

    /// Groups of an update that come from the run's own log.
    pub fn own_groups(&self) -> usize {
        self.groups_per_update - self.blend.as_ref().map_or(0, |blend| blend.groups)
    }
}
