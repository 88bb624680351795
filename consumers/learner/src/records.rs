//! Where a learner's records lie in the run's store.

use vintage_control::{
    CheckpointManifest, EvaluationResult, Name, Plan, PolicyVersion, UpdateResult,
};
use vintage_store::{Created, Store, sha256};

use crate::{AdamW, Error, Result};

/// The records of one learner.
#[derive(Clone)]
pub struct Records {
    store: Store,
    learner: Name,
}

impl Records {
    /// Records of `learner` under the run's root.
    pub fn new(store: Store, learner: Name) -> Self {
        Self { store, learner }
    }

    /// Claims update `plan.version`: written if-absent, so of two writers one loses.
    pub async fn write_plan(&self, plan: &Plan) -> Result<()> {
        if self
            .store
            .create_json(&self.path("plans", plan.version), plan)
            .await?
            == Created::New
        {
            return Ok(());
        }
        let theirs = self.plan(plan.version).await?;
        match theirs {
            // Our own earlier attempt went through although its answer was lost.
            Some(there) if there == *plan => Ok(()),
            there => Err(Error::Fenced {
                learner: self.learner.to_string(),
                update: plan.version,
                theirs: there.map_or_else(|| "unreadable".to_owned(), |plan| plan.writer),
            }),
        }
    }

    /// The plan of update `version`.
    pub async fn plan(&self, version: PolicyVersion) -> Result<Option<Plan>> {
        Ok(self.store.get_json(&self.path("plans", version)).await?)
    }

    /// Notes what an update did; a re-run finds its first note and leaves it.
    pub async fn write_result(&self, result: &UpdateResult) -> Result<()> {
        let _first_note_stays = self
            .store
            .create_json(&self.path("results", result.version), result)
            .await?;
        Ok(())
    }

    /// What update `version` did.
    pub async fn result(&self, version: PolicyVersion) -> Result<Option<UpdateResult>> {
        Ok(self.store.get_json(&self.path("results", version)).await?)
    }

    /// Commits a checkpoint: the moments first, the manifest last. `in_hand` groups hang on it.
    pub async fn write_checkpoint(
        &self,
        manifest: &CheckpointManifest,
        optimizer: Vec<u8>,
        in_hand: u64,
    ) -> Result<()> {
        let folder = self.checkpoint_folder(manifest.version);
        let file = format!("{folder}/optimizer.safetensors");
        if self.store.create(&file, optimizer.clone().into()).await? == Created::Exists {
            // Left by a crash before the manifest, or by this very checkpoint.
            let there = self.store.get(&file).await?.unwrap_or_default();
            if sha256(&there) != manifest.optimizer_sha256 {
                self.store.delete(&file).await?;
                let _new = self.store.create(&file, optimizer.into()).await?;
            }
        }
        vintage_faults::point("learner.moments", in_hand);
        let _first_one_stays = self
            .store
            .create_json(&format!("{folder}/manifest.json"), manifest)
            .await?;
        Ok(())
    }

    /// The newest committed checkpoint.
    pub async fn newest_checkpoint(&self) -> Result<Option<(CheckpointManifest, AdamW)>> {
        let Some(version) = self.checkpoints().await?.pop() else {
            return Ok(None);
        };
        let folder = self.checkpoint_folder(version);
        let manifest: CheckpointManifest = self
            .store
            .get_json(&format!("{folder}/manifest.json"))
            .await?
            .ok_or_else(|| {
                Error::Record(format!(
                    "checkpoint {folder} lost its manifest while it was read"
                ))
            })?;
        let file = format!("{folder}/optimizer.safetensors");
        let bytes = self.store.get(&file).await?.ok_or_else(|| {
            Error::Record(format!("checkpoint {folder} has no {file}: restore it, or remove the folder to go on from the one before"))
        })?;
        let found = sha256(&bytes);
        if found != manifest.optimizer_sha256 {
            return Err(Error::Record(format!(
                "{file} has SHA-256 {found}, its manifest says {}: restore it, or remove {folder} \
                 to go on from the checkpoint before",
                manifest.optimizer_sha256
            )));
        }
        let optimizer = AdamW::from_safetensors(manifest.optimizer_steps, &bytes)?;
        Ok(Some((manifest, optimizer)))
    }

    /// Versions with a committed checkpoint, ascending.
    pub async fn checkpoints(&self) -> Result<Vec<PolicyVersion>> {
        let prefix = format!("checkpoints/{}", self.learner);
        let mut versions: Vec<_> = self
            .store
            .list(&prefix)
            .await?
            .iter()
            .filter_map(|path| {
                path.strip_suffix("/manifest.json")?
                    .rsplit('/')
                    .next()?
                    .parse()
                    .ok()
            })
            .map(PolicyVersion)
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    fn path(&self, kind: &str, version: PolicyVersion) -> String {
        format!("{kind}/{}/{version}.json", self.learner)
    }

    fn checkpoint_folder(&self, version: PolicyVersion) -> String {
        format!("checkpoints/{}/{version}", self.learner)
    }
}

/// Path of the evaluation of a version in the run's store.
pub fn evaluation_path(policy: &Name, version: PolicyVersion) -> String {
    format!("evaluations/{policy}/{version}.json")
}

/// Notes an evaluation; a second one of the same version finds the first and leaves it.
pub async fn write_evaluation(store: &Store, evaluation: &EvaluationResult) -> Result<()> {
    let path = evaluation_path(&evaluation.policy, evaluation.version);
    let _first_note_stays = store.create_json(&path, evaluation).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
