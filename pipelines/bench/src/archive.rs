//! Benchmark of archiving (`vintage bench archive`): drains a loaded topic to Parquet by the sink
//! and by a pyarrow script, and by a reader that writes nothing.
//!
//! Every arm of every round runs in a process of its own, so that its CPU time and memory can be
//! measured. The arms take turns within a round, so that other load on the machine affects all of
//! them alike.

mod arm;
mod drain;
mod load;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Serialize;
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::Bus;

use crate::{
    error::{Error, Result, because},
    median::median,
};

pub use self::{
    arm::{Arm, Drained},
    drain::drain_as,
};

/// Script that archives a topic as a Python user would write it; the arm [`Arm::Pyarrow`].
const SCRIPT: &str = include_str!("archive/drain.py");

/// Arms, load and settings of a comparison.
#[derive(Debug, Clone)]
pub struct ArchivePlan {
    /// Payload to load the topic with, in MB (1e6 bytes).
    pub megabytes: u64,
    /// Number of times each arm drains the topic.
    pub rounds: u32,
    /// Level of Zstandard in every file.
    pub level: i32,
    /// Path of a Python with pyarrow and confluent-kafka.
    pub python: PathBuf,
    /// Arms to compare.
    pub arms: Vec<Arm>,
    /// Brokers as `host:port`; `None` starts a local one.
    pub broker: Option<String>,
    /// Folder to write files in; they are removed afterwards.
    pub dir: PathBuf,
}

/// Function that returns the command of a program that calls [`drain_as`] for an arm. Four
/// arguments are appended to the command: brokers, topic, folder, level.
pub type StartArm<'a> = &'a (dyn Fn(Arm) -> io::Result<Command> + Sync);

/// Function that receives a line of text about each step.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// Measurements of one arm: medians over its rounds. Numbers about files are those of the last
/// round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Arm that was measured.
    pub arm: Arm,
    /// CPU seconds per 1e9 bytes of payload.
    pub cpu_seconds_per_gb: f64,
    /// Smallest and largest `cpu_seconds_per_gb` of a round.
    pub cpu_seconds_per_gb_range: (f64, f64),
    /// Throughput in MB (1e6 bytes) of payload per second of wall-clock time.
    pub mb_per_second: f64,
    /// Peak memory of the process, in MB (1e6 bytes).
    pub peak_rss_mb: f64,
    /// Number of files written in the last round.
    pub files: u64,
    /// Size of the last round's files on disk, in bytes.
    pub file_bytes: u64,
    /// Size on disk of a completion token, id and log-prob together, in bits.
    pub bits_per_token: f64,
}

/// Result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArchiveReport {
    /// Number of messages in the topic.
    pub messages: u64,
    /// Payload of the topic, in bytes.
    pub payload_bytes: u64,
    /// Number of completion tokens in the topic.
    pub tokens: u64,
    /// Number of times each arm drained the topic.
    pub rounds: u32,
    /// Level of Zstandard in every file.
    pub zstd_level: i32,
    /// Measurements of each arm, in the plan's order.
    pub arms: Vec<Measured>,
}

/// Loads a topic, lets every arm drain it in every round, and returns the measurements.
///
/// # Errors
/// A Python without pyarrow or confluent-kafka, an arm that does not drain the whole topic, or a
/// broker or disk that fails.
pub async fn compare(
    plan: &ArchivePlan,
    start: StartArm<'_>,
    say: Say<'_>,
) -> Result<ArchiveReport> {
    let dir = plan
        .dir
        .join(format!("bench-archive-{}", std::process::id()));
    let at = dir.display();
    std::fs::create_dir_all(&dir).map_err(because(format!("cannot make the folder {at}")))?;
    let outcome = on_broker(plan, &dir, start, say).await;
    let removed = std::fs::remove_dir_all(&dir);
    let report = outcome?;
    removed.map_err(because(format!("cannot remove {at}")))?;
    Ok(report)
}

async fn on_broker(
    plan: &ArchivePlan,
    dir: &Path,
    start: StartArm<'_>,
    say: Say<'_>,
) -> Result<ArchiveReport> {
    if let Some(address) = &plan.broker {
        let bus = Bus::connect(address, &BTreeMap::new())?;
        return compare_on(plan, dir, &bus, start, say).await;
    }
    let kafka = LocalKafka::up(&dir.join("kafka"), LocalOptions::default()).await?;
    let outcome = compare_on(plan, dir, &kafka.bus()?, start, say).await;
    kafka.down_after(outcome).await
}

