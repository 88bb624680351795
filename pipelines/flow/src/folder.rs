//! A run's folder: who may use it, and where things lie in it.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use vintage_control::Name;
use vintage_learner::Records;
use vintage_store::{Store, Weights};

use crate::{
    Error, Result,
    config::{Resolved, RunConfig},
};

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
        let existed = path.is_dir();
        if existed && !config_file.is_file() {
            let mut entries = path.read_dir().map_err(io("read", path))?;
            if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != ".lock")) {
                let what = "is no run's folder (it has no config.toml) and not empty: name \
                            another --out";
                return Err(refuse(what.to_owned()));
            }
        }
        std::fs::create_dir_all(path).map_err(io("create", path))?;
        let lock_path = path.join(".lock");
        let lock_file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io("create", &lock_path))?;
        flock(&lock_file, lock).map_err(|_| {
            refuse("is in use by another process: wait for it, or name another --out".to_owned())
        })?;
        if config_file.is_file() {
            let old = RunConfig::read(&config_file)?;
            resolved.config.check_resumable(&old, path)?;
        }
        let store = Store::open(&path.to_string_lossy())?;
        let text = resolved.to_toml();
        let staged = path.join(".config.toml");
        std::fs::write(&staged, text).map_err(io("write", &staged))?;
        std::fs::rename(&staged, &config_file).map_err(io("write", &config_file))?;
        Ok(Self {
            path: path.to_owned(),
            store,
            _lock: lock_file,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder as a store.
    pub fn store(&self) -> &Store {
        &self.store
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
