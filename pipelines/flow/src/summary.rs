//! What a run comes to.

use std::collections::BTreeMap;
use vintage_settings::RunConfig;

use serde::{Deserialize, Serialize};
use vintage_control::{EvaluationResult, PolicyVersion, Sha256, UpdateResult};
use vintage_store::evaluation_path;
use vintage_store::{Records, Store};

use vintage_audit::Tally;

use crate::{Result, health::Health};

/// The one object `vintage run --output json` prints; also `summary.json` of the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Updates done.
    pub updates: u64,
    /// Whether these are all that were asked for.
    pub finished: bool,
    /// Sampled accuracy of version 0 on held-out prompts.
    pub initial_accuracy: Option<f64>,
    /// The same of the last version evaluated.
    pub final_accuracy: Option<f64>,
    /// Mean over evaluations at multiples of `evaluation.every`.
    pub accuracy_auc: Option<f64>,
    /// Mean of the last four evaluations: the yardstick's "final".
    pub accuracy_last4: Option<f64>,
    /// Held-out prompts of an evaluation.
    pub eval_samples: u64,
    /// Groups the log acknowledged.
    pub produced: u64,
    /// Groups trained.
    pub trained: u64,
    /// Groups archived and not trained.
    pub in_flight: u64,
    /// Groups rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Groups acknowledged and nowhere to be found.
    pub lost: u64,
    /// Whether produced = trained + rejected + in flight + lost.
    pub balanced: bool,
    /// Trajectory rows in the archive.
    pub archived_rows: u64,
    /// Mean staleness of trained tokens, updates.
    pub mean_staleness: f64,
    /// Largest staleness of a trained token, updates.
    pub max_staleness: u64,
    /// Share of trained tokens the rule masked or clipped.
    pub masked_share: f64,
    /// Digest of the last version's `model.safetensors`.
    pub weights_sha256: Sha256,
    /// Seconds of the whole command, in this life.
    pub seconds: f64,
    /// Seconds of training in this life.
    pub training_seconds: f64,
    /// Mean seconds an update took to compute and record.
    pub update_seconds: f64,
    /// Updates that changed nothing, by reason; not in summaries of earlier programs.
    #[serde(default)]
    pub idle_updates: BTreeMap<String, u64>,
    /// What is to be known of the run, in words: where it left what its rule was made for, and
    /// where nothing could be learned.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What this life waited for when it was stopped, if it did not go on; of the command alone,
    /// not of the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standstill: Option<String>,
}

/// What results and evaluations of a folder add up to.
#[derive(Debug)]
pub(crate) struct Totals {
    health: Health,
    tokens: u64,
    masked: u64,
    staleness: f64,
    max_staleness: u64,
    busy_seconds: f64,
    updates: u64,
    evaluations: Vec<EvaluationResult>,
}

impl Totals {
    /// Reads every result of `records` and every evaluation of its lineage up to `version`.
    pub(crate) async fn read(
        store: &Store,
        records: &Records,
        config: &RunConfig,
        version: PolicyVersion,
    ) -> Result<Self> {
        let mut totals = Self {
            health: Health::of(config),
            tokens: 0,
            masked: 0,
            staleness: 0.0,
            max_staleness: 0,
            busy_seconds: 0.0,
            updates: 0,
            evaluations: Vec::new(),
        };
        for update in (0..version.0).map(PolicyVersion) {
            if let Some(result) = records.result(update).await? {
                totals.add(&result);
            }
        }
        for at in (0..=version.0).map(PolicyVersion) {
            let path = evaluation_path(&config.learner.policy, at);
            if let Some(evaluation) = store.get_json::<EvaluationResult>(&path).await? {
                totals.evaluations.push(evaluation);
            }
        }
        Ok(totals)
    }

    fn add(&mut self, result: &UpdateResult) {
        let _told_while_it_ran = self.health.updated(result);
        self.updates += 1;
        self.tokens += result.tokens;
        self.masked += result.masked_tokens;
        self.staleness += result.mean_staleness * result.tokens as f64;
        self.max_staleness = self.max_staleness.max(result.max_staleness);
        self.busy_seconds += result.update_seconds + result.record_seconds;
    }

    /// Puts it all together.
    pub(crate) fn summary(&self, parts: &Parts<'_>) -> Summary {
        let share = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        let accuracy = |evaluation: &EvaluationResult| evaluation.sampled_accuracy;
        let mean =
            |of: Vec<f64>| (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64);
        let regular = self.evaluations.iter().filter(|evaluation| {
            parts.evaluate_every > 0 && evaluation.version.0.is_multiple_of(parts.evaluate_every)
        });
        let last4 = self
            .evaluations
            .iter()
            .rev()
            .take(4)
            .map(accuracy)
            .collect();
        let tokens = self.tokens as f64;
        let counts = &parts.tally.account.total;
        Summary {
            updates: parts.version.0,
            finished: parts.finished,
            initial_accuracy: self
                .evaluations
                .first()
                .filter(|first| first.version == PolicyVersion::ZERO)
                .map(accuracy),
            final_accuracy: self.evaluations.last().map(accuracy),
            accuracy_auc: mean(regular.map(accuracy).collect()),
            accuracy_last4: mean(last4),
            eval_samples: self
                .evaluations
                .last()
                .map_or(0, |evaluation| evaluation.samples),
            produced: counts.produced,
            trained: counts.trained,
            in_flight: counts.in_flight,
            rejected: counts.rejected.clone(),
            lost: counts.lost,
            balanced: counts.balances(),
            archived_rows: parts.tally.archived_rows,
            mean_staleness: share(self.staleness, tokens),
            max_staleness: self.max_staleness,
            masked_share: share(self.masked as f64, tokens),
            weights_sha256: parts.weights_sha256,
            seconds: parts.seconds,
            training_seconds: parts.training_seconds,
            update_seconds: share(self.busy_seconds, self.updates as f64),
            idle_updates: self.health.idle_updates(),
            warnings: self.health.summary(),
            standstill: None,
        }
    }
}

/// What a summary takes from elsewhere.
pub(crate) struct Parts<'a> {
    pub(crate) version: PolicyVersion,
    pub(crate) finished: bool,
    pub(crate) evaluate_every: u64,
    pub(crate) tally: &'a Tally,
    pub(crate) weights_sha256: Sha256,
    pub(crate) seconds: f64,
    pub(crate) training_seconds: f64,
}
