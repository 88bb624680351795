//! Lookup of models by their Hugging Face hub name in the local cache.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Prefix that marks a hub name where a path is expected.
const SCHEME: &str = "hf://";
/// Revision used if none is named.
const MAIN: &str = "main";

/// Model identified by its name on the Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    repository: String,
    revision: String,
}

impl HubModel {
    /// Parses `hf://NAME[@REVISION]`; returns `None` for the path of a folder.
    ///
    /// # Errors
    /// The name is not valid for a model.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        let text = path.to_string_lossy();
        text.strip_prefix(SCHEME).map(Self::parse).transpose()
    }

    fn parse(name: &str) -> Result<Self> {
        let (repository, revision) = name.split_once('@').unwrap_or((name, MAIN));
        let parts: Vec<_> = repository.split('/').collect();
        let named = parts.iter().all(|part| is_plain(part) && !part.is_empty());
        let of_revision = |part: &str| is_plain(part) && !part.is_empty();
        if !named || parts.len() > 2 || !revision.split('/').all(of_revision) {
            return Err(Error::BadName {
                name: name.to_owned(),
            });
        }
        Ok(Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Returns the repository, `OWNER/NAME`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the revision: a branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Returns the model's folder in the local cache, which contains `blobs`, `refs` and
    /// `snapshots`.
    ///
    /// # Errors
    /// There is no cache folder.
    pub fn folder(&self) -> Result<PathBuf> {
        self.folder_in(cache().as_deref())
    }

    /// Returns the snapshot of the model's revision in the local cache.
    ///
    /// # Errors
    /// The cache has no such snapshot.
    pub fn snapshot(&self) -> Result<PathBuf> {
        self.snapshot_in(cache().as_deref())
    }

    /// Returns the cached commit if no revision was named, because branches move.
    fn commit(&self) -> Option<String> {
        let snapshot = self.snapshot().ok().filter(|_| self.revision == MAIN)?;
        Some(snapshot.file_name()?.to_string_lossy().into_owned())
    }

    fn folder_in(&self, cache: Option<&Path>) -> Result<PathBuf> {
        let Some(cache) = cache else {
            return Err(Error::NoCache { name: self.name() });
        };
        let parts: Vec<_> = self.repository.split('/').collect();
        Ok(cache.join(format!("models--{}", parts.join("--"))))
    }

    fn snapshot_in(&self, cache: Option<&Path>) -> Result<PathBuf> {
        let folder = self.folder_in(cache)?;
        let revision = &self.revision;
        // A branch or tag is a file that contains the commit; a commit is the name of its snapshot.
        let commit = std::fs::read_to_string(folder.join("refs").join(revision));
        let commit = commit.as_deref().map_or(revision.as_str(), str::trim);
        let snapshot = folder.join("snapshots").join(commit);
        if is_plain(commit) && snapshot.is_dir() {
            return Ok(snapshot);
        }
        let option = if revision == MAIN {
            String::new()
        } else {
            format!(" --revision {revision}")
        };
        Err(Error::NotCached {
            name: self.name(),
            reason: format!(
                "{} has no snapshot of revision {revision}: a run fetches it where there is \
                 network and HF_HUB_OFFLINE is not set, and so does `hf download {}{option}`",
                folder.display(),
                self.repository
            ),
        })
    }

    /// Returns the repository, with the revision if one was named.
    fn name(&self) -> String {
        let Self {
            repository,
            revision,
        } = self;
        if revision == MAIN {
            repository.clone()
        } else {
            format!("{repository}@{revision}")
        }
    }
}

/// Base model of adapters, as PEFT's `adapter_config.json` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModel {
    /// Name `OWNER/NAME` on the hub, or the path of a folder.
    pub name_or_path: String,
    /// Revision on the hub: the one named, or else the cached commit. `None` for a folder.
    pub revision: Option<String>,
}

impl BaseModel {
    /// Returns the model that `ModelFolder::open` of `vintage-model` finds at `path`; `None` if
    /// there is none.
    ///
    /// # Errors
    /// The name is not valid for a model.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        let named = HubModel::of(path)?;
        if named.is_none() && path.exists() {
            let folder = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            return Ok(Some(Self {
                name_or_path: folder.display().to_string(),
                revision: None,
            }));
        }
        let cached = || called(path).filter(|model| model.snapshot().is_ok());
        Ok(named.or_else(cached).map(|model| Self {
            revision: Some(model.commit().unwrap_or_else(|| model.revision.clone())),
            name_or_path: model.repository,
        }))
    }
}

/// Returns true for a part of a name that cannot lead out of the cache. Names come from outside.
fn is_plain(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.starts_with('.') && part.chars().all(plain)
}

