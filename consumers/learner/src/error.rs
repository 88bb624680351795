use vintage_bus::Fault;
use vintage_control::{Offset, Partition, RecordId, RejectReason, Sha256, UpdateNumber};

/// Error that stops a learner or a replay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process with this learner's name wrote the update's plan first.
    #[error(
        "plan {update} of learner {learner} was written by another process ({theirs}): two \
         learners share that name; stop one, or give this one another name"
    )]
    Fenced {
        /// Name that both processes use.
        learner: String,
        /// Update whose plan both processes claim.
        update: UpdateNumber,
        /// Writer of the existing plan.
        theirs: String,
    },
    /// An update gave other weights than the ones recorded for it.
    #[error(
        "update {update} gave weights {computed}, but {recorded} were recorded for it: the \
         record, the build or the machine changed since"
    )]
    Diverged {
        /// Update that gave the weights.
        update: UpdateNumber,
        /// Digest of the weights that this machine computed.
        computed: Sha256,
        /// Digest of the recorded weights.
        recorded: Sha256,
    },
    /// A planned group has other content than its plan says.
    #[error("update {update} was planned with other content of group {group} ({record})")]
    ContentChanged {
        /// Update whose plan names the group.
        update: UpdateNumber,
        /// Id of the group.
        group: String,
        /// First record of the group.
        record: RecordId,
    },
    /// A planned group is now refused.
    #[error("update {update} was planned with group {group} ({record}), which is now refused as {}: {detail}", reason.as_str())]
    PlannedButRefused {
        /// Update whose plan names the group.
        update: UpdateNumber,
        /// Id of the group.
        group: String,
        /// First record of the group.
        record: RecordId,
        /// Reason for the refusal.
        reason: RejectReason,
        /// Explanation of the refusal, in words.
        detail: String,
    },
    /// A record that a plan names is in neither log nor archive.
    #[error("update {update} needs the record at {record}, which neither log nor archive holds")]
    RecordMissing {
        /// Update whose plan names the record.
        update: UpdateNumber,
        /// Record that is missing.
        record: RecordId,
    },
    /// The records to be read next were deleted from the log by retention, and the archive lacks
    /// them.
    #[error(
        "partition {partition} of {topic} is to be read from offset {need} on, the log now starts \
         at {low}, and {archived}: retention passed this learner; let `vintage archive` run beside \
         it next time, restore the archive from a copy, or start another learner with `vintage learn --name \
         NAME --start`"
    )]
    Expired {
        /// Topic that is read.
        topic: String,
        /// Partition that is read.
        partition: Partition,
        /// First offset needed.
        need: Offset,
        /// First offset that the log still has.
        low: Offset,
        /// Description of what the archive has of the partition.
        archived: String,
    },
    /// The log ends before the offset at which reading is to resume.
    #[error(
        "partition {partition} of {topic} is to be read from offset {need} on, but the log ends at \
         {high}: the topic was recreated or lost records; start a new run, or restore the topic"
    )]
    Rewound {
        /// Topic that is read.
        topic: String,
        /// Partition that is read.
        partition: Partition,
        /// First offset needed.
        need: Offset,
        /// Offset after the log's last record.
        high: Offset,
    },
    /// A record that was consumed before has another checksum now.
    #[error(
        "the record before {record} has CRC-32C {found:?}, the checkpoint says {expected}: the \
         topic was recreated or rewritten; start a new run, or restore the topic"
    )]
    TopicRewritten {
        /// Record after the changed one; at a resume point, the first record not consumed.
        record: RecordId,
        /// CRC-32C of the record that is there now; `None` if there is none.
        found: Option<u32>,
        /// CRC-32C of the record that was consumed.
        expected: u32,
    },
    /// The loss or the gradient norm of an update is not finite.
    #[error(
        "update {update} gave a {what} of {value}: nothing was changed; the plan names the \
         batch, lower the learning rate or look at its rewards and log-probs"
    )]
    NotFinite {
        /// Update that was computed.
        update: UpdateNumber,
        /// Name of the value: loss or gradient norm.
        what: &'static str,
        /// Value that is not finite.
        value: f64,
    },
    /// A record is missing or contradicts another one.
    #[error("{0}")]
    Record(String),
    /// The settings contradict one another.
    #[error("{0}")]
    Settings(String),
    /// The rule refused the batch of an update.
    #[error("weighing the tokens of update {update}: {}", weighing(source))]
    Weigh {
        /// Update whose batch was refused.
        update: UpdateNumber,
        /// Reason for the refusal.
        source: vintage_m2po::Error,
    },
    /// The plan was computed on another kind of device, whose bits this one cannot reproduce.
    #[error(
        "running update {update}: its plan was computed on {planned}, and this learner computes on \
         {here}, which rounds otherwise, so that no bits can be compared; run it where it was \
         planned, with the same learner.device"
    )]
    OtherDevice {
        /// Update that was to be run.
        update: UpdateNumber,
        /// Device that computed the plan.
        planned: String,
        /// Device of this learner.
        here: String,
    },
    /// A model operation failed.
    #[error("running the model: {0}")]
    Model(#[from] vintage_model::Error),
    /// A store operation failed.
    #[error(transparent)]
    Store(vintage_store::Error),
    /// The log failed.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
    /// The source of rollouts failed.
    #[error("reading rollouts: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Making rollouts durable before training failed.
    #[error("making rollouts durable before training: {0}")]
    Durability(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn weighing(problem: &vintage_m2po::Error) -> String {
    match problem {
        vintage_m2po::Error::NonFinite {
            field: "new",
            index,
            value,
        } => format!(
            "the policy's own log-prob of valid token {index} is {value}: it has diverged; start a \
             new run with a lower learner.optimizer.lr, from a version published before if that \
             is to be kept (vintage export)"
        ),
        other => other.to_string(),
    }
}

impl From<vintage_store::Error> for Error {
    fn from(error: vintage_store::Error) -> Self {
        match error {
            vintage_store::Error::Fenced {
                learner,
                update,
                theirs,
            } => Self::Fenced {
                learner,
                update,
                theirs,
            },
            other => Self::Store(other),
        }
    }
}

impl Error {
    /// Returns the party at fault: the user or an external system.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Settings(_)
            | Self::OtherDevice { .. }
            | Self::Model(vintage_model::Error::Device { .. }) => Fault::User,
            Self::Bus(error) => error.fault(),
            Self::Store(error) => match error.fault() {
                vintage_store::Fault::User => Fault::User,
                vintage_store::Fault::External => Fault::External,
            },
            _ => Fault::External,
        }
    }
}

/// Result type of this crate, with [`Error`] as its default error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
