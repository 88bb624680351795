//! Source of the records that a sink archives.

use std::future::Future;

use vintage_bus::{Consumer, Event};
use vintage_control::{Offset, Partition};

use crate::error::Result;

/// Source that delivers the records of a topic, those of a partition in order. The bus's consumer
/// implements it; tests have sources of their own.
pub trait SinkSource: Send + 'static {
    /// Waits for the next event and returns it; `None` at the end. Must be cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Option<Event>>> + Send;

    /// Receives how far a partition is archived, for display only. Nothing may resume from it.
    fn archived(&self, _partition: Partition, _next: Offset) {}
}

impl SinkSource for Consumer {
    async fn next(&mut self) -> Result<Option<Event>> {
        Ok(Consumer::next(self).await?)
    }

    fn archived(&self, partition: Partition, next: Offset) {
        self.report_to_group(partition, next);
    }
}
