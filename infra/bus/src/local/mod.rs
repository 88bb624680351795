//! A real Apache Kafka on loopback: fetched, started, watched and stopped by this crate.

mod cluster;
mod jars;
mod node;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use self::{cluster::Cluster, node::Node};
use crate::{Bus, Error, Result, TopicSpec};

/// How to run a local broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    /// 1, or 3 for replication: each a broker and a controller in one process.
    pub nodes: u16,
    /// Whether the processes outlive the handle, until [`LocalKafka::down_dir`].
    pub keep: bool,
    /// Heap of each node, MiB.
    pub heap_mib: u32,
    /// How long it may take until a client can produce.
    pub ready_within: Duration,
    /// An unpacked release of Apache Kafka 4; without one the jars come from Maven Central.
    pub kafka_home: Option<PathBuf>,
    /// Where fetched jars are kept for all runs.
    pub cache: PathBuf,
}

impl Default for LocalOptions {
    /// One node of 384 MiB, ended with its handle. `KAFKA_HOME` is taken if set; jars are kept
    /// in `$XDG_CACHE_HOME/vintage` or `~/.cache/vintage`.
    fn default() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || set("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        let cache = set("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
        Self {
            nodes: 1,
            keep: false,
            heap_mib: 384,
            ready_within: Duration::from_secs(90),
            kafka_home: set("KAFKA_HOME").map(PathBuf::from),
            cache: cache.join("vintage"),
        }
    }
}

/// How often a node that is coming up is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a node may take to shut down before it is killed.
const GRACE: Duration = Duration::from_secs(20);
/// Created, written to and deleted to see that the broker works.
const READY_TOPIC: &str = "vintage-ready";

/// A running local broker. Data, ports and logs stay in its folder, so that it can be brought
/// up again there. Dropped, it kills its processes (unless they are to be kept); what a killed
/// program left behind is ended by the next [`LocalKafka::up`] in the folder.
pub struct LocalKafka {
    cluster: Cluster,
    options: LocalOptions,
    nodes: Vec<Node>,
    /// Until they are ready, and after that unless they are to be kept.
    kill_on_drop: bool,
    /// Held while the processes are this handle's.
    lock: Option<File>,
}

