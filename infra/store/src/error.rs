use std::{error::Error as StdError, io};

use vintage_control::{PolicyVersion, Sha256};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

type Source = Box<dyn StdError + Send + Sync>;

/// Why an object could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The location is of a kind this build has no backend for, or cannot be a path.
    #[error("cannot open a store at {location:?}: {reason}; give a folder or a file:// URL")]
    Location {
        /// As given.
        location: String,
        /// Why not.
        reason: String,
    },
    /// A file stands where a folder is needed.
    #[error(
        "cannot {action} {path}: a file stands where a folder is needed; choose another folder or \
         move the file away"
    )]
    NotADirectory {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: String,
    },
    /// No room. Nothing of the object was left behind.
    #[error(
        "cannot {action} {path}: no room on the disk, or over a quota or size limit; nothing \
         half-written was left, free some space and start again"
    )]
    DiskFull {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: String,
        /// As the system said it.
        source: Source,
    },
    /// No permission, or a read-only file system.
    #[error(
        "cannot {action} {path}: no permission or read-only ({source}); check owner and mode of \
         the folder and how it is mounted"
    )]
    Permission {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: String,
        /// As the system said it.
        source: Source,
    },
    /// Anything else the backend reports.
    #[error("cannot {action} {path}: {source}; check that the store is reachable and try again")]
    Backend {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: String,
        /// As the backend said it.
        source: Source,
    },
    /// An object is not the JSON record it should be.
    #[error(
        "{path} is not the record expected there: {source}; it was edited, or written by another version"
    )]
    Json {
        /// The object.
        path: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// The store lets an existing object be replaced: nothing built on it would be safe.
    #[error(
        "{location} does not honour create-if-absent: a second create of {path} succeeded; use a \
         store with conditional put"
    )]
    NoConditionalPut {
        /// The store.
        location: String,
        /// The probe object.
        path: String,
    },
    /// The version was never published, or was pruned.
    #[error(
        "{path} does not exist: version {version} of {policy} was not published here or was pruned"
    )]
    NoSuchVersion {
        /// The lineage.
        policy: String,
        /// The version asked for.
        version: PolicyVersion,
        /// Its manifest.
        path: String,
    },
    /// Weights are not the bytes that were published.
    #[error(
        "{path} is corrupt: its sha256 is {found} but {expected} was published; restore the file \
         from a copy, it is not loaded"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// What the manifest says.
        expected: Sha256,
        /// What the bytes hash to.
        found: Sha256,
    },
    /// A file of an unfinished publication holds other bytes than now given.
    #[error(
        "{path} was left by an unfinished publication and holds other bytes ({found}) than are to \
         be published ({given}); remove its folder if that publication is abandoned"
    )]
    Leftover {
        /// The file.
        path: String,
        /// Digest of what is there.
        found: Sha256,
        /// Digest of what was given.
        given: Sha256,
    },
}

impl Error {
    /// True if space or permission may come back without the program changing: worth waiting for.
    pub fn is_about_the_disk(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Permission { .. })
    }

    pub(crate) fn of(
        action: &'static str,
        path: String,
        error: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let kind = io_kind(&error);
        let source = Box::new(error);
        match kind {
            Some(
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge,
            ) => Self::DiskFull {
                action,
                path,
                source,
            },
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                Self::Permission {
                    action,
                    path,
                    source,
                }
            }
            // `AlreadyExists` is what making a folder over a file says.
            Some(io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists) => {
                Self::NotADirectory { action, path }
            }
            _ => Self::Backend {
                action,
                path,
                source,
            },
        }
    }
}

/// Kind of the first operating-system error in the chain.
fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}
