//! A topic of real rollouts on a real Kafka, sinks that archive it, and the contents of both.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vintage_archive::{ArchiveFile, Filter, Reader};
use vintage_bench::synthetic::{Synthetic, SyntheticMessage};
use vintage_bus::{Bus, ConsumerLimits, Event};
use vintage_control::{Incarnation, Offset, Partition};
use vintage_store::Store;
use vintage_tests::{Kafka, Running, faulty, python, run, scrubbed, vintage};

/// CRC-32C of each payload, by partition and offset.
pub(super) type Records = BTreeMap<(Partition, Offset), u32>;

const ROWS: u16 = 4;
/// Tokens of a completion; a group is about 33 kB, and hardly smaller in a file.
const TOKENS: usize = 1000;

/// Rollouts topic and archive of one run.
pub(super) struct Place {
    folder: TempDir,
    address: String,
    name: String,
    partitions: i32,
    runtime: Runtime,
    published: std::cell::Cell<u64>,
}

impl Place {
    /// Creates a run with topics of its own on `kafka`.
    pub(super) fn new(kafka: &Kafka, name: &str, partitions: i32) -> Result<Self> {
        let place = Self {
            folder: tempfile::tempdir()?,
            address: kafka.address().to_owned(),
            name: name.to_owned(),
            partitions,
            runtime: Runtime::new()?,
            published: std::cell::Cell::new(0),
        };
        let mut apply = vintage(["topics", "apply"]);
        place.settle(&mut apply);
        let applied = run(apply)?;
        ensure!(applied.status.success(), "{}", applied.stderr);
        Ok(place)
    }

    fn settle(&self, command: &mut Command) {
        command.args(["--broker", &self.address]);
        command.args(["--set", &format!("run={}", self.name)]);
        command.args(["--set", &format!("topics.partitions={}", self.partitions)]);
    }

    pub(super) fn out(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub(super) fn topic(&self) -> String {
        format!("vintage.{}.rollouts.v1", self.name)
    }

    /// Returns the command `vintage archive` that closes a file three times a second.
    pub(super) fn sink(&self) -> Command {
        self.archive(vintage(["archive"]))
    }

    /// Returns the command of [`Place::sink`] for the program with faults.
    pub(super) fn faulty_sink(&self, faults: &str) -> Command {
        let mut command = Command::new(faulty());
        scrubbed(&mut command);
        command.arg("archive").env("VINTAGE_FAULTS", faults);
        command.env("VINTAGE_FAULTS_LOG", self.folder.path().join("faults"));
        self.archive(command)
    }

    fn archive(&self, mut command: Command) -> Command {
        command.args(["--output", "json", "--out"]).arg(self.out());
        self.settle(&mut command);
        command.args(["--set", "archive.roll_seconds=0.3"]);
        command.env("RUST_LOG", "vintage=info");
        command
    }

    /// Returns the lines that faults have written.
    pub(super) fn strikes(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.path().join("faults"))?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// Archives the contents of the log, and returns the sink's summary.
    pub(super) fn drain(&self) -> Result<Value> {
        let mut sink = Running::start(self.sink())?;
        ensure!(
            sink.says("archiving")?,
            "it ended by itself: {:?}",
            sink.wait()?
        );
        stop(sink)
    }

    /// Publishes `groups` groups.
    pub(super) fn publish(&self, groups: u64) -> Result<()> {
        let first = self.published.get();
        self.published.set(first + groups);
        let topic = self.topic();
        self.runtime.block_on(async {
            let producer = self.bus()?.producer("loader")?;
            // A seed of its own for each call, so that no two groups are alike.
            let mut made_up = Synthetic::new(first + 1, ROWS, TOKENS);
            let messages = (first..first + groups)
                .map(|number| SyntheticMessage::new(&made_up.group(number), number))
                .collect::<Result<Vec<_>, _>>()?;
            let sent = messages.into_iter().map(|message| {
                let SyntheticMessage {
                    key,
                    headers,
                    payload,
                } = message;
                let (producer, topic) = (&producer, &topic);
                async move { producer.publish(topic, &key, headers, payload).await }
            });
            try_join_all(sent).await?;
            Ok(())
        })
    }

    /// Runs `tests/python/topic.py` to change the topic.
    pub(super) fn meddle(&self, action: &[&str]) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/topic.py");
        let mut command = Command::new(python());
        command
            .arg(script)
            .args([&self.address, &self.topic()])
            .args(action);
        let ended = run(command)?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        Ok(())
    }

