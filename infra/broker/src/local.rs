//! Real Apache Kafka on loopback, which this crate fetches, starts, watches and stops.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use vintage_bus::{Bus, TopicSpec};

use crate::{
    claim::{Turn, Use},
    cluster::Cluster,
    error::{Error, Result},
    jars,
    node::Node,
    options::LocalOptions,
};

/// Interval at which a starting node is checked.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for a node to shut down before it is killed.
const GRACE: Duration = Duration::from_secs(20);
/// Topic that is created, written to and deleted to check that the broker works.
const READY_TOPIC: &str = "vintage-ready";

/// Local Kafka broker that this process uses. Data, ports and logs stay in its folder, so that it
/// can be started there again.
///
/// Any number of processes may share one broker: the first starts it, the last shuts it down with
/// [`LocalKafka::down`]. If the last handle is dropped instead, the nodes are killed. Nodes left
/// behind by a killed program are ended by the next [`LocalKafka::up`] in the folder. A broker
/// started with [`keep`](LocalOptions::keep) stays until [`LocalKafka::down_dir`].
pub struct LocalKafka {
    cluster: Cluster,
    options: LocalOptions,
    nodes: Vec<Node>,
    /// Lock held while nodes are started or stopped.
    turn: Option<Turn>,
    /// Lock held while this process needs the broker; `None` with `keep`, where no user is needed.
    used: Option<Use>,
    /// True if dropping the handle kills the nodes: until the broker is ready, and afterwards
    /// unless it is kept.
    end_on_drop: bool,
}

