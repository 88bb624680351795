use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use tokio::sync::oneshot;

use crate::{Bus, Error, Result, TopicSpec, gate::Gate};

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

/// Handle of the clients to the mock cluster, which runs on its own thread.
#[derive(Debug, Clone)]
pub(crate) struct Mock {
    commands: mpsc::Sender<Command>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
enum Command {
    Create {
        topic: TopicSpec,
        done: oneshot::Sender<Result<(), String>>,
    },
    Stop,
}

const THREAD: &str = "embedded-broker";

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
        let (commands, received) = mpsc::channel();
        let (ready, started) = oneshot::channel();
        let failed = |detail: String| Error::Client {
            client: THREAD.into(),
            detail,
        };
        // The cluster must stay on one thread.
        std::thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || serve(&received, ready))
            .map_err(|error| failed(error.to_string()))?;
        let bootstrap = started
            .await
            .map_err(|_| Error::Stopped { what: THREAD })?
            .map_err(failed)?;
        let mock = Mock {
            commands,
            gate: Arc::default(),
        };
        // From here on, dropping `embedded` stops the thread.
        let bus = Bus::embedded(&bootstrap, overrides, mock.clone());
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

impl Mock {
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) async fn create(&self, topic: &TopicSpec) -> Result<()> {
        let (done, created) = oneshot::channel();
        let gone = Error::Stopped {
            what: "the embedded broker",
        };
        if self
            .commands
            .send(Command::Create {
                topic: topic.clone(),
                done,
            })
            .is_err()
        {
            return Err(gone);
        }
        created
            .await
            .map_err(|_| gone)?
            .map_err(|detail| Error::Request {
                action: format!("creating topic {}", topic.name),
                bootstrap: "the embedded broker".into(),
                detail,
                retryable: false,
            })
    }

    fn stop(&self) {
        if self.commands.send(Command::Stop).is_err() {
            tracing::debug!("the embedded broker has stopped already");
        }
    }
}

fn serve(commands: &mpsc::Receiver<Command>, ready: oneshot::Sender<Result<String, String>>) {
    let cluster: MockCluster<'_, DefaultProducerContext> = match MockCluster::new(1) {
        Ok(cluster) => cluster,
        Err(error) => {
            if ready.send(Err(error.to_string())).is_err() {
                tracing::debug!("nobody waits for the embedded broker");
            }
            return;
        }
    };
    if ready.send(Ok(cluster.bootstrap_servers())).is_err() {
        return;
    }
    while let Ok(command) = commands.recv() {
        match command {
            Command::Create { topic, done } => {
                let created = cluster.create_topic(&topic.name, topic.partitions, 1);
                if done
                    .send(created.map_err(|error| error.to_string()))
                    .is_err()
                {
                    tracing::debug!(topic = topic.name, "nobody waits for the topic");
                }
            }
            Command::Stop => return,
        }
    }
}
