/// Failure that keeps a model from being compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Expected results to compare a model with are missing or unreadable.
    #[error("{0}")]
    Oracle(String),
    /// The model failed.
    #[error("running the model: {0}")]
    Model(#[from] vintage_model::Error),
    /// The optimizer failed.
    #[error(transparent)]
    Learner(#[from] vintage_learner::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
