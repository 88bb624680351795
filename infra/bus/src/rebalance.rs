//! Callbacks that librdkafka calls inside `poll`: partitions assigned and revoked, errors,
//! statistics.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset as Native, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::KafkaError,
    statistics::Broker,
};
use vintage_control::{Metric, Offset, Partition};

use crate::{
    client::Log,
    error::{Error, StartError},
    feed::{Event, Feed, Item},
    readers::Readers,
    withheld::BlockedPartitions,
};

/// Callback that returns the offset from which a group consumer reads a partition that it was
/// assigned.
pub type StartOffsets = Arc<dyn Fn(Partition) -> Result<Offset, StartError> + Send + Sync>;

/// State of a connected broker in librdkafka's statistics.
const UP: &str = "UP";

/// Longest time that a broker may leave a request unanswered. A fetch is answered within 0.2 s, with or
/// without records. On a link that was cut, a connection stays up for minutes.
const SILENCE: Duration = Duration::from_secs(4);

/// Returns true if any broker was heard of lately, or is connected and owes no answer to anybody. The
/// library also lists connections that it keeps for other purposes, on which nothing is said.
fn any_answers<'a>(brokers: impl Iterator<Item = &'a Broker>) -> bool {
    let silent = |broker: &Broker| {
        let time = u64::try_from(broker.rxidle).ok();
        time.is_none_or(|time| Duration::from_micros(time) >= SILENCE)
    };
    let up: Vec<_> = brokers.filter(|broker| broker.state == UP).collect();
    let owes = up.iter().any(|broker| broker.waitresp_cnt > 0);
    up.iter().any(|broker| !silent(broker)) || !up.is_empty() && !owes
}

/// Client context of a consumer, used on its poll thread.
pub(crate) struct Context {
    pub(crate) log: Log,
    topic: String,
    start: Option<StartOffsets>,
    feed: Arc<Feed>,
    /// Next offset that librdkafka must deliver, by assigned partition.
    next: Mutex<HashMap<Partition, Offset>>,
    /// True if partitions were assigned or revoked since the poll loop last checked.
    changed: AtomicBool,
    /// Partitions whose next records are withheld by an open transaction.
    stuck: Mutex<BlockedPartitions>,
    /// True if partitions added to the topic later are read too.
    grows: bool,
    /// Partitions that were added to the topic and are not read yet.
    grown: Mutex<BTreeSet<Partition>>,
    /// Client id of the consumer, and where its statistics go.
    reading: (String, Arc<Readers>),
}

impl Context {
    pub(crate) fn new(
        log: Log,
        topic: &str,
        start: Option<StartOffsets>,
        feed: Arc<Feed>,
        next: &[(Partition, Offset)],
        grows: bool,
        reading: (String, Arc<Readers>),
    ) -> Self {
        Self {
            log,
            topic: topic.to_owned(),
            start,
            feed,
            next: Mutex::new(next.iter().copied().collect()),
            changed: AtomicBool::new(false),
            stuck: Mutex::default(),
            grows,
            grown: Mutex::default(),
            reading,
        }
    }

    pub(crate) fn next(&self) -> MutexGuard<'_, HashMap<Partition, Offset>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if partitions were assigned or revoked since the last call.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// Takes the partitions that were added to the topic since the last call.
    pub(crate) fn take_grown(&self) -> BTreeSet<Partition> {
        std::mem::take(&mut *self.grown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the start offset of each assigned partition. It must happen here, before librdkafka
    /// begins to fetch: a later seek would race with the first records.
    fn assigned(&self, start: &StartOffsets, partitions: &TopicPartitionList) {
        let mut given = Vec::new();
        for mut element in partitions.elements_for_topic(&self.topic) {
            let partition = Partition(element.partition());
            let found = start(partition).and_then(|offset| {
                element.set_offset(Native::Offset(offset.0))?;
                Ok(offset)
            });
            match found {
                Ok(offset) => given.push((partition, offset)),
                Err(source) => {
                    let topic = self.topic.clone();
                    return self.feed.fail(Error::Start {
                        topic,
                        partition,
                        source,
                    });
                }
            }
        }
        self.next().extend(given.iter().copied());
        if let Some(reader) = &self.feed.reader {
            for (partition, offset) in &given {
                reader.given(*partition, *offset);
            }
        }
        self.changed.store(true, Ordering::Release);
        self.feed.send(Item::event(Event::Assigned(given)));
    }

    fn revoked(&self, partitions: &TopicPartitionList) {
        let elements = partitions.elements_for_topic(&self.topic);
        let taken: Vec<_> = elements.iter().map(|e| Partition(e.partition())).collect();
        let mut next = self.next();
        for partition in &taken {
            next.remove(partition);
            if let Some(reader) = &self.feed.reader {
                reader.left(*partition);
            }
        }
        drop(next);
        self.changed.store(true, Ordering::Release);
        self.feed.send(Item::event(Event::Revoked(taken)));
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let (client, reading) = &self.reading;
        reading.forget(client, &self.topic);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.log.log(level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
    /// Updates the `vintage_lag_records` gauge of each partition: records between the next offset
    /// to read and the log's end. Committed group offsets are not used. Also finds partitions added
    /// to the topic, and warns of transactions that stay open.
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        let next = self.next();
        let mut lags = BTreeMap::new();
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, known) in &topic.partitions {
            let Some(next) = next.get(&Partition(*partition)) else {
                stuck.forget(Partition(*partition));
                // librdkafka uses a negative number for records whose partition is not chosen yet.
                if self.grows && *partition >= 0 && !known.unknown {
                    let mut grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
                    grown.insert(Partition(*partition));
                }
                continue;
            };
            let (stable, high) = (Offset(known.ls_offset), Offset(known.hi_offset));
            let behind = *next >= stable && known.ls_offset >= 0;
            let found = (Partition(*partition), stable, high);
            if let Some(word) = stuck.look(found, behind, Instant::now()) {
                tracing::warn!(reader = statistics.client_id, topic = self.topic, "{word}");
            }
            let lag = known.ls_offset.max(known.hi_offset) - next.0;
            let labels = [
                ("reader", statistics.client_id.clone()),
                ("topic", self.topic.clone()),
                ("partition", partition.to_string()),
            ];
            metrics::gauge!(Metric::LAG.name, &labels).set(lag.max(0) as f64);
            lags.insert(Partition(*partition), lag.max(0) as u64);
        }
        let connected = any_answers(statistics.brokers.values());
        let (client, reading) = &self.reading;
        reading.report(client, &self.topic, lags, connected);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match (rebalance, &self.start) {
            (Rebalance::Assign(partitions), Some(start)) => self.assigned(start, partitions),
            (Rebalance::Revoke(partitions), Some(_)) => self.revoked(partitions),
            (Rebalance::Error(error), _) => tracing::warn!("rebalance: {error}"),
            _ => {}
        }
    }
}
