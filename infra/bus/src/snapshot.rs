//! Reading of a topic up to its end at one moment. The end is reached when the reader's position
//! reaches it, not at a last record: the last offsets of a partition may hold no record.

use std::{collections::BTreeMap, time::Duration};

use vintage_control::{Offset, Partition};

use crate::{
    bus::Bus,
    consumer::Consumer,
    error::{Error, Result},
    feed::Event,
    record::Record,
    settings::FAILOVER,
    spec::ConsumerLimits,
};

/// Reader of a topic's partitions that stops at the ends they had when it was created.
pub struct Snapshot {
    topic: String,
    bootstrap: String,
    /// Low and high watermark of every partition: first offset held, and first offset that could
    /// not be read.
    marks: Vec<(Partition, Offset, Offset)>,
    /// Next offset and end of every partition that is not yet read to its end.
    open: BTreeMap<Partition, (Offset, Offset)>,
    /// Consumer; `None` once no partition is open.
    consumer: Option<Consumer>,
}

impl Bus {
    /// Creates a reader of the records that a topic holds now. `from` is called with each
    /// partition, its first offset held and its end, and returns the offset to start at, or `None`
    /// to skip the partition.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`]; [`Error::Unreachable`] if no broker answers.
    pub async fn snapshot(
        &self,
        client_id: &str,
        topic: &str,
        from: impl Fn(Partition, Offset, Offset) -> Option<Offset> + Send,
    ) -> Result<Snapshot> {
        let marks = self.watermarks(topic).await?;
        let open: BTreeMap<_, _> = marks
            .iter()
            .filter_map(|&(partition, low, high)| {
                let from = from(partition, low, high)?;
                (from < high).then_some((partition, (from, high)))
            })
            .collect();
        let start: Vec<_> = open.iter().map(|(at, (from, _))| (*at, *from)).collect();
        let consumer = if start.is_empty() {
            None
        } else {
            // The consumer is created after the ends were requested, so an end that it reports is
            // not before them.
            Some(self.consumer(client_id, topic, start, ConsumerLimits::default())?)
        };
        Ok(Snapshot {
            topic: topic.to_owned(),
            bootstrap: self.bootstrap().to_owned(),
            marks,
            open,
            consumer,
        })
    }

    /// Returns the offset after the last readable record of every partition, ascending; the first
    /// offset held if the partition has none. Offsets from there to the partition's end hold no
    /// record (transaction markers, aborted or compacted records), so a reader must not wait for
    /// them.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`]; [`Error::Unreachable`] if no broker answers.
    pub async fn record_ends(&self, topic: &str) -> Result<Vec<(Partition, Offset)>> {
        let marks = self.watermarks(topic).await?;
        if self.is_embedded() {
            // The embedded broker's log has no holes.
            let ends = marks
                .into_iter()
                .map(|(partition, _, high)| (partition, high));
            return Ok(ends.collect());
        }
        let filled = marks.iter().filter(|(_, low, high)| low < high);
        let mut sought: BTreeMap<_, _> = filled.map(|&(p, low, high)| (p, (low, high))).collect();
        let mut found = BTreeMap::new();
        // Searches backwards from the last offset in growing steps.
        let mut back = 1;
        while !sought.is_empty() {
            let begin = |low: Offset, high: Offset| Offset((high.0 - back).max(low.0));
            let from = |partition: Partition, first: Offset, _| {
                let (low, high) = sought.get(&partition)?;
                Some(begin(*low, *high).max(first))
            };
            let mut reading = self.snapshot("vintage-ends", topic, from).await?;
            while let Some(record) = reading.next_within(FAILOVER).await? {
                let before = sought.get(&record.partition);
                if before.is_some_and(|(_, high)| record.offset < *high) {
                    found.insert(record.partition, record.offset.next());
                }
            }
            sought.retain(|partition, (low, high)| {
                !found.contains_key(partition) && begin(*low, *high) > *low
            });
            back *= 8;
        }
        let ends = marks.into_iter().map(|(partition, low, _)| {
            let end = found.get(&partition).copied();
            (partition, end.unwrap_or(low))
        });
        Ok(ends.collect())
    }
}

impl Snapshot {
    /// Partition, first offset held and end of every partition of the topic, as of the snapshot's
    /// creation.
    pub fn marks(&self) -> &[(Partition, Offset, Offset)] {
        &self.marks
    }

    /// Returns the next record; `None` once every partition was read to its end. Cancel-safe.
    ///
    /// # Errors
    /// The error that ended the consumer.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        while let Some(consumer) = self.consumer.as_mut().filter(|_| !self.open.is_empty()) {
            let Some(event) = consumer.next().await? else {
                break;
            };
            match event {
                Event::Record(record) => {
                    let Some((next, end)) = self.open.get_mut(&record.partition) else {
                        continue; // written after the snapshot began
                    };
                    let (is_before_end, end) = (record.offset < *end, *end);
                    *next = record.offset.next().min(end);
                    if record.offset.next() >= end {
                        self.open.remove(&record.partition);
                    }
                    if is_before_end {
                        return Ok(Some(record));
                    }
                }
                Event::End { partition, .. } => {
                    self.open.remove(&partition);
                }
                Event::Assigned(_) | Event::Revoked(_) => {}
            }
        }
        self.consumer = None;
        Ok(None)
    }

    /// Returns the next record as [`Snapshot::next`] does.
    ///
    /// # Errors
    /// [`Error::Silent`] if nothing arrives within `patience`; those of [`Snapshot::next`].
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<Record>> {
        if let Ok(next) = tokio::time::timeout(patience, self.next()).await {
            return next;
        }
        let Some((&partition, &(offset, _))) = self.open.first_key_value() else {
            return Ok(None);
        };
        Err(Error::Silent {
            topic: self.topic.clone(),
            partition,
            offset,
            bootstrap: self.bootstrap.clone(),
            waited: patience,
        })
    }

    /// Returns the next offset of every partition that is not read to its end.
    pub fn unread(&self) -> BTreeMap<Partition, Offset> {
        let open = self.open.iter();
        open.map(|(partition, (next, _))| (*partition, *next))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use vintage_control::{Offset, Partition, Topics};

    use crate::{embedded::Embedded, error::Error, topics::TopicTable};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_silent_broker_is_named_with_the_offset_that_did_not_come() {
        let topics = Topics {
            namespace: "test".parse().unwrap(),
            run: "silent".parse().unwrap(),
        };
        let specs = TopicTable::builtin().specs(&topics, 2, 1);
        let broker = Embedded::start(&specs).await.unwrap();
        let (bus, topic) = (broker.bus(), topics.rollouts());
        let producer = bus.producer("writer").unwrap();
        let sent = producer.publish(&topic, b"key", Vec::new(), Bytes::from_static(b"a"));
        let partition = sent.await.unwrap().partition;
        let from = |_, low, _| Some(low);
        let mut reading = bus.snapshot("reader", &topic, from).await.unwrap();
        // The other partition holds no record, and no reader will report its end.
        let other = Partition(1 - partition.0);
        reading.open.insert(other, (Offset(4), Offset(9)));
        let mut next = async || reading.next_within(Duration::from_millis(500)).await;
        assert!(next().await.unwrap().is_some());
        let silent = next().await.unwrap_err();
        assert!(
            matches!(&silent, Error::Silent { offset, .. } if *offset == Offset(4)),
            "{silent:?}"
        );
        let message = silent.to_string();
        let named = format!("topic {topic} partition {other} from offset 4 on");
        assert!(message.contains(&named), "{message}");
        assert!(message.contains(bus.bootstrap()), "{message}");
        assert!(silent.is_retryable());
    }
}
