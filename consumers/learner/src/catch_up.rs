//! Source of the part of a log that a learner is behind, in the order of time.

use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use vintage_bus::{Bus, Consumer, ConsumerLimits, Event, Record};
use vintage_control::{Incarnation, Offset, Partition, PartitionResume};

use crate::{
    error::Result,
    order::Merge,
    source::{Incoming, RolloutSource, read},
};

/// Time after which a silent partition is no longer waited for. The other partitions continue,
/// and its records are merged when they arrive. Offsets without a record at the end of a partition look
/// silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time to wait for the very first record, while the broker may still be looked up.
const FIRST: Duration = Duration::from_secs(30);
/// Maximum bytes held for all partitions together; each may hold at least `LEAST_BYTES`.
const MAX_BYTES: usize = 32 << 20;
const LEAST_BYTES: usize = 1 << 20;

/// Source of the records of all partitions up to where each ended when this was opened, merged as
/// [`crate::order`] says.
///
/// One consumer may return all of a partition before anything of another, and a learner that is
/// behind would train on partition after partition. Each partition therefore has its own consumer
/// here. A consumer is not polled while its partition has a record that waits for its turn, so that the
/// amount read ahead is bounded.
pub struct CatchUp {
    readings: Vec<Reading>,
    merge: Merge<Record>,
    incarnation: Incarnation,
    patience: Duration,
    /// True once a record has arrived.
    begun: bool,
}

struct Reading {
    partition: Partition,
    /// Consumer of the partition; `None` once everything has arrived.
    consumer: Option<Consumer>,
    end: Offset,
    /// True while the partition is not waited for.
    late: bool,
}

/// Range of offsets of one partition that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Partition that is to be read.
    pub partition: Partition,
    /// First offset of the range.
    pub from: Offset,
    /// Offset after the last one of the range.
    pub until: Offset,
    /// Clock of the partition, its latest timestamp before `from` in milliseconds, if known.
    pub clock_ms: Option<i64>,
}

impl Stretch {
    /// Creates the range from `from` to `until`, with the clock of the partition's resume point, if
    /// there is one.
    pub fn of(
        resume: &[PartitionResume],
        partition: Partition,
        from: Offset,
        until: Offset,
    ) -> Self {
        let at = resume.iter().find(|at| at.partition == partition);
        Self {
            partition,
            from,
            until,
            clock_ms: at.and_then(|at| at.clock_ms),
        }
    }
}

impl CatchUp {
    /// Opens the stretches of `topic` in incarnation `incarnation` for reading; empty ones are left
    /// out.
    pub fn open(
        bus: &Bus,
        topic: &str,
        incarnation: Incarnation,
        stretches: &[Stretch],
    ) -> Result<Self> {
        let behind: Vec<_> = stretches.iter().filter(|of| of.from < of.until).collect();
        let limits = ConsumerLimits {
            max_bytes: (MAX_BYTES / behind.len().max(1)).max(LEAST_BYTES),
        };
        let merge = Merge::new(behind.iter().map(|of| of.clock_ms));
        let readings = behind.into_iter().map(|of| {
            let start = vec![(of.partition, of.from)];
            Ok(Reading {
                partition: of.partition,
                consumer: Some(bus.consumer("learner", topic, start, limits)?),
                end: of.until,
                late: false,
            })
        });
        Ok(Self {
            readings: readings.collect::<Result<_>>()?,
            merge,
            incarnation,
            patience: PATIENCE,
            begun: false,
        })
    }

    /// Returns the partitions that were not read to their end, once [`RolloutSource::next`] has ended.
    pub fn silent(&self) -> Vec<Partition> {
        let silent = self
            .readings
            .iter()
            .filter(|reading| reading.consumer.is_some());
        silent.map(|reading| reading.partition).collect()
    }

    /// Returns the partitions that were read to their end, with that end; the last offsets before
    /// it may have held no record.
    pub fn passed(&self) -> impl Iterator<Item = (Partition, Offset)> {
        let passed = self
            .readings
            .iter()
            .filter(|reading| reading.consumer.is_none());
        passed.map(|reading| (reading.partition, reading.end))
    }

    /// Reads until every partition that is waited for has its next record.
    async fn fill(&mut self) -> Result<()> {
        self.fill_late()?;
        loop {
            let wanting = self.merge.wanting();
            let awaited = |at: &usize| !self.readings[*at].late;
            if !wanting.iter().any(awaited) {
                return Ok(());
            }
            let mut reads: FuturesUnordered<_> = self
                .readings
                .iter_mut()
                .enumerate()
                .filter(|(at, _)| wanting.contains(at))
                .filter_map(|(at, reading)| {
                    let consumer = reading.consumer.as_mut()?;
                    Some(consumer.next().map(move |event| (at, event)))
                })
                .collect();
            let patience = if self.begun { self.patience } else { FIRST };
            let read = tokio::time::timeout(patience, reads.next()).await;
            drop(reads);
            match read {
                Ok(Some((at, event))) => self.put(at, event?),
                // The consumers of all wanting partitions are gone, so there is nothing to wait for.
                Ok(None) => wanting.into_iter().for_each(|at| self.merge.end(at)),
                Err(_) => {
                    for at in wanting {
                        self.readings[at].late = true;
                    }
                }
            }
        }
    }

