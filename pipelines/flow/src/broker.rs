//! The log of a run: which broker carries it, and which life of its topics this is.

use std::path::Path;
use vintage_config::secret;
use vintage_settings::RunConfig;

use vintage_archive::Reader;
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::{Bus, Embedded, TopicSpec, TopicTable};
use vintage_control::{Incarnation, Topics};
use vintage_store::Store;

use crate::{Error, Result, inputs::PATIENCE};

/// Where a local broker lies in a run's folder.
const LOCAL: &str = "kafka";

/// A broker that can be reached from any process: a local one, up for as long as anybody uses
/// it, or one at an address.
pub struct Broker {
    bus: Bus,
    /// Copies a partition can have.
    copies: i32,
    local: Option<LocalKafka>,
}

impl Broker {
    /// The broker that the settings name. A local one is brought up in `folder`, a run's, unless
    /// another process has it up already.
    ///
    /// # Errors
    /// [`Error::Usage`] for the embedded broker, or a local one without a folder;
    /// [`Error::Broker`] if a local one does not come up; [`Error::Bus`] if it cannot be reached.
    pub async fn open(config: &RunConfig, folder: Option<&Path>) -> Result<Self> {
        match (config.broker.as_str(), folder) {
            ("embedded", _) => Err(Error::Usage(
                "broker = \"embedded\" lives inside one process: nothing outside can reach it; \
                 use broker=local, or start one with `vintage broker up` and give \
                 --broker HOST:PORT"
                    .to_owned(),
            )),
            ("local", None) => Err(Error::Usage(
                "broker = \"local\" keeps its data in a run's folder: name that folder, or give \
                 --broker HOST:PORT"
                    .to_owned(),
            )),
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

    /// The way to it.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The run's topics as they should be on it: with three copies where nothing else is set
    /// and it has three brokers.
    pub fn specs(&self, config: &RunConfig) -> Vec<TopicSpec> {
        specs(config, self.copies)
    }

    /// Leaves it. A local one that nobody else uses is shut down; its data stay.
    pub async fn close(self) -> Result<()> {
        if let Some(local) = self.local {
            local.down().await?;
        }
        Ok(())
    }
}

/// The way to the brokers at `address`, with the options that the settings give for it.
pub(crate) fn connect(config: &RunConfig, address: &str) -> Result<Bus> {
    let options = secret::reveal("broker_options", &config.broker_options).map_err(Error::Usage)?;
    Ok(Bus::connect(address, &options)?)
}

fn specs(config: &RunConfig, copies: i32) -> Vec<TopicSpec> {
    let replication = config.topics.replication.unwrap_or(copies);
    let topics = config.topic_names();
    TopicTable::builtin().specs(&topics, config.topics.partitions, replication)
}

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
    carrier: Carrier,
}

enum Carrier {
    /// Held for its life: dropping it ends it.
    Embedded {
        _broker: Embedded,
    },
    Broker(Box<Broker>),
}

impl Log {
    /// Brings up the broker the configuration names, and the run's topics on it. A local broker
    /// keeps its data under `folder`.
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
        bus.ensure_topics(&broker.specs(config)).await?;
        Ok(Self {
            bus,
            topics,
            incarnation: Incarnation(0),
            volatile: false,
            carrier: Carrier::Broker(Box::new(broker)),
        })
    }

    /// Leaves the broker; see [`Broker::close`].
    pub(crate) async fn stop(self) -> Result<()> {
        match self.carrier {
            Carrier::Embedded { .. } => Ok(()),
            Carrier::Broker(broker) => broker.close().await,
        }
    }

    /// Leaves the broker after something was done with it, however that went.
    pub(crate) async fn stop_after<T>(self, outcome: Result<T>) -> Result<T> {
        let stopped = self.stop().await;
        let done = outcome?;
        stopped.map(|()| done)
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
