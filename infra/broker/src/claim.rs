//! Locks on the folder of a local broker, which record who uses it. They are file locks, which the
//! kernel releases when their process ends in any way.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{
    cluster::io_error,
    error::{Error, Result},
};

/// Interval at which a lock is tried again; file locks have no wait with a time limit.
const LOOK: Duration = Duration::from_millis(50);

/// Exclusive lock on starting and stopping nodes in a folder.
#[derive(Debug)]
pub(crate) struct Turn {
    dir: PathBuf,
    _held: File,
}

/// Shared lock held by each process that needs the broker.
#[derive(Debug)]
pub(crate) struct Use {
    _held: File,
}

impl Turn {
    /// Takes the lock, waiting for a process that is starting or stopping nodes.
    ///
    /// # Errors
    /// [`Error::LocalInUse`] if that takes longer than `patience`.
    pub(crate) async fn take(dir: &Path, patience: Duration) -> Result<Self> {
        let begun = Instant::now();
        loop {
            if let Some(turn) = Self::try_take(dir)? {
                return Ok(turn);
            }
            if begun.elapsed() > patience {
                return Err(Error::LocalInUse {
                    dir: dir.to_owned(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the lock if no process holds it; returns `None` otherwise.
    pub(crate) fn try_take(dir: &Path) -> Result<Option<Self>> {
        let held = lock(&dir.join("lock"), FlockOperation::NonBlockingLockExclusive)?;
        let dir = dir.to_owned();
        Ok(held.map(|held| Self { dir, _held: held }))
    }

    /// Registers the caller as a process that needs the broker, until the result is dropped.
    pub(crate) fn join(&self) -> Result<Use> {
        let held = lock(&self.users(), FlockOperation::NonBlockingLockShared)?;
        let held = held.ok_or_else(|| Error::LocalInUse {
            dir: self.dir.clone(),
        })?;
        Ok(Use { _held: held })
    }

    /// Returns true if a live process needs the broker. A false result stays valid for as long as
    /// this lock is held, because joining requires it; a true one may become outdated.
    pub(crate) fn is_used(&self) -> Result<bool> {
        let alone = lock(&self.users(), FlockOperation::NonBlockingLockExclusive)?;
        Ok(alone.is_none())
    }

    /// Returns true if the broker was asked to stay up without users.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept().exists()
    }

    /// Records whether the broker stays up without users.
    pub(crate) fn keep(&self, keep: bool) -> Result<()> {
        let path = self.kept();
        let changed = if keep {
            fs::write(&path, "")
        } else {
            fs::remove_file(&path)
        };
        match changed {
            Err(error) if keep || error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("changing", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn users(&self) -> PathBuf {
        self.dir.join("users")
    }

    fn kept(&self) -> PathBuf {
        self.dir.join("kept")
    }
}

/// Opens and locks a file; returns `None` if a conflicting lock is held.
fn lock(path: &Path, how: FlockOperation) -> Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| io_error("opening", path, source))?;
    match flock(&file, how) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(io_error("locking", path, error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Turn;
    use crate::error::Error;

    #[tokio::test]
    async fn one_has_the_turn_and_many_use() {
        let dir = tempfile::tempdir().unwrap();
        let turn = Turn::try_take(dir.path()).unwrap().unwrap();
        let soon = Duration::from_millis(60);
        let second = Turn::take(dir.path(), soon).await;
        assert!(matches!(second, Err(Error::LocalInUse { .. })));
        assert!(!turn.is_used().unwrap());
        let (first, second) = (turn.join().unwrap(), turn.join().unwrap());
        drop(first);
        assert!(turn.is_used().unwrap());
        drop(second);
        assert!(!turn.is_used().unwrap());
        drop(turn);
        assert!(Turn::try_take(dir.path()).unwrap().is_some());
    }

    #[test]
    fn being_kept_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let turn = Turn::try_take(dir.path()).unwrap().unwrap();
        assert!(!turn.is_kept());
        turn.keep(false).unwrap();
        turn.keep(true).unwrap();
        turn.keep(true).unwrap();
        assert!(turn.is_kept());
        turn.keep(false).unwrap();
        assert!(!turn.is_kept());
    }
}
