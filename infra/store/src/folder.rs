//! Create-if-absent in a folder.
//!
//! ```text
//! write NAME#n ─► sync it ─► link it to NAME ─► sync the folder ─► unlink NAME#n
//!                            the commit         durable
//! ```
//!
//! A hard link, unlike a rename, fails if the target exists, which makes it the fence between
//! writers. If the process is killed anywhere in between, there is no object or a whole one, and at
//! most a staging file, which is never listed and is swept later.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use vintage_faults::{failure, point};

use crate::{created::Created, error::NoLinks};

/// Most folders remembered as durable; when it is reached, all are forgotten and synced again as
/// needed.
const REMEMBERED: usize = 4096;

/// Folders whose directory entries, up to the root of the file system, are known to be on the disk.
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

/// Guarantees of a create. Only a benchmark turns any of them off, to measure its cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarantees {
    /// True if the object is synced to disk before the create returns.
    pub(crate) durable: bool,
    /// True if an existing object is never replaced.
    pub(crate) fenced: bool,
}

impl Guarantees {
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
    guarantees: Guarantees,
) -> io::Result<Created> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !durable.holds(folder) {
        make(folder)?;
        durable.add(folder);
    }
    let staged = match stage(path) {
        // The folder was removed meanwhile, with its last object.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            durable.remove(folder);
            make(folder)?;
            durable.add(folder);
            stage(path)?
        }
        staged => staged?,
    };
    let created = commit(staged.file, &staged.path, path, bytes, guarantees);
    // If this fails, a later sweep removes the staging file; the object is unaffected.
    let _swept_later = fs::remove_file(&staged.path);
    created
}

fn commit(
    mut file: File,
    staged: &Path,
    path: &Path,
    bytes: &[u8],
    guarantees: Guarantees,
) -> io::Result<Created> {
    let in_hand = bytes.len() as u64;
    if let Some(error) = failure("store.create") {
        return Err(error);
    }
    file.write_all(bytes)?;
    point("store.staged", in_hand);
    // Synced once only: after an error the kernel may have forgotten which pages are not on the
    // disk, and a second sync would succeed over a file with holes. A retry writes a new file.
    match failure("store.sync") {
        Some(error) => return Err(error),
        None if guarantees.durable => file.sync_all()?,
        None => {}
    }
    drop(file);
    point("store.synced", in_hand);
    let created = if guarantees.fenced {
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
    // The folder is also synced if the object existed: its creator may not have synced yet, and
    // what is built on the object must not outlive it.
    if guarantees.durable {
        sync(path.parent().unwrap_or(Path::new("/")))?;
    }
    point("store.durable", in_hand);
    Ok(created)
}

/// Returns true if the error means a file system without hard links. A missing permission is ruled
/// out, because the staging file was created in the same folder.
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

/// Creates a staging file beside `path`. Its name begins with a dot, so that readers of a folder
/// (pyarrow, pandas, Spark) pass over one that a killed process left, and ends like the staging
/// files of `object_store`, which never lists them.
fn stage(path: &Path) -> io::Result<Staged> {
    let object = path.file_name().unwrap_or_default();
    for number in 1_u32.. {
        let mut name = OsString::from(".");
        name.push(object);
        name.push(format!("#{number}"));
        let path = path.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok(Staged { file, path }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Creates a folder, and syncs its entry and those of all folders above it.
fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for above in folder.ancestors().skip(1) {
        match sync(above) {
            Ok(()) => {}
            // Parent folders of other owners may be searchable but not readable, or on a file
            // system that cannot sync.
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

/// Syncs a folder's entries to the disk.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::stage;

    /// Readers of a folder take every file that is not hidden for data.
    #[test]
    fn staging_files_are_hidden_beside_their_object() {
        let folder = tempfile::tempdir().unwrap();
        let staged = [(); 2].map(|()| stage(&folder.path().join("1.parquet")).unwrap());
        let names = staged.map(|staged| staged.path);
        assert_eq!(
            names,
            [1, 2].map(|number| folder.path().join(format!(".1.parquet#{number}")))
        );
    }
}
