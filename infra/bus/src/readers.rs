//! Newest statistics of a bus's consumers: the lag of each partition that is
//! read, and whether any broker is connected.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use vintage_control::Partition;

/// Lag of one reader in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Client id of the reader.
    pub reader: String,
    /// Topic that is read.
    pub topic: String,
    /// Partition that is read.
    pub partition: Partition,
    /// Number of records of the log that were not read yet.
    pub records: u64,
}

/// Newest statistics of every consumer of a bus; consumers report every 2 s.
#[derive(Debug, Default)]
pub struct Readers {
    readers: Mutex<BTreeMap<(String, String), Reader>>,
}

#[derive(Debug)]
struct Reader {
    lags: BTreeMap<Partition, u64>,
    /// Time since which no broker answers the client; `None` while one does.
    lost: Option<Instant>,
}

impl Readers {
    fn known(&self) -> MutexGuard<'_, BTreeMap<(String, String), Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is known of one consumer.
    pub(crate) fn report(
        &self,
        reader: &str,
        topic: &str,
        lags: BTreeMap<Partition, u64>,
        connected: bool,
    ) {
        let key = (reader.to_owned(), topic.to_owned());
        let mut known = self.known();
        let before = known.get(&key).and_then(|reader| reader.lost);
        let lost = (!connected).then(|| before.unwrap_or_else(Instant::now));
        known.insert(key, Reader { lags, lost });
    }

    /// Forgets a consumer that was closed.
    pub(crate) fn forget(&self, reader: &str, topic: &str) {
        self.known().remove(&(reader.to_owned(), topic.to_owned()));
    }

    /// Returns the lag of every partition that is read.
    pub fn lags(&self) -> Vec<Lag> {
        let readers = self.known();
        let lag = |reader: &str, topic: &str, partition: Partition, records: u64| Lag {
            reader: reader.to_owned(),
            topic: topic.to_owned(),
            partition,
            records,
        };
        readers
            .iter()
            .flat_map(|((reader, topic), known)| {
                let lags = known.lags.iter();
                lags.map(move |(partition, records)| lag(reader, topic, *partition, *records))
            })
            .collect()
    }

    /// Returns the time for which no broker has answered any consumer; `None` while one does, and
    /// where no consumer reports.
    pub fn outage(&self) -> Option<Duration> {
        let readers = self.known();
        let mut shortest = None;
        for reader in readers.values() {
            let time = reader.lost?.elapsed();
            shortest = Some(shortest.map_or(time, |known: Duration| known.min(time)));
        }
        shortest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_report_of_each_consumer_counts_until_it_is_closed() {
        let readers = Readers::default();
        assert_eq!(readers.outage(), None, "nothing is known yet");
        let lags = |records| BTreeMap::from([(Partition(1), records)]);
        readers.report("learner", "rollouts", lags(7), true);
        readers.report("archive", "rollouts", lags(0), false);
        readers.report("learner", "rollouts", lags(3), true);
        let found: Vec<_> = readers.lags();
        let found: Vec<_> = found
            .iter()
            .map(|lag| (lag.reader.as_str(), lag.partition, lag.records))
            .collect();
        let expected = [("archive", Partition(1), 0), ("learner", Partition(1), 3)];
        assert_eq!(found, expected);
        assert_eq!(readers.outage(), None);
        readers.forget("learner", "rollouts");
        assert_eq!(readers.lags().len(), 1);
        assert!(readers.outage().is_some(), "the other one has no broker");
    }
}
