//! A real Kafka for tests, whose nodes can be killed, frozen and started again.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::{Bus, ConsumerLimits, Event, Replicas};
use vintage_control::{Offset, Partition};

/// Local Kafka that ends with the test, driven without async.
pub struct Kafka {
    runtime: Runtime,
    /// Cluster; `None` only while it is dropped.
    local: Option<LocalKafka>,
    bus: Bus,
}

impl Kafka {
    /// Starts a Kafka in `dir`, of one node or three, and waits until clients can use it.
    pub fn up(dir: &Path, nodes: u16) -> Result<Self> {
        let options = LocalOptions {
            nodes: Some(nodes),
            ..LocalOptions::default()
        };
        Self::up_with(dir, options)
    }

    /// Starts a Kafka like [`Kafka::up`], with other options; the heap is always 256 MiB.
    pub fn up_with(dir: &Path, options: LocalOptions) -> Result<Self> {
        let runtime = Runtime::new().context("starting a runtime")?;
        let options = LocalOptions {
            heap_mib: 256,
            ..options
        };
        let local = runtime.block_on(LocalKafka::up(dir, options))?;
        let bus = local.bus()?;
        Ok(Self {
            runtime,
            local: Some(local),
            bus,
        })
    }

    /// Bootstrap address as `host:port,…`, for `--broker`.
    pub fn address(&self) -> &str {
        self.bus.bootstrap()
    }

    /// Numbers of the nodes, which are Kafka's broker ids too.
    pub fn nodes(&self) -> Vec<u16> {
        self.local.iter().flat_map(LocalKafka::node_ids).collect()
    }

    /// Kills one node by SIGKILL.
    pub fn kill(&mut self, node: u16) -> Result<()> {
        let (runtime, local) = self.parts()?;
        Ok(runtime.block_on(local.kill_node(node))?)
    }

    /// Kills every node by SIGKILL.
    pub fn kill_all(&mut self) -> Result<()> {
        let (runtime, local) = self.parts()?;
        Ok(runtime.block_on(local.kill_all())?)
    }

    /// Shuts one node down in good order.
    pub fn stop(&mut self, node: u16) -> Result<()> {
        let (runtime, local) = self.parts()?;
        Ok(runtime.block_on(local.stop_node(node))?)
    }

    /// Freezes one node by SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&mut self, node: u16) -> Result<()> {
        Ok(self.parts()?.1.pause_node(node)?)
    }

    /// Resumes one node by SIGCONT.
    pub fn thaw(&mut self, node: u16) -> Result<()> {
        Ok(self.parts()?.1.resume_node(node)?)
    }

    /// Starts one node again and waits until clients can use it; most of the nodes must be running.
    pub fn start(&mut self, node: u16) -> Result<()> {
        let (runtime, local) = self.parts()?;
        Ok(runtime.block_on(local.start_node(node))?)
    }

    /// Starts every node that is not running and waits until clients can use all.
    pub fn start_all(&mut self) -> Result<()> {
        let (runtime, local) = self.parts()?;
        Ok(runtime.block_on(local.start_all())?)
    }

    /// Returns the leader and the in-sync replicas of each partition of a topic.
    pub fn replicas(&self, topic: &str) -> Result<Vec<Replicas>> {
        Ok(self.runtime.block_on(self.bus.replicas(topic))?)
    }

    /// Returns partition, first offset and end of every partition of a topic.
    pub fn marks(&self, topic: &str) -> Result<Vec<(Partition, Offset, Offset)>> {
        Ok(self.runtime.block_on(self.bus.watermarks(topic))?)
    }

    /// Returns the sum over a topic's partitions of the offsets that group `group` has committed.
    pub fn committed(&self, group: &str, topic: &str) -> Result<i64> {
        let offsets = self
            .runtime
            .block_on(self.bus.group_offsets(group, topic))?;
        Ok(offsets.values().map(|offset| offset.0).sum())
    }

    /// Deletes the records of a topic before these offsets, which are given by partition from 0.
    pub fn delete_before(&self, topic: &str, offsets: &[i64]) -> Result<()> {
        let of =
            |(partition, offset): (usize, &i64)| (Partition(partition as i32), Offset(*offset));
        let before: Vec<_> = offsets.iter().enumerate().map(of).collect();
        let deleting = self.bus.delete_records(topic, &before);
        Ok(self.runtime.block_on(deleting)?)
    }

    /// Returns the payloads of a topic's current records, by partition and offset.
    pub fn read(&self, topic: &str) -> Result<Vec<Vec<u8>>> {
        self.runtime.block_on(async {
            let marks = self.bus.watermarks(topic).await?;
            let start = marks.iter().map(|(at, low, _)| (*at, *low)).collect();
            let mut left: Vec<_> = marks
                .into_iter()
                .filter(|(_, low, high)| low < high)
                .map(|(at, _, high)| (at, high))
                .collect();
            let limits = ConsumerLimits::default();
            let mut consumer = self.bus.consumer("test", topic, start, limits)?;
            let mut found = BTreeMap::new();
            while !left.is_empty() {
                let event = consumer.next().await?.context("the topic ended")?;
                if let Event::Record(record) = event {
                    let at = (record.partition, record.offset.next());
                    left.retain(|end| *end != at);
                    found.extend(record.payload.map(|payload| (at, payload.to_vec())));
                }
            }
            Ok(found.into_values().collect())
        })
    }

    fn parts(&mut self) -> Result<(&Runtime, &mut LocalKafka)> {
        let local = self.local.as_mut().context("it is there until dropped")?;
        Ok((&self.runtime, local))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // Inside the runtime, because the clients' threads may still need it.
        let _inside = self.runtime.enter();
        drop(self.local.take());
    }
}
