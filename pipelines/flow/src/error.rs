use std::path::PathBuf;

use vintage_bus::Fault;

/// Error that stops a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid or contradictory configuration.
    #[error(transparent)]
    Config(#[from] vintage_config::ConfigError),
    /// Request that cannot be carried out as given.
    #[error("{0}")]
    Usage(String),
    /// Folder that cannot be used as the folder of this run.
    #[error("{}: {what}", path.display())]
    Folder {
        /// Path of the folder or file.
        path: PathBuf,
        /// Reason, and what to do.
        what: String,
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
    #[error("fetching {name:?} from the Hugging Face hub: {what}")]
    Hub {
        /// Name of the model, `OWNER/NAME`.
        name: String,
        /// Reason, and what to do.
        what: String,
    },
    /// Failure of the audit.
    #[error(transparent)]
    Audit(vintage_audit::Error),
    /// Failure to serve the metrics.
    #[error(transparent)]
    Telemetry(#[from] vintage_telemetry::Error),
    /// Interruption before training began, with nothing to leave behind.
    #[error("interrupted before training began")]
    Interrupted,
    /// Role that ended in a way it never should; a bug, or damage to the run.
    #[error("{0}")]
    Role(String),
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
    /// Returns the party at fault. Each crate classifies its own errors.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Config(_)
            | Self::Usage(_)
            | Self::Folder { .. }
            | Self::Gate(_)
            | Self::Model(_)
            | Self::Telemetry(_) => Fault::User,
            Self::Learner(error) => error.fault(),
            Self::Archive(error) => error.fault(),
            Self::Rollout(error) => error.fault(),
            Self::Audit(error) => error.fault(),
            Self::Bus(error) => error.fault(),
            Self::Broker(error) => error.fault(),
            Self::Store(error) => match error.fault() {
                vintage_store::Fault::User => Fault::User,
                vintage_store::Fault::External => Fault::External,
            },
            Self::Io { .. }
            | Self::Engine(_)
            | Self::Local(_)
            | Self::Hub { .. }
            | Self::Interrupted => Fault::External,
            Self::Role(_) => Fault::Internal,
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
            detail: "two nodes".to_owned(),
        };
        let users: [Error; 9] = [
            Error::Usage("that".to_owned()),
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
        let run = vintage_learner::Error::Record("gone".to_owned());
        assert!(!Error::from(run).is_usage());
        assert!(!Error::Role("ended".to_owned()).is_usage());
    }
}
