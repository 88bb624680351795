/// Any error that says why something else failed.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two ways disagree, or a program that is needed is not there.
    #[error("{0}")]
    Failed(String),
    /// Something that a measurement does failed.
    #[error("{what}")]
    Because {
        /// What was attempted.
        what: String,
        /// Why not.
        source: Source,
    },
    /// The log failed.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
    /// The local broker could not be brought up or ended.
    #[error(transparent)]
    Broker(#[from] vintage_broker::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] vintage_store::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] vintage_archive::Error),
    /// An update failed.
    #[error(transparent)]
    Learner(#[from] vintage_learner::Error),
    /// A random model could not be made.
    #[error("running the model: {0}")]
    Model(#[from] vintage_model::Error),
    /// A message could not be decoded.
    #[error(transparent)]
    Message(#[from] vintage_trajectory::Error),
    /// The rule refused a batch.
    #[error(transparent)]
    Weigh(#[from] vintage_m2po::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a step, told by what was attempted.
pub(crate) fn because<E: Into<Source>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |source| Error::Because {
        what: what.into(),
        source: source.into(),
    }
}

/// The error of a part of the program, told by the part and its own words.
pub(crate) fn of<E: Into<Source>>(part: &'static str) -> impl Fn(E) -> Error {
    move |source| {
        let source = source.into();
        Error::Because {
            what: format!("{part}: {source}"),
            source,
        }
    }
}
