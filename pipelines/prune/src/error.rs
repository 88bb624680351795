use std::path::PathBuf;

use vintage_control::Fault;

/// Failure to find out what may go, or to delete it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Failure of the store.
    #[error("store: {0}")]
    Store(#[from] vintage_store::Error),
    /// Failure of the archive.
    #[error("archive: {0}")]
    Archive(#[from] vintage_archive::Error),
    /// Journal that cannot be deleted.
    #[error("cannot delete the journal {}: {source}; its numbers are recorded, delete it by hand", path.display())]
    Journal {
        /// Path of the journal.
        path: PathBuf,
        /// Answer of the operating system.
        source: std::io::Error,
    },
    /// Another prune of the same run.
    #[error(
        "another `vintage prune` has just written {record}: nothing was deleted by this one; start it again"
    )]
    Another {
        /// Record that both were to write.
        record: String,
    },
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Another { .. } => Fault::User,
            Self::Journal { .. } => Fault::External,
            Self::Archive(error) => error.fault(),
            Self::Store(error) => error.fault(),
        }
    }
}
