use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use tokio::sync::mpsc;
use vintage_control::{Offset, Partition};

use crate::{
    Error, Record, Result, StartOffsets,
    client::Log,
    gate::{Gate, Registration},
    poll,
    rebalance::Context,
    settings::Settings,
};

/// Memory limits of a [`Consumer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// Bytes of records read and not yet taken by the caller (default 32 MiB). Once it is reached,
    /// no partition is polled; the limit may be exceeded by one record. librdkafka prefetches
    /// another eighth of this (64 KiB to 4 MiB) for each partition.
    pub max_bytes: usize,
}

impl Default for ConsumerLimits {
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
        }
    }
}

/// Event delivered by a [`Consumer`], in log order within each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Record of the topic.
    Record(Record),
    /// Partitions that this consumer reads from now on, each with its first offset. A group member
    /// receives them when partitions are assigned to it; a growing consumer of a whole topic, when
    /// partitions are added to the topic.
    Assigned(Vec<(Partition, Offset)>),
    /// Partitions that this group member no longer reads. Every record delivered from them precedes
    /// this event.
    Revoked(Vec<Partition>),
    /// End of a partition: every record that could be read when the broker was last asked was
    /// delivered. Sent again each time more was written and read.
    End {
        /// Partition that was read to its end.
        partition: Partition,
        /// Offset after the end. All readable records before it were delivered; other offsets below
        /// it belong to transaction markers or to records that were aborted or compacted away.
        next: Offset,
    },
}

/// Consumer of one topic. A thread of its own polls the client and never waits for the caller.
pub struct Consumer {
    items: mpsc::UnboundedReceiver<Item>,
    feed: Arc<Feed>,
    position: BTreeMap<Partition, Offset>,
    ended: bool,
}

/// Parameters of a [`Consumer`].
pub(crate) struct Reading {
    pub(crate) settings: Settings,
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) client: String,
    pub(crate) topic: String,
    pub(crate) limits: ConsumerLimits,
    pub(crate) timeout: Duration,
    /// True if partitions added to the topic later are read too.
    pub(crate) grows: bool,
}

/// State shared by the poll thread and the caller.
pub(crate) struct Feed {
    items: mpsc::UnboundedSender<Item>,
    max_bytes: usize,
    buffered: AtomicUsize,
    stop: AtomicBool,
    poller: OnceLock<Thread>,
    /// Offsets to commit to the group, by partition.
    told: Mutex<BTreeMap<Partition, Offset>>,
    /// Registration as a reader with the embedded broker's flow control; `None` for other brokers.
    pub(crate) reader: Option<Registration>,
}

pub(crate) struct Item {
    what: Result<Event>,
    bytes: usize,
}

impl Item {
    pub(crate) fn event(event: Event) -> Self {
        let bytes = if let Event::Record(record) = &event {
            record.bytes()
        } else {
            0
        };
        Self {
            what: Ok(event),
            bytes,
        }
    }
}

impl Feed {
    pub(crate) fn send(&self, item: Item) {
        self.buffered.fetch_add(item.bytes, Ordering::AcqRel);
        if self.items.send(item).is_err() {
            // The caller dropped the consumer, so the poll thread ends too.
            self.stop();
        }
    }

    /// Delivers the error that ends the consumer, and stops the poll thread.
    pub(crate) fn fail(&self, error: Error) {
        self.send(Item {
            what: Err(error),
            bytes: 0,
        });
        self.stop();
    }

    /// Registers the thread to wake when the buffer has space again or the consumer is closed.
    pub(crate) fn polled_by(&self, thread: Thread) {
        self.poller.get_or_init(|| thread);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.buffered() >= self.max_bytes
    }

    /// Bytes of records delivered to the channel and not yet taken by the caller.
    fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Acquire)
    }

    fn taken(&self, bytes: usize) {
        let before = self.buffered.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.max_bytes && before - bytes < self.max_bytes {
            self.wake();
        }
    }

    fn tell(&self, partition: Partition, next: Offset) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(partition, next);
        drop(told);
        self.wake();
    }

    /// Takes the offsets to commit to the group; `None` if there are none.
    pub(crate) fn take_told(&self) -> Option<BTreeMap<Partition, Offset>> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        (!told.is_empty()).then(|| std::mem::take(&mut *told))
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(poller) = self.poller.get() {
            poller.unpark();
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Prefix of the group id of every consumer that is given partitions, so that one prefixed ACL
/// covers them all.
const GROUPS: &str = "vintage-";

impl Consumer {
    pub(crate) fn assigned(reading: Reading, start: Vec<(Partition, Offset)>) -> Result<Self> {
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

    pub(crate) fn member(reading: Reading, group: &str, start: StartOffsets) -> Result<Self> {
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
        reading: Reading,
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
                detail: error.to_string(),
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
    pub fn tell_group(&self, partition: Partition, next: Offset) {
        self.feed.tell(partition, next);
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

impl Reading {
    fn feed(&self, start: &[(Partition, Offset)]) -> (Arc<Feed>, mpsc::UnboundedReceiver<Item>) {
        let (items, received) = mpsc::unbounded_channel();
        let feed = Feed {
            items,
            max_bytes: self.limits.max_bytes,
            buffered: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            poller: OnceLock::new(),
            told: Mutex::default(),
            reader: self
                .gate
                .as_ref()
                .map(|gate| gate.register(&self.topic, start)),
        };
        (Arc::new(feed), received)
    }

    fn context(
        &self,
        start: Option<StartOffsets>,
        feed: &Arc<Feed>,
        next: &[(Partition, Offset)],
    ) -> Context {
        Context::new(
            Log::new(&self.client, self.gate.is_some()),
            &self.topic,
            start,
            Arc::clone(feed),
            next,
            self.grows,
        )
    }

    fn refused(&self, error: &KafkaError) -> Error {
        Error::Client {
            client: self.client.clone(),
            detail: error.to_string(),
        }
    }
}
