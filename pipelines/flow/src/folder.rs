//! Folder of a run: its locks, its settings file, and the layout of what it holds.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use vintage_config::{Resolved, secret};
use vintage_settings::RunConfig;

use rustix::fs::{FlockOperation, flock};
use vintage_control::Name;
use vintage_store::{Patience, Records, Store, Weights};

use crate::error::{Error, Result};

const RUN_LOCK: &str = ".lock";
const SETUP_LOCK: &str = ".setup.lock";
const PRUNE_LOCK: &str = ".prune.lock";
const PRODUCER_LOCK: &str = ".producer.lock";

const ARCHIVE: &str = "archive";
const JOURNALS: &str = "producers";
/// Subfolder that receives the prompts of the built-in task.
pub(crate) const BUILT_IN_PROMPTS: &str = "prompts";

/// Name of the settings file, in the run's folder and in each follower's subfolder.
const CONFIG: &str = "config.toml";

/// Returns the subfolder that holds a follower's settings: `learners/<name>`.
pub(crate) fn follower_folder(run: &Path, learner: &Name) -> PathBuf {
    run.join("learners").join(learner.as_str())
}

/// Returns the settings file of a learner in a run's folder: the run's own file for the lead, a
/// file in its subfolder for a follower, `None` if the learner does not exist yet.
pub(crate) fn learner_config(run: &Path, learner: &Name) -> Result<Option<PathBuf>> {
    let of_run = run.join(CONFIG);
    if of_run.is_file() && vintage_config::read(&of_run)?.learner.name == *learner {
        return Ok(Some(of_run));
    }
    let own = follower_folder(run, learner).join(CONFIG);
    Ok(own.is_file().then_some(own))
}

/// Returns the settings files of a run's followers, sorted by name.
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

/// Returns true while a `vintage run` works in the folder.
pub(crate) fn is_in_use(run: &Path) -> bool {
    let Ok(lock) = File::open(run.join(RUN_LOCK)) else {
        return false;
    };
    flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// Locks the folder against any other process that works in it, for as long as the returned file is
/// open; `None` if one does.
pub(crate) fn alone(run: &Path) -> Option<File> {
    let lock = File::open(run.join(RUN_LOCK)).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}

/// Locks the folder against another prune.
pub(crate) fn pruning(run: &Path) -> Result<File> {
    let refuse = |reason: String| Error::Folder {
        path: run.to_owned(),
        reason,
    };
    let mut options = OpenOptions::new();
    let file = options.create(true).write(true).truncate(false);
    let file = file
        .open(run.join(PRUNE_LOCK))
        .map_err(|error| refuse(format!("cannot be written ({error})")))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| refuse("is being pruned by another process: wait for it".to_owned()))?;
    Ok(file)
}

/// Returns the path of a run's settings file.
pub fn config_file(run: &Path) -> PathBuf {
    run.join(CONFIG)
}

/// Returns the folder of the journals of producers that ran in a run's folder.
pub(crate) fn journals(run: &Path) -> PathBuf {
    run.join(JOURNALS)
}

/// Returns the root of the archive in a run's store.
pub fn archive_in(store: &Store) -> Store {
    store.at(ARCHIVE)
}

/// Returns true for files that may be in a folder before it becomes a run's: those of an
/// interrupted start, and those of roles whose learner works in another folder.
fn is_ours(name: &OsStr) -> bool {
    let of_start = [RUN_LOCK, SETUP_LOCK];
    let of_roles = [ARCHIVE, JOURNALS, BUILT_IN_PROMPTS, PRODUCER_LOCK];
    let staged = name.as_encoded_bytes();
    of_start.iter().chain(&of_roles).any(|ours| name == *ours)
        || staged.starts_with(staging_prefix(OsStr::new(CONFIG)).as_encoded_bytes())
            && staged.ends_with(STAGING_SUFFIX.as_bytes())
}

/// Opens the store of the run in `folder`: the location its `store` setting names, else the folder
/// itself. A folder without settings, such as a copy of plans, archive and version 0, is its own
/// store.
pub fn open_store(folder: &Path) -> Result<Store> {
    let config_file = folder.join(CONFIG);
    if config_file.is_file() {
        store_of(&vintage_config::read(&config_file)?, folder)
    } else {
        Ok(Store::open(&folder.to_string_lossy())?)
    }
}

/// Opens the store of a run with these settings in `folder`.
pub(crate) fn store_of(config: &RunConfig, folder: &Path) -> Result<Store> {
    let Some(location) = &config.store else {
        return Ok(Store::open(&folder.to_string_lossy())?);
    };
    let options = secret::reveal("store_options", &config.store_options).map_err(Error::Value)?;
    Ok(Store::open_with(location, &options)?)
}

/// Role that opens a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Learner whose settings are the run's settings; writes them.
    Lead,
    /// Any other role; leaves the settings file unchanged.
    Role,
}

/// Open folder of a run, with its lock held until this is dropped.
pub struct RunFolder {
    path: PathBuf,
    store: Store,
    /// Lock file; `None` for a follower. The kernel releases the lock when the process dies,
    /// however it dies.
    _lock: Option<File>,
}

impl RunFolder {
    /// Opens `path` as the lead, for this process alone: a new folder, or one that the same run
    /// left.
    pub fn take(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        let alone = FlockOperation::NonBlockingLockExclusive;
        Self::open(path, resolved, alone, By::Lead)
    }

