//! Fairness of a run's selection: what each producer made of groups, tokens, lengths and rewards,
//! and what of it trained.
//!
//! A learner that lets some rollouts pass more easily than others, for example short ones because
//! they arrive earlier, trains on a biased sample. The figures here compare what was produced with
//! what was trained, for each producer and over all.
//!
//! Begin with [`Producers`]. `fates` reads from the plans what became of each record, `census`
//! counts archived messages by fate, `histogram` and `moments` are its fixed-size statistics, `bias`
//! decides when a difference is reported, and `read` streams plans and archive through them.
//!
//! Groups are counted from plans and archive. A group that neither names, because it was lost or is
//! in the log only, is not counted here; `vintage audit` finds it.

pub(crate) mod bias;
pub(crate) mod census;
pub(crate) mod fates;
pub(crate) mod histogram;
pub(crate) mod moments;
pub(crate) mod read;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::AddAssign};

use serde::Serialize;

use self::{bias::Bias, histogram::Histogram};

/// Figures of all producers of a run, for its own learner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Producers {
    /// Figures over all producers.
    pub total: ProducerFigures,
    /// Figures by name of the producer, `unknown` for records whose headers do not name it.
    pub by_producer: BTreeMap<String, ProducerFigures>,
    /// Groups trained from another run's archive; in no other figure.
    pub blended: u64,
    /// Archive files that could not be read, whose rollouts are missing in the figures.
    pub unreadable_files: u64,
    /// Completion lengths over all producers, for the chart.
    #[serde(skip)]
    pub(crate) lengths: Pair<Histogram>,
}

/// Figures of one producer, or of all of them.
///
/// In groups, produced = trained + rejected + in flight + before start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProducerFigures {
    /// Everything that the archive holds or a plan names; second copies are left out.
    pub produced: Amount,
    /// Part that plans train.
    pub trained: Amount,
    /// Part that plans reject, by reason.
    pub rejected: BTreeMap<&'static str, Amount>,
    /// Archived part that no plan names yet.
    pub in_flight: Amount,
    /// Part that precedes the offsets at which the learner began to read; in no comparison.
    pub before_start: Amount,
    /// Groups that a plan names and no readable archive file holds, so that their rollouts and
    /// tokens are not counted.
    pub unarchived: u64,
    /// Share of the produced groups that trained; `None` if nothing was produced.
    pub trained_share: Option<f64>,
    /// Completion lengths in tokens.
    pub length: Compared<Option<Distribution>>,
    /// Mean rewards.
    pub reward: Compared<Option<f64>>,
    /// Staleness of trained rollouts in updates: the version that the update starts from, less the
    /// oldest version that sampled a token of the rollout. For rollouts of a policy that is not the
    /// learner's own it is their lag. `None` if no archived rollout trained.
    pub staleness: Option<Distribution>,
}

/// Number of groups, their rollouts and their completion tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Number of groups.
    pub groups: u64,
    /// Number of rollouts.
    pub rollouts: u64,
    /// Number of completion tokens.
    pub tokens: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.groups += other.groups;
        self.rollouts += other.rollouts;
        self.tokens += other.tokens;
    }
}

/// Figure of the rollouts produced and of those trained, and their difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Compared<T> {
    /// Figure of all rollouts produced since the learner's start.
    pub produced: T,
    /// Figure of the rollouts trained.
    pub trained: T,
    /// Difference of the two means.
    pub bias: Bias,
}

/// Distribution of whole numbers.
///
/// Mean and maximum are exact. Percentiles are exact up to 255; above, they differ by less than
/// 0.4 % from the value of that rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distribution {
    /// Mean.
    pub mean: f64,
    /// Value that a tenth does not exceed.
    pub p10: u64,
    /// Median.
    pub p50: u64,
    /// Value that nine tenths do not exceed.
    pub p90: u64,
    /// Largest value.
    pub max: u64,
}

/// Statistic of the rollouts produced, and of those trained.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pair<T> {
    pub(crate) produced: T,
    pub(crate) trained: T,
}
