//! The conservation identity of a learner: produced = trained + rejected + in flight + lost.
//!
//! Each side is counted from its own record. `produced` comes from the producers' journals of
//! acknowledged numbers and from the log; `trained` and `rejected` from the plans; `in_flight`
//! is what the archive holds and no plan names; `lost` is an acknowledged number that nothing
//! holds. Of a producer whose journal is not at hand (it ran elsewhere), the numbers up to the
//! largest one in the log count as acknowledged, since producers number without gaps. With a
//! journal that would be too strict: a producer killed with several groups on their way may
//! leave a number below its last that the log never acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vintage_control::{Plan, PolicyVersion, RejectReason};
use vintage_learner::Records;

use crate::Result;

/// Numbers of groups by producer life.
pub type Numbers = BTreeMap<String, BTreeSet<u64>>;

/// What the log holds, as its archive tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Numbered groups.
    pub numbers: Numbers,
    /// The update each numbered group was sampled for, where it was for one.
    pub batches: BTreeMap<(String, u64), i64>,
    /// Records without a readable number: foreign or broken, each counts as one group.
    pub unnumbered: u64,
    /// Trajectory rows.
    pub rows: u64,
}

/// What the plans of a learner say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// Groups trained, counted once for each time a plan names them.
    pub trained: u64,
    /// Their numbers.
    pub trained_numbers: Numbers,
    /// Groups rejected, by reason; duplicates apart.
    pub rejected: BTreeMap<String, u64>,
    /// The numbers of those that have one.
    pub rejected_numbers: Numbers,
    /// Second copies of a group, which count on neither side.
    pub duplicates: u64,
}

/// The identity's terms, in groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Acknowledged by the log, or found in it.
    pub produced: u64,
    /// Named by a plan as trained.
    pub trained: u64,
    /// Named by a plan as rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// In the archive and in no plan.
    pub in_flight: u64,
    /// Acknowledged and nowhere.
    pub lost: u64,
    /// Second copies met.
    pub duplicates: u64,
}

impl Tally {
    /// Puts the counts together.
    pub fn new(acknowledged: &Numbers, held: &Held, planned: &Planned) -> Self {
        let acknowledged = with_assumed(acknowledged, &held.numbers);
        let all = union(&acknowledged, &held.numbers);
        let accounted = union(&planned.trained_numbers, &planned.rejected_numbers);
        let rejected: u64 = planned.rejected.values().sum();
        let rejected_unnumbered = rejected - count(&planned.rejected_numbers);
        let waiting_unnumbered = held.unnumbered.saturating_sub(rejected_unnumbered);
        Self {
            produced: count(&all) + held.unnumbered,
            trained: planned.trained,
            rejected: planned.rejected.clone(),
            in_flight: missing(&held.numbers, &accounted) + waiting_unnumbered,
            lost: missing(&acknowledged, &held.numbers),
            duplicates: planned.duplicates,
        }
    }

    /// Whether the identity holds.
    pub fn balances(&self) -> bool {
        let rejected: u64 = self.rejected.values().sum();
        self.produced == self.trained + rejected + self.in_flight + self.lost
    }
}

impl Planned {
    /// Adds one plan.
    pub fn add(&mut self, plan: &Plan) {
        for group in &plan.groups {
            self.trained += 1;
            let numbers = self
                .trained_numbers
                .entry(group.producer.clone())
                .or_default();
            numbers.insert(group.producer_seq);
        }
        for rejection in &plan.rejections {
            if rejection.reason == RejectReason::Duplicate {
                self.duplicates += 1;
                continue;
            }
            if let (Some(producer), Some(seq)) = (&rejection.producer, rejection.producer_seq) {
                let numbers = self.rejected_numbers.entry(producer.clone()).or_default();
                if !numbers.insert(seq) {
                    // Another part of a group that was rejected already.
                    self.duplicates += 1;
                    continue;
                }
            }
            *self
                .rejected
                .entry(rejection.reason.as_str().to_owned())
                .or_default() += 1;
        }
    }

