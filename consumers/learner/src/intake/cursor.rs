//! Read position of every partition: records received, records done, and the resume point.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{Incarnation, Offset, Partition, PartitionResume, RecordId};

use crate::error::{Error, Result};

/// Status of a record that arrives at the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    /// New record, to be examined.
    New,
    /// Record that was trained or rejected before this process started.
    Done,
    /// Record that arrived before, or that is before this learner's start.
    Again,
}

#[derive(Debug, Clone, Copy)]
struct Received {
    crc32c: u32,
    /// Latest timestamp up to this record, in milliseconds since the epoch.
    clock_ms: Option<i64>,
    done: bool,
    /// True if a later update may train the record's group again, so that a restart must read it.
    kept: bool,
}

#[derive(Debug)]
struct Cursor {
    /// Resume point at which this process began, with the checksum of the record before it.
    start: PartitionResume,
    /// First offset that has not arrived.
    next: Offset,
    /// Latest timestamp that has arrived, in milliseconds since the epoch.
    clock_ms: Option<i64>,
    /// Offsets that were done before this process started and have not arrived again yet.
    done_before: BTreeSet<Offset>,
    /// Offsets that have not arrived again yet, and are kept once they have.
    kept_before: BTreeSet<Offset>,
    /// Records that have arrived, from the last one before the resume point on.
    received: BTreeMap<Offset, Received>,
}

impl Cursor {
    fn new(start: PartitionResume) -> Self {
        Self {
            next: start.resume,
            clock_ms: start.clock_ms,
            done_before: start.done.iter().copied().collect(),
            kept_before: BTreeSet::new(),
            received: BTreeMap::new(),
            start,
        }
    }

    fn resume(&self) -> Offset {
        let needed = |received: &Received| !received.done || received.kept;
        let open = self.received.iter().find(|(_, received)| needed(received));
        open.map_or(self.next, |(offset, _)| *offset)
    }

    /// Forgets all records before the resume point except the last one.
    fn prune(&mut self) {
        let resume = self.resume();
        if let Some((&last, _)) = self.received.range(..resume).next_back() {
            self.received = self.received.split_off(&last);
        }
    }

    /// Returns the checksum of the record at `offset`, if it is known.
    fn expected(&self, offset: Offset) -> Option<u32> {
        match self.received.get(&offset) {
            Some(received) => Some(received.crc32c),
            None if offset.next() == self.start.resume => self.start.crc32c_before,
            None => None,
        }
    }

