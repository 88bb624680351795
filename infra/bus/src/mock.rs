//! librdkafka's mock cluster on a thread of its own.

use std::sync::{Arc, mpsc};

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    gate::Gate,
    openssl,
    topics::TopicSpec,
};

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

impl Mock {
    /// Starts a cluster of one broker; returns its address too.
    pub(crate) async fn start() -> Result<(Self, String)> {
        openssl::keep_tables();
        let (commands, received) = mpsc::channel();
        let (ready, started) = oneshot::channel();
        let failed = |reason: String| Error::Client {
            client: THREAD.into(),
            reason,
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
        let mock = Self {
            commands,
            gate: Arc::default(),
        };
        Ok((mock, bootstrap))
    }

    /// Flow control of the cluster's clients.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Creates a topic.
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
            .map_err(|reason| Error::Request {
                action: format!("creating topic {}", topic.name),
                bootstrap: "the embedded broker".into(),
                reason,
                retryable: false,
            })
    }

    /// Ends the cluster's thread, and the cluster with it.
    pub(crate) fn stop(&self) {
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
