//! Versions of the store as folders for the servers: whole weights, or adapters.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use vintage_control::{PolicyVersion, Sha256};
use vintage_local::{Staging, Texts};
use vintage_store::{ADAPTER_FILES, MODEL_FILE, Weights, sha256};

use crate::{
    error::Error,
    label::Labels,
    swap::{Place, Target},
};

/// Files of a folder by their names.
type Files = Vec<(&'static str, Bytes)>;

/// Source of the folders that servers load.
#[derive(Clone)]
pub(crate) struct Stager {
    pub(crate) weights: Weights,
    pub(crate) texts: Arc<Texts>,
    pub(crate) staging: Arc<Mutex<Staging>>,
    /// True if adapters are loaded as such.
    pub(crate) adapters: bool,
}

impl Stager {
    /// Returns the newest published version.
    pub(crate) async fn newest(&self) -> Result<PolicyVersion, Error> {
        let newest = self.weights.latest().await;
        let newest = newest.map_err(|source| fetching(PolicyVersion::ZERO, source))?;
        Ok(newest.unwrap_or(PolicyVersion::ZERO))
    }

    /// Fetches and verifies a version, and writes it into a folder for the servers. Of a version
    /// that is stored as adapters these alone are fetched, if servers load adapters.
    pub(crate) async fn stage(
        &self,
        labels: &Labels,
        version: PolicyVersion,
    ) -> Result<Target, Error> {
        let failed = |source| fetching(version, source);
        let manifest = self.weights.manifest(version).await.map_err(failed)?;
        let of = manifest
            .as_ref()
            .and_then(|manifest| manifest.adapter.clone());
        let hash = manifest.map(|manifest| manifest.weights_sha256);
        let Some(of) = of.filter(|_| self.adapters) else {
            let weights = self.whole(labels, version, hash).await?;
            return Ok(Target {
                version,
                weights,
                adapter: None,
            });
        };
        let weights = self.whole(labels, of.base, Some(of.base_sha256)).await?;
        let mut files = Files::new();
        for name in ADAPTER_FILES {
            let file = self.weights.fetch_file(version, name).await;
            files.extend(file.map_err(failed)?.map(|bytes| (name, bytes)));
        }
        let label = labels.add(version, hash.unwrap_or(of.base_sha256));
        let adapter = Some(self.write(version, label, files).await?);
        Ok(Target {
            version,
            weights,
            adapter,
        })
    }

    /// Writes whole weights, with what else a model's folder has.
    async fn whole(
        &self,
        labels: &Labels,
        version: PolicyVersion,
        hash: Option<Sha256>,
    ) -> Result<Place, Error> {
        if let Some(hash) = hash {
            let label = labels.add(version, hash);
            let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(folder) = staging.find(&label) {
                return Ok(Place { label, folder });
            }
        }
        let bytes = self.weights.fetch(version).await;
        let bytes = bytes.map_err(|source| fetching(version, source))?;
        let label = labels.add(version, hash.unwrap_or_else(|| sha256(&bytes)));
        let mut files = self.texts.files().to_vec();
        files.push((MODEL_FILE, bytes));
        self.write(version, label, files).await
    }

    async fn write(
        &self,
        version: PolicyVersion,
        label: String,
        files: Files,
    ) -> Result<Place, Error> {
        let (staging, name) = (Arc::clone(&self.staging), label.clone());
        let written = tokio::task::spawn_blocking(move || {
            let mut staging = staging.lock().unwrap_or_else(PoisonError::into_inner);
            let written = staging.write(&name, &files);
            written.map_err(|source| Error::Folder {
                version,
                path: staging.here().display().to_string(),
                source,
            })
        });
        let folder = written.await??;
        Ok(Place { label, folder })
    }
}

fn fetching(version: PolicyVersion, source: vintage_store::Error) -> Error {
    Error::Fetch {
        version,
        source: Box::new(source),
    }
}
