use std::{collections::BTreeMap, sync::Arc};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::sync::mpsc;
use vintage_control::{Offset, Partition};

use crate::{
    bus::{Bus, owned},
    error::{Error, Result},
    feed::{Event, Feed, Item},
    poll,
    rebalance::{Context, StartOffsets},
    spec::{ConsumerLimits, ConsumerParams},
};

impl Bus {
    /// Returns the librdkafka settings of a consumer, passwords included, for another kind of
    /// client that must behave alike.
    pub fn consumer_options(
        &self,
        client_id: &str,
        group: &str,
        limits: ConsumerLimits,
    ) -> BTreeMap<String, String> {
        owned(&self.settings().consumer(client_id, group, limits.max_bytes))
    }

    /// Creates a consumer of the given partitions, from the given offsets on. The embedded broker
    /// counts it as a reader from this call on, and keeps records until it has read them.
    pub fn consumer(
        &self,
        client_id: &str,
        topic: &str,
        start: Vec<(Partition, Offset)>,
        limits: ConsumerLimits,
    ) -> Result<Consumer> {
        Consumer::assigned(self.reading(client_id, topic, limits), start)
    }

    /// Creates a consumer of a whole topic, as [`Bus::consumer`] does, that also reads partitions
    /// added later, from offset 0. [`Event::Assigned`] announces them before their first
    /// record.
    pub fn growing_consumer(
        &self,
        client_id: &str,
        topic: &str,
        start: Vec<(Partition, Offset)>,
        limits: ConsumerLimits,
    ) -> Result<Consumer> {
        let reading = ConsumerParams {
            grows: true,
            ..self.reading(client_id, topic, limits)
        };
        Consumer::assigned(reading, start)
    }

    /// Creates a member of a consumer group. The brokers assign its partitions, and `start` returns
    /// the first offset of each (from a record of what is durable, not from the group's committed
    /// offsets). `start` is called on the poll thread during the assignment, before any record of
    /// the partition.
    pub fn group_consumer(
        &self,
        client_id: &str,
        group: &str,
        topic: &str,
        start: StartOffsets,
        limits: ConsumerLimits,
    ) -> Result<Consumer> {
        Consumer::member(self.reading(client_id, topic, limits), group, start)
    }

    fn reading(&self, client_id: &str, topic: &str, limits: ConsumerLimits) -> ConsumerParams {
        ConsumerParams {
            settings: self.settings().clone(),
            gate: self.gate(),
            reading: Arc::clone(self.readers()),
            client: client_id.to_owned(),
            topic: topic.to_owned(),
            limits,
            timeout: self.timeout(),
            grows: false,
        }
    }
}

/// Consumer of one topic. A thread of its own polls the client and never waits for the caller.
pub struct Consumer {
    items: mpsc::UnboundedReceiver<Item>,
    feed: Arc<Feed>,
    position: BTreeMap<Partition, Offset>,
    ended: bool,
}

/// Prefix of the group id of every consumer that is given partitions, so that one prefixed ACL
/// covers them all.
const GROUPS: &str = "vintage-";

impl Consumer {
    pub(crate) fn assigned(
        reading: ConsumerParams,
        start: Vec<(Partition, Offset)>,
    ) -> Result<Self> {
        // librdkafka requires a group id. The broker creates the group with its first committed
        // offset.
        let group = match &reading.client {
            client if client.starts_with(GROUPS) => client.clone(),
            client => format!("{GROUPS}{client}"),
        };
        let config = reading
            .settings
            .consumer(&reading.client, &group, reading.limits.max_bytes);
        let (feed, items) = reading.feed(&start);
        let context = reading.context(None, &feed, &start);
        let native: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(|error| reading.refused(&error))?;
        let mut partitions = TopicPartitionList::new();
        for (partition, offset) in &start {
            partitions
                .add_partition_offset(&reading.topic, partition.0, Native::Offset(offset.0))
                .map_err(|error| reading.refused(&error))?;
        }
        native
            .assign(&partitions)
            .map_err(|error| reading.refused(&error))?;
        Self::polled(reading, native, feed, items, start.into_iter().collect())
    }

    pub(crate) fn member(
        reading: ConsumerParams,
        group: &str,
        start: StartOffsets,
    ) -> Result<Self> {
        let config = reading
            .settings
            .member(&reading.client, group, reading.limits.max_bytes);
        let (feed, items) = reading.feed(&[]);
        let context = reading.context(Some(start), &feed, &[]);
        let native: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(|error| reading.refused(&error))?;
        native
            .subscribe(&[&reading.topic])
            .map_err(|error| reading.refused(&error))?;
        Self::polled(reading, native, feed, items, BTreeMap::new())
    }

    fn polled(
        reading: ConsumerParams,
        native: BaseConsumer<Context>,
        feed: Arc<Feed>,
        items: mpsc::UnboundedReceiver<Item>,
        position: BTreeMap<Partition, Offset>,
    ) -> Result<Self> {
        let client = reading.client.clone();
        let polling = Arc::clone(&feed);
        std::thread::Builder::new()
            .name("consumer".into())
            // The client is also destroyed on this thread, because that can block for long.
            .spawn(move || poll::run(&reading, native, &polling))
            .map_err(|error| Error::Client {
                client,
                reason: error.to_string(),
            })?;
        Ok(Self {
            items,
            feed,
            position,
            ended: false,
        })
    }

    /// Returns the next event and waits for one if necessary. A record counts as taken once it is
    /// returned. Cancel-safe. Returns `None` after an error was returned.
    ///
    /// # Errors
    /// The error that ended the consumer. A broker that is down is waited for and causes no error.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        if self.ended {
            return Ok(None);
        }
        let Some(item) = self.items.recv().await else {
            self.ended = true;
            return Err(Error::Stopped {
                what: "a consumer's poll thread",
            });
        };
        self.taken(item).map(Some)
    }

    /// Returns the next event if one is buffered; `None` otherwise.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        match self.items.try_recv() {
            Ok(item) => self.taken(item).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn taken(&mut self, item: Item) -> Result<Event> {
        self.feed.taken(item.bytes);
        match &item.what {
            Ok(Event::Record(record)) => {
                let next = record.offset.next();
                self.position.insert(record.partition, next);
                if let Some(reader) = &self.feed.reader {
                    reader.taken(record.partition, next);
                }
            }
            Ok(Event::End { partition, next }) => {
                if let Some(passed) = self.position.get_mut(partition) {
                    *passed = (*passed).max(*next);
                }
            }
            Ok(Event::Assigned(partitions)) => self.position.extend(partitions.iter().copied()),
            Ok(Event::Revoked(partitions)) => {
                self.position
                    .retain(|partition, _| !partitions.contains(partition));
            }
            Err(_) => self.ended = true,
        }
        item.what
    }

    /// Next offset of every assigned partition: the one after the last record or end taken, or the
    /// start offset.
    pub fn position(&self) -> &BTreeMap<Partition, Offset> {
        &self.position
    }

    /// Bytes of records buffered for [`Consumer::next`].
    pub fn buffered_bytes(&self) -> usize {
        self.feed.buffered()
    }

    /// Commits an offset to the consumer group (or to a group named after the client),
    /// asynchronously. It serves monitoring tools only: this program never resumes from it. See
    /// [`crate::Bus::group_offsets`].
    pub fn report_to_group(&self, partition: Partition, next: Offset) {
        self.feed.report(partition, next);
    }

    /// Closes the consumer: a group member leaves its group, and a reader of the embedded broker no
    /// longer holds back writers. Returns at once; the client is destroyed on its own thread.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.feed.stop();
    }
}