impl LocalKafka {
    /// Joins the running broker in `dir`, or starts it there with the data it had. Returns once a
    /// client can use it.
    ///
    /// # Errors
    /// [`Error::MissingProgram`] without Java 17 or Maven; [`Error::Fetch`] if the jars cannot be
    /// downloaded; [`Error::Node`], with the end of its log, if a node does not start;
    /// [`Error::LocalInUse`] if another process takes too long to start or stop the broker.
    pub async fn up(dir: &Path, options: LocalOptions) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| Error::Io {
            action: "creating",
            path: dir.to_owned(),
            source,
        })?;
        let turn = Turn::take(dir, options.ready_within).await?;
        let mut local = Self::handle(
            Cluster::prepare(dir, options.nodes, options.listen)?,
            options,
        );
        let running = local.running();
        let wanted = turn.is_used()? || (turn.is_kept() && running > 0) || local.options.keep;
        if !wanted {
            local.terminate_all().await?;
        }
        if local.options.keep {
            turn.keep(true)?;
        } else {
            if running == 0 {
                // A broker that was kept before the machine was restarted now belongs to this
                // process.
                turn.keep(false)?;
            }
            local.used = Some(turn.join()?);
        }
        local.turn = Some(turn);
        let whole = running == local.size();
        if !wanted || running == 0 || (local.options.keep && !whole) {
            local.end_on_drop = true;
            local.cluster.write_settings(&local.options.settings)?;
            local.start_all().await?;
        } else {
            // A partly running broker is left as it is: one of its nodes may have been stopped on
            // purpose.
            let bus = local.bus()?;
            bus.health(local.options.ready_within).await?;
        }
        local.turn = None;
        local.end_on_drop = !local.options.keep;
        Ok(local)
    }

    /// Bootstrap addresses of the broker's nodes (`host:port,…`).
    pub fn bootstrap(&self) -> &str {
        self.cluster.bootstrap()
    }

    /// Returns a handle to the broker for clients.
    pub fn bus(&self) -> Result<Bus> {
        Ok(Bus::connect(self.bootstrap(), &BTreeMap::new())?)
    }

    /// Returns the bootstrap addresses of the broker last started in `dir`, running or not; `None`
    /// if there was none.
    pub fn bootstrap_of(dir: &Path) -> Result<Option<String>> {
        Ok(Cluster::load(dir)?.map(|cluster| cluster.bootstrap().to_owned()))
    }

    /// Leaves the broker, and shuts it down unless other processes use it or have asked to keep it.
    /// Data and ports stay.
    ///
    /// # Errors
    /// Those of ending its nodes. Nodes that this could not shut down are killed.
    pub async fn down(mut self) -> Result<()> {
        let turn = Turn::take(self.cluster.dir(), self.options.ready_within).await?;
        self.used = None;
        if turn.is_used()? || (turn.is_kept() && !self.options.keep) {
            self.end_on_drop = false;
            return Ok(());
        }
        turn.keep(false)?;
        self.terminate_all().await?;
        self.end_on_drop = false;
        Ok(())
    }

    /// Leaves the broker as [`LocalKafka::down`] does, and returns `outcome`, whose error takes
    /// precedence over an error of leaving.
    ///
    /// # Errors
    /// The first of the two.
    pub async fn down_after<T, E: From<Error>>(self, outcome: Result<T, E>) -> Result<T, E> {
        let left = self.down().await;
        let done = outcome?;
        left?;
        Ok(done)
    }

    /// Shuts down the broker in `dir`, no matter who started it, even a kept one. Returns the
    /// number of nodes that were running.
    ///
    /// # Errors
    /// [`Error::LocalInUse`] while a live process uses it.
    pub async fn down_dir(dir: &Path) -> Result<usize> {
        let Some(cluster) = Cluster::load(dir)? else {
            return Ok(0);
        };
        let options = LocalOptions::default();
        let turn = Turn::take(cluster.dir(), options.ready_within).await?;
        if turn.is_used()? {
            return Err(Error::LocalInUse {
                dir: dir.to_owned(),
            });
        }
        turn.keep(false)?;
        Self::handle(cluster, options).terminate_all().await
    }

    pub(crate) fn handle(cluster: Cluster, options: LocalOptions) -> Self {
        let nodes = cluster
            .nodes()
            .iter()
            .map(|ports| Node::new(&cluster, *ports))
            .collect();
        Self {
            cluster,
            options,
            nodes,
            turn: None,
            used: None,
            end_on_drop: false,
        }
    }

    /// Number of nodes, running or not.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Numbers of the nodes, from 1; Kafka's broker ids are the same.
    pub fn node_ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.nodes.iter().map(Node::id)
    }

    /// Shuts one node down cleanly.
    pub async fn stop_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.terminate(GRACE).await.map(drop)
    }

    /// Kills one node with SIGKILL, as in a crash.
    pub async fn kill_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.kill().await
    }

    /// Kills all nodes with SIGKILL.
    pub async fn kill_all(&mut self) -> Result<()> {
        let ended = futures::future::join_all(self.nodes.iter_mut().map(Node::kill)).await;
        ended.into_iter().collect()
    }

    /// Freezes one node: it keeps its connections and answers nothing.
    pub fn pause_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.freeze()
    }

    /// Resumes a frozen node.
    pub fn resume_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?.thaw()
    }

    /// Starts a node that was stopped or killed, and waits until clients can use it. A majority of
    /// the nodes, including this one, must be running.
    pub async fn start_node(&mut self, id: u16) -> Result<()> {
        self.node(id)?;
        self.start(|node| node.id() == id).await
    }

    /// Starts every node that is not running, and waits until clients can use all of them.
    pub async fn start_all(&mut self) -> Result<()> {
        self.start(|_| true).await
    }

    async fn start(&mut self, wanted: impl Fn(&Node) -> bool) -> Result<()> {
        let java = jars::java().await?;
        let lib = jars::lib(&self.options, &java).await?;
        let (id, heap) = (self.cluster.id(), self.options.heap_mib);
        let mut awaited = Vec::new();
        for node in &mut self.nodes {
            let (running, wanted) = (node.is_running(), wanted(node));
            if wanted && !running {
                node.format(&java, &lib, id).await?;
                node.start(&java, &lib, heap)?;
            }
            if wanted || running {
                awaited.push(node);
            }
        }
        wait_ready(self.cluster.bootstrap(), awaited, self.options.ready_within).await
    }

    /// Number of nodes whose process runs.
    pub(crate) fn running(&mut self) -> usize {
        let nodes = self.nodes.iter_mut();
        nodes.map(|node| usize::from(node.is_running())).sum()
    }

    fn node(&mut self, id: u16) -> Result<&mut Node> {
        let reason = format!("it has no node {id}");
        self.nodes
            .iter_mut()
            .find(|node| node.id() == id)
            .ok_or(Error::LocalOptions { reason })
    }

    async fn terminate_all(&mut self) -> Result<usize> {
        // All nodes end at once: each waits for a quorum of the nodes no longer than its own grace
        // period.
        let ending = self.nodes.iter_mut().map(|node| node.terminate(GRACE));
        let ended = futures::future::join_all(ending).await;
        ended
            .into_iter()
            .try_fold(0, |running, was| Ok(running + usize::from(was?)))
    }
}

