//! Counts of a sink.

use std::collections::BTreeMap;

use vintage_control::{Offset, Partition};

/// Totals of a sink, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkSummary {
    /// Records written, quarantined ones included.
    pub messages: u64,
    /// Trajectory rows written.
    pub rows: u64,
    /// Records written as quarantined.
    pub quarantined: u64,
    /// Files written.
    pub files: u64,
    /// Bytes of the files written.
    pub bytes: u64,
    /// Files that another sink had written first.
    pub races_lost: u64,
    /// Failed tries of store operations that were repeated, by the store's trouble.
    pub blocked: BTreeMap<&'static str, u64>,
    /// First offset not archived, by partition.
    pub committed: BTreeMap<Partition, Offset>,
}

/// Counts of the records that a sink has taken from the log since it started, archived or not yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// Records taken, quarantined ones included.
    pub records: u64,
    /// Records that cannot be decoded, by class.
    pub quarantined: BTreeMap<&'static str, u64>,
}

impl Taken {
    /// Counts a record, under its class if it cannot be decoded.
    pub(crate) fn count(&mut self, quarantined: Option<&'static str>) {
        self.records += 1;
        if let Some(reason) = quarantined {
            *self.quarantined.entry(reason).or_default() += 1;
        }
    }
}
