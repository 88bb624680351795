mod adapters;
mod chain;
mod held;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use vintage_control::{
    CONTROL_FORMAT, Name, PolicyVersion, Precision, Sha256, WeightsAdapter, WeightsDelta,
    WeightsManifest,
};

use self::{
    adapters::{Digests, is_of},
    held::Held,
};
use crate::{
    created::Created,
    error::{Error, Result},
    sha256,
    store::Store,
};

/// Name of the weights file in a version's folder.
pub const MODEL_FILE: &str = "model.safetensors";
/// Name of the file that holds the change from an earlier version, where that is stored instead.
const DELTA_FILE: &str = "model.delta";
/// Names of the files in which PEFT keeps adapters: their weights, and what they are.
pub const ADAPTER_FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_config.json"];
const MANIFEST_FILE: &str = "manifest.json";

/// Versioned weights of one policy, stored in `weights/<policy>/<version>/`.
///
/// A version is published by its `manifest.json`, created after all other files. Every file is
/// created if absent. So a version names one set of bytes for ever, those written first, in spite
/// of a crash, a second learner or a resumed stale one.
///
/// A version's weights are stored whole, as a delta on an earlier version, or as adapters on one.
/// Readers get the whole bytes in every case, verified against the manifest. Once a delta was read,
/// the newest weights that passed through a value and its clones are held in memory, so that the
/// next delta needs no base; once adapters were, the weights that they were trained on.
#[derive(Debug, Clone)]
pub struct Weights {
    store: Store,
    policy: Name,
    held: Arc<Mutex<Held>>,
}

/// Form in which a version is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Form {
    /// Type of the values, as the manifest says.
    pub precision: Precision,
    /// Version before, on which this one may be a delta; `None` stores it whole.
    pub base: Option<PolicyVersion>,
    /// Number of versions of which one at least is whole. From 2 on the bytes are held in memory
    /// as the base of the next version.
    pub full_every: u64,
    /// Version on which adapters were trained; with it, `publish_as` is given the adapters' files,
    /// too, and stores them alone. `None` for weights that are no base with adapters.
    pub adapted: Option<PolicyVersion>,
}

/// Weights as they lie in the store.
struct Stored {
    sha256: Sha256,
    bytes: u64,
    delta: Option<WeightsDelta>,
    adapter: Option<WeightsAdapter>,
    /// True if an unfinished publication left other bytes, which are taken.
    adopted: bool,
}

