use vintage_control::PolicyVersion;
use vintage_rollout::EngineError;

use crate::fault::ServerFault;

/// Failure of a remote engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Policy whose texts or weights cannot be read.
    #[error(transparent)]
    Policy(#[from] vintage_local::Error),
    /// Weights that the in-process engine cannot be opened with.
    #[error("cannot open version {version} to compare servers with: {source}")]
    Reference {
        /// Version to be opened.
        version: PolicyVersion,
        /// Reason for the failure.
        source: Box<EngineError>,
    },
    /// Weights that could not be fetched, or whose hash is wrong.
    #[error("cannot fetch version {version} for the servers: {source}")]
    Fetch {
        /// Version whose weights were requested.
        version: PolicyVersion,
        /// Reason for the failure, from the store.
        source: Box<vintage_store::Error>,
    },
    /// Folder of a version that cannot be written for the servers.
    #[error(
        "cannot write version {version} into {path} for the servers: {source}; name a folder that \
         both can reach with rollout.server.folder"
    )]
    Folder {
        /// Version to be written.
        version: PolicyVersion,
        /// Path of the folder.
        path: String,
        /// Reason for the failure.
        source: std::io::Error,
    },
    /// Server that lacks what a run needs.
    #[error("cannot sample with {url}: {what}; {remedy}")]
    Unfit {
        /// Address of the server.
        url: String,
        /// Description of what it lacks.
        what: String,
        /// Advice, with the exact switch.
        remedy: String,
    },
    /// Server that fails where it must not.
    #[error("cannot {attempted}: {fault}")]
    Server {
        /// Attempted action and the server's address.
        attempted: String,
        /// Failure of the request.
        fault: ServerFault,
    },
    /// No server in service for too long.
    #[error(
        "no inference server was in service for {seconds} s ({servers}); start one, or raise \
         rollout.server.patience_seconds"
    )]
    NoServer {
        /// Time waited, in seconds.
        seconds: f64,
        /// Each server with its last failure.
        servers: String,
    },
    /// HTTP client that cannot be made.
    #[error("cannot make an HTTP client: {0}; check the certificates that this machine trusts")]
    Client(#[from] reqwest::Error),
    /// Panic in a task of the engine.
    #[error("a request to a server panicked: {0}; this is a bug, please report it")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Error {
    /// Returns the party at fault: a server that lacks what a run needs is the user's to start
    /// differently.
    pub fn fault(&self) -> vintage_control::Fault {
        match self {
            Self::Unfit { .. } => vintage_control::Fault::User,
            _ => vintage_control::Fault::External,
        }
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        use vintage_store::Error as Store;
        match error {
            Error::Policy(source) => source.into(),
            Error::Fetch { version, source } if matches!(*source, Store::NoSuchVersion { .. }) => {
                Self::VersionGone { version }
            }
            other => Self::Failed(Box::new(other)),
        }
    }
}