    /// Reads every plan of a learner.
    pub async fn read(records: &Records) -> Result<Self> {
        let mut planned = Self::default();
        let mut version = PolicyVersion::ZERO;
        while let Some(plan) = records.plan(version).await? {
            planned.add(&plan);
            version = version.next();
        }
        Ok(planned)
    }
}

fn union(a: &Numbers, b: &Numbers) -> Numbers {
    let mut all = a.clone();
    for (producer, numbers) in b {
        all.entry(producer.clone()).or_default().extend(numbers);
    }
    all
}

fn count(numbers: &Numbers) -> u64 {
    numbers.values().map(|numbers| numbers.len() as u64).sum()
}

/// How many of `these` are not among `those`.
fn missing(these: &Numbers, those: &Numbers) -> u64 {
    let none = BTreeSet::new();
    let absent = |(producer, numbers): (&String, &BTreeSet<u64>)| {
        numbers
            .difference(those.get(producer).unwrap_or(&none))
            .count() as u64
    };
    these.iter().map(absent).sum()
}

/// The journals, and for producers without one every number up to their last in the log.
fn with_assumed(journals: &Numbers, held: &Numbers) -> Numbers {
    let mut acknowledged = journals.clone();
    for (producer, numbers) in held {
        if let (false, Some(&last)) = (journals.contains_key(producer), numbers.last()) {
            acknowledged.insert(producer.clone(), (0..=last).collect());
        }
    }
    acknowledged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(producer: &str, numbers: impl IntoIterator<Item = u64>) -> Numbers {
        Numbers::from([(producer.to_owned(), numbers.into_iter().collect())])
    }

    fn held(numbers: Numbers) -> Held {
        Held {
            numbers,
            ..Held::default()
        }
    }

    fn planned(trained: Numbers) -> Planned {
        Planned {
            trained: count(&trained),
            trained_numbers: trained,
            ..Planned::default()
        }
    }

    #[test]
    fn a_clean_run_balances() {
        let tally = Tally::new(
            &numbers("p", 0..10),
            &held(numbers("p", 0..10)),
            &planned(numbers("p", 0..8)),
        );
        assert_eq!(
            (tally.produced, tally.trained, tally.in_flight, tally.lost),
            (10, 8, 2, 0)
        );
        assert!(tally.balances());
    }

    #[test]
    fn what_died_with_the_broker_is_lost() {
        let tally = Tally::new(
            &numbers("p", 0..10),
            &held(numbers("p", 0..7)),
            &planned(numbers("p", 0..7)),
        );
        assert_eq!((tally.produced, tally.lost), (10, 3));
        assert!(tally.balances());
    }

    #[test]
    fn an_acknowledgement_that_was_not_noted_is_no_loss() {
        let tally = Tally::new(
            &numbers("p", 0..6),
            &held(numbers("p", 0..7)),
            &planned(numbers("p", 0..7)),
        );
        assert_eq!((tally.produced, tally.lost), (7, 0));
        assert!(tally.balances());
    }

    #[test]
    fn a_group_trained_twice_breaks_the_identity() {
        let mut twice = planned(numbers("p", 0..7));
        twice.trained += 1;
        assert!(!Tally::new(&numbers("p", 0..7), &held(numbers("p", 0..7)), &twice).balances());
    }

    #[test]
    fn without_a_journal_a_hole_in_the_log_is_lost() {
        let log = held(numbers("p", [0, 1, 3]));
        let tally = Tally::new(&Numbers::new(), &log, &planned(numbers("p", [0, 1, 3])));
        assert_eq!((tally.produced, tally.lost), (4, 1));
        assert!(tally.balances());
    }

    #[test]
    fn with_a_journal_a_number_never_acknowledged_is_no_loss() {
        let log = held(numbers("p", [0, 1, 3]));
        let tally = Tally::new(
            &numbers("p", [0, 1, 3]),
            &log,
            &planned(numbers("p", [0, 1, 3])),
        );
        assert_eq!((tally.produced, tally.lost), (3, 0));
        assert!(tally.balances());
    }
}
