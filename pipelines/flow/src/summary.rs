//! Summary of a run, computed from its results, evaluations and counts.

use std::collections::{BTreeMap, BTreeSet};
use vintage_settings::RunConfig;

use serde::{Deserialize, Serialize};
use vintage_control::{EvaluationResult, PolicyVersion, Sha256, UpdateResult};
use vintage_store::evaluation_path;
use vintage_store::{Records, Store};

use vintage_audit::Tally;

use crate::{error::Result, health::Health};

/// Result of a run: the object that `vintage run --output json` prints, and `summary.json` in the
/// folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Number of updates done.
    pub updates: u64,
    /// True if all configured updates are done.
    pub finished: bool,
    /// Sampled accuracy of version 0 on held-out prompts; `None` if it was not evaluated.
    pub initial_accuracy: Option<f64>,
    /// Sampled accuracy of the last evaluated version on held-out prompts.
    pub final_accuracy: Option<f64>,
    /// Greedy accuracy of version 0 on held-out prompts; absent from summaries of earlier builds, as
    /// are the next two.
    #[serde(default)]
    pub initial_greedy_accuracy: Option<f64>,
    /// Greedy accuracy of the last evaluated version on held-out prompts.
    #[serde(default)]
    pub final_greedy_accuracy: Option<f64>,
    /// True if a program gave the rewards: the accuracies are then mean rewards.
    #[serde(default)]
    pub judged_by_program: bool,
    /// Mean sampled accuracy over evaluations at multiples of `evaluation.every`.
    pub accuracy_auc: Option<f64>,
    /// Mean sampled accuracy over the last four evaluations, the "final" accuracy of the yardstick.
    pub accuracy_last4: Option<f64>,
    /// Number of held-out prompts in an evaluation.
    pub eval_samples: u64,
    /// Number of groups that the log acknowledged.
    pub produced: u64,
    /// Number of groups trained.
    pub trained: u64,
    /// Number of groups archived and neither trained nor rejected yet.
    pub in_flight: u64,
    /// Number of groups rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Number of groups that the log acknowledged and that are found nowhere.
    pub lost: u64,
    /// True if produced = trained + rejected + in flight + lost.
    pub balanced: bool,
    /// Number of trajectory rows in the archive.
    pub archived_rows: u64,
    /// Mean staleness of trained tokens, in updates.
    pub mean_staleness: f64,
    /// Maximum staleness of a trained token, in updates.
    pub max_staleness: u64,
    /// Share of trained tokens that the algorithm masked or clipped, 0 to 1.
    pub masked_share: f64,
    /// SHA-256 of the last version's `model.safetensors`.
    pub weights_sha256: Sha256,
    /// Wall time of the whole command in seconds, for this process only.
    pub seconds: f64,
    /// Wall time of training in seconds, for this process only.
    pub training_seconds: f64,
    /// Mean time to compute and record an update, in seconds.
    pub update_seconds: f64,
    /// Number of updates that changed nothing, by reason; absent from summaries of earlier builds.
    #[serde(default)]
    pub idle_updates: BTreeMap<String, u64>,
    /// Warnings about the run: updates that left the range the algorithm was designed for, and
    /// updates from which nothing could be learned.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Line that says what this process waited for when it was stopped, if it made no progress.
    /// Part of the command's output, never of the folder's `summary.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standstill: Option<String>,
}

/// Totals over the results and evaluations of a learner.
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
    /// Reads every result of `records` and every evaluation of its policy, up to `version`.
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
        let mut results = records.results(0..version.0);
        for _ in 0..version.0 {
            if let Some(result) = results.next().await? {
                totals.add(&result);
            }
        }
        // Few versions are evaluated: asking for each would be as many requests as updates.
        let policy = &config.learner.policy;
        let listed = store.list(&format!("evaluations/{policy}")).await?;
        let evaluated: BTreeSet<_> = listed.into_iter().collect();
        for at in (0..=version.0).map(PolicyVersion) {
            let path = evaluation_path(policy, at);
            if evaluated.contains(&path)
                && let Some(evaluation) = store.get_json::<EvaluationResult>(&path).await?
            {
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

    /// Computes the summary from the totals and `parts`.
    pub(crate) fn summary(&self, parts: &SummaryInputs<'_>) -> Summary {
        let share = |of: f64, all: f64| if all > 0.0 { of / all } else { 0.0 };
        let accuracy = |evaluation: &EvaluationResult| evaluation.sampled_accuracy;
        let greedy = |evaluation: &EvaluationResult| evaluation.greedy_accuracy;
        let first = self.evaluations.first();
        let initial = first.filter(|first| first.version == PolicyVersion::ZERO);
        let last = self.evaluations.last();
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
            initial_accuracy: initial.map(accuracy),
            final_accuracy: last.map(accuracy),
            initial_greedy_accuracy: initial.map(greedy),
            final_greedy_accuracy: last.map(greedy),
            judged_by_program: parts.judged_by_program,
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

/// Parts of a summary that do not come from results and evaluations.
pub(crate) struct SummaryInputs<'a> {
    pub(crate) version: PolicyVersion,
    pub(crate) finished: bool,
    pub(crate) evaluate_every: u64,
    pub(crate) judged_by_program: bool,
    pub(crate) tally: &'a Tally,
    pub(crate) weights_sha256: Sha256,
    pub(crate) seconds: f64,
    pub(crate) training_seconds: f64,
}
