//! Records of one partition, from archive and log.

use std::ops::Range;

use vintage_control::{Incarnation, Offset, Partition, Sha256};

use crate::findings::Findings;

/// Partition of one incarnation of the topic.
pub(crate) type PartitionId = (Incarnation, Partition);

/// Record without its tokens.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    /// Index of its group in the inventory.
    pub(crate) group: u32,
    /// Part i of n, from 1.
    pub(crate) part: (u32, u32),
    /// Group id in its headers.
    pub(crate) id: Option<[u8; 16]>,
    /// Number of rows; `None` if the record cannot be decoded.
    pub(crate) rows: Option<u32>,
    pub(crate) crc32c: Option<u32>,
    /// Digest of its content; computed by a deep audit only.
    pub(crate) content: Option<Sha256>,
    pub(crate) archived: bool,
    pub(crate) live: bool,
    /// True if an earlier record has the same part of the same group.
    pub(crate) surplus: bool,
}

/// State of the record at an offset.
#[derive(Debug)]
pub(crate) enum RecordState<'a> {
    /// Present: the record's index in its partition, and the record.
    Present(usize, &'a Record),
    /// Absent although archive or log reach beyond the offset.
    Missing,
    /// Covered by an archive file that cannot be read.
    Unreadable,
    /// Deleted by retention before an archive began, or by `vintage prune`.
    Expired,
    /// Beyond everything that was read.
    Beyond,
}

/// Records of a partition of one incarnation of the topic.
#[derive(Debug, Default)]
pub(crate) struct PartitionRecords {
    /// Archived records, sorted by offset; all records once the inventory is closed.
    records: Vec<Record>,
    /// Records that only the log has; empty once the inventory is closed.
    only_live: Vec<Record>,
    /// Offsets that the archive covers, with adjacent files joined.
    claimed: Vec<Range<i64>>,
    /// Offset at which the archive was begun; records missing after it were not deleted by
    /// retention.
    pub(crate) begun: Option<i64>,
    /// Offset before which `vintage prune` deleted the archive.
    pub(crate) pruned: Option<i64>,
    /// Offsets that the topic holds.
    pub(crate) live: Option<Range<i64>>,
    /// Offsets of archive files that cannot be read.
    pub(crate) unreadable: Vec<Range<i64>>,
}

impl PartitionRecords {
    pub(super) fn claim(&mut self, offsets: Range<i64>) {
        match self.claimed.last_mut() {
            Some(last) if last.end == offsets.start => last.end = offsets.end,
            _ => self.claimed.push(offsets),
        }
    }

    /// Adds an archived record; returns `false` if there is already one at its offset.
    pub(super) fn archive(&mut self, mut record: Record) -> bool {
        record.archived = true;
        let at = self.records.partition_point(|r| r.offset < record.offset);
        let free = self
            .records
            .get(at)
            .is_none_or(|r| r.offset != record.offset);
        if free {
            self.records.insert(at, record);
        }
        free
    }

    pub(super) fn archived_at(&mut self, offset: Offset) -> Option<&mut Record> {
        let at = self.find(offset.0)?;
        self.records.get_mut(at)
    }

    pub(super) fn add_live(&mut self, mut record: Record) {
        record.live = true;
        self.only_live.push(record);
    }

    /// Joins the records of log and archive, and compares them where both should have the same.
    pub(super) fn close(&mut self, (incarnation, partition): PartitionId, findings: &mut Findings) {
        let where_it_is = format!("incarnation {incarnation} partition {partition}");
        for record in &self.only_live {
            if self.is_claimed(record.offset) && !self.is_unreadable(record.offset) {
                findings.breach("records the archive claims and does not hold", || {
                    let offset = record.offset;
                    format!(
                        "{where_it_is} offset {offset}: the log holds a record, and the archive \
                         claims the offset and does not"
                    )
                });
            }
        }
        if let Some(live) = self.live.clone() {
            for record in &self.records {
                if live.contains(&record.offset) && !record.live {
                    findings.breach("archived records the log does not hold", || {
                        let offset = record.offset;
                        format!(
                            "{where_it_is} offset {offset}: the archive holds a record, the log \
                             has none there: the topic was rewritten"
                        )
                    });
                }
            }
            if let Some(archived) = self.claimed.last().map(|last| last.end) {
                if archived > live.end {
                    findings.breach("the log ends before its archive", || {
                        format!(
                            "{where_it_is}: the archive reaches offset {archived}, the log ends \
                             at {}: the topic was recreated or truncated",
                            live.end
                        )
                    });
                } else if archived < live.start {
                    findings.breach("records expired before they were archived", || {
                        format!(
                            "{where_it_is}: the archive ends at offset {archived}, the log now \
                             begins at {}: retention deleted what is between unarchived",
                            live.start
                        )
                    });
                }
            }
        }
        self.records.append(&mut self.only_live);
        self.records.sort_by_key(|record| record.offset);
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn records_mut(&mut self) -> &mut [Record] {
        &mut self.records
    }

    pub(crate) fn state_of(&self, offset: i64) -> RecordState<'_> {
        if let Some(at) = self.find(offset) {
            return RecordState::Present(at, &self.records[at]);
        }
        if self.is_unreadable(offset) {
            return RecordState::Unreadable;
        }
        if offset < self.start() || self.pruned.is_some_and(|pruned| offset < pruned) {
            return RecordState::Expired;
        }
        let ends = self.claimed.iter().chain(&self.live).map(|held| held.end);
        if ends.max().is_some_and(|end| offset < end) {
            return RecordState::Missing;
        }
        RecordState::Beyond
    }

    /// Returns the first offset that archive or log should hold.
    pub(crate) fn start(&self) -> i64 {
        let first = self.claimed.first().map(|range| range.start);
        let archived = self.begun.or(first);
        let live = self.live.as_ref().map(|live| live.start);
        archived.into_iter().chain(live).min().unwrap_or(0)
    }

    fn is_claimed(&self, offset: i64) -> bool {
        self.claimed.iter().any(|range| range.contains(&offset))
    }

    fn is_unreadable(&self, offset: i64) -> bool {
        self.unreadable.iter().any(|range| range.contains(&offset))
    }

    fn find(&self, offset: i64) -> Option<usize> {
        self.records
            .binary_search_by_key(&offset, |record| record.offset)
            .ok()
    }
}
