//! Per partition: what was received, what of it is done, where to resume.

use std::collections::BTreeMap;

use vintage_control::{Incarnation, Offset, Partition, PartitionResume, RecordId};

use crate::{Error, Result};

#[derive(Debug, Clone, Copy)]
struct Received {
    crc32c: u32,
    done: bool,
}

#[derive(Debug, Default)]
struct Cursor {
    /// First offset not received.
    next: Offset,
    /// Offsets that were done before this process started.
    done_before: std::collections::BTreeSet<Offset>,
    /// Checksum the record before `next` had when the checkpoint was written.
    expected_before: Option<u32>,
    /// Records from just before the resume point on.
    received: BTreeMap<Offset, Received>,
}

impl Cursor {
    fn resume(&self) -> Offset {
        let open = self.received.iter().find(|(_, received)| !received.done);
        open.map_or(self.next, |(offset, _)| *offset)
    }

    /// Forgets all but the last record before the resume point.
    fn prune(&mut self) {
        let resume = self.resume();
        if let Some((&last, _)) = self.received.range(..resume).next_back() {
            self.received = self.received.split_off(&last);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Cursors(BTreeMap<(Incarnation, Partition), Cursor>);

impl Cursors {
    pub(super) fn new(partitions: &[PartitionResume]) -> Self {
        let cursor = |at: &PartitionResume| Cursor {
            next: at.resume,
            done_before: at.done.iter().copied().collect(),
            expected_before: at.crc32c_before,
            received: BTreeMap::new(),
        };
        Self(
            partitions
                .iter()
                .map(|at| ((at.incarnation, at.partition), cursor(at)))
                .collect(),
        )
    }

    /// Notes a record; `false` if it needs no further look: it was done before, or is the one
    /// before the resume point, re-read to see that the topic is still the same.
    pub(super) fn receive(&mut self, record: RecordId, crc32c: u32) -> Result<bool> {
        let cursor = self
            .0
            .entry((record.incarnation, record.partition))
            .or_default();
        if record.offset < cursor.next {
            if record.offset.next() == cursor.next
                && let Some(expected) = cursor.expected_before
                && expected != crc32c
            {
                let record = RecordId {
                    offset: cursor.next,
                    ..record
                };
                return Err(Error::TopicRewritten {
                    record,
                    found: Some(crc32c),
                    expected,
                });
            }
            if cursor.received.is_empty() && record.offset.next() == cursor.next {
                cursor
                    .received
                    .insert(record.offset, Received { crc32c, done: true });
            }
            return Ok(false);
        }
        let done = cursor.done_before.remove(&record.offset);
        cursor
            .received
            .insert(record.offset, Received { crc32c, done });
        cursor.next = record.offset.next();
        if done {
            cursor.prune();
        }
        Ok(!done)
    }

    /// Whether the record came, or was done before this process started.
    pub(super) fn received(&self, record: RecordId) -> bool {
        self.0
            .get(&(record.incarnation, record.partition))
            .is_some_and(|cursor| record.offset < cursor.next)
    }

    pub(super) fn finish(&mut self, records: &[RecordId]) {
        for record in records {
            let key = (record.incarnation, record.partition);
            let Some(cursor) = self.0.get_mut(&key) else {
                continue;
            };
            if let Some(received) = cursor.received.get_mut(&record.offset) {
                received.done = true;
            }
            cursor.prune();
        }
    }

    pub(super) fn resume_points(&self) -> Vec<PartitionResume> {
        self.0
            .iter()
            .map(|(&(incarnation, partition), cursor)| {
                let resume = cursor.resume();
                let before = cursor.received.get(&Offset(resume.0 - 1));
                let done = cursor
                    .received
                    .range(resume..)
                    .filter(|(_, received)| received.done);
                PartitionResume {
                    incarnation,
                    partition,
                    resume,
                    done: done
                        .map(|(offset, _)| *offset)
                        .chain(cursor.done_before.iter().copied())
                        .collect(),
                    crc32c_before: match before {
                        Some(received) => Some(received.crc32c),
                        // Nothing received yet: what the checkpoint said still holds.
                        None if cursor.received.is_empty() => cursor.expected_before,
                        None => None,
                    },
                }
            })
            .collect()
    }
}
