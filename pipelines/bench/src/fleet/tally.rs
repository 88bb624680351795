//! Counts of a simulated run, and what they say.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use serde::Serialize;
use vintage_control::{Grants, Rejection};

use super::{network::Busy, stopwatch::Measured};
use crate::error::{Error, Result};

/// Outcome of a simulated run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Number of producers that there were at any time.
    pub producers: usize,
    /// Virtual time of the run, in seconds.
    pub seconds: f64,
    /// Number of updates done.
    pub updates: u64,
    /// Number of updates per virtual second.
    pub updates_per_second: f64,
    /// Number of groups trained per virtual second.
    pub groups_per_second: f64,
    /// Share of the producers' time in which they did not sample.
    pub idle_share: f64,
    /// Share of the producers' time in which they loaded weights.
    pub loading_share: f64,
    /// Staleness of the groups trained.
    pub staleness: Staleness,
    /// Traffic of grants and reports.
    pub control: Control,
    /// Account of all groups.
    pub books: Books,
    /// Busy share of every part, largest first.
    pub busy: Vec<Busy>,
    /// Part that is busy for the largest share of the run.
    pub bottleneck: &'static str,
    /// Real time of the program's own code.
    pub measured: Measured,
}

/// Staleness of the groups trained, in updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Staleness {
    /// Mean over the groups.
    pub mean: f64,
    /// Staleness that 95 % of the groups do not exceed.
    pub p95: u64,
    /// Largest staleness.
    pub max: u64,
    /// Bound of the settings.
    pub bound: u64,
}

/// Traffic of grants and reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Control {
    /// Number of records of grants per update.
    pub grants_per_update: f64,
    /// Bytes of the records of grants per update, as written once.
    pub grant_bytes_per_update: f64,
    /// Number of reports of producers per update.
    pub reports_per_update: f64,
    /// Number of slots that were granted to another producer again.
    pub regranted: u64,
}

/// Account of all groups: begun = published + dropped + in hand, and published = trained + rejected +
/// in flight. Every number is counted in a place of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Groups that producers began.
    pub begun: u64,
    /// Groups that were being sampled when their producer was killed.
    pub dropped: u64,
    /// Groups that are being sampled at the end.
    pub in_hand: u64,
    /// Groups in the log.
    pub published: u64,
    /// Groups in plans.
    pub trained: u64,
    /// Groups that plans reject, by reason. A second group of a slot is `slot_taken`.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Groups that are published and neither trained nor rejected at the end.
    pub in_flight: u64,
}

impl Books {
    /// Checks that every group is accounted for.
    ///
    /// # Errors
    /// [`Error::Failed`] with the books.
    pub fn balance(&self) -> Result<()> {
        let rejected: u64 = self.rejected.values().sum();
        if self.begun == self.published + self.dropped + self.in_hand
            && self.published == self.trained + rejected + self.in_flight
        {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "the books of the fleet do not balance: {self:?}"
        )))
    }
}

/// Counts during the run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Number of groups trained, by staleness.
    staleness: BTreeMap<u64, u64>,
    rejected: BTreeMap<&'static str, u64>,
    pub(super) grants: u64,
    pub(super) grant_bytes: u64,
    pub(super) reports: u64,
    regranted: u64,
    holders: HashMap<u64, usize>,
}

impl Tally {
    pub(super) fn train(&mut self, staleness: u64) {
        *self.staleness.entry(staleness).or_default() += 1;
    }

    pub(super) fn reject(&mut self, rejections: &[Rejection]) {
        for rejection in rejections {
            *self.rejected.entry(rejection.reason.as_str()).or_default() += 1;
        }
    }

    /// Counts a record of grants for the producer of this number.
    pub(super) fn grant(&mut self, grants: &Grants, producer: usize, bytes: usize) {
        self.grants += 1;
        self.grant_bytes += bytes as u64;
        for lease in &grants.leases {
            match self.holders.entry(lease.slot.0) {
                Entry::Vacant(new) => {
                    new.insert(producer);
                }
                Entry::Occupied(mut held) => {
                    self.regranted += u64::from(held.insert(producer) != producer);
                }
            }
        }
    }

    pub(super) fn trained(&self) -> u64 {
        self.staleness.values().sum()
    }

    pub(super) fn rejected(&self) -> BTreeMap<&'static str, u64> {
        self.rejected.clone()
    }

    pub(super) fn staleness(&self, bound: u64) -> Staleness {
        let trained = self.trained();
        let sum: u64 = self
            .staleness
            .iter()
            .map(|(age, groups)| age * groups)
            .sum();
        let mut counted = 0;
        let p95 = self.staleness.iter().find(|(_, groups)| {
            counted += **groups;
            counted * 20 >= trained * 19
        });
        Staleness {
            mean: sum as f64 / trained.max(1) as f64,
            p95: p95.map_or(0, |(age, _)| *age),
            max: self.staleness.last_key_value().map_or(0, |(age, _)| *age),
            bound,
        }
    }

    pub(super) fn control(&self, updates: u64) -> Control {
        let each = |count: u64| count as f64 / updates.max(1) as f64;
        Control {
            grants_per_update: each(self.grants),
            grant_bytes_per_update: each(self.grant_bytes),
            reports_per_update: each(self.reports),
            regranted: self.regranted,
        }
    }
}
