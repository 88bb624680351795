use vintage_control::{Algorithm, INCOMPLETE_AFTER_RECORDS, Name};
use vintage_model::BaseModel;
use vintage_settings::LearnerConfig;

/// Settings of a learner and facts about the run it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerSettings {
    /// `[learner]`: names, updates, batches, optimizer, what is kept.
    pub learner: LearnerConfig,
    /// Seed of the run: draws adapters, and orders groups.
    pub seed: u64,
    /// Loss with its settings.
    pub algorithm: Algorithm,
    /// Run whose log is read: groups that say they are of another one are refused, unless they were
    /// replayed. `None` for the log or archive of any run.
    pub run: Option<Name>,
    /// Trains on rollouts of any policy, whatever `learner.lineages` says.
    pub any_policy: bool,
    /// Maximum staleness, in updates, of a group of a granted slot, if this learner grants slots. A
    /// later one is refused, and the oldest are trained first.
    pub max_staleness: Option<u64>,
    /// Longest prompt and completion that the model takes, in tokens.
    pub context: usize,
    /// Size of the vocabulary; every token id is below it.
    pub vocabulary: usize,
    /// Period of the versions that are kept beside the newest, for evaluation.
    pub pin_every: u64,
    /// Number of further records after which a group with missing parts is refused.
    pub incomplete_after_records: u64,
    /// Name that adapters give the model they were trained on: version 0 as it is called elsewhere.
    pub base_model: Option<BaseModel>,
    /// Topic of the archive that a share of every update comes from, as plans name it.
    pub blended: Option<String>,
}

impl LearnerSettings {
    /// Creates the settings of a learner that trains on `learner.lineages` and keeps no version
    /// for evaluation.
    pub fn new(
        learner: LearnerConfig,
        seed: u64,
        algorithm: Algorithm,
        context: usize,
        vocabulary: usize,
    ) -> Self {
        Self {
            learner,
            seed,
            algorithm,
            run: None,
            any_policy: false,
            max_staleness: None,
            context,
            vocabulary,
            pin_every: u64::MAX,
            incomplete_after_records: INCOMPLETE_AFTER_RECORDS,
            base_model: None,
            blended: None,
        }
    }

    /// Returns true if rollouts of this policy are trained on.
    pub fn trains_on(&self, policy: &str) -> bool {
        self.any_policy || self.learner.trains_on(policy)
    }
}
