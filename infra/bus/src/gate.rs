use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use vintage_control::{Offset, Partition};

use crate::window::{ReaderId, Window};

/// Flow control of an embedded broker, shared by all its clients: a [`Window`] with the waiting
/// around it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    window: Mutex<Window>,
    changed: Notify,
}

impl Gate {
    /// Blocks reservations for `topic` until `readers` readers have registered.
    pub(crate) fn expect(&self, topic: &str, readers: usize) {
        self.change(|window| window.expect(topic, readers));
    }

    /// Waits until `bytes` fit into a partition, and reserves them.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        topic: &str,
        partition: Partition,
        bytes: usize,
    ) -> Reservation {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Enabled before the check; otherwise a change in between would be missed.
            changed.as_mut().enable();
            if self.look(|window| window.try_reserve(topic, partition.0, bytes)) {
                let gate = Arc::clone(self);
                return Reservation {
                    gate,
                    topic: topic.to_owned(),
                    partition,
                    bytes,
                };
            }
            changed.await;
        }
    }

    /// Registers a reader of `topic`, which counts until the result is dropped.
    pub(crate) fn register(
        self: &Arc<Self>,
        topic: &str,
        start: &[(Partition, Offset)],
    ) -> Registration {
        let start = start
            .iter()
            .map(|(partition, offset)| (partition.0, offset.0));
        let id = self.change(|window| window.register(topic, start));
        Registration {
            gate: Arc::clone(self),
            topic: topic.to_owned(),
            id,
        }
    }

    fn look<T>(&self, at: impl FnOnce(&mut Window) -> T) -> T {
        at(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, by: impl FnOnce(&mut Window) -> T) -> T {
        let result = self.look(by);
        self.changed.notify_waiters();
        result
    }
}

/// Reserved bytes of one record, released when dropped without an acknowledgement.
#[derive(Debug)]
pub(crate) struct Reservation {
    gate: Arc<Gate>,
    topic: String,
    partition: Partition,
    bytes: usize,
}

impl Reservation {
    /// Marks the record as appended at `offset`, and unread.
    pub(crate) fn acknowledged(mut self, offset: Offset) {
        let bytes = std::mem::take(&mut self.bytes);
        self.gate.change(|window| {
            window.acknowledged(&self.topic, self.partition.0, offset.0, bytes);
        });
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.gate
                .change(|window| window.abandoned(&self.topic, self.partition.0, self.bytes));
        }
    }
}

/// Registration of a reader, ended when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    gate: Arc<Gate>,
    topic: String,
    id: ReaderId,
}

impl Registration {
    /// Records that the reader was assigned a partition, of which it takes offset `next` first.
    pub(crate) fn given(&self, partition: Partition, next: Offset) {
        self.gate
            .change(|window| window.given(&self.topic, self.id, partition.0, next.0));
    }

    /// Records that the reader has taken everything before offset `next`.
    pub(crate) fn taken(&self, partition: Partition, next: Offset) {
        self.gate
            .change(|window| window.taken(&self.topic, self.id, partition.0, next.0));
    }

    /// Records that the reader has lost a partition.
    pub(crate) fn left(&self, partition: Partition) {
        self.gate
            .change(|window| window.left(&self.topic, self.id, partition.0));
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.gate
            .change(|window| window.deregister(&self.topic, self.id));
    }
}