/// Returns the folder of a model: `path` itself, or the cached snapshot for `hf://NAME[@REVISION]`.
///
/// A path that does not exist and ends in `OWNER/NAME` is looked up in the cache too, so
/// `Qwen/Qwen3-0.6B` works if no such folder exists.
///
/// # Errors
/// A model that is neither a folder nor in the cache, with the command that fetches it.
pub fn locate(path: &Path) -> Result<PathBuf> {
    if let Some(model) = HubModel::of(path)? {
        return model.snapshot();
    }
    if path.exists() {
        return Ok(path.to_owned());
    }
    // The path is what was asked for, so its own error is clearer than the cache's.
    let found = called(path).and_then(|model| model.snapshot().ok());
    Ok(found.unwrap_or_else(|| path.to_owned()))
}

/// Returns the model whose name the last two parts of a path can be.
fn called(path: &Path) -> Option<HubModel> {
    let parts: Vec<_> = path.iter().map(std::ffi::OsStr::to_string_lossy).collect();
    match parts.as_slice() {
        [.., owner, name] => HubModel::parse(&format!("{owner}/{name}")).ok(),
        _ => None,
    }
}

/// Returns the cache folder, found as huggingface_hub finds it.
fn cache() -> Option<PathBuf> {
    ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
        .into_iter()
        .find_map(place)
        .or_else(|| Some(hugging_face()?.join("hub")))
}

/// Returns the path of the token file that `hf auth login` writes.
pub fn token_file() -> Option<PathBuf> {
    place("HF_TOKEN_PATH").or_else(|| Some(hugging_face()?.join("token")))
}

fn hugging_face() -> Option<PathBuf> {
    place("HF_HOME")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(variable("HOME")?.join(".cache/huggingface")))
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// Reads a path from an environment variable and expands a leading `~`.
fn place(name: &str) -> Option<PathBuf> {
    let path = variable(name)?;
    match path.strip_prefix("~") {
        Ok(rest) => Some(variable("HOME")?.join(rest)),
        Err(_) => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_snapshot_of_its_revision() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--Qwen--Tiny");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let snapshots = model.join("snapshots");
        std::fs::create_dir_all(snapshots.join(commit)).unwrap();
        std::fs::create_dir_all(model.join("refs/pr")).unwrap();
        std::fs::write(model.join("refs/main"), commit).unwrap();
        std::fs::write(model.join("refs/pr/1"), format!("{commit}\n")).unwrap();
        let find = |name: &str| HubModel::parse(name)?.snapshot_in(Some(cache.path()));
        for name in ["Qwen/Tiny", "Qwen/Tiny@main", "Qwen/Tiny@pr/1"] {
            assert_eq!(find(name).unwrap(), snapshots.join(commit), "{name}");
        }
        assert_eq!(
            find(&format!("Qwen/Tiny@{commit}")).unwrap(),
            snapshots.join(commit)
        );

        let fails = |name: &str| find(name).unwrap_err().to_string();
        assert!(fails("Qwen/Other").contains("hf download Qwen/Other`"));
        assert!(fails("Qwen/Tiny@v2").contains("hf download Qwen/Tiny --revision v2`"));
        std::fs::write(model.join("refs/main"), "../../..").unwrap();
        assert!(fails("Qwen/Tiny").contains("no snapshot of revision main"));
        for name in [
            "",
            "a/b/c",
            "../x",
            "a/..",
            "a b",
            "Qwen/Tiny@../main",
            "a/b@",
        ] {
            assert!(fails(name).contains("no name of a model"), "{name}");
        }
        let model = HubModel::parse("Qwen/Tiny").unwrap();
        let message = model.snapshot_in(None).unwrap_err().to_string();
        assert!(message.contains("HF_HOME"), "{message}");
    }

    #[test]
    fn a_base_is_a_folder_or_a_name_with_its_revision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".");
        let base = BaseModel::of(&path).unwrap().unwrap();
        let whole = folder.path().canonicalize().unwrap();
        assert_eq!(
            (base.name_or_path, base.revision),
            (whole.display().to_string(), None)
        );
        // The model is in no cache, so only the given name and revision are known.
        let named = |name: &str| BaseModel::of(Path::new(name)).unwrap();
        let base = named("hf://nobody-of-this-name/tiny@v2").unwrap();
        assert_eq!(base.name_or_path, "nobody-of-this-name/tiny");
        assert_eq!(base.revision.as_deref(), Some("v2"));
        assert_eq!(named("/nowhere/at/all"), None);
        assert!(BaseModel::of(Path::new("hf://a b")).is_err());
    }

    #[test]
    fn a_path_that_is_nowhere_stays_what_it_was() {
        let path = Path::new("/nowhere/at/all");
        assert_eq!(locate(path).unwrap(), path);
    }
}
