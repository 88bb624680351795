//! Create if absent in a folder.
//!
//! ```text
//! write NAME#n ─► sync it ─► link it to NAME ─► sync the folder ─► unlink NAME#n
//!                            the commit         durable
//! ```
//!
//! A link, unlike a rename, fails where something is: that makes it the fence between writers.
//! Whatever kills the process in between leaves no object or a whole one, and at most a staging
//! file that is never listed and is swept later.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use vintage_faults::{failure, point};

use crate::{Created, error::NoLinks};

/// Folders remembered as durable; beyond it they are synced again.
const REMEMBERED: usize = 4096;

/// Folders whose own entries are known to be on the disk, up to the root of the file system.
#[derive(Debug, Default)]
pub(crate) struct Durable(Mutex<BTreeSet<PathBuf>>);

impl Durable {
    fn holds(&self, folder: &Path) -> bool {
        self.held().contains(folder)
    }

    fn add(&self, folder: &Path) {
        let mut held = self.held();
        if held.len() >= REMEMBERED {
            held.clear();
        }
        held.insert(folder.to_owned());
    }

    fn remove(&self, folder: &Path) {
        self.held().remove(folder);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a create promises. Only a benchmark forgoes any of it, to see what it costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    /// On the disk once created.
    pub(crate) durable: bool,
    /// Never over what is there.
    pub(crate) fenced: bool,
}

impl Promise {
    /// All of it.
    pub(crate) const WHOLE: Self = Self {
        durable: true,
        fenced: true,
    };
}

/// Creates `path` unless it is there. On an error nothing half-written is left; whether the object
/// is there is then unknown only if syncing the folder failed.
pub(crate) fn create(
    path: &Path,
    bytes: &[u8],
    durable: &Durable,
    promise: Promise,
) -> io::Result<Created> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !durable.holds(folder) {
        make(folder)?;
        durable.add(folder);
    }
    let staged = match stage(path) {
        // Removed since, with its last object.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            durable.remove(folder);
            make(folder)?;
            durable.add(folder);
            stage(path)?
        }
        staged => staged?,
    };
    let created = commit(staged.file, &staged.path, path, bytes, promise);
    // Where this fails the sweep takes it: the object is what it is.
    let _swept_later = fs::remove_file(&staged.path);
    created
}

fn commit(
    mut file: File,
    staged: &Path,
    path: &Path,
    bytes: &[u8],
    promise: Promise,
) -> io::Result<Created> {
    let in_hand = bytes.len() as u64;
    if let Some(error) = failure("store.create") {
        return Err(error);
    }
    file.write_all(bytes)?;
    point("store.staged", in_hand);
    // Once only: after an error the kernel may have forgotten which pages are not on the disk, and
    // a second sync would succeed over a file with holes. Who tries again writes a new one.
    match failure("store.sync") {
        Some(error) => return Err(error),
        None if promise.durable => file.sync_all()?,
        None => {}
    }
    drop(file);
    point("store.synced", in_hand);
    let created = if promise.fenced {
        match fs::hard_link(staged, path) {
            Ok(()) => Created::New,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Created::Exists,
            Err(error) if is_linkless(&error) => return Err(NoLinks(error).into()),
            Err(error) => return Err(error),
        }
    } else {
        fs::rename(staged, path)?;
        Created::New
    };
    point("store.linked", in_hand);
    // Also of an object that was there: its creator may not have come to this yet, and what is
    // built on it now must not outlive it.
    if promise.durable {
        sync(path.parent().unwrap_or(Path::new("/")))?;
    }
    point("store.durable", in_hand);
    Ok(created)
}

/// Whether a file system without hard links says so. The staged file was made in this folder, so
/// that it is not for want of a permission.
fn is_linkless(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::TooManyLinks
    )
}

struct Staged {
    file: File,
    path: PathBuf,
}

fn stage(path: &Path) -> io::Result<Staged> {
    for number in 1_u32.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let path = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok(Staged { file, path }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Makes a folder whose entry, and those of all above it, are on the disk.
fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for above in folder.ancestors().skip(1) {
        match sync(above) {
            Ok(()) => {}
            // Folders of others, on the way to ours, may be searched and not read, or lie on a
            // file system that has nothing to sync.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::InvalidInput
                ) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Brings a folder's entries onto the disk.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
