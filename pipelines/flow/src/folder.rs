//! A run's folder: who may use it, and where things lie in it.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use vintage_control::Name;
use vintage_learner::Records;
use vintage_store::{Store, Weights};

use crate::{
    Error, Result,
    config::{Resolved, RunConfig, secret},
};

const RUN_LOCK: &str = ".lock";
const SETUP_LOCK: &str = ".setup.lock";

/// Whether a folder that holds only such files may become a run's.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    [RUN_LOCK, SETUP_LOCK, "config.toml.part"]
        .iter()
        .any(|ours| name == *ours)
}

/// The root of the run in `folder`: where its `store` setting points, or the folder itself. A
/// folder without settings, such as a copy of plans, archive and version 0, is its own root.
pub fn open_store(folder: &Path) -> Result<Store> {
    let config_file = folder.join("config.toml");
    if config_file.is_file() {
        store_of(&RunConfig::read(&config_file)?, folder)
    } else {
        Ok(Store::open(&folder.to_string_lossy())?)
    }
}

/// The root of a run with these settings in `folder`.
pub(crate) fn store_of(config: &RunConfig, folder: &Path) -> Result<Store> {
    let Some(location) = &config.store else {
        return Ok(Store::open(&folder.to_string_lossy())?);
    };
    let options = secret::reveal("store_options", &config.store_options).map_err(Error::Usage)?;
    Ok(Store::open_with(location, &options)?)
}

/// A folder that is this process's until dropped.
pub struct RunFolder {
    path: PathBuf,
    store: Store,
    /// The kernel lets go of the lock when the process dies, however it dies.
    _lock: File,
}

impl RunFolder {
    /// Takes `path` for a run of `config`: a new folder, or one the same run left.
    pub fn take(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        Self::open(path, resolved, FlockOperation::NonBlockingLockExclusive)
    }

    /// Joins other roles of the same run in `path`.
    pub fn share(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        Self::open(path, resolved, FlockOperation::NonBlockingLockShared)
    }

    fn open(path: &Path, resolved: &Resolved<RunConfig>, lock: FlockOperation) -> Result<Self> {
        let io = |attempted, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io {
                attempted,
                path,
                source,
            }
        };
        let config_file = path.join("config.toml");
        let refuse = |what: String| Error::Folder {
            path: path.to_owned(),
            what,
        };
        if path.is_dir() && !config_file.is_file() {
            let mut entries = path.read_dir().map_err(io("read", path))?;
            if entries.any(|entry| entry.is_ok_and(|entry| !is_ours(&entry.file_name()))) {
                let what = "is no run's folder (it has no config.toml) and not empty: name \
                            another --out";
                return Err(refuse(what.to_owned()));
            }
        }
        std::fs::create_dir_all(path).map_err(|error| {
            refuse(format!(
                "cannot be made a folder ({error}): name another --out"
            ))
        })?;
        let lock_file = |name: &str| {
            let path = path.join(name);
            let mut options = OpenOptions::new();
            let file = options.create(true).write(true).truncate(false).open(&path);
            file.map_err(|error| refuse(format!("cannot be written ({error}): name another --out")))
        };
        let held = lock_file(RUN_LOCK)?;
        flock(&held, lock).map_err(|_| {
            refuse("is in use by another process: wait for it, or name another --out".to_owned())
        })?;
        // Roles that start together take turns here.
        let setting_up = lock_file(SETUP_LOCK)?;
        flock(&setting_up, FlockOperation::LockExclusive).map_err(|error| {
            let path = path.join(SETUP_LOCK);
            Error::Io {
                attempted: "lock",
                path,
                source: error.into(),
            }
        })?;
        if config_file.is_file() {
            let old = RunConfig::read(&config_file)?;
            resolved.config.check_resumable(&old, path)?;
        }
        let store = store_of(&resolved.config, path)?;
        write_whole(&config_file, &resolved.to_toml())?;
        Ok(Self {
            path: path.to_owned(),
            store,
            _lock: held,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root of plans, results, weights and archive: the folder, unless set otherwise.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Proves that the store honours create-if-absent, where that is not this machine's own
    /// kernel's word.
    pub(crate) async fn prove_store(&self) -> Result<()> {
        if self.store.is_remote() {
            self.store.probe_conditional_put().await?;
        }
        Ok(())
    }

    /// The records of a learner.
    pub fn records(&self, learner: &Name) -> Records {
        Records::new(self.store.clone(), learner.clone())
    }

    /// The weights of a lineage.
    pub fn weights(&self, policy: &Name) -> Weights {
        Weights::new(self.store.clone(), policy.clone())
    }

    /// The archive's root.
    pub fn archive(&self) -> Store {
        self.store.at("archive")
    }

    /// The journals of producers that ran here.
    pub fn journals(&self) -> PathBuf {
        self.path.join("producers")
    }
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".part");
    let staged = PathBuf::from(staged);
    let written = std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, path));
    written.map_err(|source| {
        // Best effort: on a full disk this is what makes room again.
        let _gone = std::fs::remove_file(&staged);
        Error::Io {
            attempted: "write",
            path: path.to_owned(),
            source,
        }
    })
}

/// A record in a file; `None` if there is no file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| damaged(path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            attempted: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

pub(crate) fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Error {
    let what = format!("cannot be read as a record of this version: {why}");
    Error::Folder {
        path: path.to_owned(),
        what,
    }
}