    /// Takes what has arrived meanwhile from partitions that are not waited for.
    fn fill_late(&mut self) -> Result<()> {
        for at in self.merge.wanting() {
            let reading = &mut self.readings[at];
            if !reading.late {
                continue;
            }
            let Some(consumer) = &mut reading.consumer else {
                continue;
            };
            if let Some(event) = consumer.try_next()? {
                self.put(at, Some(event));
            }
        }
        Ok(())
    }

    fn put(&mut self, at: usize, event: Option<Event>) {
        let reading = &mut self.readings[at];
        match event {
            Some(Event::Record(record)) if record.offset < reading.end => {
                reading.late = false;
                self.begun = true;
                let last = record.offset.next() >= reading.end;
                let (place, timestamp) = (self.place(&record), record.timestamp_ms);
                self.merge.put(at, place, timestamp, record);
                if last {
                    self.end(at);
                }
            }
            // A record beyond the stretch: the last offsets of the stretch hold no record.
            Some(Event::Record(_)) | None => self.end(at),
            Some(Event::End { next, .. }) => {
                if next >= reading.end {
                    self.end(at);
                }
            }
            Some(Event::Assigned(_) | Event::Revoked(_)) => {}
        }
    }

    fn end(&mut self, at: usize) {
        self.readings[at].consumer = None;
        self.merge.end(at);
    }

    fn place(&self, record: &Record) -> vintage_control::RecordId {
        vintage_control::RecordId {
            incarnation: self.incarnation,
            partition: record.partition,
            offset: record.offset,
        }
    }
}

#[async_trait]
impl RolloutSource for CatchUp {
    /// Returns the next record; `None` once all stretches were read, except offsets at which
    /// nothing arrives.
    async fn next(&mut self) -> Result<Option<Incoming>> {
        self.fill().await?;
        let first = self.merge.pop();
        Ok(first.map(|(_, record)| read(self.incarnation, &record)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use vintage_bus::{Embedded, Outgoing, TopicSpec};

    use super::*;

    const TOPIC: &str = "behind";
    const PARTITIONS: i32 = 3;
    const EACH: i64 = 40;

    /// Starts a broker with a topic whose partitions were filled one after the other with records
    /// of the same hours.
    async fn filled() -> Embedded {
        let spec = TopicSpec {
            name: TOPIC.to_owned(),
            partitions: PARTITIONS,
            replication: 1,
            config: BTreeMap::new(),
        };
        let broker = Embedded::start(&[spec]).await.unwrap();
        let producer = broker.bus().producer("writer").unwrap();
        for partition in 0..PARTITIONS {
            for number in 0..EACH {
                let record = Outgoing {
                    partition: Some(Partition(partition)),
                    timestamp_ms: Some(timestamp(partition, number)),
                    payload: Some(Bytes::from_static(b"no rows")),
                    ..Outgoing::default()
                };
                producer.append(TOPIC, record).await.unwrap();
            }
        }
        broker
    }

    fn timestamp(partition: i32, number: i64) -> i64 {
        1_000_000 + 10 * number + i64::from(partition)
    }

    fn stretches(from: i64, until: i64) -> Vec<Stretch> {
        let stretch =
            |partition| Stretch::of(&[], Partition(partition), Offset(from), Offset(until));
        (0..PARTITIONS).map(stretch).collect()
    }

    async fn read_all(source: &mut CatchUp) -> Vec<(i32, i64)> {
        let mut read = Vec::new();
        while let Some(incoming) = source.next().await.unwrap() {
            let at = incoming.record;
            assert_eq!(
                incoming.timestamp_ms,
                Some(timestamp(at.partition.0, at.offset.0))
            );
            read.push((at.partition.0, at.offset.0));
        }
        read
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_lies_behind_comes_in_the_order_of_its_time() {
        let broker = filled().await;
        let open = |stretches: &[Stretch]| {
            CatchUp::open(&broker.bus(), TOPIC, Incarnation(0), stretches).unwrap()
        };
        let turn = |number: i64| (0..PARTITIONS).map(move |partition| (partition, number));
        let in_time: Vec<_> = (0..EACH).flat_map(turn).collect();
        let mut source = open(&stretches(0, EACH));
        assert_eq!(read_all(&mut source).await, in_time);
        assert!(source.silent().is_empty());
        // From offset 10 to before offset 20.
        let mut source = open(&stretches(10, 20));
        let middle = 10 * PARTITIONS as usize..20 * PARTITIONS as usize;
        assert_eq!(read_all(&mut source).await, in_time[middle]);

        // Offsets without a record delay the other partitions no longer than the patience.
        let mut beyond = stretches(0, EACH);
        beyond[1].until = Offset(EACH + 5);
        let mut source = open(&beyond);
        source.patience = Duration::from_secs(2);
        let mut read = read_all(&mut source).await;
        read.sort_unstable();
        let mut all = in_time;
        all.sort_unstable();
        assert_eq!(read, all);
        assert_eq!(source.silent(), [Partition(1)]);
        let passed: Vec<_> = source.passed().collect();
        let end = Offset(EACH);
        assert_eq!(passed, [(Partition(0), end), (Partition(2), end)]);
    }
}