/// Waits until the broker can serve a run: every awaited node is listed, a topic can be created,
/// and a record is acknowledged by enough replicas.
async fn wait_ready(bootstrap: &str, mut awaited: Vec<&mut Node>, limit: Duration) -> Result<()> {
    let begun = Instant::now();
    let quick = [
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "200"),
    ];
    let quick = quick
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let bus = Bus::connect(bootstrap, &quick)?;
    let mut listed = Vec::new();
    loop {
        for node in &mut awaited {
            node.check_alive()?;
        }
        // The request is also the wait: it returns as soon as a broker answers.
        match bus.broker_ids(LOOK * 5).await {
            Ok(ids) if ids.len() >= awaited.len() => break,
            Ok(ids) => {
                listed = ids;
                tokio::time::sleep(LOOK).await;
            }
            Err(vintage_bus::Error::Unreachable { .. }) => listed.clear(),
            Err(error) => return Err(error.into()),
        }
        if begun.elapsed() > limit {
            let waited = limit.as_secs();
            let late = first_missing(&awaited, &listed);
            return Err(awaited[late].failed(format!("was not ready within {waited} s")));
        }
    }
    let topic = TopicSpec {
        name: READY_TOPIC.into(),
        partitions: 1,
        replication: awaited.len() as i32,
        config: BTreeMap::new(),
    };
    loop {
        match try_out(&bus, &topic).await {
            // The controllers list a node before they give it replicas, and again after a busy
            // machine made it miss its heartbeats. The controller may also have failed.
            Err(error)
                if (error.lacks_brokers() || error.is_retryable()) && begun.elapsed() < limit =>
            {
                tokio::time::sleep(LOOK).await;
            }
            tried => return Ok(tried?),
        }
    }
}

/// Returns the index of the first node that the cluster does not list by its id.
fn first_missing(awaited: &[&mut Node], listed: &[i32]) -> usize {
    let missing = |node: &&mut Node| !listed.contains(&i32::from(node.id()));
    awaited.iter().position(missing).unwrap_or(0)
}

async fn try_out(bus: &Bus, topic: &TopicSpec) -> vintage_bus::Result<()> {
    bus.ensure_topics(std::slice::from_ref(topic)).await?;
    let producer = bus.producer("vintage-ready")?;
    let payload = Bytes::from_static(b"ready");
    producer
        .publish(&topic.name, b"", Vec::new(), payload)
        .await?;
    bus.delete_topic(&topic.name).await
}

impl Drop for LocalKafka {
    fn drop(&mut self) {
        if !self.end_on_drop {
            return;
        }
        self.used = None;
        let turn = self.turn.take().map_or_else(
            || Turn::try_take(self.cluster.dir()).ok().flatten(),
            Option::Some,
        );
        // If another process holds the lock, it is joining or leaving, and decides what happens to
        // the nodes.
        let Some(turn) = turn else { return };
        let kept = turn.is_kept() && !self.options.keep;
        if kept || turn.is_used().unwrap_or(true) {
            return;
        }
        self.nodes.iter_mut().for_each(Node::kill_now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unstarted(dir: &Path, nodes: u16) -> LocalKafka {
        let cluster = Cluster::prepare(dir, Some(nodes), None).unwrap();
        LocalKafka::handle(cluster, LocalOptions::default())
    }

    fn failed(message: &str) -> Error {
        Error::LocalOptions {
            reason: message.to_owned(),
        }
    }

    #[tokio::test]
    async fn the_first_error_wins_over_one_of_leaving() {
        let dir = tempfile::tempdir().unwrap();
        // Without its folder, a broker cannot be left.
        let broken = || {
            let folder = dir.path().join("kafka");
            std::fs::create_dir(&folder).unwrap();
            let kafka = unstarted(&folder, 1);
            std::fs::remove_dir_all(&folder).unwrap();
            kafka
        };
        let first = broken().down_after(Err::<(), _>(failed("the first"))).await;
        assert!(first.unwrap_err().to_string().contains("the first"));
        let left = broken().down_after(Ok::<_, Error>(1)).await;
        assert!(matches!(left, Err(Error::Io { .. })), "{left:?}");
        let folder = dir.path().join("whole");
        std::fs::create_dir(&folder).unwrap();
        let kafka = unstarted(&folder, 1);
        assert_eq!(kafka.down_after(Ok::<_, Error>(1)).await.unwrap(), 1);
    }

    #[test]
    fn the_node_that_is_late_is_the_one_that_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let mut kafka = unstarted(dir.path(), 3);
        let awaited: Vec<_> = kafka.nodes.iter_mut().collect();
        let late = |listed: &[i32]| awaited[first_missing(&awaited, listed)].id();
        assert_eq!(late(&[1, 3]), 2);
        assert_eq!(late(&[2, 1]), 3);
        assert_eq!(late(&[]), 1);
    }
}