impl Weights {
    /// Returns the weights of `policy` in `store`, which is the run's root.
    pub fn new(store: Store, policy: Name) -> Self {
        Self {
            store,
            policy,
            held: Arc::default(),
        }
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

    /// Publishes a version whole. `files` holds `model.safetensors` first, then the other files of
    /// the version. As [`Weights::publish_as`].
    pub async fn publish(
        &self,
        version: PolicyVersion,
        files: Vec<(&str, Bytes)>,
    ) -> Result<(WeightsManifest, Created)> {
        self.publish_as(version, files, Form::default()).await
    }

    /// Publishes a version. `files` holds `model.safetensors` first, then the other files of the
    /// version.
    ///
    /// Weights of which no delta can be made, or only one that is not smaller, are stored whole.
    ///
    /// `Exists` means that the version was published before, or that an interrupted publication
    /// left other bytes of `model.safetensors`: those take precedence and are published now. The
    /// manifest has their hash, which the caller compares with that of the weights it computed.
    pub async fn publish_as(
        &self,
        version: PolicyVersion,
        files: Vec<(&str, Bytes)>,
        form: Form,
    ) -> Result<(WeightsManifest, Created)> {
        if let Some(published) = self.manifest(version).await? {
            return Ok((published, Created::Exists));
        }
        let mut model = None;
        let mut other_files = BTreeMap::new();
        let (adapters, files): (Vec<_>, Vec<_>) = files
            .into_iter()
            .partition(|(name, _)| ADAPTER_FILES.contains(name));
        for (name, bytes) in files {
            if name == MODEL_FILE {
                let digest = digest_of(bytes.clone()).await;
                let write = self.write_model(version, &bytes, digest, &adapters, form);
                let (stored, digests) = Box::pin(write).await?;
                other_files.extend(digests);
                if form.full_every > 1 && !stored.adopted {
                    self.hold(version, stored.sha256, bytes);
                }
                model = Some(stored);
                continue;
            }
            let path = self.path(version, name);
            let given = digest_of(bytes.clone()).await;
            let created = self.store.create(&path, bytes).await?;
            if created == Created::Exists {
                let left = self.store.get(&path).await?.unwrap_or_default();
                let found = digest_of(left).await;
                if found != given {
                    let path = self.store.name(&path);
                    return Err(Error::Leftover { path, found, given });
                }
            }
            other_files.insert(name.to_owned(), given);
        }
        let Some(stored) = model else {
            return Err(Error::Location {
                location: self.store.name(&self.path(version, MODEL_FILE)),
                reason: "a version cannot be published without it".to_owned(),
            });
        };
        let manifest = WeightsManifest {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            version,
            weights_sha256: stored.sha256,
            weights_bytes: stored.bytes,
            precision: form.precision,
            delta: stored.delta,
            adapter: stored.adapter,
            files: other_files,
        };
        vintage_faults::point("learner.weights", stored.bytes);
        let path = self.path(version, MANIFEST_FILE);
        match self.store.create_json(&path, &manifest).await? {
            Created::New => {
                // A process that was suspended before this point may have been overtaken by one
                // that published this version and has deleted it since. A manifest alone is not a
                // version.
                let file = self.path(version, file_of(&manifest));
                if self.store.head(&file).await?.is_none() {
                    self.remove(version).await?;
                    return Err(self.no_such(version));
                }
                let created = if stored.adopted {
                    Created::Exists
                } else {
                    Created::New
                };
                self.note_base(&manifest);
                Ok((manifest, created))
            }
            Created::Exists => Ok((self.published(version).await?, Created::Exists)),
        }
    }

    /// Writes a version's weights in the first of its forms that holds: adapters, a delta, whole.
    /// Returns the digests of the adapters' files, if those were written.
    async fn write_model(
        &self,
        version: PolicyVersion,
        bytes: &Bytes,
        digest: Sha256,
        adapters: &[(&str, Bytes)],
        form: Form,
    ) -> Result<(Stored, Digests)> {
        let adapted = self.write_adapters(version, bytes, digest, adapters, form);
        if let Some(adapted) = adapted.await? {
            return Ok(adapted);
        }
        let stored = match self.write_delta(version, bytes, digest, form).await? {
            Some(stored) => stored,
            None => self.write_whole(version, bytes, digest).await?,
        };
        Ok((stored, Digests::new()))
    }

    /// Writes `model.safetensors`, or takes the one that an unfinished publication left.
    async fn write_whole(
        &self,
        version: PolicyVersion,
        bytes: &Bytes,
        digest: Sha256,
    ) -> Result<Stored> {
        let path = self.path(version, MODEL_FILE);
        let mut stored = Stored {
            sha256: digest,
            bytes: bytes.len() as u64,
            delta: None,
            adapter: None,
            adopted: false,
        };
        if self.store.create(&path, bytes.clone()).await? == Created::Exists {
            let left = self.store.get(&path).await?.unwrap_or_default();
            stored.bytes = left.len() as u64;
            stored.sha256 = digest_of(left).await;
            stored.adopted = stored.sha256 != digest;
        }
        Ok(stored)
    }

    /// Reads the manifest of a version; `None` if the version is not published.
    pub async fn manifest(&self, version: PolicyVersion) -> Result<Option<WeightsManifest>> {
        self.store
            .get_json(&self.path(version, MANIFEST_FILE))
            .await
    }

    /// Returns the whole bytes of `model.safetensors`, verified against the manifest's hash. Of a
    /// version that is stored as a delta, what is needed of the versions before it is read, too.
    pub async fn fetch(&self, version: PolicyVersion) -> Result<Bytes> {
        let manifest = self.published(version).await?;
        let expected = manifest.weights_sha256;
        if let Some(held) = self.held(version, expected) {
            return Ok(held);
        }
        // Boxed: what few readers need would make every future around it as large.
        if manifest.adapter.is_some() {
            return Box::pin(self.merged(&manifest)).await;
        }
        if manifest.delta.is_some() {
            return Box::pin(self.follow(manifest)).await;
        }
        let bytes = self.fetch_whole(version, expected).await?;
        self.hold_if_followed(version, expected, &bytes);
        Ok(bytes)
    }

    async fn fetch_whole(&self, version: PolicyVersion, expected: Sha256) -> Result<Bytes> {
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
        let mut expected: Vec<_> = manifest.files.clone().into_iter().collect();
        if manifest.adapter.is_some() {
            // Neither do adapters. Their own files are compared below.
            if let Err(fault) = Box::pin(self.merged(&manifest)).await
                && !matches!(fault, Error::NoSuchVersion { .. })
                && !is_of(&fault, &expected)
            {
                faults.push(fault);
            }
        } else if manifest.delta.is_some() {
            // Of a chain everything is read: a delta proves nothing without its base.
            if let Err(fault) = Box::pin(self.follow(manifest)).await
                && !matches!(fault, Error::NoSuchVersion { .. })
            {
                faults.push(fault);
            }
        } else {
            expected.insert(0, (MODEL_FILE.to_owned(), manifest.weights_sha256));
        }
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
        let of = |file: &'static str| {
            let files = files.iter().filter(move |(_, name)| name == file);
            files.map(|(version, _)| *version)
        };
        let versions: Vec<_> = of(MANIFEST_FILE).collect();
        let based = of(DELTA_FILE).chain(of(ADAPTER_FILES[0])).collect();
        self.note_whole(&versions, &based);
        Ok(versions)
    }

    /// Returns the newest published version; `None` if there is none.
    pub async fn latest(&self) -> Result<Option<PolicyVersion>> {
        Ok(self.versions().await?.pop())
    }

    /// Deletes a version's manifest and then its weights, without listing its folder; other files
    /// are left. A missing version is not an error. Version 0, from which every replay starts, is
    /// never deleted. Versions that are deltas on this one can no longer be read: see
    /// [`Weights::bases`], and remove the newest first.
    pub async fn remove(&self, version: PolicyVersion) -> Result<()> {
        if version == PolicyVersion::ZERO {
            return Ok(());
        }
        let files = [MANIFEST_FILE, MODEL_FILE, DELTA_FILE];
        for name in files.into_iter().chain(ADAPTER_FILES) {
            self.store.delete(&self.path(version, name)).await?;
        }
        self.forget(version);
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

/// Returns the name of the file that holds a version's weights.
fn file_of(manifest: &WeightsManifest) -> &'static str {
    match (&manifest.delta, &manifest.adapter) {
        (Some(_), _) => DELTA_FILE,
        (None, Some(_)) => ADAPTER_FILES[0],
        (None, None) => MODEL_FILE,
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
    blocking(move || sha256(&bytes)).await
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(job).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests;
