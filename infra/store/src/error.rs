use std::{error::Error as StdError, io};

use vintage_control::{PolicyVersion, Sha256};

use crate::answer::{Answer, Refusal};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A location or an order given by the person.
    User,
    /// The disk, the network, or whoever changed an object.
    External,
}

/// What ails a disk or a server while it lasts: nothing is wrong with what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// No room, or over a quota.
    NoRoom,
    /// No permission, or wrong credentials.
    NoPermission,
    /// A read-only file system.
    ReadOnly,
    /// This process, or the machine, has no file handle left.
    TooManyFiles,
    /// The server does not answer, or not as it should.
    Network,
    /// The disk failed to read or write.
    Io,
}

impl Trouble {
    /// As a metric's label.
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

/// Why an object could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The location is of a kind this build has no backend for, or cannot be a path.
    #[error(
        "cannot open a store at {location:?}: {reason}; give a folder, a file:// URL or s3://bucket/prefix"
    )]
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
    /// The object store does not accept the credentials.
    #[error(
        "cannot {action} {path}: the store refuses access ({source}); check AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and what the bucket's policy allows"
    )]
    Access {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: String,
        /// As the store said it.
        source: Source,
    },
    /// No file handle left.
    #[error(
        "cannot {action} {path}: too many open files ({source}); raise the limit with ulimit -n"
    )]
    TooManyFiles {
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
    /// The store lets an existing object be replaced, or refuses to create on a condition: nothing
    /// built on it would be safe.
    #[error(
        "the store does not honour create-if-absent, which all commits rest on: {why} ({path}); \
         use a store with conditional put"
    )]
    NoConditionalPut {
        /// The object.
        path: String,
        /// What it did instead.
        why: String,
    },
    /// The file system cannot create a file whole and never over another.
    #[error(
        "cannot write {path}: its file system has no hard links ({source}), and without them no \
         file can be created whole and never over another; choose a folder on another file system"
    )]
    NoHardLinks {
        /// The object.
        path: String,
        /// As the system said it.
        source: Source,
    },
    /// The server answers, and would answer the same again.
    #[error(
        "cannot {action} {path}: {source}; check the setting store (bucket and prefix) and in \
         store_options endpoint and region"
    )]
    Refused {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: String,
        /// What the server said.
        source: Source,
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
    /// A file that a manifest lists is gone.
    #[error("{path} is missing, and its version's manifest lists it; restore the file from a copy")]
    Missing {
        /// The file.
        path: String,
    },
    /// A file that no manifest lists lies among those of a version.
    #[error(
        "{path} is not listed in its version's manifest: it was put there after the version was \
         published; remove it, for a version names one set of files for ever"
    )]
    Unlisted {
        /// The file.
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
        update: PolicyVersion,
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
        /// The file.
        path: String,
        /// Digest of what is there.
        found: Sha256,
        /// Digest of what was given.
        given: Sha256,
    },
}

impl Error {
    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Location { .. }
            | Self::NotADirectory { .. }
            | Self::NoConditionalPut { .. }
            | Self::NoHardLinks { .. }
            | Self::Refused { .. } => Fault::User,
            _ => Fault::External,
        }
    }

    /// What ails the disk or the server; `None` if the error is about an object or a location.
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
            Self::Access { .. } => Some(Trouble::NoPermission),
            Self::TooManyFiles { .. } => Some(Trouble::TooManyFiles),
            Self::Backend { path, .. } if path.contains("://") => Some(Trouble::Network),
            Self::Backend { .. } => Some(Trouble::Io),
            _ => None,
        }
    }

    /// Whether the same call can succeed later with nothing changed here: room, permission, a
    /// server may come back.
    pub fn is_retryable(&self) -> bool {
        self.trouble().is_some()
    }

    fn answered(action: &'static str, path: String, answer: Answer) -> Self {
        let refusal = answer.refusal;
        let source = Box::new(answer);
        match refusal {
            Refusal::Condition => Self::NoConditionalPut {
                path,
                why: format!("{source} to a conditional put"),
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
        let found = io_error(&error);
        let kind = found.map(io::Error::kind);
        let number = found.and_then(io::Error::raw_os_error);
        let refused = is_refused(&error);
        let is_linkless = found.is_some_and(NoLinks::is_behind);
        // Of a create: a bucket that is not there, in a server that does not call it so.
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

/// The action of a create.
pub(crate) const WRITE: &str = "write";

/// What a link that cannot be made is told by: the same number means no permission elsewhere.
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

/// As every Unix numbers them; `io::ErrorKind` has no name for them.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

fn is_not_found(error: &(dyn StdError + 'static)) -> bool {
    let library = error.downcast_ref::<object_store::Error>();
    matches!(library, Some(object_store::Error::NotFound { .. })) && io_error(error).is_none()
}

/// Whether an object store said 401 or 403.
fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<object_store::Error>(),
        Some(
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        )
    ) && io_error(error).is_none()
}

/// The first operating-system error in the chain.
fn io_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}
