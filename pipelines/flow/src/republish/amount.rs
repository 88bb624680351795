//! Size of what a replay took or published.

use serde::Serialize;
use vintage_control::RecordId;

/// Number of whole groups, with their records and rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CopiedAmount {
    /// Number of prompt groups.
    pub groups: u64,
    /// Number of Kafka records.
    pub records: u64,
    /// Number of trajectories.
    pub rows: u64,
}

impl CopiedAmount {
    /// Adds records of a group, each with its rows; with `whole`, also the group itself.
    pub(super) fn add(&mut self, heads: &[(RecordId, u64)], whole: bool) {
        self.groups += u64::from(whole);
        self.records += heads.len() as u64;
        self.rows += heads.iter().map(|(_, rows)| rows).sum::<u64>();
    }
}
