use vintage_bus::Fault;

/// Failure that keeps an audit from being made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A learner, an update or a rollout that does not exist was asked about.
    #[error("{0}")]
    Unknown(String),
    /// Neither a group nor a plan was found.
    #[error("{0}")]
    Nothing(String),
    /// The journals of the producers could not be read.
    #[error("{0}")]
    Journals(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The archive could not be read.
    #[error("archive: {0}")]
    Archive(#[from] vintage_archive::Error),
    /// The log could not be read.
    #[error("broker: {0}")]
    Bus(#[from] vintage_bus::Error),
    /// Records could not be read.
    #[error("store: {0}")]
    Store(#[from] vintage_store::Error),
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unknown(_) | Self::Nothing(_) => Fault::User,
            Self::Journals(_) => Fault::External,
            Self::Archive(error) => error.fault(),
            Self::Bus(error) => error.fault(),
            Self::Store(error) => match error.fault() {
                vintage_store::Fault::User => Fault::User,
                vintage_store::Fault::External => Fault::External,
            },
        }
    }
}
