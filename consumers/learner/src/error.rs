use vintage_bus::Fault;
use vintage_control::{Offset, Partition, PolicyVersion, RecordId, RejectReason, Sha256};

/// Whatever stops a learner or a replay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another learner of the same name wrote this update's plan first.
    #[error(
        "plan {update} of learner {learner} was written by another process ({theirs}): two \
         learners share that name; stop one, or give this one another name"
    )]
    Fenced {
        /// The contested name.
        learner: String,
        /// The contested update.
        update: PolicyVersion,
        /// The other writer.
        theirs: String,
    },
    /// A re-run update gave other weights than the ones recorded.
    #[error(
        "update {update} gave weights {computed}, but {recorded} were recorded for it: the \
         record, the build or the machine changed since"
    )]
    Diverged {
        /// The update.
        update: PolicyVersion,
        /// What this machine computed.
        computed: Sha256,
        /// What was recorded.
        recorded: Sha256,
    },
    /// A planned group no longer holds what the plan says it held.
    #[error("update {update} was planned with other content of group {group} ({record})")]
    ContentChanged {
        /// The update.
        update: PolicyVersion,
        /// The group.
        group: String,
        /// Its first record.
        record: RecordId,
    },
    /// A planned group is now refused.
    #[error("update {update} was planned with group {group} ({record}), which is now refused as {}: {detail}", reason.as_str())]
    PlannedButRefused {
        /// The update.
        update: PolicyVersion,
        /// The group.
        group: String,
        /// Its first record.
        record: RecordId,
        /// Why.
        reason: RejectReason,
        /// Why, in words.
        detail: String,
    },
    /// The source ended before a planned record came.
    #[error("update {update} needs the record at {record}, which neither log nor archive holds")]
    RecordMissing {
        /// The update.
        update: PolicyVersion,
        /// The record.
        record: RecordId,
    },
    /// Neither log nor archive has what is to be read next.
    #[error(
        "partition {partition} of {topic} is to be read from offset {need} on, the log now starts \
         at {low}, and {archived}: retention passed this learner; let `vintage archive` run beside \
         it next time, restore the archive from a copy, or start another learner with `vintage learn --name \
         NAME --start`"
    )]
    Expired {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// First offset needed.
        need: Offset,
        /// First offset the log has.
        low: Offset,
        /// What the archive has of it, in words.
        archived: String,
    },
    /// The log ends before where reading is to go on.
    #[error(
        "partition {partition} of {topic} is to be read from offset {need} on, but the log ends at \
         {high}: the topic was recreated or lost records; start a new run, or restore the topic"
    )]
    Rewound {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// First offset needed.
        need: Offset,
        /// First offset the log does not have yet.
        high: Offset,
    },
    /// The record before the resume point is not the one consumed before.
    #[error(
        "the record before {record} has CRC-32C {found:?}, the checkpoint says {expected}: the \
         topic was recreated or rewritten; start a new run, or restore the topic"
    )]
    TopicRewritten {
        /// First record not consumed.
        record: RecordId,
        /// What is there now.
        found: Option<u32>,
        /// What was there.
        expected: u32,
    },
    /// A gradient or loss is not finite.
    #[error(
        "update {update} gave a {what} of {value}: nothing was changed; the plan names the \
         batch, lower the learning rate or look at its rewards and log-probs"
    )]
    NotFinite {
        /// The update.
        update: PolicyVersion,
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A record that must be there is not, or contradicts another.
    #[error("{0}")]
    Record(String),
    /// The settings contradict one another.
    #[error("{0}")]
    Settings(String),
    /// The rule refused the batch.
    #[error("weighing the tokens of update {update}: {}", weighing(source))]
    Weigh {
        /// The update.
        update: PolicyVersion,
        /// What it found.
        source: vintage_m2po::Error,
    },
    /// The plan was computed on another kind of device, whose bits this one does not give.
    #[error(
        "running update {update}: its plan was computed on {planned}, and this learner computes on \
         {here}, which rounds otherwise, so that no bits can be compared; run it where it was \
         planned, with the same learner.device"
    )]
    OtherDevice {
        /// The update.
        update: PolicyVersion,
        /// Where it was computed.
        planned: String,
        /// Where this learner computes.
        here: String,
    },
    /// The model failed.
    #[error("running the model: {0}")]
    Model(#[from] vintage_model::Error),
    /// The store failed.
    #[error(transparent)]
    Store(vintage_store::Error),
    /// The log failed.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
    /// Where records come from failed.
    #[error("reading rollouts: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Making records durable before training failed.
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
    /// Whose fault it is.
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

/// What learners return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
