//! Flow-control accounting of the embedded broker, which silently drops the oldest record batches
//! of a partition once it exceeds 5 MiB as sent. It limits how many bytes may be written beyond
//! those taken by the slowest reader.
//!
//! No IO and no waiting happens here: `gate.rs` does the waiting.

use std::collections::{BTreeMap, HashMap};

/// Most bytes in a partition, counted before compression, that some reader has not taken.
///
/// The broker keeps 5 MiB and drops whole batches. A batch of several records is at most
/// librdkafka's `batch.size` of 1 MB, and its first records may be read already, so 1 MB more than
/// the unread bytes must fit: 4 MB + 1 MB < 5 MiB.
pub(crate) const LIMIT: usize = 4_000_000;

/// Bytes that the broker keeps of a partition. Records older than that are no longer counted if
/// nobody reads them.
const KEPT: usize = 5 << 20;

/// Id of a registered reader of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ReaderId(u64);

/// Flow-control state of all partitions of all topics.
#[derive(Debug, Default)]
pub(crate) struct Window {
    topics: HashMap<String, Topic>,
    readers: u64,
}

#[derive(Debug, Default)]
struct Topic {
    /// Number of readers that must have registered before anything may be written.
    expected: usize,
    /// Number of readers that have registered so far, including those that left.
    registered: usize,
    /// Next offset that each reader takes, by partition.
    readers: HashMap<ReaderId, HashMap<i32, i64>>,
    partitions: HashMap<i32, Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// Bytes reserved and not yet acknowledged.
    in_flight: usize,
    /// Size in bytes of every acknowledged record that some reader has not taken, by offset.
    unread: BTreeMap<i64, usize>,
    /// Sum of the sizes in `unread`, in bytes.
    unread_bytes: usize,
}

impl Log {
    fn prune_below(&mut self, offset: i64) {
        while let Some(first) = self
            .unread
            .first_entry()
            .filter(|first| *first.key() < offset)
        {
            self.unread_bytes -= first.remove();
        }
    }

    fn prune_trimmed(&mut self) {
        while self.unread_bytes > KEPT
            && let Some(first) = self.unread.first_entry()
        {
            self.unread_bytes -= first.remove();
        }
    }
}

impl Topic {
    fn slowest(&self, partition: i32) -> Option<i64> {
        self.readers
            .values()
            .filter_map(|positions| positions.get(&partition))
            .min()
            .copied()
    }

    fn prune(&mut self, partition: i32) {
        let slowest = self.slowest(partition);
        let log = self.partitions.entry(partition).or_default();
        match slowest {
            Some(offset) => log.prune_below(offset),
            None => log.prune_trimmed(),
        }
    }

    fn prune_all(&mut self) {
        let partitions: Vec<_> = self.partitions.keys().copied().collect();
        for partition in partitions {
            self.prune(partition);
        }
    }
}

impl Window {
    /// Refuses reservations for `topic` until `readers` readers have registered.
    pub(crate) fn expect(&mut self, topic: &str, readers: usize) {
        self.topic(topic).expected = readers;
    }

    /// Registers a reader that takes the given partitions from the given offsets on.
    pub(crate) fn register(
        &mut self,
        topic: &str,
        start: impl IntoIterator<Item = (i32, i64)>,
    ) -> ReaderId {
        let id = ReaderId(self.readers);
        self.readers += 1;
        let topic = self.topic(topic);
        topic.registered += 1;
        topic.readers.insert(id, start.into_iter().collect());
        topic.prune_all();
        id
    }

    /// Removes a reader; what it has not taken no longer counts.
    pub(crate) fn deregister(&mut self, topic: &str, reader: ReaderId) {
        let topic = self.topic(topic);
        topic.readers.remove(&reader);
        topic.prune_all();
    }

    /// Records that a reader was assigned a partition, of which it takes offset `next` first.
    pub(crate) fn given(&mut self, topic: &str, reader: ReaderId, partition: i32, next: i64) {
        let topic = self.topic(topic);
        if let Some(positions) = topic.readers.get_mut(&reader) {
            positions.insert(partition, next);
            topic.prune(partition);
        }
    }

    /// Records that a reader has taken everything before offset `next`. Has no effect on a
    /// partition that it has lost.
    pub(crate) fn taken(&mut self, topic: &str, reader: ReaderId, partition: i32, next: i64) {
        let topic = self.topic(topic);
        let positions = topic.readers.get_mut(&reader);
        if let Some(position) = positions.and_then(|positions| positions.get_mut(&partition)) {
            *position = next;
            topic.prune(partition);
        }
    }

    /// Records that a reader has lost a partition.
    pub(crate) fn left(&mut self, topic: &str, reader: ReaderId, partition: i32) {
        let topic = self.topic(topic);
        if let Some(positions) = topic.readers.get_mut(&reader) {
            positions.remove(&partition);
            topic.prune(partition);
        }
    }

    /// Reserves `bytes` for a record if they fit. A record over the whole limit is admitted if
    /// nothing else is outstanding: the broker always keeps the newest batch.
    pub(crate) fn try_reserve(&mut self, topic: &str, partition: i32, bytes: usize) -> bool {
        let topic = self.topic(topic);
        if topic.registered < topic.expected {
            return false;
        }
        let bounded = topic.slowest(partition).is_some();
        let log = topic.partitions.entry(partition).or_default();
        let outstanding = log.in_flight + log.unread_bytes;
        let room = !bounded || outstanding == 0 || outstanding + bytes <= LIMIT;
        if room {
            log.in_flight += bytes;
        }
        room
    }

    /// Converts a reservation into an unread record at `offset`.
    pub(crate) fn acknowledged(&mut self, topic: &str, partition: i32, offset: i64, bytes: usize) {
        let topic = self.topic(topic);
        let log = topic.partitions.entry(partition).or_default();
        log.in_flight -= bytes;
        if log.unread.insert(offset, bytes).is_none() {
            log.unread_bytes += bytes;
        }
        topic.prune(partition);
    }

    /// Releases the reservation of a record that was not appended.
    pub(crate) fn abandoned(&mut self, topic: &str, partition: i32, bytes: usize) {
        self.topic(topic)
            .partitions
            .entry(partition)
            .or_default()
            .in_flight -= bytes;
    }

    fn topic(&mut self, name: &str) -> &mut Topic {
        if !self.topics.contains_key(name) {
            self.topics.insert(name.to_owned(), Topic::default());
        }
        self.topics.get_mut(name).expect("inserted above")
    }
}

#[cfg(test)]
mod tests;
