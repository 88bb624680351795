//! Records of a learner in the run's store: plans, results, checkpoints, evaluations.

#[cfg(feature = "faults")]
mod sabotage;

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use vintage_control::{
    CheckpointManifest, Deviation, EvaluationResult, LearnerStart, Name, Plan, PolicyVersion,
    Sha256, UpdateNumber, UpdateResult,
};

use crate::{
    created::Created,
    error::{Error, Result},
    lane::Lane,
    sha256,
    store::Store,
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
    /// The f32 weights as a safetensors file, where the published ones are rounded.
    pub masters: Option<Bytes>,
}

/// Files of a checkpoint, as they are written.
#[derive(Debug, Default)]
pub struct CheckpointFiles {
    /// Moments of the optimizer.
    pub moments: Vec<u8>,
    /// The f32 weights, if the published ones are rounded.
    pub masters: Option<Vec<u8>>,
    /// Names and bytes of the adapter's files; empty without adapters.
    pub adapter: Vec<(&'static str, Vec<u8>)>,
}

/// Records of one learner.
#[derive(Clone)]
pub struct Records {
    store: Store,
    learner: Name,
}

impl Records {
    /// Creates access to the records of `learner` in the run's store.
    pub fn new(store: Store, learner: Name) -> Self {
        Self { store, learner }
    }

    /// Returns the name of the learner.
    pub fn learner(&self) -> &Name {
        &self.learner
    }

    /// Writes a plan and thereby claims its update. The plan is created if absent, so that of two
    /// writers one fails with [`Error::Fenced`].
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
            .create_json(&self.path("plans", plan.update()), plan)
            .await?
            == Created::New
        {
            return Ok(());
        }
        let theirs = self.plan(plan.update()).await?;
        match theirs {
            // An earlier attempt of this process succeeded although its answer was lost.
            Some(there) if there == *plan => Ok(()),
            there => Err(Error::Fenced {
                learner: self.learner.to_string(),
                update: plan.update(),
                theirs: there.map_or_else(|| "unreadable".to_owned(), |plan| plan.writer),
            }),
        }
    }

    /// Returns the plan of `update`, if there is one.
    pub async fn plan(&self, update: UpdateNumber) -> Result<Option<Plan>> {
        self.store.get_json(&self.path("plans", update)).await
    }

