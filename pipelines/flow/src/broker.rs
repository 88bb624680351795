//! Kafka log of a run: the broker that carries it, and the incarnation of its topics.

use std::{path::Path, time::Duration};
use vintage_config::secret;
use vintage_settings::RunConfig;

use vintage_archive::Reader;
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::{Bus, Embedded, TopicSpec, TopicTable};
use vintage_control::{Incarnation, Topics};
use vintage_store::Store;

use crate::error::{Error, Result};

/// Time after which a broker that does not answer counts as absent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Folder of a local broker's data, inside the run's folder.
const LOCAL: &str = "kafka";

/// Broker that any process can reach: a local one, which runs as long as any process uses it, or
/// one at an address.
pub struct Broker {
    bus: Bus,
    /// Replication factor for topics where none is set: the number of brokers, at most 3 for one at
    /// an address.
    copies: i32,
    local: Option<LocalKafka>,
}

impl Broker {
    /// Opens the broker that the settings name. A local broker is started in `folder`, the run's
    /// folder, unless another process has started it already.
    ///
    /// # Errors
    /// [`Error::EmbeddedBroker`]; [`Error::LocalBrokerWithoutFolder`];
    /// [`Error::Bus`] if the broker cannot be reached.
    pub async fn open(config: &RunConfig, folder: Option<&Path>) -> Result<Self> {
        match (config.broker.as_str(), folder) {
            ("embedded", _) => Err(Error::EmbeddedBroker {
                reason: "nothing outside can reach it",
            }),
            ("local", None) => Err(Error::LocalBrokerWithoutFolder),
            ("local", Some(folder)) => {
                let options = LocalOptions {
                    nodes: config.local.nodes,
                    ..LocalOptions::default()
                };
                let local = LocalKafka::up(&folder.join(LOCAL), options).await?;
                Ok(Self {
                    bus: connect(config, local.bootstrap())?,
                    copies: local.size() as i32,
                    local: Some(local),
                })
            }
            (address, _) => {
                let bus = connect(config, address)?;
                let brokers = bus.brokers(PATIENCE).await?;
                Ok(Self {
                    bus,
                    copies: brokers.min(3) as i32,
                    local: None,
                })
            }
        }
    }

    /// Connection to the broker.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Specifications of the run's topics on this broker. Where no replication is set, topics have
    /// three replicas, or one per broker if there are fewer than three.
    pub fn specs(&self, config: &RunConfig) -> Vec<TopicSpec> {
        specs(config, self.copies)
    }

    /// Disconnects. A local broker that no other process uses is shut down; its data stay.
    pub async fn close(self) -> Result<()> {
        if let Some(local) = self.local {
            local.down().await?;
        }
        Ok(())
    }

    /// Disconnects as [`Broker::close`] does, and returns `outcome`, whose error takes precedence
    /// over an error of the disconnect.
    ///
    /// # Errors
    /// The first of the two.
    pub async fn close_after<T, E: From<Error>>(self, outcome: Result<T, E>) -> Result<T, E> {
        let closed = self.close().await;
        let done = outcome?;
        closed?;
        Ok(done)
    }
}

/// Connects to the brokers at `address` with the configured broker options, secrets revealed.
pub(crate) fn connect(config: &RunConfig, address: &str) -> Result<Bus> {
    let options = secret::reveal("broker_options", &config.broker_options).map_err(Error::Value)?;
    Ok(Bus::connect(address, &options)?)
}

fn specs(config: &RunConfig, copies: i32) -> Vec<TopicSpec> {
    let replication = config.topics.replication.unwrap_or(copies);
    let topics = config.topic_names();
    TopicTable::builtin().specs(&topics, config.topics.partitions, replication)
}

/// Running log of a run.
pub(crate) struct Log {
    /// Connection to the log.
    pub bus: Bus,
    /// Names of the run's topics.
    pub topics: Topics,
    /// Incarnation of the topics; above 0 only on the embedded broker.
    pub incarnation: Incarnation,
    /// True if the log's content is lost when this process ends (the embedded broker).
    pub volatile: bool,
    carrier: Carrier,
}

enum Carrier {
    /// Kept only so that it is dropped, and thereby stopped, together with the log.
    Embedded {
        _broker: Embedded,
    },
    Broker(Box<Broker>),
}

impl Log {
    /// Starts the configured broker, or connects to it, and makes sure that the run's topics exist.
    /// A local broker keeps its data under `folder`.
    pub(crate) async fn start(config: &RunConfig, folder: &Path, archive: &Store) -> Result<Self> {
        let topics = config.topic_names();
        if config.broker == "embedded" {
            let broker = Embedded::start(&specs(config, 1)).await?;
            return Ok(Self {
                bus: broker.bus(),
                incarnation: next_incarnation(archive, &topics).await?,
                topics,
                volatile: true,
                carrier: Carrier::Embedded { _broker: broker },
            });
        }
        let broker = Broker::open(config, Some(folder)).await?;
        let bus = broker.bus().clone();
        if let Err(error) = bus.ensure_topics(&broker.specs(config)).await {
            return broker.close_after(Err(error.into())).await;
        }
        Ok(Self {
            bus,
            topics,
            incarnation: Incarnation(0),
            volatile: false,
            carrier: Carrier::Broker(Box::new(broker)),
        })
    }

    /// Disconnects from the broker; see [`Broker::close`].
    pub(crate) async fn stop(self) -> Result<()> {
        match self.carrier {
            Carrier::Embedded { .. } => Ok(()),
            Carrier::Broker(broker) => broker.close().await,
        }
    }

    /// Disconnects from the broker and returns `outcome`, whose error takes precedence over an
    /// error of the disconnect.
    pub(crate) async fn stop_after<T>(self, outcome: Result<T>) -> Result<T> {
        match self.carrier {
            Carrier::Embedded { .. } => outcome,
            Carrier::Broker(broker) => broker.close_after(outcome).await,
        }
    }
}

/// Returns the incarnation after the newest one in the archive: the embedded log begins a new one
/// with every process.
async fn next_incarnation(archive: &Store, topics: &Topics) -> Result<Incarnation> {
    let incarnations = Reader::new(archive.clone(), &topics.rollouts())
        .incarnations()
        .await?;
    Ok(incarnations
        .last()
        .map_or(Incarnation(0), |last| Incarnation(last.0 + 1)))
}
