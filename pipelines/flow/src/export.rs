//! Export of a version of a policy as a Hugging Face model folder.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vintage_control::{Name, PolicyVersion, Sha256};
use vintage_model::ModelFolder;
use vintage_store::{MODEL_FILE, sha256};

use crate::{
    error::{Error, Result},
    published::{PublishedVersion, published},
    version_zero::companions,
};

/// Result of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Folder that was written.
    pub path: PathBuf,
    /// Policy of the exported version.
    pub policy: Name,
    /// Version that was exported.
    pub version: PolicyVersion,
    /// SHA-256 of `model.safetensors`, which equals the published file byte for byte.
    pub weights_sha256: Sha256,
    /// Names of the files written.
    pub files: Vec<&'static str>,
}

/// Writes a version of a learner's policy from the run in `folder` to `to`, together with config,
/// tokenizer, chat template and generation config of version 0. Without `version`, exports the
/// newest; without `learner`, the lead's policy.
///
/// # Errors
/// [`Error::Folder`] if the run has no such learner or version, or if `to` is not empty.
pub async fn export(
    folder: &Path,
    learner: Option<&Name>,
    version: Option<PolicyVersion>,
    to: &Path,
) -> Result<Exported> {
    if to
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(Error::Folder {
            path: to.to_owned(),
            reason: "is not empty: name another folder".to_owned(),
        });
    }
    let PublishedVersion {
        weights,
        policy,
        version,
    } = published(folder, learner, version).await?;
    let bytes = weights.fetch(version).await?;
    let model = ModelFolder::from_files(&companions(&weights).await?, &bytes)?;
    Ok(Exported {
        path: to.to_owned(),
        policy,
        version,
        weights_sha256: sha256(&bytes),
        files: save(&model, &bytes, to)?,
    })
}

/// Writes the folder of a model with the published bytes as its weights: those may be rounded, and
/// the model writes f32.
fn save(model: &ModelFolder, published: &[u8], to: &Path) -> Result<Vec<&'static str>> {
    let files = model.save(to)?;
    let path = to.join(MODEL_FILE);
    std::fs::write(&path, published).map_err(|source| Error::Io {
        attempted: "write",
        path,
        source,
    })?;
    Ok(files)
}
