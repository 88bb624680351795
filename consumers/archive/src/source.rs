//! What a sink reads from.

use std::future::Future;

use vintage_bus::{Consumer, Event};
use vintage_control::{Offset, Partition};

use crate::Result;

/// Delivers the records of a topic, those of a partition in order. A consumer of the bus; the
/// tests have others.
pub trait Source: Send + 'static {
    /// The next event, waiting for one; safe to cancel. `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Event>>> + Send;

    /// Hears how far a partition is archived, for whoever shows it. Nothing goes on from it.
    fn archived(&self, _partition: Partition, _next: Offset) {}
}

impl Source for Consumer {
    async fn next(&mut self) -> Result<Option<Event>> {
        Ok(Consumer::next(self).await?)
    }

    fn archived(&self, partition: Partition, next: Offset) {
        self.tell_group(partition, next);
    }
}