/// Returns true if this Python can run the pyarrow arm.
fn has_packages(python: &Path) -> bool {
    let status = Command::new(python)
        .args(["-c", "import pyarrow, confluent_kafka"])
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

async fn compare_on(
    plan: &ArchivePlan,
    dir: &Path,
    bus: &Bus,
    start: StartArm<'_>,
    say: Say<'_>,
) -> Result<ArchiveReport> {
    if plan.arms.contains(&Arm::Pyarrow) && !has_packages(&plan.python) {
        return Err(Error::Failed(format!(
            "cannot run the pyarrow arm: {} has no pyarrow and confluent_kafka; install them there, \
             or give another --python",
            plan.python.display()
        )));
    }
    say(&format!("loading {} MB", plan.megabytes));
    let topic = format!("vintage.bench.archive.{}", uuid_like());
    let loaded = load::topic(bus, &topic, plan.megabytes * 1_000_000).await?;
    let mut drained: BTreeMap<Arm, Vec<Drained>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for &arm in &plan.arms {
            let out = dir.join("out");
            let found = drain(plan, arm, start, bus.bootstrap(), &topic, &out)?;
            if found.messages != loaded.messages {
                return Err(Error::Failed(format!(
                    "{arm} drained {} of {} messages",
                    found.messages, loaded.messages
                )));
            }
            let per_gb = found.cpu_seconds / (loaded.payload_bytes as f64 / 1e9);
            say(&format!(
                "round {round} of {}: {arm} {per_gb:.2} CPU-s/GB",
                plan.rounds
            ));
            drained.entry(arm).or_default().push(found);
            if out.exists() {
                std::fs::remove_dir_all(&out)
                    .map_err(because(format!("cannot remove {}", out.display())))?;
            }
        }
    }
    Ok(ArchiveReport {
        messages: loaded.messages,
        payload_bytes: loaded.payload_bytes,
        tokens: loaded.tokens,
        rounds: plan.rounds,
        zstd_level: plan.level,
        arms: plan
            .arms
            .iter()
            .map(|arm| measured(*arm, &drained[arm], &loaded))
            .collect(),
    })
}

/// Returns a topic name's suffix of process id and time in ms, so that the topic differs from those
/// of earlier comparisons on the same broker.
fn uuid_like() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!(
        "{}-{}",
        std::process::id(),
        now.unwrap_or_default().as_millis()
    )
}

fn drain(
    plan: &ArchivePlan,
    arm: Arm,
    start: StartArm<'_>,
    broker: &str,
    topic: &str,
    out: &Path,
) -> Result<Drained> {
    let level = plan.level.to_string();
    let mut command = if arm == Arm::Pyarrow {
        let mut command = Command::new(&plan.python);
        command.args(["-c", SCRIPT]);
        command
    } else {
        start(arm).map_err(because("cannot find this program"))?
    };
    command.args([broker, topic]).arg(out).arg(&level);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(because(format!("cannot start {command:?}")))?;
    if !output.status.success() {
        let what = format!("{arm} failed: {}", output.status);
        return Err(Error::Failed(what));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_slice(&output.stdout).map_err(because(format!("{arm} said {said:?}")))
}

fn measured(arm: Arm, rounds: &[Drained], loaded: &load::Loaded) -> Measured {
    let gb = loaded.payload_bytes as f64 / 1e9;
    let mut cpu: Vec<_> = rounds.iter().map(|round| round.cpu_seconds / gb).collect();
    cpu.sort_by(f64::total_cmp);
    let last = rounds.last();
    Measured {
        arm,
        cpu_seconds_per_gb: median(rounds.iter().map(|round| round.cpu_seconds / gb)),
        cpu_seconds_per_gb_range: (cpu[0], cpu[cpu.len() - 1]),
        mb_per_second: median(rounds.iter().map(|round| 1e3 * gb / round.wall_seconds)),
        peak_rss_mb: median(rounds.iter().map(|round| round.peak_rss_mb)),
        files: last.map_or(0, |round| round.files),
        file_bytes: last.map_or(0, |round| round.file_bytes),
        bits_per_token: last.map_or(0.0, |round| {
            8.0 * round.token_bytes as f64 / loaded.tokens as f64
        }),
    }
}
