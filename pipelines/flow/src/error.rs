use std::path::PathBuf;

use vintage_bus::Fault;

/// Whatever stops a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not hold together.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// What was asked for cannot be done as asked.
    #[error("{0}")]
    Usage(String),
    /// The folder cannot be used as this run's.
    #[error("{}: {what}", path.display())]
    Folder {
        /// Which folder or file.
        path: PathBuf,
        /// Why, and what to do.
        what: String,
    },
    /// A file could not be read or written.
    #[error("cannot {attempted} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// `read`, `write`, `create`…
        attempted: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The learner failed.
    #[error("learner: {0}")]
    Learner(#[from] vintage_learner::Error),
    /// The archive failed.
    #[error("archive: {0}")]
    Archive(#[from] vintage_archive::Error),
    /// A producer failed.
    #[error("producer: {0}")]
    Rollout(#[from] vintage_rollout::Error),
    /// The local engine failed.
    #[error("local engine: {0}")]
    Engine(#[from] vintage_rollout::EngineError),
    /// The local engine could not be opened.
    #[error("local engine: {0}")]
    Local(#[from] vintage_local::Error),
    /// The broker failed.
    #[error("broker: {0}")]
    Bus(#[from] vintage_bus::Error),
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] vintage_store::Error),
    /// The model folder cannot be used. (A model that fails in training is a learner's error.)
    #[error("model: {0}")]
    Model(#[from] vintage_model::Error),
    /// A model could not be fetched.
    #[error("fetching {name:?} from the Hugging Face hub: {what}")]
    Hub {
        /// The model.
        name: String,
        /// Why, and what to do.
        what: String,
    },
    /// What is counted cannot be served.
    #[error(transparent)]
    Telemetry(#[from] vintage_telemetry::Error),
    /// Stopped before there was anything to leave behind.
    #[error("interrupted before training began")]
    Interrupted,
    /// A role ended in a way it never should.
    #[error("{0}")]
    Role(String),
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::FileTooLarge => {
            "; free some space and start again with the same --out"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; name an --out that can be written"
        }
        _ => "",
    }
}

/// What pipelines return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the user's words or configuration are at fault, rather than the run.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Usage(_)
            | Self::Folder { .. }
            | Self::Model(_)
            | Self::Telemetry(_) => true,
            Self::Rollout(error) => matches!(
                error,
                vintage_rollout::Error::PromptFile { .. }
                    | vintage_rollout::Error::PromptRow { .. }
                    | vintage_rollout::Error::NoPrompts { .. }
                    | vintage_rollout::Error::Config { .. }
                    | vintage_rollout::Error::Gate { .. }
                    | vintage_rollout::Error::RewardStart { .. }
            ),
            Self::Bus(error) => matches!(error.fault(), Fault::User),
            Self::Store(error) => matches!(error.fault(), vintage_store::Fault::User),
            _ => false,
        }
    }
}
