use std::path::PathBuf;

/// Failure to find a model by its name or to fetch it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model called by name is not in the local cache, or no model can have that name.
    #[error("looking for the model {name:?} in the Hugging Face cache: {problem}")]
    Cache {
        /// Name of the model, with its revision if one was given.
        name: String,
        /// Reason it was not found and the remedy.
        problem: String,
    },
    /// A setting, a variable or a name that the user gave cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The hub did not deliver the model.
    #[error("fetching {name:?} from the Hugging Face hub: {what}")]
    Fetch {
        /// Name of the model.
        name: String,
        /// Reason for the failure and the remedy.
        what: String,
    },
    /// A file of the cache could not be read or written.
    #[error("cannot {attempted} {}: {source}", path.display())]
    Io {
        /// Verb: `read`, `write`, `create`…
        attempted: &'static str,
        /// File or folder concerned.
        path: PathBuf,
        /// Answer of the operating system.
        source: std::io::Error,
    },
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
