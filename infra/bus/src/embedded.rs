use std::{collections::BTreeMap, sync::Arc};

use crate::{
    bus::{Bus, TIMEOUT},
    error::Result,
    mock::Mock,
    settings::Settings,
    topics::TopicSpec,
};

/// Kafka broker inside this process: librdkafka's mock cluster on loopback, which speaks the real
/// Kafka protocol. It needs no installation and persists nothing: its log is lost when it ends.
///
/// The mock silently drops records once a partition exceeds 5 MiB. Clients made from
/// [`Embedded::bus`] are safe from that: publishing waits while a partition holds more than 4 MB
/// (before compression) that the slowest of its consumers has not taken, and a consumer that meets
/// a hole fails. Topics without consumers are not bounded: `policies`, `steps` and `rejects` keep
/// their newest records, which is all that their readers need. Clients that connect to the address
/// ([`Embedded::bootstrap`]) bypass this flow control.
pub struct Embedded {
    mock: Mock,
    bus: Bus,
    bootstrap: String,
}

impl Embedded {
    /// Starts a broker with the given topics. Their replication and settings are ignored.
    pub async fn start(topics: &[TopicSpec]) -> Result<Self> {
        Self::start_with(topics, &BTreeMap::new()).await
    }

    /// Starts a broker as [`Embedded::start`] does, with librdkafka settings that override the
    /// defaults of its clients.
    pub async fn start_with(
        topics: &[TopicSpec],
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let (mock, bootstrap) = Mock::start().await?;
        // From here on, dropping `embedded` stops the thread.
        let settings = Settings::new(&bootstrap, overrides, true);
        let bus = settings
            .map(|settings| Bus::assembled(settings, TIMEOUT, Some(mock.clone()), Arc::default()));
        let bus = match bus {
            Ok(bus) => bus,
            Err(error) => {
                mock.stop();
                return Err(error);
            }
        };
        let embedded = Self {
            mock,
            bus,
            bootstrap,
        };
        for topic in topics {
            embedded.mock.create(topic).await?;
        }
        Ok(embedded)
    }

    /// Returns the handle from which clients of this broker are made.
    pub fn bus(&self) -> Bus {
        self.bus.clone()
    }

    /// Address of the broker (`host:port`), for clients of other programs.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Blocks publishing to `topic` until `readers` consumers were created: see
    /// [`Bus::expect_consumers`].
    pub fn expect_consumers(&self, topic: &str, readers: usize) {
        self.bus.expect_consumers(topic, readers);
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.mock.stop();
    }
}
