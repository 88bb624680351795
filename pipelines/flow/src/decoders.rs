//! Decoders of a policy's versions, for verbs that compute log-probs again.

use bytes::Bytes;
use vintage_control::{PolicyVersion, Precision};
use vintage_mismatch::Limits;
use vintage_model::{Compute, Decoder, ModelFolder};
use vintage_store::Weights;

use crate::{
    error::{Error, Result},
    version_zero::companions,
};

/// Versions of a policy, as published.
pub(crate) struct Decoders<'a> {
    weights: &'a Weights,
    files: Vec<(&'static str, Bytes)>,
    limits: Limits,
    compute: Compute,
}

impl<'a> Decoders<'a> {
    /// Reads what all versions share.
    pub(crate) async fn open(weights: &'a Weights, precision: Precision) -> Result<Self> {
        let files = companions(weights).await?;
        let config = ModelFolder::from_files_without_weights(&files)?.config;
        Ok(Self {
            weights,
            limits: Limits {
                context: config.max_position_embeddings,
                vocabulary: config.vocab_size,
            },
            files,
            compute: Compute {
                precision,
                recompute: false,
            },
        })
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Fetches one version.
    pub(crate) async fn decoder(&self, version: PolicyVersion) -> Result<Decoder> {
        let bytes = self.weights.fetch(version).await?;
        let (files, compute) = (self.files.clone(), self.compute);
        blocking(move || {
            let folder = ModelFolder::from_files(&files, &bytes)?;
            let mut decoder = Decoder::new(folder.config, folder.params)?;
            decoder.set_compute(compute);
            Ok(decoder)
        })
        .await
    }
}

/// Runs a computation on a thread where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|panic| Error::Bug(panic.to_string()))?
}
