//! Parameters of a consumer.

use std::{sync::Arc, time::Duration};

use rdkafka::error::KafkaError;
use tokio::sync::mpsc;
use vintage_control::{Offset, Partition};

use crate::{
    client::Log,
    error::Error,
    feed::{Feed, Item},
    gate::Gate,
    readers::Readers,
    rebalance::{Context, StartOffsets},
    settings::Settings,
};

/// Memory limits of a [`crate::Consumer`].
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

/// Parameters of a [`crate::Consumer`].
pub(crate) struct ConsumerParams {
    pub(crate) settings: Settings,
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) reading: Arc<Readers>,
    pub(crate) client: String,
    pub(crate) topic: String,
    pub(crate) limits: ConsumerLimits,
    pub(crate) timeout: Duration,
    /// True if partitions added to the topic later are read too.
    pub(crate) grows: bool,
}

impl ConsumerParams {
    /// Creates the channel of the consumer and registers it as a reader of the embedded broker.
    pub(crate) fn feed(
        &self,
        start: &[(Partition, Offset)],
    ) -> (Arc<Feed>, mpsc::UnboundedReceiver<Item>) {
        let reader = self.gate.as_ref();
        let reader = reader.map(|gate| gate.register(&self.topic, start));
        Feed::new(self.limits.max_bytes, reader)
    }

    /// Creates the callbacks of the consumer's client.
    pub(crate) fn context(
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
            (self.client.clone(), Arc::clone(&self.reading)),
        )
    }

    /// Error of a client that could not be made.
    pub(crate) fn refused(&self, error: &KafkaError) -> Error {
        Error::Client {
            client: self.client.clone(),
            reason: error.to_string(),
        }
    }
}
