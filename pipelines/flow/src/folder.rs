//! A run's folder: who may use it, and where things lie in it.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};
use vintage_config::{Resolved, secret};
use vintage_settings::RunConfig;

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use vintage_control::Name;
use vintage_store::{Records, Store, Weights};

use crate::{Error, Result};

const RUN_LOCK: &str = ".lock";
const SETUP_LOCK: &str = ".setup.lock";
const PRODUCER_LOCK: &str = ".producer.lock";

const ARCHIVE: &str = "archive";
const JOURNALS: &str = "producers";
/// Where the built-in task's prompts are written.
pub(crate) const BUILT_IN_PROMPTS: &str = "prompts";

/// Settings of a run, and beside them the folder of each follower's own.
const CONFIG: &str = "config.toml";

/// Where a follower keeps its settings.
pub(crate) fn follower_folder(run: &Path, learner: &Name) -> PathBuf {
    run.join("learners").join(learner.as_str())
}

/// The settings file of a learner in a run's folder: the run's own where it is the lead, else a
/// follower's; `None` if there is no such learner yet.
pub(crate) fn learner_config(run: &Path, learner: &Name) -> Result<Option<PathBuf>> {
    let of_run = run.join(CONFIG);
    if of_run.is_file() && vintage_config::read(&of_run)?.learner.name == *learner {
        return Ok(Some(of_run));
    }
    let own = follower_folder(run, learner).join(CONFIG);
    Ok(own.is_file().then_some(own))
}

/// The settings files of a run's followers, by name.
pub fn followers(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("learners");
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::Io {
                attempted: "read",
                path: folder,
                source,
            });
        }
    };
    let files = entries.flatten().map(|entry| entry.path().join(CONFIG));
    let mut files: Vec<_> = files.filter(|file| file.is_file()).collect();
    files.sort();
    Ok(files)
}

/// The settings file of the run in a folder.
pub(crate) fn config_file(run: &Path) -> PathBuf {
    run.join(CONFIG)
}

/// Whether a folder that holds only such files may become a run's: those of a start that was cut
/// short, and those of roles whose learner works in another folder.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let of_start = [RUN_LOCK, SETUP_LOCK, "config.toml.part"];
    let of_roles = [ARCHIVE, JOURNALS, BUILT_IN_PROMPTS, PRODUCER_LOCK];
    of_start.iter().chain(&of_roles).any(|ours| name == *ours)
}

