//! Counts of the records that a selection takes and of those that it does not.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::select::RefusedBy;

/// Counts of records by what a selection did with them; each record of the archive is counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SelectionCounts {
    /// Records met so far, taken or not.
    pub records: u64,
    /// Records of groups that a filter refused, by filter.
    pub skipped: BTreeMap<RefusedBy, u64>,
    /// Records that could not be decoded when they were archived.
    pub quarantined: u64,
    /// Records that repeat a producer's number, and repeated parts of a group.
    pub duplicates: u64,
    /// Records that are parts of groups of which other parts are missing or contradict them.
    pub incomplete: u64,
}

impl SelectionCounts {
    pub(crate) fn skip(&mut self, filtered: RefusedBy, records: u64) {
        *self.skipped.entry(filtered).or_default() += records;
    }
}
