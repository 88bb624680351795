//! Per partition: what was received, what of it is done, where to resume.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{Incarnation, Offset, Partition, PartitionResume, RecordId};

use crate::{Error, Result};

/// What a record is to the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    /// To be looked at.
    New,
    /// It was trained or rejected before this process started.
    Done,
    /// It came before, or stands before where this learner begins.
    Again,
}

#[derive(Debug, Clone, Copy)]
struct Received {
    crc32c: u32,
    /// Latest timestamp up to this record.
    clock_ms: Option<i64>,
    done: bool,
}

#[derive(Debug)]
struct Cursor {
    /// Where this process began; its record says what was there before.
    start: PartitionResume,
    /// First offset not received.
    next: Offset,
    /// Latest timestamp received.
    clock_ms: Option<i64>,
    /// Offsets that were done before this process started.
    done_before: BTreeSet<Offset>,
    /// Records from just before the resume point on.
    received: BTreeMap<Offset, Received>,
}

impl Cursor {
    fn new(start: PartitionResume) -> Self {
        Self {
            next: start.resume,
            clock_ms: start.clock_ms,
            done_before: start.done.iter().copied().collect(),
            received: BTreeMap::new(),
            start,
        }
    }

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

    /// The checksum that is known of the record at `offset`.
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
        // What was to be read again and did not come yet has been read all the same.
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

    /// Notes a record. One that came before, or the one before the resume point, must be the
    /// same as it was: else this is another topic, or another's rewriting of it.
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
        };
        cursor.received.insert(offset, received);
        cursor.next = offset.next();
        if received.done {
            cursor.prune();
            return Ok(Receipt::Done);
        }
        Ok(Receipt::New)
    }

    /// Whether the record came, or stands before where this process began.
    pub(super) fn received(&self, record: RecordId) -> bool {
        self.0
            .get(&(record.incarnation, record.partition))
            .is_some_and(|cursor| record.offset < cursor.next)
    }

    /// Whether the record stands before where this process began, so that it will not come.
    pub(super) fn is_before(&self, record: RecordId) -> bool {
        self.0
            .get(&(record.incarnation, record.partition))
            .is_some_and(|cursor| record.offset < cursor.start.resume)
    }

    /// The first record of those an earlier life had read that has not come again yet.
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
