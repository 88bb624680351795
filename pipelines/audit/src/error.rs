use vintage_control::Fault;

/// Failure that prevents an audit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Question about a learner or an update that does not exist.
    #[error("{0}")]
    Unknown(String),
    /// Run of which no group and no record of a learner was found.
    #[error("{0}")]
    Nothing(String),
    /// Failure to read the journals of the producers.
    #[error("{0}")]
    Journals(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Failure to read the archive.
    #[error("archive: {0}")]
    Archive(#[from] vintage_archive::Error),
    /// Failure to read the log.
    #[error("broker: {0}")]
    Bus(#[from] vintage_bus::Error),
    /// Failure to read records from the store.
    #[error("store: {0}")]
    Store(#[from] vintage_store::Error),
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unknown(_) | Self::Nothing(_) => Fault::User,
            Self::Journals(_) => Fault::External,
            Self::Archive(error) => error.fault(),
            Self::Bus(error) => error.fault(),
            Self::Store(error) => error.fault(),
        }
    }
}
