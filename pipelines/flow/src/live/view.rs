//! Answer of `/live.json`.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use vintage_bus::Lag;
use vintage_trajectory::Excerpt;

/// Words for what a process does, or as the error for what is wrong.
pub(crate) type Verdict = Result<String, String>;

/// State of one process of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct View {
    /// Version of the program.
    pub(super) program: &'static str,
    pub(super) run: String,
    pub(super) learner: String,
    pub(super) role: &'static str,
    pub(super) phase: Option<String>,
    /// Steps done and to do.
    pub(super) warm_start: Option<(u64, u64)>,
    pub(super) uptime_seconds: f64,
    pub(crate) doing: String,
    pub(crate) health: Answer,
    pub(crate) ready: Answer,
    /// Line of the standstill detection, if the process is in one.
    pub(crate) standstill: Option<String>,
    /// `None` in a process without a learner.
    pub(super) updates: Option<Updates>,
    pub(super) points: VecDeque<Point>,
    /// Groups that updates of this process trained.
    pub(super) trained: u64,
    /// Groups that plans of this process reject, by reason.
    pub(super) rejected: BTreeMap<&'static str, u64>,
    /// Updates of this process that changed nothing, by reason.
    pub(super) idle: BTreeMap<&'static str, u64>,
    pub(super) lag: Vec<LagView>,
    pub(super) producers: Vec<Producing>,
    pub(super) archived: Option<Archived>,
    pub(super) evaluated: Option<Evaluated>,
    /// Newest first.
    pub(super) rollouts: VecDeque<RolloutView>,
    pub(super) warnings: VecDeque<String>,
}

/// Verdict with its words.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Answer {
    ok: bool,
    text: String,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        let ok = verdict.is_ok();
        let (Ok(text) | Err(text)) = verdict;
        Self { ok, text }
    }
}

/// Progress of a learner.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Updates {
    pub(super) done: u64,
    pub(super) of: u64,
    pub(super) per_second: f64,
    pub(super) tokens_per_second: f64,
}

/// One update of the curves.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    pub(super) update: u64,
    pub(super) reward: f64,
    /// Mean over tokens.
    pub(super) staleness: f64,
    pub(super) max_staleness: u64,
    pub(super) wait_seconds: f64,
    pub(super) update_seconds: f64,
}

/// Lag of one reader in the topic of rollouts.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct LagView {
    pub(super) reader: String,
    /// Number of partitions it reads.
    pub(super) partitions: u64,
    /// Records it has not read, in all of them.
    pub(super) records: u64,
}

impl LagView {
    /// Adds up the lags of the partitions of each reader, in the order of the readers.
    pub(super) fn by_reader(lags: Vec<Lag>) -> Vec<Self> {
        let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for lag in lags {
            let (partitions, records) = sums.entry(lag.reader).or_default();
            *partitions += 1;
            *records += lag.records;
        }
        let view = |(reader, (partitions, records))| Self {
            reader,
            partitions,
            records,
        };
        sums.into_iter().map(view).collect()
    }
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Producing {
    pub(super) name: String,
    pub(super) doing: String,
    /// True if its reports are overdue.
    pub(super) silent: bool,
    pub(super) silent_seconds: f64,
    /// Leases whose groups are not in the log yet.
    pub(super) held: Option<u64>,
    /// Leases it can hold.
    pub(super) capacity: Option<u64>,
    pub(super) groups: u64,
    pub(super) groups_per_second: Option<f64>,
}

/// Counts of the archive in this process.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Archived {
    pub(super) records: u64,
    pub(super) quarantined: BTreeMap<&'static str, u64>,
}

/// Newest evaluation.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Evaluated {
    pub(super) version: u64,
    /// Name of the measure.
    pub(super) measured: &'static str,
    /// Value at temperature 1, as text.
    pub(super) sampled: String,
    /// Value of the likeliest completions, as text.
    pub(super) greedy: String,
}

/// One rollout as text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RolloutView {
    pub(super) prompt: String,
    pub(super) answer: Option<String>,
    pub(super) completion: String,
    pub(super) reward: f32,
    pub(super) tokens: u64,
    pub(super) versions: Vec<VersionSpan>,
    /// Update that trains it, where a learner reports it.
    pub(super) trained_by: Option<u64>,
}

/// Consecutive tokens that one version sampled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct VersionSpan {
    pub(super) version: u64,
    /// First token.
    pub(super) from: u64,
    /// First token after it.
    pub(super) to: u64,
}

impl RolloutView {
    pub(super) fn new(excerpt: &Excerpt, trained_by: Option<u64>) -> Self {
        let ends = excerpt.spans.iter().skip(1);
        let ends = ends.map(|next| u64::from(next.start.unsigned_abs()));
        let ends = ends.chain([excerpt.tokens]);
        let spans = excerpt.spans.iter().zip(ends);
        let versions = spans.map(|(span, to)| VersionSpan {
            version: span.version.0,
            from: u64::from(span.start.unsigned_abs()),
            to,
        });
        Self {
            prompt: excerpt.prompt.clone(),
            answer: excerpt.answer.clone(),
            completion: excerpt.completion.clone(),
            reward: excerpt.reward,
            tokens: excerpt.tokens,
            versions: versions.collect(),
            trained_by,
        }
    }
}