    /// Opens `path` as the lead of a run whose other roles share the folder.
    pub fn share(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        Self::open(
            path,
            resolved,
            FlockOperation::NonBlockingLockShared,
            By::Lead,
        )
    }

    /// Opens `path` as a role other than the lead. The role's settings must agree with the run's,
    /// which stay unchanged.
    pub fn join(path: &Path, resolved: &Resolved<RunConfig>) -> Result<Self> {
        Self::open(
            path,
            resolved,
            FlockOperation::NonBlockingLockShared,
            By::Role,
        )
    }

    /// Opens `path` as a follower: a learner beside the lead, with a settings file of its own. The
    /// run's settings and lock are not touched, because a follower only reads what the run writes.
    /// Of two processes of the same follower the first to write a plan wins, as with two leads.
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
                return Err(Error::Setting {
                    setting: format!("learner.policy = \"{}\"", other.policy),
                    reason: format!(
                        "learner {} of this run publishes that lineage; name another with --set \
                         learner.policy=…",
                        other.name
                    ),
                });
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
        let refuse = |reason: String| Error::Folder {
            path: path.to_owned(),
            reason,
        };
        if path.is_dir() && !config_file.is_file() {
            let mut entries = path.read_dir().map_err(io("read", path))?;
            if entries.any(|entry| entry.is_ok_and(|entry| !is_ours(&entry.file_name()))) {
                let reason = "is no run's folder (it has no config.toml) and not empty: name \
                            another --out";
                return Err(refuse(reason.to_owned()));
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

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Store of plans, results, weights and archive: the folder, unless the `store` setting names
    /// another place.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the folder with a store that is waited for while it is away.
    pub(crate) fn patient(mut self, patience: Patience) -> Self {
        self.store = self.store.patient(patience);
        self
    }

    /// Checks that a remote store honours create-if-absent; one that is away is not waited for, since
    /// a setting may be wrong. In a local folder the kernel guarantees
    /// it, and what killed processes left unfinished there is removed.
    pub(crate) async fn prove_store(&self) -> Result<()> {
        if self.store.is_remote() {
            let store = self.store.clone().impatient();
            store.probe_conditional_put().await?;
        } else {
            self.store.sweep("").await?;
        }
        Ok(())
    }

    /// Control records (plans, results, checkpoints) of a learner.
    pub fn records(&self, learner: &Name) -> Records {
        Records::new(self.store.clone(), learner.clone())
    }

    /// Weights of a policy, by version.
    pub fn weights(&self, policy: &Name) -> Weights {
        Weights::new(self.store.clone(), policy.clone())
    }

    /// Root of the archive in the store.
    pub fn archive(&self) -> Store {
        archive_in(&self.store)
    }

    /// Folder in which versions are written for inference servers.
    pub fn served(&self) -> PathBuf {
        self.path.join("served")
    }

    /// Folder of the journals of producers that ran in this folder.
    pub fn journals(&self) -> PathBuf {
        journals(&self.path)
    }
}

/// Locks the set-up of this folder, waiting for any other process that is setting it up.
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

/// Writes a file atomically: to a staging file that is then renamed. Processes that write the same
/// file at the same time have a staging file each; the last one to rename its own wins.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().unwrap_or_default();
    let written = tempfile::Builder::new()
        .prefix(&staging_prefix(name))
        .suffix(STAGING_SUFFIX)
        // As any new file: what the umask leaves. Temporary files are private by default.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))
        .and_then(|mut staged| {
            staged.write_all(text.as_bytes())?;
            staged.persist(path).map_err(|error| error.error)
        });
    written.map(drop).map_err(|source| Error::Io {
        attempted: "write",
        path: path.to_owned(),
        source,
    })
}

const STAGING_SUFFIX: &str = ".part";

fn staging_prefix(name: &OsStr) -> OsString {
    let mut prefix = name.to_owned();
    prefix.push(".");
    prefix
}

#[cfg(test)]
mod tests {
    use super::{RunFolder, config_file, write_whole};
    use std::os::unix::fs::PermissionsExt;
    use vintage_config::Layers;

    /// Roles that start at the same moment write the same built-in prompts.
    #[test]
    fn a_file_that_many_write_at_the_same_time_is_always_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        let texts = ["a".repeat(1 << 16), "b".repeat(1 << 16)];
        std::thread::scope(|scope| {
            for text in texts.iter().cycle().take(8) {
                scope.spawn(|| {
                    for _ in 0..50 {
                        write_whole(&path, text).unwrap();
                        let read = std::fs::read_to_string(&path).unwrap();
                        assert!(texts.contains(&read));
                    }
                });
            }
        });
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "staging files are left");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_ne!(mode & 0o044, 0, "others may read it as any new file");
    }

    #[test]
    fn a_staging_file_of_an_interrupted_start_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        for (left, fits) in [("config.toml.x7f3.part", true), ("config.toml.bak", false)] {
            let out = folder.path().join(left);
            std::fs::create_dir(&out).unwrap();
            std::fs::write(out.join(left), "se").unwrap();
            let resolved = Layers::new().resolve().unwrap();
            assert_eq!(RunFolder::share(&out, &resolved).is_ok(), fits, "{left}");
        }
    }

    #[test]
    fn settings_are_written_by_the_lead_alone() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let defaults = Layers::new().resolve().unwrap();
        let _role = RunFolder::join(&out, &defaults).unwrap();
        assert!(!config_file(&out).exists());
        // Folders that another role created do not prevent the lead from writing its settings.
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
