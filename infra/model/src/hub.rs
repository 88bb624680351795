//! Models by the name they have on the Hugging Face hub, out of the local cache.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What a model's name begins with where a path is expected.
const SCHEME: &str = "hf://";

/// The folder of a model: `path` itself, or for `hf://NAME[@REVISION]` the snapshot that the
/// local cache has of it. A path that does not exist and ends in such a name is looked for there
/// too, so that `Qwen/Qwen3-0.6B` works wherever no such folder is in the way.
///
/// # Errors
/// A model that is neither a folder nor in the cache, with the command that fetches it.
pub(crate) fn locate(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    if let Some(name) = text.strip_prefix(SCHEME) {
        return snapshot(name, cache().as_deref());
    }
    if path.exists() {
        return Ok(path.to_owned());
    }
    let parts: Vec<_> = path.iter().map(std::ffi::OsStr::to_string_lossy).collect();
    let found = match parts.as_slice() {
        [.., owner, name] => snapshot(&format!("{owner}/{name}"), cache().as_deref()),
        _ => return Ok(path.to_owned()),
    };
    // The path is what was asked for: its own error is clearer than the cache's.
    Ok(found.unwrap_or_else(|_| path.to_owned()))
}

/// The cache folder, as huggingface_hub finds it.
fn cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || variable("HOME").map(PathBuf::from);
    let expanded = |path: PathBuf| match path.strip_prefix("~") {
        Ok(rest) => home().map(|home| home.join(rest)),
        Err(_) => Some(path),
    };
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        if let Some(folder) = variable(name) {
            return expanded(folder.into());
        }
    }
    let hugging_face = match (variable("HF_HOME"), variable("XDG_CACHE_HOME")) {
        (Some(folder), _) => expanded(folder.into())?,
        (None, Some(caches)) => PathBuf::from(caches).join("huggingface"),
        (None, None) => home()?.join(".cache/huggingface"),
    };
    Some(hugging_face.join("hub"))
}

/// The snapshot of `NAME[@REVISION]`, or of `main`, in `cache`.
fn snapshot(name: &str, cache: Option<&Path>) -> Result<PathBuf> {
    let refuse = |problem: String| {
        Err(Error::Hub {
            name: name.to_owned(),
            problem,
        })
    };
    let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
    // A name from outside must not lead out of the cache.
    let plain = |part: &str| {
        !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<_> = repository.split('/').collect();
    let named = parts.iter().all(|part| plain(part) && !part.is_empty());
    if !named || parts.len() > 2 || !revision.split('/').all(plain) {
        return refuse(
            "it is no name of a model: write hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
                .to_owned(),
        );
    }
    let Some(cache) = cache else {
        return refuse("there is no cache folder: set HF_HOME".to_owned());
    };
    let folder = cache.join(format!("models--{}", parts.join("--")));
    let fetch = if revision == "main" {
        format!("hf download {repository}")
    } else {
        format!("hf download {repository} --revision {revision}")
    };
    if !folder.is_dir() {
        return refuse(format!(
            "{} has no {}; fetch it with `{fetch}` where there is network",
            cache.display(),
            folder.file_name().unwrap_or_default().display(),
        ));
    }
    // A branch or tag is a file with the commit; a commit names its snapshot itself.
    let commit = std::fs::read_to_string(folder.join("refs").join(revision));
    let commit = commit.as_deref().map_or(revision, str::trim);
    let snapshot = folder.join("snapshots").join(commit);
    if !plain(commit) || !snapshot.is_dir() {
        return refuse(format!(
            "{} has no snapshot of revision {revision}; fetch it with `{fetch}` where there is \
             network",
            folder.display()
        ));
    }
    Ok(snapshot)
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
        let find = |name: &str| snapshot(name, Some(cache.path()));
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
        for name in ["", "a/b/c", "../x", "a/..", "a b", "Qwen/Tiny@../main"] {
            assert!(fails(name).contains("no name of a model"), "{name}");
        }
        let message = snapshot("Qwen/Tiny", None).unwrap_err().to_string();
        assert!(message.contains("HF_HOME"), "{message}");
    }

    #[test]
    fn a_path_that_is_nowhere_stays_what_it_was() {
        let path = Path::new("/nowhere/at/all");
        assert_eq!(locate(path).unwrap(), path);
    }
}
