use std::collections::BTreeMap;

use vintage_control::PolicyVersion;

/// What a producer just did, for progress displays. Counts are of this step, not cumulative.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ProducerEvent {
    /// The engine swapped weights.
    Loaded {
        /// To this version.
        version: PolicyVersion,
        /// Time it took.
        seconds: f64,
    },
    /// The gate is closed; the next event but those of groups on their way is `Waited`.
    Waiting {
        /// Newest version announced, if any.
        version: Option<PolicyVersion>,
    },
    /// The gate has opened again, or the producer stops.
    Waited {
        /// Time it was closed.
        seconds: f64,
    },
    /// A call of the engine began.
    Sampling {
        /// Groups of the call.
        groups: u64,
    },
    /// One call of the engine is done.
    Sampled {
        /// Version that sampled.
        version: PolicyVersion,
        /// Groups of the call.
        groups: u64,
        /// Completions.
        rows: u64,
        /// Completion tokens.
        tokens: u64,
        /// Time it took.
        seconds: f64,
    },
    /// A group got no reward and will not be published.
    RewardFailed {
        /// Its prompt.
        prompt_id: String,
        /// Class of the failure.
        reason: &'static str,
        /// In words.
        detail: String,
    },
    /// The log has acknowledged a group.
    Published {
        /// Its number.
        seq: u64,
        /// The update it is for; −1 for any.
        batch: i64,
        /// Newest version that sampled any of its tokens.
        version: PolicyVersion,
        /// Completions.
        rows: u64,
        /// Completion tokens.
        tokens: u64,
        /// Payload bytes.
        bytes: u64,
        /// Messages it was split into.
        parts: u32,
        /// Mean reward of its completions.
        reward: f32,
        /// Whether they all have this one: then nothing can be learned from them.
        equal: bool,
        /// Completions that ended at the limit on their length.
        cut: u64,
    },
}

/// What one life of a producer did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProducerSummary {
    /// Value of its `producer` header.
    pub producer: String,
    /// Groups the log acknowledged.
    pub groups: u64,
    /// Completions of these.
    pub rows: u64,
    /// Completion tokens of these.
    pub tokens: u64,
    /// Groups not published for want of a reward, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Time in the engine.
    pub sampling_seconds: f64,
    /// Time swapping weights.
    pub loading_seconds: f64,
    /// Time the gate was closed.
    pub waiting_seconds: f64,
}
