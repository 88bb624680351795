use std::{collections::BTreeMap, sync::Mutex};

use vintage_control::{Name, PolicyVersion, Sha256};
use vintage_store::{Weights, label};

use crate::fault::{Reason, ServerFault};

/// Reads the version of a label, if the label is one of this policy.
fn version_of(policy: &Name, label: &str) -> Option<PolicyVersion> {
    let rest = label.strip_prefix(policy.as_str())?.strip_prefix('-')?;
    let (version, _hash) = rest.split_once('-')?;
    version.parse().ok().map(PolicyVersion)
}

/// Labels of versions that the run has published. Another producer may have loaded a version that
/// this one has not seen, so an unknown label is looked up in the store.
#[derive(Debug)]
pub(crate) struct Labels {
    policy: Name,
    weights: Weights,
    known: Mutex<BTreeMap<String, PolicyVersion>>,
}

impl Labels {
    pub(crate) fn new(policy: Name, weights: Weights) -> Self {
        Self {
            policy,
            weights,
            known: Mutex::default(),
        }
    }

    /// Returns the label of a published version, and remembers it.
    pub(crate) fn add(&self, version: PolicyVersion, hash: Sha256) -> String {
        let label = label(&self.policy, version, hash);
        self.known().insert(label.clone(), version);
        label
    }

    /// Returns the version that a label names.
    ///
    /// # Errors
    /// The run has published no such version.
    pub(crate) async fn version(&self, label: &str) -> Result<PolicyVersion, ServerFault> {
        if let Some(version) = self.known().get(label) {
            return Ok(*version);
        }
        let unknown = |why: String| {
            ServerFault::new(
                Reason::UnknownVersion,
                format!("the server samples with weights {label:?}, {why}"),
            )
        };
        let Some(version) = version_of(&self.policy, label) else {
            return Err(unknown("which this run did not publish".to_owned()));
        };
        let manifest = self.weights.manifest(version).await;
        let manifest =
            manifest.map_err(|error| unknown(format!("not to be looked up: {error}")))?;
        match manifest {
            Some(found) if self.add(version, found.weights_sha256) == label => Ok(version),
            Some(_) => Err(unknown(format!("and version {version} has another hash"))),
            None => Err(unknown(format!(
                "and version {version} is not in the store"
            ))),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PolicyVersion>> {
        let lock = self.known.lock();
        lock.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
