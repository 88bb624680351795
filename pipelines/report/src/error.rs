use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Failure that keeps a report from being written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is not a run's, or a file in it is damaged.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// Folder or file at fault.
        path: PathBuf,
        /// Reason it cannot be used and the remedy.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {attempted} {}: {source}", path.display())]
    Io {
        /// Verb: `read`, `write`.
        attempted: &'static str,
        /// File concerned.
        path: PathBuf,
        /// Answer of the operating system.
        source: std::io::Error,
    },
    /// Records could not be read.
    #[error("store: {0}")]
    Store(#[from] vintage_store::Error),
    /// The archive could not be read, for another reason than a damaged file.
    #[error("archive: {0}")]
    Archive(#[from] vintage_archive::Error),
    /// A chart could not be drawn: a bug.
    #[error("cannot draw the chart {title:?}: {reason}")]
    Chart {
        /// Title of the chart.
        title: String,
        /// Error of the drawing library.
        reason: String,
    },
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error for a file that is not the record it should be.
pub(crate) fn damaged(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::Folder {
        path: path.to_owned(),
        reason: format!("cannot be read as a record of this version: {why}"),
    }
}
