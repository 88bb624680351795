use vintage_control::Fault;

/// Cause of another error, of any type.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// Failure of a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Option outside its range.
    #[error("{0}")]
    Option(String),
    /// Results that contradict each other, or a missing program.
    #[error("{0}")]
    Failed(String),
    /// Failed step of a measurement.
    #[error("{what}")]
    Because {
        /// Description of the failed step.
        what: String,
        /// Cause of the failure.
        source: Source,
    },
    /// Failure of the log.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
    /// Failure to start or stop the local broker.
    #[error(transparent)]
    Broker(#[from] vintage_broker::Error),
    /// Failure of the store.
    #[error(transparent)]
    Store(#[from] vintage_store::Error),
    /// Failure of the archive.
    #[error(transparent)]
    Archive(#[from] vintage_archive::Error),
    /// Failure of an update.
    #[error(transparent)]
    Learner(#[from] vintage_learner::Error),
    /// Failure to create a random model, or to open its device.
    #[error("running the model: {0}")]
    Model(#[from] vintage_model::Error),
    /// Message that cannot be decoded.
    #[error(transparent)]
    Message(#[from] vintage_trajectory::Error),
    /// Setting of a curator out of range.
    #[error(transparent)]
    Curate(#[from] vintage_curate::Error),
    /// Batch that the rule refuses.
    #[error(transparent)]
    Weigh(#[from] vintage_losses::Error),
}

impl Error {
    /// Returns the party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Bus(error) => error.fault(),
            Self::Broker(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Archive(error) => error.fault(),
            Self::Learner(error) => error.fault(),
            Self::Curate(error) => error.fault(),
            Self::Option(_) | Self::Model(_) => Fault::User,
            Self::Failed(_) | Self::Because { .. } => Fault::External,
            Self::Message(_) | Self::Weigh(_) => Fault::Internal,
        }
    }
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Returns a function that wraps the cause of a failed step, whose message is `what` alone.
pub(crate) fn because<E: Into<Source>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |source| Error::Because {
        what: what.into(),
        source: source.into(),
    }
}

/// Returns a function that wraps the error of a part of the program; the message names the part and
/// repeats the error.
pub(crate) fn of<E: Into<Source>>(part: &'static str) -> impl Fn(E) -> Error {
    move |source| {
        let source = source.into();
        Error::Because {
            what: format!("{part}: {source}"),
            source,
        }
    }
}
