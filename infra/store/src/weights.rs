use std::collections::BTreeMap;

use bytes::Bytes;
use vintage_control::{CONTROL_FORMAT, Name, PolicyVersion, Sha256, WeightsManifest};

use crate::{
    created::Created,
    error::{Error, Result},
    sha256,
    store::Store,
};

/// Name of the weights file in a version's folder.
pub const MODEL_FILE: &str = "model.safetensors";
const MANIFEST_FILE: &str = "manifest.json";

/// Versioned weights of one policy, stored in `weights/<policy>/<version>/`.
///
/// A version is published by its `manifest.json`, created after all other files. Every file is
/// created if absent. So a version names one set of bytes for ever, those written first, in spite
/// of a crash, a second learner or a resumed stale one.
#[derive(Debug, Clone)]
pub struct Weights {
    store: Store,
    policy: Name,
}

impl Weights {
    /// Returns the weights of `policy` in `store`, which is the run's root.
    pub fn new(store: Store, policy: Name) -> Self {
        Self { store, policy }
    }

    /// Store of the run.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the path or URL of a version's folder, for readers outside this crate.
    pub fn location(&self, version: PolicyVersion) -> String {
        let folder = format!("weights/{}/{version}", self.policy);
        match self.store.local_path(&folder) {
            Some(path) => path.canonicalize().unwrap_or(path).display().to_string(),
            None => format!("{}/{folder}", self.store.location()),
        }
    }

    /// Publishes a version. `files` holds `model.safetensors` first, then the other files of the
    /// version.
    ///
    /// `Exists` means that the version was published before, or that an interrupted publication
    /// left other bytes of `model.safetensors`: those take precedence and are published now. The
    /// manifest has their hash, which the caller compares with that of the weights it computed.
    pub async fn publish(
        &self,
        version: PolicyVersion,
        files: Vec<(&str, Bytes)>,
    ) -> Result<(WeightsManifest, Created)> {
        if let Some(published) = self.manifest(version).await? {
            return Ok((published, Created::Exists));
        }
        let mut model = None;
        let mut other_files = BTreeMap::new();
        let mut adopted = false;
        for (name, bytes) in files {
            let path = self.path(version, name);
            let created = self.store.create(&path, bytes.clone()).await?;
            let mut digest = digest_of(bytes.clone()).await;
            let mut length = bytes.len();
            if created == Created::Exists {
                let left = self.store.get(&path).await?.unwrap_or_default();
                let found = digest_of(left.clone()).await;
                if found != digest && name != MODEL_FILE {
                    let path = self.store.name(&path);
                    return Err(Error::Leftover {
                        path,
                        found,
                        given: digest,
                    });
                }
                adopted |= found != digest;
                (digest, length) = (found, left.len());
            }
            if name == MODEL_FILE {
                model = Some((digest, length as u64));
            } else {
                other_files.insert(name.to_owned(), digest);
            }
        }
        let Some((weights_sha256, weights_bytes)) = model else {
            return Err(Error::Location {
                location: self.store.name(&self.path(version, MODEL_FILE)),
                reason: "a version cannot be published without it".to_owned(),
            });
        };
        let manifest = WeightsManifest {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            version,
            weights_sha256,
            weights_bytes,
            files: other_files,
        };
        vintage_faults::point("learner.weights", weights_bytes);
        let path = self.path(version, MANIFEST_FILE);
        match self.store.create_json(&path, &manifest).await? {
            Created::New => {
                // A process that was suspended before this point may have been overtaken by one
                // that published this version and has deleted it since. A manifest alone is not a
                // version.
                let model = self.path(version, MODEL_FILE);
                if self.store.head(&model).await?.is_none() {
                    self.remove(version).await?;
                    return Err(self.no_such(version));
                }
                let created = if adopted {
                    Created::Exists
                } else {
                    Created::New
                };
                Ok((manifest, created))
            }
            Created::Exists => Ok((self.published(version).await?, Created::Exists)),
        }
    }

    /// Reads the manifest of a version; `None` if the version is not published.
    pub async fn manifest(&self, version: PolicyVersion) -> Result<Option<WeightsManifest>> {
        self.store
            .get_json(&self.path(version, MANIFEST_FILE))
            .await
    }

    /// Reads `model.safetensors` and verifies it against the manifest's hash.
    pub async fn fetch(&self, version: PolicyVersion) -> Result<Bytes> {
        let expected = self.published(version).await?.weights_sha256;
        let path = self.path(version, MODEL_FILE);
        // The version may be pruned between the two reads.
        let Some(bytes) = self.store.get(&path).await? else {
            return Err(self.no_such(version));
        };
        let found = digest_of(bytes.clone()).await;
        if found != expected {
            return Err(Error::Corrupt {
                path: self.store.name(&path),
                expected,
                found,
            });
        }
        Ok(bytes)
    }

