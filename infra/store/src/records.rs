//! Records of a learner in the run's store: plans, results, checkpoints, evaluations.

#[cfg(feature = "faults")]
mod sabotage;

use bytes::Bytes;
use vintage_control::{
    CheckpointManifest, Deviation, EvaluationResult, LearnerStart, Name, Plan, PolicyVersion,
    Sha256, UpdateResult,
};

use crate::{
    error::{Error, Result},
    sha256,
    store::{Created, Store},
    weights::Weights,
};

/// Committed state of training beside the weights.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Offsets, counts and digests.
    pub manifest: CheckpointManifest,
    /// Moments of the optimizer, a safetensors file.
    pub moments: Bytes,
    /// `adapter_model.safetensors`, where adapters are trained and any update was done.
    pub adapter: Option<Bytes>,
}

/// Records of one learner.
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

    /// Whose they are.
    pub fn learner(&self) -> &Name {
        &self.learner
    }

    /// Claims update `plan.version`: written if-absent, so of two writers one loses.
    pub async fn write_plan(&self, plan: &Plan) -> Result<()> {
        #[cfg(feature = "faults")]
        if sabotage::is_late() {
            return self.write_late(plan).await;
        }
        self.claim(plan).await
    }

    async fn claim(&self, plan: &Plan) -> Result<()> {
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

    /// Notes that an update, run again, gave other weights. Named by them: the same once more is
    /// the same note.
    pub async fn write_deviation(&self, deviation: &Deviation) -> Result<()> {
        let computed = &deviation.computed_sha256.to_string()[..16];
        let path = format!(
            "deviations/{}/{}-{computed}.json",
            self.learner, deviation.version
        );
        let _first_note_stays = self.store.create_json(&path, deviation).await?;
        Ok(())
    }

    /// The lineage that this learner trains, by the first record that tells; `None` if none does.
    pub async fn lineage(&self) -> Result<Option<Name>> {
        /// What plans, results and checkpoints have in common.
        #[derive(serde::Deserialize)]
        struct Lineage {
            policy: Name,
        }
        for kind in ["plans", "results", "checkpoints"] {
            let records = self.store.list(&format!("{kind}/{}", self.learner)).await?;
            for path in &records {
                let bytes = self.store.get(path).await?.unwrap_or_default();
                if let Ok(of) = serde_json::from_slice::<Lineage>(&bytes) {
                    return Ok(Some(of.policy));
                }
            }
        }
        Ok(None)
    }

    /// Whether update `version` has a plan. If it has, and this process wrote none, another
    /// learner of the same name took over.
    pub async fn is_planned(&self, version: PolicyVersion) -> Result<bool> {
        let path = self.path("plans", version);
        Ok(self.store.head(&path).await?.is_some())
    }

    /// The first update that has no plan yet.
    pub async fn next_plan(&self) -> Result<PolicyVersion> {
        let plans = self.store.list(&format!("plans/{}", self.learner)).await?;
        Ok(PolicyVersion(plans.len() as u64))
    }

    /// Decides where the learner starts, unless that was decided before: the first record stays.
    pub async fn write_start(&self, start: &LearnerStart) -> Result<LearnerStart> {
        let path = format!("starts/{}.json", self.learner);
        match self.store.create_json(&path, start).await? {
            Created::New => Ok(start.clone()),
            Created::Exists => self.start().await?.ok_or(Error::Vanished { path }),
        }
    }

    /// Where the learner started, if that was decided.
    pub async fn start(&self) -> Result<Option<LearnerStart>> {
        let path = format!("starts/{}.json", self.learner);
        Ok(self.store.get_json(&path).await?)
    }

    /// Commits a checkpoint: moments and adapters first, the manifest last. Their names are those
    /// of their content, so that no writer ever has to replace what another wrote. `in_hand`
    /// groups hang on it.
    pub async fn write_checkpoint(
        &self,
        manifest: &CheckpointManifest,
        optimizer: Vec<u8>,
        adapter: Vec<(&'static str, Vec<u8>)>,
        in_hand: u64,
    ) -> Result<()> {
        let folder = self.checkpoint_folder(manifest.version);
        let file = format!("{folder}/{}", moments_file(manifest.optimizer_sha256));
        let _the_same_if_it_exists = self.store.create(&file, optimizer.into()).await?;
        if let Some(digest) = manifest.adapter_sha256 {
            for (name, bytes) in adapter {
                let file = format!("{folder}/{}/{name}", adapter_folder(digest));
                let _the_same_if_it_exists = self.store.create(&file, bytes.into()).await?;
            }
        }
        vintage_faults::point("learner.moments", in_hand);
        let _first_one_stays = self
            .store
            .create_json(&format!("{folder}/manifest.json"), manifest)
            .await?;
        Ok(())
    }

    /// The newest committed checkpoint whose weights are there. One without is passed over: the
    /// plans since the one before it lead to the same version.
    pub async fn newest_checkpoint(&self, weights: &Weights) -> Result<Option<Checkpoint>> {
        for version in self.checkpoints().await?.into_iter().rev() {
            let folder = self.checkpoint_folder(version);
            let Some(manifest) = self.checkpoint(version).await? else {
                continue; // pruned between the two reads
            };
            if weights.manifest(version).await?.is_none() {
                tracing::warn!(
                    "the weights of {folder} are gone: going on from the checkpoint before"
                );
                continue;
            }
            return Ok(Some(Checkpoint {
                moments: self.moments(&folder, &manifest).await?,
                adapter: self.adapter(&folder, &manifest).await?,
                manifest,
            }));
        }
        Ok(None)
    }

    /// The manifest of the checkpoint at `version`.
    pub async fn checkpoint(&self, version: PolicyVersion) -> Result<Option<CheckpointManifest>> {
        let folder = self.checkpoint_folder(version);
        Ok(self
            .store
            .get_json(&format!("{folder}/manifest.json"))
            .await?)
    }

    async fn moments(&self, folder: &str, manifest: &CheckpointManifest) -> Result<Bytes> {
        let file = format!("{folder}/{}", moments_file(manifest.optimizer_sha256));
        let mut bytes = self.store.get(&file).await?;
        if bytes.is_none() {
            // As earlier builds named it.
            let file = format!("{folder}/optimizer.safetensors");
            bytes = self.store.get(&file).await?;
        }
        intact(folder, &file, bytes, manifest.optimizer_sha256)
    }

    async fn adapter(&self, folder: &str, manifest: &CheckpointManifest) -> Result<Option<Bytes>> {
        let Some(digest) = manifest.adapter_sha256 else {
            return Ok(None);
        };
        let file = format!("{folder}/{}/{ADAPTER_FILE}", adapter_folder(digest));
        let bytes = self.store.get(&file).await?;
        intact(folder, &file, bytes, digest).map(Some)
    }

    /// Versions with a committed checkpoint, ascending.
    pub async fn checkpoints(&self) -> Result<Vec<PolicyVersion>> {
        let files = self.checkpoint_files().await?;
        let manifests = files.iter().filter(|(_, path)| path.ends_with(MANIFEST));
        Ok(manifests.map(|(version, _)| *version).collect())
    }

    /// Deletes all but the newest `keep` checkpoints. A manifest goes first, so that a checkpoint
    /// is whole for as long as it can be found; whoever deletes, however late, deletes only what
    /// `keep` newer ones stand for.
    pub async fn prune_checkpoints(&self, keep: usize) -> Result<()> {
        let files = self.checkpoint_files().await?;
        let is_manifest = |path: &str| path.ends_with(MANIFEST);
        let committed = files.iter().filter(|(_, path)| is_manifest(path));
        let Some((oldest_kept, _)) = committed.rev().nth(keep.saturating_sub(1)) else {
            return Ok(());
        };
        let mut gone: Vec<_> = files
            .iter()
            .filter(|(version, _)| version < oldest_kept)
            .collect();
        gone.sort_by_key(|(version, path)| (*version, !is_manifest(path)));
        for (_, path) in &gone {
            self.store.delete(path).await?;
        }
        // An adapter's folder before the checkpoint's around it.
        let above = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let own = |version: &PolicyVersion| self.checkpoint_folder(*version);
        let mut folders: Vec<_> = gone.iter().filter_map(|(_, path)| above(path)).collect();
        folders.extend(gone.iter().map(|(version, _)| own(version)));
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
        folders.dedup();
        for folder in folders {
            if let Some(folder) = self.store.local_path(&folder) {
                // Fails where a file is left, as it should.
                let _ = tokio::fs::remove_dir(folder).await;
            }
        }
        Ok(())
    }

    /// Every file of every checkpoint, by version.
    async fn checkpoint_files(&self) -> Result<Vec<(PolicyVersion, String)>> {
        let prefix = format!("checkpoints/{}", self.learner);
        let paths = self.store.list(&prefix).await?;
        let mut files: Vec<_> = paths
            .into_iter()
            .filter_map(|path| {
                let (version, _) = path
                    .strip_prefix(&prefix)?
                    .strip_prefix('/')?
                    .split_once('/')?;
                Some((PolicyVersion(version.parse().ok()?), path))
            })
            .collect();
        files.sort();
        Ok(files)
    }

    fn path(&self, kind: &str, version: PolicyVersion) -> String {
        format!("{kind}/{}/{version}.json", self.learner)
    }

    fn checkpoint_folder(&self, version: PolicyVersion) -> String {
        format!("checkpoints/{}/{version}", self.learner)
    }
}

const MANIFEST: &str = "/manifest.json";

/// What PEFT calls the tensors of an adapter.
const ADAPTER_FILE: &str = "adapter_model.safetensors";

/// Returns the bytes of a checkpoint's file, which must have this digest.
fn intact(folder: &str, file: &str, bytes: Option<Bytes>, digest: Sha256) -> Result<Bytes> {
    let damaged = |reason| Error::Checkpoint {
        folder: folder.to_owned(),
        reason,
    };
    let bytes = bytes.ok_or_else(|| damaged(format!("it has no {file}")))?;
    let found = sha256(&bytes);
    if found != digest {
        return Err(damaged(format!(
            "{file} has SHA-256 {found}, its manifest says {digest}"
        )));
    }
    Ok(bytes)
}

fn adapter_folder(digest: Sha256) -> String {
    let digest = digest.to_string();
    format!("adapter-{}", &digest[..16])
}

fn moments_file(digest: Sha256) -> String {
    let digest = digest.to_string();
    format!("optimizer-{}.safetensors", &digest[..16])
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
