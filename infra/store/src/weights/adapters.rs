//! Versions that are stored as low-rank adapters on another version: writing them, and merging them
//! again.

use std::collections::BTreeMap;

use bytes::Bytes;
use vintage_control::{PolicyVersion, Precision, Sha256, WeightsAdapter, WeightsManifest};
use vintage_delta::merge;

use super::{ADAPTER_FILES, Form, Stored, Weights, blocking, digest_of};
use crate::{
    created::Created,
    error::{Error, Result},
};

/// Digests of files by their names.
pub(super) type Digests = BTreeMap<String, Sha256>;

impl Weights {
    /// Writes the `adapters` of a version alone, if that is its form; `None` if it is to be written
    /// otherwise. The first time, they are merged as a reader will, and must give `digest`.
    pub(super) async fn write_adapters(
        &self,
        version: PolicyVersion,
        whole: &Bytes,
        digest: Sha256,
        adapters: &[(&str, Bytes)],
        form: Form,
    ) -> Result<Option<(Stored, Digests)>> {
        let Some(base) = form.adapted.filter(|base| *base < version) else {
            return Ok(None);
        };
        let Some(manifest) = self.manifest(base).await? else {
            return Ok(None);
        };
        let is_whole = manifest.delta.is_none() && manifest.adapter.is_none();
        let [Some(model), Some(config)] = ADAPTER_FILES.map(|file| {
            let found = adapters.iter().find(|(name, _)| *name == file);
            found.map(|(_, bytes)| bytes.clone())
        }) else {
            return Ok(None);
        };
        if !is_whole {
            return Ok(None);
        }
        let adapter = WeightsAdapter {
            base,
            base_sha256: manifest.weights_sha256,
        };
        let files = (model.clone(), config.clone());
        let fit = self.fit(version, &adapter, files, digest, form.precision);
        if !fit.await {
            return Ok(None);
        }
        let mut digests = Digests::new();
        for (name, bytes) in ADAPTER_FILES.into_iter().zip([model, config]) {
            let path = self.path(version, name);
            let given = digest_of(bytes.clone()).await;
            if self.store.create(&path, bytes).await? == Created::Exists {
                let left = self.store.get(&path).await?.unwrap_or_default();
                if digest_of(left).await != given {
                    // Adapters that an unfinished publication left are passed over.
                    return Ok(None);
                }
            }
            digests.insert(name.to_owned(), given);
        }
        let stored = Stored {
            sha256: digest,
            bytes: whole.len() as u64,
            delta: None,
            adapter: Some(adapter),
            adopted: false,
        };
        Ok(Some((stored, digests)))
    }

    /// Returns true if adapters of this process give the weights that they stand for; only the first
    /// are tried.
    async fn fit(
        &self,
        version: PolicyVersion,
        adapter: &WeightsAdapter,
        files: (Bytes, Bytes),
        digest: Sha256,
        precision: Precision,
    ) -> bool {
        let known = self.memory().adapters_fit;
        if let Some(fit) = known {
            return fit;
        }
        let merged = self.merge(adapter, files, precision).await;
        // Only readers need the base for longer.
        self.memory().adapted = None;
        let found = match merged {
            Ok(merged) => Ok(digest_of(merged).await),
            Err(error) => Err(error.to_string()),
        };
        let fit = found.as_ref().is_ok_and(|found| *found == digest);
        if !fit {
            let why = found.err().unwrap_or_else(|| "they give others".to_owned());
            tracing::warn!(
                "versions are stored whole: the weights of version {version} cannot be made of \
                 version {} and adapters: {why}",
                adapter.base
            );
        }
        self.memory().adapters_fit = Some(fit);
        fit
    }

    /// Returns the whole bytes of a version that is stored as adapters.
    pub(super) async fn merged(&self, manifest: &WeightsManifest) -> Result<Bytes> {
        let version = manifest.version;
        let Some(adapter) = &manifest.adapter else {
            return self.fetch_whole(version, manifest.weights_sha256).await;
        };
        self.note_base(manifest);
        let merged = match self.adapters(version).await {
            Ok(files) => self.merge(adapter, files, manifest.precision).await,
            Err(error) => Err(error),
        };
        let merged = match merged {
            Ok(merged) => merged,
            // The version may be removed while it is read.
            Err(_) if self.manifest(version).await?.is_none() => {
                return Err(self.no_such(version));
            }
            Err(error) => return Err(error),
        };
        let found = digest_of(merged.clone()).await;
        if found != manifest.weights_sha256 {
            return Err(Error::Corrupt {
                path: self.store.name(&self.path(version, ADAPTER_FILES[0])),
                expected: manifest.weights_sha256,
                found,
            });
        }
        Ok(merged)
    }

    /// Reads the two files of a version's adapters, verified against its manifest.
    async fn adapters(&self, version: PolicyVersion) -> Result<(Bytes, Bytes)> {
        let [model, config] = ADAPTER_FILES;
        let missing = |name| Error::Missing {
            path: self.store.name(&self.path(version, name)),
        };
        let found = self.fetch_file(version, model).await?;
        let found_config = self.fetch_file(version, config).await?;
        Ok((
            found.ok_or_else(|| missing(model))?,
            found_config.ok_or_else(|| missing(config))?,
        ))
    }

    async fn merge(
        &self,
        adapter: &WeightsAdapter,
        (model, config): (Bytes, Bytes),
        precision: Precision,
    ) -> Result<Bytes> {
        let base = self.adapted(adapter).await?;
        let merged = blocking(move || merge(&base, &model, &config, precision)).await;
        let merged = merged.map_err(|source| Error::Delta {
            path: self.store.name(&self.path(adapter.base, ADAPTER_FILES[0])),
            source,
        })?;
        Ok(Bytes::from(merged))
    }

    /// Returns the weights that adapters were trained on, which are read once.
    async fn adapted(&self, adapter: &WeightsAdapter) -> Result<Bytes> {
        let (base, expected) = (adapter.base, adapter.base_sha256);
        let held = self.memory().adapted.clone();
        if let Some((_, bytes)) = held.filter(|(of, _)| *of == expected) {
            return Ok(bytes);
        }
        let bytes = self.fetch_whole(base, expected).await?;
        self.memory().adapted = Some((expected, bytes.clone()));
        Ok(bytes)
    }
}

/// Returns true if an error is of a file whose digest is compared by itself.
pub(super) fn is_of(error: &Error, files: &[(String, Sha256)]) -> bool {
    let (Error::Corrupt { path, .. } | Error::Missing { path }) = error else {
        return false;
    };
    files.iter().any(|(name, expected)| {
        let differs = match error {
            Error::Corrupt { expected: of, .. } => of == expected,
            _ => true,
        };
        path.ends_with(name.as_str()) && differs
    })
}

#[cfg(test)]
mod tests;