/// The root of the run in `folder`: where its `store` setting points, or the folder itself. A
/// folder without settings, such as a copy of plans, archive and version 0, is its own root.
pub fn open_store(folder: &Path) -> Result<Store> {
    let config_file = folder.join(CONFIG);
    if config_file.is_file() {
        store_of(&vintage_config::read(&config_file)?, folder)
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

/// Who opens a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The learner whose settings are the run's.
    Lead,
    /// Any other role.
    Role,
}

/// A folder that is this process's until dropped.
pub struct RunFolder {
    path: PathBuf,
    store: Store,
    /// The kernel lets go of the lock when the process dies, however it dies.
    _lock: Option<File>,
}

impl RunFolder {
    /// Takes `path` for a run of `config`: a new folder, or one the same run left.
    pub fn take(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        let alone = FlockOperation::NonBlockingLockExclusive;
        Self::open(path, resolved, alone, By::Lead)
    }

    /// Takes `path` for the lead of a run whose other roles share it.
    pub fn share(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        Self::open(
            path,
            resolved,
            FlockOperation::NonBlockingLockShared,
            By::Lead,
        )
    }

    /// Joins the run in `path` as a role that is not its lead: its settings must agree, and are
    /// left as they are.
    pub fn join(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        Self::open(
            path,
            resolved,
            FlockOperation::NonBlockingLockShared,
            By::Role,
        )
    }

    /// Joins the run in `path` as a learner beside its lead, with settings of its own. The run's
    /// settings and lock are left alone, for a follower only reads what the run writes; of two
    /// followers of one name the first to plan an update wins, as of two leads.
    pub fn follow(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        let config = &resolved.config;
        let run = vintage_config::read(&path.join(CONFIG))?;
        vintage_config::check_joins(config, &run, path)?;
        let name = &config.learner.name;
        let own = follower_folder(path, name);
        let taken = std::iter::once(path.join(CONFIG)).chain(followers(path)?);
        for file in taken.filter(|file| *file != own.join(CONFIG)) {
            let other = vintage_config::read(&file)?.learner;
            if other.policy == config.learner.policy {
                return Err(Error::Usage(format!(
                    "learner.policy = \"{}\": learner {} of this run publishes that lineage; \
                     name another with --set learner.policy=…",
                    other.policy, other.name
                )));
            }
        }
        std::fs::create_dir_all(&own).map_err(|source| Error::Io {
            attempted: "create",
            path: own.clone(),
            source,
        })?;
        let _setting_up = setting_up(&own)?;
        let config_file = own.join(CONFIG);
        if config_file.is_file() {
            vintage_config::check_resumable(config, &vintage_config::read(&config_file)?, &own)?;
        }
        write_whole(&config_file, &resolved.to_toml())?;
        Ok(Self {
            path: path.to_owned(),
            store: store_of(config, path)?,
            _lock: None,
        })
    }

    fn open(
        path: &Path,
        resolved: &Resolved<RunConfig>,
        lock: FlockOperation,
        by: By,
    ) -> Result<Self> {
        let io = |attempted, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io {
                attempted,
                path,
                source,
            }
        };
        let config_file = path.join(CONFIG);
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
        let mut options = OpenOptions::new();
        let held = options
            .create(true)
            .write(true)
            .truncate(false)
            .open(path.join(RUN_LOCK))
            .map_err(|error| refuse(format!("cannot be written ({error}): name another --out")))?;
        flock(&held, lock).map_err(|_| {
            refuse("is in use by another process: wait for it, or name another --out".to_owned())
        })?;
        let _setting_up = setting_up(path)?;
        if config_file.is_file() {
            let old = vintage_config::read(&config_file)?;
            vintage_config::check_resumable(&resolved.config, &old, path)?;
        }
        let store = store_of(&resolved.config, path)?;
        if by == By::Lead {
            write_whole(&config_file, &resolved.to_toml())?;
        }
        Ok(Self {
            path: path.to_owned(),
            store,
            _lock: Some(held),
        })
    }

    /// Makes this process the only producer of this folder's run, until what it gives is dropped:
    /// under the exact rule a slot is a batch's, and two producers would both fill it.
    pub(crate) fn sole_producer(&self) -> Result<File> {
        let path = self.path.join(PRODUCER_LOCK);
        let mut options = OpenOptions::new();
        let file = options.create(true).write(true).truncate(false).open(&path);
        let file = file.map_err(|source| Error::Io {
            attempted: "lock",
            path,
            source,
        })?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Folder {
            path: self.path.clone(),
            what: "has a producer at work: under gate.exact two would sample every slot twice; \
                   end that one, or leave gate.exact unset"
                .to_owned(),
        })?;
        Ok(file)
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
        self.store.at(ARCHIVE)
    }

    /// The journals of producers that ran here.
    pub fn journals(&self) -> PathBuf {
        self.path.join(JOURNALS)
    }
}

/// Waits until no other process sets up this folder: roles that start together take turns.
fn setting_up(folder: &Path) -> Result<File> {
    let path = folder.join(SETUP_LOCK);
    let mut options = OpenOptions::new();
    let file = options.create(true).write(true).truncate(false).open(&path);
    let locked = file.and_then(|file| {
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked.map_err(|source| Error::Io {
        attempted: "lock",
        path,
        source,
    })
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

#[cfg(test)]
mod tests {
    use super::{RunFolder, config_file};
    use vintage_config::Layers;

    #[test]
    fn under_the_exact_rule_a_folder_has_one_producer() {
        let folder = tempfile::tempdir().unwrap();
        let resolved = Layers::new().resolve().unwrap();
        let join = || RunFolder::join(&folder.path().join("run"), &resolved).unwrap();
        let (first, second) = (join(), join());
        let alone = first.sole_producer().unwrap();
        let refused = second.sole_producer().unwrap_err().to_string();
        assert!(refused.contains("unset"), "{refused}");
        drop(alone);
        assert!(second.sole_producer().is_ok());
    }

    #[test]
    fn settings_are_written_by_the_lead_alone() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let defaults = Layers::new().resolve().unwrap();
        let _role = RunFolder::join(&out, &defaults).unwrap();
        assert!(!config_file(&out).exists());
        // What another role began does not keep the lead from its settings.
        std::fs::create_dir(out.join(super::JOURNALS)).unwrap();
        let lead = Layers::new().set("learner.prompts_per_update=4").unwrap();
        let _lead = RunFolder::share(&out, &lead.resolve().unwrap()).unwrap();
        let written = std::fs::read(config_file(&out)).unwrap();
        let refused = RunFolder::join(&out, &defaults).err().unwrap().to_string();
        assert!(refused.contains("prompts_per_update"), "{refused}");
        let layers = Layers::new().recorded(&config_file(&out)).unwrap();
        let own = layers.set("archive.roll_seconds=1").unwrap();
        let _role = RunFolder::join(&out, &own.resolve().unwrap()).unwrap();
        assert_eq!(std::fs::read(config_file(&out)).unwrap(), written);
    }
}
