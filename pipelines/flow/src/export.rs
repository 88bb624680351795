//! Export of a version of a policy as a Hugging Face model folder.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vintage_control::{Name, PolicyVersion, Sha256};
use vintage_model::ModelFolder;
use vintage_store::{Weights, sha256};

use crate::{
    error::{Error, Result},
    folder::{followers, learner_config, open_store},
    prune::pruned_by,
    replay::{lead, listed},
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
    let refuse = |path: &Path, reason: String| Error::Folder {
        path: path.to_owned(),
        reason,
    };
    if !folder.is_dir() {
        return Err(refuse(
            folder,
            "is no folder: name a run's folder".to_owned(),
        ));
    }
    if to
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(refuse(to, "is not empty: name another folder".to_owned()));
    }
    let store = open_store(folder)?;
    let learner = match learner {
        Some(name) => name.clone(),
        None => lead(folder, &store).await?,
    };
    let Some(config) = learner_config(folder, &learner)? else {
        let mut known = vec![lead(folder, &store).await?.to_string()];
        for file in followers(folder)? {
            known.push(vintage_config::read(&file)?.learner.name.to_string());
        }
        let known = listed(&known);
        return Err(refuse(
            folder,
            format!("has no learner {learner}: there are {known}"),
        ));
    };
    let policy = vintage_config::read(&config)?.learner.policy;
    let weights = Weights::new(store, policy.clone());
    let there = weights.versions().await?;
    if let Some(wanted) = version.filter(|wanted| !there.contains(wanted)) {
        let gone = pruned_by(weights.store(), &policy, wanted).await?;
        let gone = gone.map_or_else(String::new, |record| {
            format!(", because `vintage prune` deleted them ({record})")
        });
        return Err(refuse(
            folder,
            format!(
                "has no weights of version {wanted} of policy {policy}{gone}: there are those of \
                 versions {}",
                listed(&there)
            ),
        ));
    }
    let Some(version) = version.or(there.last().copied()) else {
        return Err(refuse(
            folder,
            format!("has no version of policy {policy} yet"),
        ));
    };
    let bytes = weights.fetch(version).await?;
    let model = ModelFolder::from_files(&companions(&weights).await?, &bytes)?;
    Ok(Exported {
        path: to.to_owned(),
        policy,
        version,
        weights_sha256: sha256(&bytes),
        files: model.save(to)?,
    })
}
