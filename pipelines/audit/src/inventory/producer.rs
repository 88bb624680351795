//! Producers, and the numbers that they gave to no record that was found.

use vintage_control::NumberSet;

/// Maximum number of missing numbers reported for a producer, 2^53: no producer numbers this far,
/// and JSON readers count no further. A forged number could leave more below itself.
const MOST_MISSING: u64 = 1 << 53;

/// Producer process and its numbers.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) name: String,
    /// True if the producer's own journal is available.
    pub(crate) journal: bool,
    /// Largest number on a decodable message.
    pub(crate) last: Option<u64>,
    /// Numbers on records and in its journal.
    pub(super) numbers: NumberSet,
    /// Number of records that name this producer without a readable number; each is taken for one
    /// of its missing numbers.
    pub(super) unnumbered: u64,
}

/// Missing numbers of a producer: below its last one, and on no record.
#[derive(Debug, Default)]
pub(crate) struct MissingNumbers {
    /// Number of missing numbers.
    pub(crate) all: u64,
    /// Missing numbers that are explained by records whose headers give only half of their number.
    pub(crate) found: u64,
    /// First few runs of missing numbers, as first and last.
    pub(crate) runs: Vec<(u64, u64)>,
}

impl Producer {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            journal: false,
            last: None,
            numbers: NumberSet::default(),
            unnumbered: 0,
        }
    }

    /// Returns its missing numbers, none of them explained yet.
    pub(super) fn missing_numbers(&self) -> MissingNumbers {
        let mut missing = MissingNumbers::default();
        let Some(last) = self.last.filter(|_| !self.journal) else {
            return missing;
        };
        let mut next = 0;
        for (first, end) in self.numbers.runs() {
            if first > last {
                break;
            }
            if first > next {
                missing.all = missing.all.saturating_add(first - next);
                if missing.runs.len() < 3 {
                    missing.runs.push((next, first - 1));
                }
            }
            next = end.saturating_add(1);
        }
        missing.all = missing.all.min(MOST_MISSING);
        missing
    }
}
