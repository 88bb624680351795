//! Deletion: the record, the marks in the archive, then the objects.

use std::time::{SystemTime, UNIX_EPOCH};

use vintage_control::{CONTROL_FORMAT, PruneMark, PruneRecord, PrunedFiles};
use vintage_faults::point;
use vintage_store::{Records, Weights, next_prune, write_prune};

use crate::{
    Run,
    error::{Error, Result},
    pruning::Pruning,
};

impl Pruning {
    /// Deletes what was chosen, and returns the path of the record written first; `None` if an
    /// earlier prune recorded all of it.
    ///
    /// # Errors
    /// A store that fails in the middle; the next prune finishes. [`Error::Another`] before anything
    /// was deleted.
    pub async fn apply(&self, run: &Run<'_>) -> Result<Option<String>> {
        let path = next_prune(run.store).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let record = PruneRecord {
            decided_at_ms: now.unwrap_or_default().as_millis() as i64,
            ..self.fresh.clone()
        };
        let is_recorded = record.is_empty();
        if !is_recorded && !write_prune(run.store, &path, &record).await? {
            return Err(Error::Another { record: path });
        }
        point("prune.recorded", self.objects);
        for files in self.archive.iter().filter(|files| self.is_chosen(files)) {
            let mark = PruneMark {
                format: CONTROL_FORMAT.to_owned(),
                record: self.record_of(files, &path),
                files: files.clone(),
            };
            run.reader.mark_pruned(&mark).await?;
        }
        point("prune.marked", self.objects);
        // A checkpoint goes before the weights that it needs.
        for (learner, gone) in &self.choice.checkpoints {
            let records = Records::new(run.store.clone(), learner.clone());
            records.remove_checkpoints(gone).await?;
        }
        for (policy, gone) in &self.choice.versions {
            let weights = Weights::new(run.store.clone(), policy.clone());
            // A delta goes before its base: what is found can be read.
            for version in gone.iter().rev() {
                weights.remove(*version).await?;
                point("prune.deleted", 1);
            }
        }
        for files in &self.archive {
            run.reader
                .delete_pruned(files.incarnation, files.partition)
                .await?;
        }
        for journal in run.journals {
            match std::fs::remove_file(&journal.path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    let path = journal.path.clone();
                    return Err(Error::Journal { path, source });
                }
                _ => point("prune.deleted", 1),
            }
        }
        Ok((!is_recorded).then_some(path))
    }

    /// Returns the record that names files: an earlier one, or that of this prune.
    fn record_of(&self, files: &PrunedFiles, path: &str) -> String {
        let place = (files.incarnation, files.partition);
        let earlier = self.recorded_by.get(&place).cloned();
        earlier.unwrap_or_else(|| path.to_owned())
    }

    fn is_chosen(&self, files: &PrunedFiles) -> bool {
        let place = (files.incarnation, files.partition);
        self.choice.archive.contains_key(&place)
    }
}
