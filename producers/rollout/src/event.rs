use std::collections::BTreeMap;

use vintage_control::{Offset, Partition, PolicyVersion};
use vintage_trajectory::{Excerpt, GroupId};

/// Progress event of a producer. Counts are those of this event, not cumulative.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ProducerEvent {
    /// Weights that the engine has just loaded.
    Loaded {
        /// Version that was loaded.
        version: PolicyVersion,
        /// Duration of the load, in seconds.
        seconds: f64,
    },
    /// There are no leases to begin, or another version was announced and there are still none. The next event
    /// is `Waiting` or `Waited`, apart from events of groups already sampled.
    Waiting {
        /// Newest version announced, if any.
        version: Option<PolicyVersion>,
    },
    /// There are leases again, or the producer ends.
    Waited {
        /// Time for which there were no leases, in seconds.
        seconds: f64,
        /// True if the producer was stopped while it waited.
        stopped: bool,
    },
    /// The engine samples.
    Sampling {
        /// Number of groups that it is sampling.
        groups: u64,
    },
    /// Groups are sampled. If others are still being sampled, another `Sampling` follows at once.
    Sampled {
        /// Version that the engine holds.
        version: PolicyVersion,
        /// Number of groups.
        groups: u64,
        /// Number of completions.
        rows: u64,
        /// Number of completion tokens.
        tokens: u64,
        /// Time since the last `Sampled`, or since the engine began to sample, in seconds.
        seconds: f64,
    },
    /// The engine could not sample a group, which is given up.
    SamplingFailed {
        /// Id of the group's prompt.
        prompt_id: String,
        /// Class of the failure, such as `out_of_vocabulary`.
        reason: &'static str,
        /// Description of the failure.
        detail: String,
    },
    /// A group got no reward and will not be published.
    RewardFailed {
        /// Id of the group.
        group: GroupId,
        /// Id of the group's prompt.
        prompt_id: String,
        /// Class of the failure, such as `timeout`.
        reason: &'static str,
        /// Description of the failure.
        detail: String,
    },
    /// The log has acknowledged a group.
    Published {
        /// Id of the group.
        group: GroupId,
        /// Partition that holds the group.
        partition: Partition,
        /// Offset of its first message.
        offset: Offset,
        /// Sequence number of the group within its producer process, from 0.
        seq: u64,
        /// Update that the group is for; −1 for any.
        batch: i64,
        /// Newest version that sampled any of the group's tokens.
        version: PolicyVersion,
        /// Number of completions.
        rows: u64,
        /// Number of completion tokens.
        tokens: u64,
        /// Payload size in bytes, over all parts.
        bytes: u64,
        /// Number of messages that hold the group.
        parts: u32,
        /// Mean reward of the completions.
        reward: f32,
        /// True if all completions have the same reward, so that the group gives no gradient.
        equal: bool,
        /// Number of completions that ended at the length limit.
        cut: u64,
        /// First completion of the group as text.
        excerpt: Option<Box<Excerpt>>,
    },
}

/// Totals of one producer process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProducerSummary {
    /// Value of the `producer` header.
    pub producer: String,
    /// Groups that the log acknowledged.
    pub groups: u64,
    /// Completions in the acknowledged groups.
    pub rows: u64,
    /// Completion tokens in the acknowledged groups.
    pub tokens: u64,
    /// Groups that were not published because their sampling or their reward failed, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Time spent sampling, in seconds.
    pub sampling_seconds: f64,
    /// Time spent loading weights, in seconds.
    pub loading_seconds: f64,
    /// Time for which there were no leases, in seconds.
    pub waiting_seconds: f64,
}