impl LocalKafka {
    /// Starts a broker in `dir`, or goes on with the one that was there, and returns once a
    /// client can create a topic and produce to it. With `keep`, a broker that is already up
    /// in `dir` is taken as it is.
    ///
    /// # Errors
    /// [`Error::MissingProgram`] without Java 17 or Maven; [`Error::Fetch`] if the jars cannot
    /// be had; [`Error::Node`], with the end of its log, if a node does not come up;
    /// [`Error::LocalInUse`] if another process runs a broker in `dir`.
    pub async fn up(dir: &Path, options: LocalOptions) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| Error::Io {
            action: "creating",
            path: dir.to_owned(),
            source,
        })?;
        let lock = lock(dir)?;
        let mut local = Self::handle(Cluster::prepare(dir, options.nodes)?, options);
        if local.options.keep && local.nodes.iter_mut().all(Node::is_running) {
            local.wait_ready().await?;
            return Ok(local);
        }
        local.terminate_all().await?;

        let java = jars::java().await?;
        let lib = jars::lib(&local.options, &java).await?;
        local.cluster.write_settings()?;
        local.kill_on_drop = true;
        for node in &mut local.nodes {
            node.format(&java, &lib, local.cluster.id()).await?;
            node.start(&java, &lib, local.options.heap_mib)?;
        }
        local.wait_ready().await?;
        local.kill_on_drop = !local.options.keep;
        if !local.options.keep {
            local.lock = Some(lock);
        }
        Ok(local)
    }

    /// Addresses of its brokers, for clients.
    pub fn bootstrap(&self) -> &str {
        self.cluster.bootstrap()
    }

    /// The way to it.
    pub fn bus(&self) -> Result<Bus> {
        Bus::connect(self.bootstrap(), &BTreeMap::new())
    }

    /// Addresses of the broker that was last brought up in `dir`, running or not.
    pub fn bootstrap_of(dir: &Path) -> Result<Option<String>> {
        Ok(Cluster::load(dir)?.map(|cluster| cluster.bootstrap().to_owned()))
    }

    /// Shuts it down; data and ports stay.
    pub async fn down(mut self) -> Result<()> {
        self.terminate_all().await.map(drop)
    }

    /// Shuts down the broker in `dir`, whoever started it. Returns how many nodes were running.
    ///
    /// # Errors
    /// [`Error::LocalInUse`] while the process that runs it is alive.
    pub async fn down_dir(dir: &Path) -> Result<usize> {
        let Some(cluster) = Cluster::load(dir)? else {
            return Ok(0);
        };
        let _lock = lock(cluster.dir())?;
        Self::handle(cluster, LocalOptions::default())
            .terminate_all()
            .await
    }

    fn handle(cluster: Cluster, options: LocalOptions) -> Self {
        let nodes = cluster
            .nodes()
            .iter()
            .map(|ports| Node::new(&cluster, *ports))
            .collect();
        Self {
            cluster,
            options,
            nodes,
            kill_on_drop: false,
            lock: None,
        }
    }

    /// Numbers of its nodes, from 1.
    pub fn node_ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.nodes.iter().map(Node::id)
    }

    /// Shuts one node down in good order.
    pub async fn stop_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.terminate(GRACE).await.map(drop)
    }

    /// Kills one node, as a crash would.
    pub async fn kill_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.kill().await
    }

    /// Freezes one node: it keeps its connections and answers nothing.
    pub fn pause_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.freeze()
    }

    /// Lets a frozen node go on.
    pub fn resume_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.thaw()
    }

    /// Starts a node that was stopped or killed and waits until the whole broker is ready.
    pub async fn start_node(&mut self, id: u16) -> Result<()> {
        let java = jars::java().await?;
        let lib = jars::lib(&self.options, &java).await?;
        let heap = self.options.heap_mib;
        let node = self.node(id)?;
        if !node.is_running() {
            node.start(&java, &lib, heap)?;
        }
        self.wait_ready().await
    }

    fn node(&mut self, id: u16) -> Result<&mut Node> {
        let detail = format!("it has no node {id}");
        self.nodes
            .iter_mut()
            .find(|node| node.id() == id)
            .ok_or(Error::LocalOptions { detail })
    }

    /// Ready is what a run needs: all nodes are there, a topic can be created, a record is
    /// acknowledged by as many as must.
    async fn wait_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let quick = [
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "200"),
        ];
        let quick = quick
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let bus = Bus::connect(self.bootstrap(), &quick)?;
        loop {
            for node in &mut self.nodes {
                node.check_alive()?;
            }
            // The look is the wait: it returns as soon as a broker answers.
            match bus.brokers(LOOK * 5).await {
                Ok(found) if found == self.nodes.len() => break,
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(Error::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
            if begun.elapsed() > self.options.ready_within {
                let waited = self.options.ready_within.as_secs();
                return Err(self.nodes[0].failed(format!("was not ready within {waited} s")));
            }
        }
        let topic = TopicSpec {
            name: READY_TOPIC.into(),
            partitions: 1,
            replication: i32::from(self.options.nodes),
            config: BTreeMap::new(),
        };
        bus.ensure_topics(std::slice::from_ref(&topic)).await?;
        let producer = bus.producer("vintage-ready")?;
        let payload = Bytes::from_static(b"ready");
        producer
            .publish(READY_TOPIC, b"", Vec::new(), payload)
            .await?;
        bus.delete_topic(READY_TOPIC).await
    }

    async fn terminate_all(&mut self) -> Result<usize> {
        // All at once: each waits for the others' quorum no longer than its own grace.
        let ending = self.nodes.iter_mut().map(|node| node.terminate(GRACE));
        let ended = futures::future::join_all(ending).await;
        ended
            .into_iter()
            .try_fold(0, |running, was| Ok(running + usize::from(was?)))
    }
}

impl Drop for LocalKafka {
    fn drop(&mut self) {
        if self.kill_on_drop {
            self.nodes.iter_mut().for_each(Node::kill_now);
        }
    }
}

/// One process at a time starts and stops what runs in a folder.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| Error::Io {
            action: "opening",
            path,
            source,
        })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::LocalInUse {
        dir: dir.to_owned(),
    })?;
    Ok(file)
}
