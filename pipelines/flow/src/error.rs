use std::path::PathBuf;

use vintage_control::{Fault, Name, Offset, Partition, PolicyVersion, RecordId};
use vintage_human::size;
use vintage_rollout::{Prompt, PromptSet};

use crate::teacher::TeacherError;

/// Error that stops a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid or contradictory configuration.
    #[error(transparent)]
    Config(#[from] vintage_config::ConfigError),
    /// Setting or flag that cannot be carried out with this run, log or archive.
    #[error("{setting}: {reason}")]
    Setting {
        /// Setting or flag as its user writes it, with its value where that matters.
        setting: String,
        /// Reason, and what to do.
        reason: String,
    },
    /// Value of a setting that its parser refused, in the parser's words.
    #[error("{0}")]
    Value(String),
    /// Row of a prompt file that no run can work with.
    #[error("{}:{line}: {reason}", path.display())]
    Prompt {
        /// Path of the file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Reason, and what to do.
        reason: String,
    },
    /// Prompts that the teacher of the warm start cannot demonstrate.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// Learner that does not fit this machine.
    #[error(
        "the learner is predicted to need {} of memory, and this machine has {}: {advice}",
        size(*needed),
        size(*machine)
    )]
    TooLarge {
        /// Predicted peak in bytes.
        needed: u64,
        /// Memory of this machine in bytes.
        machine: u64,
        /// Advice on how to make it smaller.
        advice: &'static str,
    },
    /// Files given to the run that have changed since it began.
    #[error("cannot {attempted}: {changes}; {remedy}")]
    InputsChanged {
        /// Attempted action, such as resuming the run in a folder.
        attempted: String,
        /// Settings whose files have changed, each with the difference.
        changes: String,
        /// Ways to go on.
        remedy: String,
    },
    /// Settings of sampling or rewards that are not the run's.
    #[error(
        "cannot sample for this run with other settings than it has: {differences}; give this \
         producer the run's: {remedy}"
    )]
    OtherSampling {
        /// Settings that differ, each with both values.
        differences: String,
        /// Flags that set what the run has, and what else can be done.
        remedy: String,
    },
    /// Store that is not the one to which the run's learner writes.
    #[error(
        "{setting}: it {reason}; set store and store_options to the learner's (`vintage config show`)"
    )]
    OtherStore {
        /// Setting with its value, or what is read without it.
        setting: String,
        /// Sign that it is another store.
        reason: String,
    },
    /// Another process that trains the same policy on the same topics.
    #[error(
        "learner {learner} of policy {policy} is running already on {bootstrap}: process {theirs} \
         wrote to {topic} just now, and two learners share that name; stop one, or give this one \
         another name (another run's: --set run=NAME; a follower's: --name NAME)"
    )]
    LearnerRuns {
        /// Name of the learner.
        learner: Name,
        /// Policy that both train.
        policy: Name,
        /// Address of the broker.
        bootstrap: String,
        /// Topic in which the other process was seen.
        topic: String,
        /// Id of the other process.
        theirs: String,
    },
    /// Files of version 0 that were changed after it was published.
    #[error("version 0 of policy {policy} is not what was published: {reason}")]
    VersionZeroChanged {
        /// Policy of the run.
        policy: Name,
        /// Difference from what was published.
        reason: String,
    },
    /// Topics that belong to another run.
    #[error(
        "topic {topic} on {bootstrap} is another run's: it announces version {version} of policy \
         {policy}, which this folder's learner did not make; give this run a name of its own with \
         --set run=NAME, or go on with the other run in its folder"
    )]
    AnotherRun {
        /// Topic of the announcements.
        topic: String,
        /// Address of the broker.
        bootstrap: String,
        /// Policy that is announced.
        policy: Name,
        /// Newest version that is announced.
        version: PolicyVersion,
    },
    /// Embedded broker where a process needs one that other processes reach.
    #[error(
        "broker = \"embedded\" lives inside one process: {reason}; use broker=local, or start one \
         with `vintage broker up` and give --broker HOST:PORT"
    )]
    EmbeddedBroker {
        /// Reason for which another broker is needed.
        reason: &'static str,
    },
    /// Local broker without a folder for its data.
    #[error(
        "broker = \"local\" keeps its data in a run's folder: name that folder, or give --broker \
         HOST:PORT"
    )]
    LocalBrokerWithoutFolder,
    /// Learner to follow on a live log that announces nothing.
    #[error(
        "learner {leader} trains from an archive and announces nothing: follow its plans with --set \
         learner.source=archive"
    )]
    SilentLeader {
        /// Learner whose plans were to be followed.
        leader: Name,
    },
    /// Archive of several topics where one is needed.
    #[error(
        "learner.archive = {location:?} holds the archives of several topics: give each a folder of \
         its own"
    )]
    SeveralTopics {
        /// Place of the archive as the setting names it.
        location: String,
    },
    /// Archive of another topic than the settings name.
    #[error(
        "the settings are of topic {named}, and the archive in {location} holds {there}: set `run` \
         and `namespace` to those of the run"
    )]
    OtherTopic {
        /// Topic that the settings name.
        named: String,
        /// Place of the archive.
        location: String,
        /// Topics in the archive.
        there: String,
    },
    /// Audit without a place to read from.
    #[error(
        "an audit needs a run's folder, or --set store=FOLDER_OR_URL (plans, results, archive) with \
         --broker HOST:PORT"
    )]
    NothingToAudit,
    /// Filters of a replay that no archived group passes.
    #[error("nothing of the archive of {topic} would be published{refused}: it holds {held}")]
    NothingSelected {
        /// Archived topic.
        topic: String,
        /// Number of records refused by each filter, in brackets; empty if no filter refused any.
        refused: String,
        /// Content of the archive.
        held: String,
    },
    /// Target topic that a replay cannot begin or resume in.
    #[error("topic {topic} {reason}")]
    Target {
        /// Target topic.
        topic: String,
        /// Reason, and what to do.
        reason: String,
    },
    /// Folder that cannot be used as the folder of this run.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// Path of the folder or file.
        path: PathBuf,
        /// Reason, and what to do.
        reason: String,
    },
    /// Failed file operation.
    #[error("cannot {attempted} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// Attempted operation: `read`, `write`, `create`…
        attempted: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The gate's settings contradict the learner's.
    #[error("cannot set up the gate: {0}")]
    Gate(#[from] vintage_grants::BadLimits),
    /// Failure of the learner.
    #[error("learner: {0}")]
    Learner(#[from] vintage_learner::Error),
    /// Failure of the archive.
    #[error("archive: {0}")]
    Archive(#[from] vintage_archive::Error),
    /// Failure of a producer.
    #[error("producer: {0}")]
    Rollout(#[from] vintage_rollout::Error),
    /// Failure of the local engine while it samples or loads weights.
    #[error("local engine: {0}")]
    Engine(#[from] vintage_rollout::EngineError),
    /// Failure to open the local engine.
    #[error("local engine: {0}")]
    Local(#[from] vintage_local::Error),
    /// Failure to open an engine over HTTP.
    #[error("inference servers: {0}")]
    Remote(#[from] vintage_remote::Error),
    /// Failure to serve a model.
    #[error(transparent)]
    Serve(#[from] vintage_serve::Error),
    /// Failure of the broker.
    #[error("broker: {0}")]
    Bus(#[from] vintage_bus::Error),
    /// The local broker could not be brought up or ended.
    #[error("broker: {0}")]
    Broker(#[from] vintage_broker::Error),
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] vintage_store::Error),
    /// Unusable model folder. A model that fails in training is an error of the learner.
    #[error("model: {0}")]
    Model(#[from] vintage_model::Error),
    /// Failure to fetch a model from the Hugging Face hub.
    #[error("fetching {name:?} from the Hugging Face hub: {reason}")]
    Hub {
        /// Name of the model, `OWNER/NAME`.
        name: String,
        /// Reason, and what to do.
        reason: String,
    },
    /// Failure of the audit.
    #[error(transparent)]
    Audit(vintage_audit::Error),
    /// Prune that could not be done to its end.
    #[error(transparent)]
    Prune(vintage_prune::Error),
    /// Failure to serve the metrics.
    #[error(transparent)]
    Telemetry(#[from] vintage_telemetry::Error),
    /// Interruption before training began, with nothing to leave behind.
    #[error("interrupted before training began")]
    Interrupted,
    /// Records that the log has and did not deliver.
    #[error("{0}")]
    Undelivered(String),
    /// Target topic to which another process writes during a replay.
    #[error(
        "topic {topic} partition {partition} came to offset {found} and not {expected}: another \
         process writes to it, so that it is not this replay alone any more; end that, and replay to \
         another topic"
    )]
    SharedTarget {
        /// Target topic.
        topic: String,
        /// Partition that has records of another process.
        partition: Partition,
        /// Offset that the next record got.
        found: Offset,
        /// Offset that it would have without the other process.
        expected: Offset,
    },
    /// Reward that failed on a held-out prompt.
    #[error("evaluating version {version}: a reward failed: {reason}")]
    RewardFailed {
        /// Version that was evaluated.
        version: PolicyVersion,
        /// Failure of the reward.
        reason: String,
    },
    /// Version whose manifest is gone from the store; damage to the run.
    #[error("version {version} of {policy} vanished from the store")]
    Vanished {
        /// Policy of the version.
        policy: Name,
        /// Version that is gone.
        version: PolicyVersion,
    },
    /// Archived record that cannot be published again; damage to the archive.
    #[error("the archived record {record}: {reason}")]
    ArchivedRecord {
        /// Position of the record.
        record: RecordId,
        /// Reason.
        reason: String,
    },
    /// Consumer of a topic that ended although nobody ended it; a bug.
    #[error("reading {topic} ended by itself")]
    EndedByItself {
        /// Topic that was read.
        topic: String,
    },
    /// Task that panicked; a bug.
    #[error("{task} panicked: {error}")]
    Panicked {
        /// Description of the task.
        task: &'static str,
        /// Panic as the runtime reports it.
        error: tokio::task::JoinError,
    },
    /// Contradiction within the program; a bug.
    #[error("{0}")]
    Bug(String),
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::FileTooLarge => {
            "; free some space and start the same command again"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that can be written"
        }
        _ => "",
    }
}

impl From<vintage_prune::Error> for Error {
    fn from(error: vintage_prune::Error) -> Self {
        match error {
            vintage_prune::Error::Archive(error) => Self::Archive(error),
            vintage_prune::Error::Store(error) => Self::Store(error),
            other => Self::Prune(other),
        }
    }
}

impl From<vintage_audit::Error> for Error {
    fn from(error: vintage_audit::Error) -> Self {
        match error {
            vintage_audit::Error::Bus(error) => Self::Bus(error),
            vintage_audit::Error::Archive(error) => Self::Archive(error),
            vintage_audit::Error::Store(error) => Self::Store(error),
            other => Self::Audit(other),
        }
    }
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Error of a row of a prompt file.
    pub(crate) fn prompt(set: &PromptSet, prompt: &Prompt, reason: String) -> Self {
        Self::Prompt {
            path: set.path_of(prompt).to_owned(),
            line: prompt.line,
            reason,
        }
    }

    /// Returns a function that makes the error of a task that panicked.
    pub(crate) fn panicked(task: &'static str) -> impl Fn(tokio::task::JoinError) -> Self {
        move |error| Self::Panicked { task, error }
    }

    /// Returns the party at fault. Each crate classifies its own errors.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Config(_)
            | Self::Setting { .. }
            | Self::Value(_)
            | Self::Prompt { .. }
            | Self::Teacher(_)
            | Self::TooLarge { .. }
            | Self::InputsChanged { .. }
            | Self::VersionZeroChanged { .. }
            | Self::OtherSampling { .. }
            | Self::OtherStore { .. }
            | Self::AnotherRun { .. }
            | Self::EmbeddedBroker { .. }
            | Self::LocalBrokerWithoutFolder
            | Self::SilentLeader { .. }
            | Self::SeveralTopics { .. }
            | Self::OtherTopic { .. }
            | Self::NothingToAudit
            | Self::NothingSelected { .. }
            | Self::Target { .. }
            | Self::Folder { .. }
            | Self::Gate(_)
            | Self::Model(_)
            | Self::Telemetry(_) => Fault::User,
            Self::Learner(error) => error.fault(),
            Self::Archive(error) => error.fault(),
            Self::Rollout(error) => error.fault(),
            Self::Audit(error) => error.fault(),
            Self::Prune(error) => error.fault(),
            Self::Bus(error) => error.fault(),
            Self::Broker(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Remote(error) => error.fault(),
            Self::Serve(error) => error.fault(),
            Self::Io { .. }
            | Self::Engine(_)
            | Self::Local(_)
            | Self::Hub { .. }
            | Self::Interrupted
            | Self::LearnerRuns { .. }
            | Self::Undelivered(_)
            | Self::SharedTarget { .. }
            | Self::RewardFailed { .. } => Fault::External,
            Self::Vanished { .. }
            | Self::ArchivedRecord { .. }
            | Self::EndedByItself { .. }
            | Self::Panicked { .. }
            | Self::Bug(_) => Fault::Internal,
        }
    }

    /// Returns true if the user's arguments, configuration or files are at fault, not the run.
    pub fn is_usage(&self) -> bool {
        self.fault() == Fault::User
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit code follows each crate's own classification of its errors.
    #[test]
    fn a_users_error_is_one_wherever_it_is_met() {
        let no_topic = || vintage_bus::Error::NoSuchTopic {
            topic: "t".to_owned(),
            bootstrap: "b:1".to_owned(),
        };
        let location = || match vintage_store::Store::open("nowhere://x") {
            Ok(_) => panic!("there is no such store"),
            Err(error) => error,
        };
        let groups = vintage_rollout::Error::GroupsPerUpdate {
            policy: "lead".to_owned(),
            announced: 16,
            configured: 8,
        };
        let settings = vintage_learner::Error::Settings("contradict".to_owned());
        let nodes = vintage_broker::Error::LocalOptions {
            reason: "two nodes".to_owned(),
        };
        let start = Error::Setting {
            setting: "learner.start".to_owned(),
            reason: "t has no partition 9".to_owned(),
        };
        assert_eq!(start.to_string(), "learner.start: t has no partition 9");
        let users: [Error; 11] = [
            Error::Value("that".to_owned()),
            Error::EmbeddedBroker {
                reason: "nothing outside can reach it",
            },
            start,
            no_topic().into(),
            nodes.into(),
            vintage_learner::Error::from(no_topic()).into(),
            vintage_archive::Error::from(no_topic()).into(),
            location().into(),
            vintage_learner::Error::from(location()).into(),
            groups.into(),
            settings.into(),
        ];
        for error in users {
            assert!(error.is_usage(), "{error}");
        }
        let run = vintage_learner::Error::NoModelConfig;
        assert!(!Error::from(run).is_usage());
        assert_eq!(Error::Bug("ended".to_owned()).fault(), Fault::Internal);
        let foreign = Error::SharedTarget {
            topic: "t".to_owned(),
            partition: Partition(1),
            found: Offset(8),
            expected: Offset(7),
        };
        assert_eq!(foreign.fault(), Fault::External);
    }
}
