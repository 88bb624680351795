use vintage_control::Fault;
use vintage_control::{
    Offset, Partition, PolicyVersion, RecordId, RejectReason, Sha256, UpdateNumber,
};

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
    /// A plan is read as the plan of an update that it is not of.
    #[error("its plan says that it is of update {found}")]
    OtherUpdate {
        /// Update that the plan says it is of.
        found: UpdateNumber,
    },
    /// A plan is run on another version than it starts from.
    #[error("plan {update} cannot run on version {version}")]
    OtherVersion {
        /// Update of the plan.
        update: UpdateNumber,
        /// Version that is loaded.
        version: PolicyVersion,
    },
    /// A plan trains other adapters than the learner has.
    #[error(
        "plan {update} trains other adapters than this learner has: go on with the settings of \
         learner.lora it was written with"
    )]
    OtherAdapters {
        /// Update of the plan.
        update: UpdateNumber,
    },
    /// The groups that a plan names and the records that it names contradict each other.
    #[error("plan {update} names {reason}")]
    PlanContradicts {
        /// Update of the plan.
        update: UpdateNumber,
        /// Description of the contradiction: what the plan names.
        reason: &'static str,
    },
    /// A checkpoint belongs to other weights than are published for its version.
    #[error(
        "checkpoint {version} belongs to weights {saved}, the store has {published} for that \
         version"
    )]
    OtherWeights {
        /// Version of the checkpoint.
        version: PolicyVersion,
        /// Digest of the weights that the checkpoint belongs to.
        saved: Sha256,
        /// Digest of the weights that were loaded.
        published: Sha256,
    },
    /// A checkpoint has no adapters, and the settings ask for them.
    #[error(
        "the checkpoint of version {version} has no adapters, and learner.lora asks for them: they \
         cannot be told from merged weights; go on with the settings it was trained with"
    )]
    NoAdapters {
        /// Version of the checkpoint.
        version: PolicyVersion,
    },
    /// A checkpoint has no f32 weights, and the published ones are rounded.
    #[error(
        "the checkpoint of version {version} has no f32 weights, and the published ones are rounded \
         to bf16: training cannot go on from them; remove the checkpoint to go on from the one before"
    )]
    NoMasters {
        /// Version of the checkpoint.
        version: PolicyVersion,
    },
    /// Version 0 has no description of the model beside its weights.
    #[error("version 0 of the policy has no config.json beside its weights")]
    NoModelConfig,
    /// A recorded log ends before a record that an earlier process of the learner had read.
    #[error(
        "the recorded log ends before {record}, which this learner had read before it was \
         interrupted: restore the archive from a copy"
    )]
    LogEnded {
        /// First record that the log lacks.
        record: RecordId,
    },
    /// The file of the optimizer's moments cannot be written.
    #[error("saving the optimizer's moments: {reason}")]
    MomentsUnwritable {
        /// Reason given by the format.
        reason: String,
    },
    /// The file of the optimizer's moments cannot be read.
    #[error("reading the optimizer's moments: {reason}")]
    MomentsUnreadable {
        /// Description of what is wrong with the file.
        reason: String,
    },
    /// The optimizer's moments are of other parameters than are trained.
    #[error(
        "the optimizer's moments are those of other parameters than this learner trains: go on \
         with the settings they were saved with"
    )]
    OtherMoments,
    /// A record cannot be encoded for a topic.
    #[error("writing a record for {topic}: {reason}")]
    Encode {
        /// Topic that the record was for.
        topic: String,
        /// Reason given by the encoder.
        reason: String,
    },
    /// The computation of an update panicked.
    #[error("an update panicked: {reason}")]
    Panicked {
        /// Message of the panic.
        reason: String,
    },
    /// The policy is gone, because an update on it did not return.
    #[error("an earlier update failed half way; start again from the checkpoint")]
    PolicyLost,
    /// The settings contradict one another.
    #[error("{0}")]
    Settings(String),
    /// The rule refused the batch of an update.
    #[error("weighing the tokens of update {update}: {}", weighing(source))]
    Weigh {
        /// Update whose batch was refused.
        update: UpdateNumber,
        /// Reason for the refusal.
        source: vintage_losses::Error,
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
    /// The plan was computed by PyTorch, outside this program.
    #[error(
        "running update {update}: its plan was computed by {planned}, and this learner's kernels \
         round otherwise, so that no bits can be compared; go on with the Python learner, or with \
         this one from a checkpoint that no plan comes after (the Python learner writes one when \
         it ends)"
    )]
    ByPyTorch {
        /// Update that was to be run.
        update: UpdateNumber,
        /// Libraries and device that computed the plan.
        planned: String,
    },
    /// An engine outside this program gave no new policy.
    #[error(
        "update {update} was not computed: {reason}; its plan stays, and the next start runs it"
    )]
    NotComputed {
        /// Update that was to be computed.
        update: UpdateNumber,
        /// Reason for which it was not.
        reason: String,
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

fn weighing(problem: &vintage_losses::Error) -> String {
    match problem {
        vintage_losses::Error::NonFinite {
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
            | Self::ByPyTorch { .. }
            | Self::Model(vintage_model::Error::Device { .. }) => Fault::User,
            Self::Bus(error) => error.fault(),
            Self::Store(error) => error.fault(),
            _ => Fault::External,
        }
    }
}

/// Result type of this crate, with [`Error`] as its default error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