    /// Returns the plans from `first` on, in their order and up to the first that is not there. A few
    /// are read ahead.
    pub fn plans(&self, first: UpdateNumber) -> Lane<'_, Plan> {
        let paths = (first.0..).map(move |update| self.path("plans", UpdateNumber(update)));
        self.store.lane_json(paths)
    }

    /// Returns the results of these updates, in their order. A few are read ahead.
    pub fn results(&self, updates: Range<u64>) -> Lane<'_, UpdateResult> {
        let paths = updates.map(move |update| self.path("results", UpdateNumber(update)));
        self.store.lane_json(paths)
    }

    /// Writes the result of an update; an existing result, as of a re-run update, is kept.
    pub async fn write_result(&self, result: &UpdateResult) -> Result<()> {
        let _first_note_stays = self
            .store
            .create_json(&self.path("results", result.update()), result)
            .await?;
        Ok(())
    }

    /// Returns the result of `update`, if there is one.
    pub async fn result(&self, update: UpdateNumber) -> Result<Option<UpdateResult>> {
        self.store.get_json(&self.path("results", update)).await
    }

    /// Records that an update that was run again gave other weights. The path contains their
    /// digest, so that a repetition is the same record.
    pub async fn write_deviation(&self, deviation: &Deviation) -> Result<()> {
        let computed = &deviation.computed_sha256.to_string()[..16];
        let path = format!(
            "deviations/{}/{}-{computed}.json",
            self.learner,
            deviation.update()
        );
        let _first_note_stays = self.store.create_json(&path, deviation).await?;
        Ok(())
    }

    /// Returns the policy that this learner trains, by the first record that can be read; `None`
    /// without one.
    pub async fn policy(&self) -> Result<Option<Name>> {
        /// Field that plans, results and checkpoints have in common.
        #[derive(serde::Deserialize)]
        struct OfPolicy {
            policy: Name,
        }
        for kind in ["plans", "results", "checkpoints"] {
            let records = self.store.list(&format!("{kind}/{}", self.learner)).await?;
            for path in &records {
                let bytes = self.store.get(path).await?.unwrap_or_default();
                if let Ok(of) = serde_json::from_slice::<OfPolicy>(&bytes) {
                    return Ok(Some(of.policy));
                }
            }
        }
        Ok(None)
    }

    /// Returns true if `update` has a plan. If it has and this process wrote none, another
    /// learner of the same name took over.
    pub async fn is_planned(&self, update: UpdateNumber) -> Result<bool> {
        let path = self.path("plans", update);
        Ok(self.store.head(&path).await?.is_some())
    }

    /// Returns the first update that has no plan yet, by the number of plans.
    pub async fn next_plan(&self) -> Result<UpdateNumber> {
        let plans = self.store.list(&format!("plans/{}", self.learner)).await?;
        Ok(UpdateNumber(plans.len() as u64))
    }

    /// Records where the learner starts, unless that was recorded before; returns the record that
    /// holds.
    pub async fn write_start(&self, start: &LearnerStart) -> Result<LearnerStart> {
        let path = format!("starts/{}.json", self.learner);
        match self.store.create_json(&path, start).await? {
            Created::New => Ok(start.clone()),
            Created::Exists => self.start().await?.ok_or(Error::Vanished { path }),
        }
    }

    /// Returns where the learner started, if that was recorded.
    pub async fn start(&self) -> Result<Option<LearnerStart>> {
        let path = format!("starts/{}.json", self.learner);
        self.store.get_json(&path).await
    }

    /// Commits a checkpoint: moments, f32 weights and adapters first, the manifest last. File names contain the
    /// digest of the content, so that no writer ever replaces another's file. `in_hand` is the
    /// number of groups that depend on the checkpoint, for the fault points of tests.
    pub async fn write_checkpoint(
        &self,
        manifest: &CheckpointManifest,
        files: CheckpointFiles,
        in_hand: u64,
    ) -> Result<()> {
        let CheckpointFiles {
            moments,
            masters,
            adapter,
        } = files;
        let folder = self.checkpoint_folder(manifest.version);
        let file = format!("{folder}/{}", moments_file(manifest.optimizer_sha256));
        let _the_same_if_it_exists = self.store.create(&file, moments.into()).await?;
        if let (Some(digest), Some(masters)) = (manifest.masters_sha256, masters) {
            let file = format!("{folder}/{}", masters_file(digest));
            let _the_same_if_it_exists = self.store.create(&file, masters.into()).await?;
        }
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
                    "the weights of {folder} are gone: continuing from the checkpoint before"
                );
                continue;
            }
            return Ok(Some(Checkpoint {
                moments: self.moments(&folder, &manifest).await?,
                adapter: self.adapter(&folder, &manifest).await?,
                masters: self.masters(&folder, &manifest).await?,
                manifest,
            }));
        }
        Ok(None)
    }

    /// Returns the manifest of the checkpoint at `version`, if there is one.
    pub async fn checkpoint(&self, version: PolicyVersion) -> Result<Option<CheckpointManifest>> {
        let folder = self.checkpoint_folder(version);
        let path = format!("{folder}/manifest.json");
        self.store.get_json(&path).await
    }

    async fn moments(&self, folder: &str, manifest: &CheckpointManifest) -> Result<Bytes> {
        let file = format!("{folder}/{}", moments_file(manifest.optimizer_sha256));
        let mut bytes = self.store.get(&file).await?;
        if bytes.is_none() {
            // Earlier builds gave the file this name.
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

    async fn masters(&self, folder: &str, manifest: &CheckpointManifest) -> Result<Option<Bytes>> {
        let Some(digest) = manifest.masters_sha256 else {
            return Ok(None);
        };
        let file = format!("{folder}/{}", masters_file(digest));
        let bytes = self.store.get(&file).await?;
        intact(folder, &file, bytes, digest).map(Some)
    }

    /// Returns the versions with a committed checkpoint, ascending.
    pub async fn checkpoints(&self) -> Result<Vec<PolicyVersion>> {
        let files = self.checkpoint_files().await?;
        let manifests = files.iter().filter(|(_, path)| path.ends_with(MANIFEST));
        Ok(manifests.map(|(version, _)| *version).collect())
    }

    /// Deletes all but the newest `keep` checkpoints. A manifest is deleted first, so that a
    /// checkpoint that can be found is complete. A late caller deletes only checkpoints that `keep`
    /// newer ones supersede.
    pub async fn prune_checkpoints(&self, keep: usize) -> Result<()> {
        let files = self.checkpoint_files().await?;
        let committed = files.iter().filter(|(_, path)| path.ends_with(MANIFEST));
        let Some((oldest_kept, _)) = committed.rev().nth(keep.saturating_sub(1)) else {
            return Ok(());
        };
        let gone = files.iter().filter(|(version, _)| version < oldest_kept);
        self.delete_checkpoint_files(gone.collect()).await
    }

    /// Deletes the checkpoints of these versions, whole or not, each manifest first. A missing one is
    /// not an error.
    pub async fn remove_checkpoints(&self, versions: &BTreeSet<PolicyVersion>) -> Result<()> {
        let files = self.checkpoint_files().await?;
        let gone = files.iter().filter(|(of, _)| versions.contains(of));
        self.delete_checkpoint_files(gone.collect()).await
    }

    async fn delete_checkpoint_files(&self, mut gone: Vec<&(PolicyVersion, String)>) -> Result<()> {
        gone.sort_by_key(|(version, path)| (*version, !path.ends_with(MANIFEST)));
        for (_, path) in &gone {
            self.store.delete(path).await?;
        }
        // The folder of an adapter is removed before the checkpoint's folder around it.
        let above = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let own = |version: &PolicyVersion| self.checkpoint_folder(*version);
        let mut folders: Vec<_> = gone.iter().filter_map(|(_, path)| above(path)).collect();
        folders.extend(gone.iter().map(|(version, _)| own(version)));
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
        folders.dedup();
        for folder in folders {
            if let Some(folder) = self.store.local_path(&folder) {
                // Fails if a file is left in the folder, as it should.
                let _ = tokio::fs::remove_dir(folder).await;
            }
        }
        Ok(())
    }

    /// Returns every file of every checkpoint, with its version.
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

    fn path(&self, kind: &str, update: UpdateNumber) -> String {
        format!("{kind}/{}/{update}.json", self.learner)
    }

    fn checkpoint_folder(&self, version: PolicyVersion) -> String {
        format!("checkpoints/{}/{version}", self.learner)
    }
}

const MANIFEST: &str = "/manifest.json";

/// Name of the file with an adapter's tensors, as in PEFT.
const ADAPTER_FILE: &str = "adapter_model.safetensors";

/// Checks that a file of a checkpoint exists and has this digest, and returns its bytes.
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

fn masters_file(digest: Sha256) -> String {
    let digest = digest.to_string();
    format!("masters-{}.safetensors", &digest[..16])
}

fn moments_file(digest: Sha256) -> String {
    let digest = digest.to_string();
    format!("optimizer-{}.safetensors", &digest[..16])
}

/// Returns the path of a version's evaluation in the run's store.
pub fn evaluation_path(policy: &Name, version: PolicyVersion) -> String {
    format!("evaluations/{policy}/{version}.json")
}

/// Writes an evaluation; an existing one of the same version is kept.
pub async fn write_evaluation(store: &Store, evaluation: &EvaluationResult) -> Result<()> {
    let path = evaluation_path(&evaluation.policy, evaluation.version);
    let _first_note_stays = store.create_json(&path, evaluation).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
