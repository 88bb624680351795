//! Three nodes of a real Kafka, of which one at a time may fall.

use std::path::Path;

use anyhow::Result;
use tokio::runtime::Runtime;
use vintage_bus::{ConsumerLimits, Event, LocalKafka, LocalOptions};
use vintage_control::{Offset, Partition};

/// A three-node Kafka on loopback, down again when dropped.
pub struct Brokers {
    // Before the runtime: its processes are ended while that still runs.
    kafka: LocalKafka,
    runtime: Runtime,
}

impl Brokers {
    /// Starts it in `folder` and waits until it is ready.
    pub fn up(folder: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let options = LocalOptions {
            nodes: Some(3),
            ..LocalOptions::default()
        };
        let kafka = runtime.block_on(LocalKafka::up(folder, options))?;
        Ok(Self { kafka, runtime })
    }

    /// As `host:port,…`.
    pub fn address(&self) -> &str {
        self.kafka.bootstrap()
    }

    /// SIGKILL to a node, from 1.
    pub fn kill(&mut self, node: u16) -> Result<()> {
        Ok(self.runtime.block_on(self.kafka.kill_node(node))?)
    }

    /// Starts a node that was killed; ready when this returns.
    pub fn start(&mut self, node: u16) -> Result<()> {
        Ok(self.runtime.block_on(self.kafka.start_node(node))?)
    }

    /// SIGSTOP to a node.
    pub fn freeze(&mut self, node: u16) -> Result<()> {
        Ok(self.kafka.pause_node(node)?)
    }

    /// SIGCONT to a node.
    pub fn thaw(&mut self, node: u16) -> Result<()> {
        Ok(self.kafka.resume_node(node)?)
    }

    /// Partition, first offset and end of every partition of a topic.
    pub fn marks(&self, topic: &str) -> Result<Vec<(i32, i64, i64)>> {
        let bus = self.kafka.bus()?;
        let marks = self.runtime.block_on(bus.watermarks(topic))?;
        let plain = |(p, low, high): (Partition, Offset, Offset)| (p.0, low.0, high.0);
        Ok(marks.into_iter().map(plain).collect())
    }

    /// Payloads of everything a topic holds now, in the order of its one partition.
    pub fn read(&self, topic: &str) -> Result<Vec<Vec<u8>>> {
        let bus = self.kafka.bus()?;
        self.runtime.block_on(async {
            let marks = bus.watermarks(topic).await?;
            let ends: Vec<_> = marks.iter().map(|(p, _, high)| (*p, *high)).collect();
            let start = marks.iter().map(|(p, low, _)| (*p, *low)).collect();
            let mut consumer = bus.consumer("chaos", topic, start, ConsumerLimits::default())?;
            let mut found = Vec::new();
            let mut left = marks.iter().filter(|(_, low, high)| low < high).count();
            while left > 0 {
                let Some(event) = consumer.next().await? else {
                    break;
                };
                if let Event::Record(record) = event {
                    let at = (record.partition, record.offset.next());
                    left -= usize::from(ends.contains(&at));
                    found.extend(record.payload.map(|payload| payload.to_vec()));
                }
            }
            consumer.close();
            Ok(found)
        })
    }
}