    fn bus(&self) -> Result<Bus> {
        Ok(Bus::connect(&self.address, &BTreeMap::new())?)
    }

    /// Returns the contents of the log.
    pub(super) fn log(&self) -> Result<Records> {
        self.runtime.block_on(async {
            let bus = self.bus()?;
            let marks = bus.watermarks(&self.topic()).await?;
            let starts = marks.iter().map(|(p, low, _)| (*p, *low)).collect();
            let mut left: BTreeSet<_> = marks
                .iter()
                .filter(|(_, low, high)| low < high)
                .map(|(p, _, high)| (*p, *high))
                .collect();
            let limits = ConsumerLimits::default();
            let mut consumer = bus.consumer("auditor", &self.topic(), starts, limits)?;
            let mut records = Records::new();
            while !left.is_empty() {
                let event = consumer.next().await?.context("the log ended")?;
                if let Event::Record(record) = event {
                    left.remove(&(record.partition, record.offset.next()));
                    let payload = record.payload.unwrap_or_default();
                    let at = (record.partition, record.offset);
                    records.insert(at, crc32c::crc32c(&payload));
                }
            }
            Ok(records)
        })
    }

    /// Returns the sum over the topic's partitions of the offsets that group `group` has committed.
    pub(super) fn committed(&self, group: &str) -> Result<i64> {
        self.runtime.block_on(async {
            let offsets = self.bus()?.group_offsets(group, &self.topic()).await?;
            Ok(offsets.values().map(|offset| offset.0).sum())
        })
    }

    fn reader(&self) -> Result<Reader> {
        let archive = self.out().join("archive");
        let store = Store::open(archive.to_str().context("a path in Unicode")?)?;
        Ok(Reader::new(store, &self.topic()))
    }

    /// Returns the contents of the archive; checks that every chain is whole and that no record is
    /// there twice.
    pub(super) fn archived(&self) -> Result<Records> {
        self.runtime.block_on(async {
            let mut records = Records::new();
            let mut merged = self.reader()?.merged(&Filter::default()).await?;
            while let Some(message) = merged.next().await? {
                let at = (message.record.partition, message.record.offset);
                let crc32c = message
                    .payload_crc32c
                    .context("every record has a payload")?;
                ensure!(message.rows.is_ok(), "{at:?} could not be decoded");
                ensure!(
                    records.insert(at, crc32c).is_none(),
                    "{at:?} is there twice"
                );
            }
            Ok(records)
        })
    }

    /// Returns the files of every partition.
    pub(super) fn files(&self) -> Result<Vec<ArchiveFile>> {
        self.runtime.block_on(async {
            let reader = self.reader()?;
            let mut files = Vec::new();
            for partition in 0..self.partitions {
                files.extend(reader.chain(Incarnation(0), Partition(partition)).await?);
            }
            Ok(files)
        })
    }

    /// Checks that the archive holds the contents of the log, and nothing else.
    pub(super) fn agrees(&self) -> Result<()> {
        let (log, archived) = (self.log()?, self.archived()?);
        ensure!(
            log.len() as u64 == self.published.get(),
            "{} records in the log",
            log.len()
        );
        ensure!(
            archived == log,
            "log and archive differ:\n{log:?}\n{archived:?}"
        );
        Ok(())
    }
}

pub(super) fn pid(running: &Running) -> Result<Pid> {
    Pid::from_raw(running.id() as i32).context("a process without a number")
}

/// Sends SIGTERM to a sink, which archives the contents of the log, and returns its summary.
pub(super) fn stop(sink: Running) -> Result<Value> {
    kill_process(pid(&sink)?, Signal::TERM)?;
    sink.wait()?.json()
}
