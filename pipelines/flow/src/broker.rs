//! The log of a run: which broker carries it, and which life of its topics this is.

use std::path::Path;

use vintage_archive::Reader;
use vintage_bus::{Bus, Embedded, LocalKafka, LocalOptions, TopicTable};
use vintage_control::{Incarnation, Topics};
use vintage_store::Store;

use crate::{Result, config::RunConfig};

/// A log that is up.
pub(crate) struct Log {
    /// How to reach it.
    pub bus: Bus,
    /// The run's topics.
    pub topics: Topics,
    /// Life of the topics.
    pub incarnation: Incarnation,
    /// Whether what the log holds dies with this process.
    pub volatile: bool,
    broker: Broker,
}

enum Broker {
    /// Held for its life: dropping it ends it.
    Embedded {
        _broker: Embedded,
    },
    Local(LocalKafka),
    Address,
}

impl Log {
    /// Brings up the broker the configuration names, and the run's topics on it. A local broker
    /// keeps its data under `folder`.
    pub(crate) async fn start(config: &RunConfig, folder: &Path, archive: &Store) -> Result<Self> {
        let topics = config.topic_names();
        let table = TopicTable::builtin();
        let specs = table.specs(&topics, config.topics.partitions, config.topics.replication);
        let (bus, broker) = match config.broker.as_str() {
            "embedded" => {
                let embedded = Embedded::start(&specs).await?;
                (embedded.bus(), Broker::Embedded { _broker: embedded })
            }
            "local" => {
                let options = LocalOptions {
                    nodes: 1,
                    ..LocalOptions::default()
                };
                let local = LocalKafka::up(&folder.join("kafka"), options).await?;
                (
                    Bus::connect(local.bootstrap(), &config.broker_options)?,
                    Broker::Local(local),
                )
            }
            address => (
                Bus::connect(address, &config.broker_options)?,
                Broker::Address,
            ),
        };
        let volatile = matches!(broker, Broker::Embedded { .. });
        if !volatile {
            bus.ensure_topics(&specs).await?;
        }
        let incarnation = if volatile {
            next_incarnation(archive, &topics).await?
        } else {
            Incarnation(0)
        };
        Ok(Self {
            bus,
            topics,
            incarnation,
            volatile,
            broker,
        })
    }

    /// Ends a broker this process started; data of a local one stay.
    pub(crate) async fn stop(self) -> Result<()> {
        if let Broker::Local(local) = self.broker {
            local.down().await?;
        }
        Ok(())
    }
}

/// The embedded log begins anew with every process.
async fn next_incarnation(archive: &Store, topics: &Topics) -> Result<Incarnation> {
    let lives = Reader::new(archive.clone(), &topics.rollouts())
        .incarnations()
        .await?;
    Ok(lives
        .last()
        .map_or(Incarnation(0), |last| Incarnation(last.0 + 1)))
}
