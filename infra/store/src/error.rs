use std::{error::Error as StdError, io};

use vintage_control::{Fault, PolicyVersion, Sha256, UpdateNumber};

use crate::answer::{Answer, NoKeys, Refusal};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// Condition of a disk or a server that may pass by itself: the request was correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Full disk or exceeded quota.
    NoRoom,
    /// Missing permission or wrong credentials.
    NoPermission,
    /// Read-only file system.
    ReadOnly,
    /// No file handle left in this process or on this machine.
    TooManyFiles,
    /// No valid answer from the server.
    Network,
    /// Failed read or write of the disk.
    Io,
}

impl Trouble {
    /// Returns the name used as a metric label, such as `no_room`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::NoPermission => "no_permission",
            Self::ReadOnly => "read_only",
            Self::TooManyFiles => "too_many_files",
            Self::Network => "network",
            Self::Io => "io",
        }
    }
}

/// Failure to open a store, or to write, read or verify an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Location for which there is no backend, or that is no valid path.
    #[error(
        "cannot open a store at {location:?}: {reason}; give a folder, a file:// URL or s3://bucket/prefix"
    )]
    Location {
        /// Location as given.
        location: String,
        /// Reason for the refusal.
        reason: String,
    },
    /// File where a folder is needed.
    #[error(
        "cannot {action} {path}: there is a file where a folder is needed; choose another \
         folder or \
         move the file away"
    )]
    NotADirectory {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object or folder.
        path: String,
    },
    /// Full disk, exceeded quota or size limit. Nothing of the object was left behind.
    #[error(
        "cannot {action} {path}: no room on the disk, or over a quota or size limit; nothing \
         half-written was left, free some space and start again"
    )]
    DiskFull {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object.
        path: String,
        /// Error of the operating system or the server.
        source: Source,
    },
    /// Missing permission in a folder, or a read-only file system.
    #[error(
        "cannot {action} {path}: no permission or read-only ({source}); check owner and mode of \
         the folder and how it is mounted"
    )]
    Permission {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object or folder.
        path: String,
        /// Error of the operating system.
        source: Source,
    },
    /// Credentials that the object store does not accept.
    #[error(
        "cannot {action} {path}: the store refuses access ({source}); check AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and what the bucket's policy allows"
    )]
    Access {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object.
        path: String,
        /// Error of the server.
        source: Source,
    },
    /// No credentials where the object store needs some.
    #[error(
        "cannot {action} {path}: there are no credentials for the store, for no keys are set and this \
         machine has no role that gives any; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the \
         environment of this process, or name them under [store_options]"
    )]
    NoKeys {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object.
        path: String,
    },
    /// Too many open files.
    #[error(
        "cannot {action} {path}: too many open files ({source}); raise the limit with ulimit -n"
    )]
    TooManyFiles {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object.
        path: String,
        /// Error of the operating system.
        source: Source,
    },
    /// Any other error of the backend.
    #[error("cannot {action} {path}: {source}; check that the store is reachable and try again")]
    Backend {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object.
        path: String,
        /// Error of the backend.
        source: Source,
    },
    /// Object that is not the expected JSON record.
    #[error(
        "{path} is not the record expected there: {source}; it was edited, or written by another version"
    )]
    Json {
        /// Path of the object.
        path: String,
        /// Error of the JSON parser or serializer, with its position.
        source: serde_json::Error,
    },
    /// Store without working create-if-absent: it replaced an existing object or refuses
    /// conditional puts. Nothing built on it would be safe.
    #[error(
        "the store does not honour create-if-absent, which all commits rest on: {reason} ({path}); \
         use a store with conditional put"
    )]
    NoConditionalPut {
        /// Path of the object.
        path: String,
        /// Observed behaviour of the store.
        reason: String,
    },
    /// File system without hard links, on which no file can be created whole and never over
    /// another.
    #[error(
        "cannot write {path}: its file system has no hard links ({source}), and without them no \
         file can be created whole and never over another; choose a folder on another file system"
    )]
    NoHardLinks {
        /// Path of the object.
        path: String,
        /// Error of the operating system.
        source: Source,
    },
    /// Request that the server refuses and would refuse again.
    #[error(
        "cannot {action} {path}: {source}; check the setting store (bucket and prefix) and in \
         store_options endpoint and region"
    )]
    Refused {
        /// Action that was attempted, such as `write`.
        action: &'static str,
        /// Path of the object.
        path: String,
        /// Answer of the server.
        source: Source,
    },
    /// Version that was never published, or was pruned.
    #[error(
        "{path} does not exist: version {version} of {policy} was not published here or was pruned"
    )]
    NoSuchVersion {
        /// Policy asked for.
        policy: String,
        /// Version asked for.
        version: PolicyVersion,
        /// Path of the version's manifest.
        path: String,
    },
    /// File of a version whose bytes are not those that were published.
    #[error(
        "{path} is corrupt: its sha256 is {found} but {expected} was published; restore the file \
         from a copy, it is not loaded"
    )]
    Corrupt {
        /// Path of the file.
        path: String,
        /// SHA-256 in the manifest.
        expected: Sha256,
        /// SHA-256 of the bytes found.
        found: Sha256,
    },
    /// Missing file that a manifest lists.
    #[error("{path} is missing, and its version's manifest lists it; restore the file from a copy")]
    Missing {
        /// Path of the file.
        path: String,
    },
    /// Delta whose base is not in the store, or is other weights.
    #[error(
        "{path} is a delta on version {base}, {reason}: the version cannot be read without it; use \
         another version, or restore the base from a copy"
    )]
    NoBase {
        /// Path of the delta.
        path: String,
        /// Version that the delta starts from.
        base: PolicyVersion,
        /// Description of the base at fault.
        reason: &'static str,
    },
    /// Delta that cannot be made or applied.
    #[error("cannot use {path}: {source}")]
    Delta {
        /// Path of the delta.
        path: String,
        /// Error of the codec.
        source: vintage_delta::Error,
    },
    /// File in a version's folder that its manifest does not list.
    #[error(
        "{path} is not listed in its version's manifest: it was put there after the version was \
         published; remove it, for a version names one set of files for ever"
    )]
    Unlisted {
        /// Path of the file.
        path: String,
    },
    /// Another learner of the same name wrote this update's plan first.
    #[error(
        "plan {update} of learner {learner} was written by another process ({theirs}): two \
         learners share that name; stop one, or give this one another name"
    )]
    Fenced {
        /// Contested name.
        learner: String,
        /// Contested update.
        update: UpdateNumber,
        /// Writer of the plan that is there.
        theirs: String,
    },
    /// A file of a checkpoint is missing or damaged.
    #[error(
        "checkpoint {folder} cannot be used: {reason}; restore the file from a copy, or remove the \
         folder to resume from the checkpoint before"
    )]
    Checkpoint {
        /// Folder of the checkpoint.
        folder: String,
        /// File at fault and what is wrong with it.
        reason: String,
    },
    /// A record was deleted while it was read.
    #[error("{path} vanished while it was read; find out what deletes files of this run")]
    Vanished {
        /// Path of the record.
        path: String,
    },
    /// A file of an unfinished publication holds other bytes than now given.
    #[error(
        "{path} was left by an unfinished publication and holds other bytes ({found}) than are to \
         be published ({given}); remove its folder if that publication is abandoned"
    )]
    Leftover {
        /// Path of the file.
        path: String,
        /// SHA-256 of the existing file.
        found: Sha256,
        /// SHA-256 of the bytes to be published.
        given: Sha256,
    },
}