    fn point(&self, incarnation: Incarnation, partition: Partition) -> PartitionResume {
        let resume = self.resume();
        let at_start = resume == self.start.resume;
        let before = self.received.range(..resume).next_back();
        let beside = before.filter(|(offset, _)| offset.next() == resume);
        let done = self
            .received
            .range(resume..)
            .filter(|(_, received)| received.done)
            .map(|(offset, _)| *offset);
        // Records that are to be read again and have not arrived yet still count as read.
        let read = self
            .start
            .read
            .map_or(self.next, |read| read.max(self.next));
        PartitionResume {
            incarnation,
            partition,
            resume,
            done: done.chain(self.done_before.iter().copied()).collect(),
            crc32c_before: match beside {
                Some((_, received)) => Some(received.crc32c),
                None if at_start => self.start.crc32c_before,
                None => None,
            },
            read: (read > resume).then_some(read),
            clock_ms: match before {
                Some((_, received)) => received.clock_ms,
                None => self.start.clock_ms,
            },
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Cursors(BTreeMap<(Incarnation, Partition), Cursor>);

impl Cursors {
    pub(super) fn new(partitions: &[PartitionResume]) -> Self {
        let cursor =
            |at: &PartitionResume| ((at.incarnation, at.partition), Cursor::new(at.clone()));
        Self(partitions.iter().map(cursor).collect())
    }

    /// Notes a record. A record that arrived before, or the one before the resume point, must have
    /// its old checksum; otherwise the topic was recreated or rewritten.
    pub(super) fn receive(
        &mut self,
        record: RecordId,
        crc32c: u32,
        timestamp_ms: Option<i64>,
    ) -> Result<Receipt> {
        let RecordId {
            incarnation,
            partition,
            offset,
        } = record;
        let cursor = self.0.entry((incarnation, partition)).or_insert_with(|| {
            Cursor::new(PartitionResume::starting(incarnation, partition, Offset(0)))
        });
        if offset < cursor.next {
            let expected = cursor.expected(offset);
            if let Some(expected) = expected.filter(|expected| *expected != crc32c) {
                return Err(Error::TopicRewritten {
                    record: RecordId {
                        offset: offset.next(),
                        ..record
                    },
                    found: Some(crc32c),
                    expected,
                });
            }
            return Ok(Receipt::Again);
        }
        cursor.clock_ms = cursor.clock_ms.max(timestamp_ms);
        let received = Received {
            crc32c,
            clock_ms: cursor.clock_ms,
            done: cursor.done_before.remove(&offset),
            kept: cursor.kept_before.remove(&offset),
        };
        cursor.received.insert(offset, received);
        cursor.next = offset.next();
        if received.done {
            cursor.prune();
            return Ok(Receipt::Done);
        }
        Ok(Receipt::New)
    }

    /// Returns true if the record has arrived, or is before the start of this process.
    pub(super) fn received(&self, record: RecordId) -> bool {
        self.0
            .get(&(record.incarnation, record.partition))
            .is_some_and(|cursor| record.offset < cursor.next)
    }

    /// Returns true if the record was trained or rejected before this process started, and has not
    /// arrived again yet.
    pub(super) fn is_done(&self, record: RecordId) -> bool {
        self.0
            .get(&(record.incarnation, record.partition))
            .is_some_and(|cursor| cursor.done_before.contains(&record.offset))
    }

    /// Returns true if the record is before the start of this process, so that it will not arrive.
    pub(super) fn is_before(&self, record: RecordId) -> bool {
        self.0
            .get(&(record.incarnation, record.partition))
            .is_some_and(|cursor| record.offset < cursor.start.resume)
    }

    /// Returns the first record that an earlier process had read and that has not arrived again
    /// yet.
    pub(super) fn behind(&self) -> Option<RecordId> {
        self.0
            .iter()
            .find_map(|(&(incarnation, partition), cursor)| {
                let read = cursor.start.read?;
                (cursor.next < read).then_some(RecordId {
                    incarnation,
                    partition,
                    offset: cursor.next,
                })
            })
    }

    /// Keeps records readable after a restart although they are done.
    pub(super) fn keep(&mut self, records: impl IntoIterator<Item = RecordId>) {
        for record in records {
            let Some(cursor) = self.0.get_mut(&(record.incarnation, record.partition)) else {
                continue;
            };
            match cursor.received.get_mut(&record.offset) {
                Some(received) => received.kept = true,
                None if record.offset >= cursor.next => {
                    cursor.kept_before.insert(record.offset);
                }
                None => {}
            }
        }
    }

    /// Returns true if the record has arrived and is kept.
    pub(super) fn is_kept(&self, record: RecordId) -> bool {
        let cursor = self.0.get(&(record.incarnation, record.partition));
        let received = cursor.and_then(|cursor| cursor.received.get(&record.offset));
        received.is_some_and(|received| received.kept)
    }

    /// Ends what [`Cursors::keep`] began.
    pub(super) fn release(&mut self, records: impl IntoIterator<Item = RecordId>) {
        for record in records {
            let Some(cursor) = self.0.get_mut(&(record.incarnation, record.partition)) else {
                continue;
            };
            cursor.kept_before.remove(&record.offset);
            if let Some(received) = cursor.received.get_mut(&record.offset) {
                received.kept = false;
            }
            cursor.prune();
        }
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
            .map(|(&(incarnation, partition), cursor)| cursor.point(incarnation, partition))
            .collect()
    }
}