    /// Reads another file of a version, such as version 0's `config.json`, and verifies it if the
    /// manifest lists files; `None` if there is no such file.
    pub async fn fetch_file(&self, version: PolicyVersion, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(version, name);
        let bytes = self.store.get(&path).await?;
        let manifest = self.manifest(version).await?;
        let listed = manifest.map_or_else(BTreeMap::new, |manifest| manifest.files);
        match (listed.get(name), bytes) {
            (Some(expected), Some(bytes)) => {
                let found = digest_of(bytes.clone()).await;
                if found != *expected {
                    let path = self.store.name(&path);
                    let expected = *expected;
                    return Err(Error::Corrupt {
                        path,
                        expected,
                        found,
                    });
                }
                Ok(Some(bytes))
            }
            (Some(_), None) => Err(Error::Missing {
                path: self.store.name(&path),
            }),
            (None, Some(_)) if !listed.is_empty() => Err(Error::Unlisted {
                path: self.store.name(&path),
            }),
            (None, bytes) => Ok(bytes),
        }
    }

    /// Reads all files of a version that its manifest lists, compares their hashes, and returns the
    /// problems found. An unpublished version has none.
    pub async fn check(&self, version: PolicyVersion) -> Result<Vec<Error>> {
        let Some(manifest) = self.manifest(version).await? else {
            return Ok(Vec::new());
        };
        let mut faults = Vec::new();
        let mut expected = vec![(MODEL_FILE.to_owned(), manifest.weights_sha256)];
        expected.extend(manifest.files);
        for (name, expected) in expected {
            let path = self.path(version, &name);
            let Some(bytes) = self.store.get(&path).await? else {
                // Versions no longer needed may be deleted meanwhile, manifest first.
                if self.manifest(version).await?.is_some() {
                    faults.push(Error::Missing {
                        path: self.store.name(&path),
                    });
                }
                continue;
            };
            let found = digest_of(bytes).await;
            if found != expected {
                faults.push(Error::Corrupt {
                    path: self.store.name(&path),
                    expected,
                    found,
                });
            }
        }
        Ok(faults)
    }

    /// Returns the published versions, ascending.
    pub async fn versions(&self) -> Result<Vec<PolicyVersion>> {
        let files = self.files().await?;
        let manifests = files.into_iter().filter(|(_, name)| name == MANIFEST_FILE);
        Ok(manifests.map(|(version, _)| version).collect())
    }

    /// Returns the newest published version; `None` if there is none.
    pub async fn latest(&self) -> Result<Option<PolicyVersion>> {
        Ok(self.versions().await?.pop())
    }

    /// Deletes a version's manifest and then its weights, without listing its folder; other files
    /// are left. A missing version is not an error. Version 0, from which every replay starts, is
    /// never deleted.
    pub async fn remove(&self, version: PolicyVersion) -> Result<()> {
        if version == PolicyVersion::ZERO {
            return Ok(());
        }
        for name in [MANIFEST_FILE, MODEL_FILE] {
            self.store.delete(&self.path(version, name)).await?;
        }
        self.drop_folder(version).await;
        Ok(())
    }

    /// Removes a version's empty folder; object stores have no folders.
    async fn drop_folder(&self, version: PolicyVersion) {
        if let Some(folder) = self.store.local_path(&self.path(version, "")) {
            // Fails if a file is left, as it should.
            let _ = tokio::fs::remove_dir(folder).await;
        }
    }

    /// Lists every file of every version, sorted by version and name.
    async fn files(&self) -> Result<Vec<(PolicyVersion, String)>> {
        let folder = format!("weights/{}", self.policy);
        let paths = self.store.list(&folder).await?;
        let mut files: Vec<_> = paths
            .iter()
            .filter_map(|path| {
                let (version, name) = path
                    .strip_prefix(&folder)?
                    .strip_prefix('/')?
                    .split_once('/')?;
                Some((PolicyVersion(version.parse().ok()?), name.to_owned()))
            })
            .collect();
        files.sort();
        Ok(files)
    }

    async fn published(&self, version: PolicyVersion) -> Result<WeightsManifest> {
        self.manifest(version)
            .await?
            .ok_or_else(|| self.no_such(version))
    }

    fn no_such(&self, version: PolicyVersion) -> Error {
        Error::NoSuchVersion {
            policy: self.policy.to_string(),
            version,
            path: self.store.name(&self.path(version, MANIFEST_FILE)),
        }
    }

    fn path(&self, version: PolicyVersion, name: &str) -> String {
        format!("weights/{}/{version}/{name}", self.policy)
    }
}

/// Returns the label by which inference servers know the weights of a version: policy, version, and
/// the first digits of the weights' hash.
pub fn label(policy: &Name, version: PolicyVersion, hash: Sha256) -> String {
    let digits: String = hash.to_string().chars().take(12).collect();
    format!("{policy}-{version}-{digits}")
}

/// Computes a SHA-256. Large inputs are hashed on a blocking thread, because gigabytes take seconds
/// and must not stall the async runtime.
async fn digest_of(bytes: Bytes) -> Sha256 {
    if bytes.len() < 1 << 20 {
        return sha256(&bytes);
    }
    let hashed = tokio::task::spawn_blocking(move || sha256(&bytes)).await;
    hashed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests;