impl Error {
    /// Returns who can do something about the error.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Location { .. }
            | Self::NotADirectory { .. }
            | Self::NoConditionalPut { .. }
            | Self::NoHardLinks { .. }
            | Self::NoKeys { .. }
            | Self::Refused { .. } => Fault::User,
            Self::Delta { source, .. } => source.fault(),
            _ => Fault::External,
        }
    }

    /// Returns the condition of the disk or server that caused the error; `None` if the error
    /// concerns an object or a location.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::DiskFull { .. } => Some(Trouble::NoRoom),
            Self::Permission { source, .. } => {
                let read_only = Some(io::ErrorKind::ReadOnlyFilesystem);
                Some(
                    if io_error(source.as_ref()).map(io::Error::kind) == read_only {
                        Trouble::ReadOnly
                    } else {
                        Trouble::NoPermission
                    },
                )
            }
            Self::Access { .. } | Self::NoKeys { .. } => Some(Trouble::NoPermission),
            Self::TooManyFiles { .. } => Some(Trouble::TooManyFiles),
            Self::Backend { path, .. } if path.contains("://") => Some(Trouble::Network),
            Self::Backend { .. } => Some(Trouble::Io),
            _ => None,
        }
    }

    /// Returns true if the same call may succeed later with nothing changed by the caller: space, a
    /// permission or a server may come back.
    pub fn is_retryable(&self) -> bool {
        self.trouble().is_some()
    }

    fn answered(action: &'static str, path: String, answer: Answer) -> Self {
        let refusal = answer.refusal;
        let source = Box::new(answer);
        match refusal {
            Refusal::Condition => Self::NoConditionalPut {
                path,
                reason: format!("{source} to a conditional put"),
            },
            Refusal::Room => Self::DiskFull {
                action,
                path,
                source,
            },
            Refusal::Access => Self::Access {
                action,
                path,
                source,
            },
            Refusal::Request => Self::Refused {
                action,
                path,
                source,
            },
        }
    }

    pub(crate) fn of(
        action: &'static str,
        path: String,
        error: impl StdError + Send + Sync + 'static,
    ) -> Self {
        if let Some(answer) = Answer::behind(&error) {
            return Self::answered(action, path, answer.clone());
        }
        if NoKeys::is_behind(&error) {
            return Self::NoKeys { action, path };
        }
        let found = io_error(&error);
        let kind = found.map(io::Error::kind);
        let number = found.and_then(io::Error::raw_os_error);
        let refused = is_refused(&error);
        let is_linkless = found.is_some_and(NoLinks::is_behind);
        // A create that finds nothing means a missing bucket, on a server that does not report it
        // as such.
        let is_nowhere = action == WRITE && is_not_found(&error);
        let source = Box::new(error);
        match kind {
            _ if is_linkless => Self::NoHardLinks { path, source },
            _ if is_nowhere => Self::Refused {
                action,
                path,
                source,
            },
            _ if refused => Self::Access {
                action,
                path,
                source,
            },
            _ if matches!(number, Some(EMFILE | ENFILE)) => Self::TooManyFiles {
                action,
                path,
                source,
            },
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
            // `AlreadyExists` is the error of creating a folder over a file.
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

/// Name of the action of a create in errors.
pub(crate) const WRITE: &str = "write";

/// Marker of a failed hard link. The same OS error number means a missing permission elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoLinks(pub(crate) io::Error);

impl NoLinks {
    fn is_behind(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(inner) if inner.is::<Self>())
    }
}

impl From<NoLinks> for io::Error {
    fn from(error: NoLinks) -> Self {
        Self::other(error)
    }
}

/// Error number of a full system-wide file table on every Unix; `io::ErrorKind` has no name for it,
/// nor for `EMFILE`.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

fn is_not_found(error: &(dyn StdError + 'static)) -> bool {
    let library = error.downcast_ref::<object_store::Error>();
    matches!(library, Some(object_store::Error::NotFound { .. })) && io_error(error).is_none()
}

/// Returns true if an object store answered 401 or 403.
fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<object_store::Error>(),
        Some(
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        )
    ) && io_error(error).is_none()
}

/// Returns the first operating-system error in the source chain.
pub(crate) fn io_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}
