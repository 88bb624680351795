//! Channel from a consumer's poll thread to its caller, with a bound on what is buffered.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
};

use tokio::sync::mpsc;
use vintage_control::{Offset, Partition};

use crate::{
    error::{Error, Result},
    gate::Registration,
    record::Record,
};

/// Event delivered by a [`crate::Consumer`], in log order within each partition.
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

/// State shared by the poll thread and the caller.
pub(crate) struct Feed {
    items: mpsc::UnboundedSender<Item>,
    max_bytes: usize,
    buffered: AtomicUsize,
    stop: AtomicBool,
    poller: OnceLock<Thread>,
    /// Offsets to commit to the group, by partition.
    reported: Mutex<BTreeMap<Partition, Offset>>,
    /// Registration as a reader with the embedded broker's flow control; `None` for other brokers.
    pub(crate) reader: Option<Registration>,
}

pub(crate) struct Item {
    pub(crate) what: Result<Event>,
    pub(crate) bytes: usize,
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
    /// Creates the channel of one consumer, whose caller buffers at most `max_bytes` of records.
    pub(crate) fn new(
        max_bytes: usize,
        reader: Option<Registration>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Item>) {
        let (items, received) = mpsc::unbounded_channel();
        let feed = Self {
            items,
            max_bytes,
            buffered: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            poller: OnceLock::new(),
            reported: Mutex::default(),
            reader,
        };
        (Arc::new(feed), received)
    }

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
    pub(crate) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Acquire)
    }

    pub(crate) fn taken(&self, bytes: usize) {
        let before = self.buffered.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.max_bytes && before - bytes < self.max_bytes {
            self.wake();
        }
    }

    pub(crate) fn report(&self, partition: Partition, next: Offset) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.insert(partition, next);
        drop(reported);
        self.wake();
    }

    /// Takes the offsets to commit to the group; `None` if there are none.
    pub(crate) fn take_reported(&self) -> Option<BTreeMap<Partition, Offset>> {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        (!reported.is_empty()).then(|| std::mem::take(&mut *reported))
    }

    pub(crate) fn stop(&self) {
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
