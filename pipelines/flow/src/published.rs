//! Choice of a published version of a run, for verbs that take one out of it.

use std::path::Path;

use vintage_control::{Name, PolicyVersion};
use vintage_store::Weights;

use crate::{
    error::{Error, Result},
    folder::open_store,
    learner_of::learner_of,
    prune::pruned_by,
    replay::listed,
};

/// Version of a policy that a run has published.
pub(crate) struct PublishedVersion {
    /// Weights of the policy.
    pub(crate) weights: Weights,
    pub(crate) policy: Name,
    pub(crate) version: PolicyVersion,
}

/// Finds a version of a learner's policy in the run in `folder`. Without `version`, the newest;
/// without `learner`, the lead's.
///
/// # Errors
/// [`Error::Folder`] if the run has no such learner or version.
pub(crate) async fn published(
    folder: &Path,
    learner: Option<&Name>,
    version: Option<PolicyVersion>,
) -> Result<PublishedVersion> {
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
    let store = open_store(folder)?;
    let learner = learner_of(folder, &store, learner).await?;
    let policy = vintage_config::read(&learner.config)?.learner.policy;
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
    Ok(PublishedVersion {
        weights,
        policy,
        version,
    })
}
