//! `vintage bench archive`: a loaded topic drained to Parquet, by the sink, by a pyarrow script and
//! by what only reads.
//!
//! Every arm of every round is a process of its own, so that CPU and memory are its own; the arms
//! take turns within a round, so that what else the machine does falls on all of them alike.

mod arm;
mod load;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::Bus;

use crate::{Error, Result, error::because, median::median};

pub use self::arm::drain_as;

/// What people write who archive a topic from Python.
const SCRIPT: &str = include_str!("archive/drain.py");

/// Who drains the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Reads and decodes, and keeps nothing.
    Null,
    /// The sink.
    Vintage,
    /// A script with pyarrow and confluent-kafka.
    Pyarrow,
    /// The sink without syncs.
    NoFsync,
    /// The sink renaming files over what is there.
    NoFence,
    /// The sink with neither.
    Neither,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Vintage => "vintage",
            Self::Pyarrow => "pyarrow",
            Self::NoFsync => "no-fsync",
            Self::NoFence => "no-fence",
            Self::Neither => "neither",
        })
    }
}

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Payload to load the topic with, MB.
    pub megabytes: u64,
    /// How often each arm drains it.
    pub rounds: u32,
    /// Zstandard's level in every file.
    pub level: i32,
    /// Python with pyarrow and confluent-kafka.
    pub python: PathBuf,
    /// Who takes part.
    pub arms: Vec<Arm>,
    /// Brokers; without, a local one is brought up.
    pub broker: Option<String>,
    /// Where files are written; what a comparison leaves there is removed.
    pub dir: PathBuf,
}

/// How a program of the caller's is started that calls [`drain_as`] with the arm, and then with
/// the four arguments that follow: brokers, topic, folder, level.
pub type Start<'a> = &'a (dyn Fn(Arm) -> io::Result<Command> + Sync);

/// Who is told how far it is.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// What one process says of its drain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    /// Messages read.
    pub messages: u64,
    /// Rows in them.
    pub rows: u64,
    /// Files written.
    pub files: u64,
    /// On the disk.
    pub file_bytes: u64,
    /// Of token ids and log-probs of completions, on the disk; 0 where nothing is written.
    pub token_bytes: u64,
    /// User and system time.
    pub cpu_seconds: f64,
    /// Time it took.
    pub wall_seconds: f64,
    /// Most memory held at once.
    pub peak_rss_mb: f64,
}

/// Medians of an arm's rounds, with the extremes of what is compared first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Which.
    pub arm: Arm,
    /// CPU seconds for 1e9 bytes of payload.
    pub cpu_seconds_per_gb: f64,
    /// The least and the most of them.
    pub cpu_seconds_per_gb_range: (f64, f64),
    /// Payload in a second of wall time.
    pub mb_per_second: f64,
    /// Most memory held at once.
    pub peak_rss_mb: f64,
    /// Files written.
    pub files: u64,
    /// On the disk.
    pub file_bytes: u64,
    /// Of a completion token: its id and its log-prob.
    pub bits_per_token: f64,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Messages of the topic.
    pub messages: u64,
    /// Payload of the topic.
    pub payload_bytes: u64,
    /// Completion tokens of the topic.
    pub tokens: u64,
    /// How often each arm drained it.
    pub rounds: u32,
    /// Zstandard's level in every file.
    pub zstd_level: i32,
    /// One entry an arm.
    pub arms: Vec<Measured>,
}

/// Loads a topic and has every arm drain it.
///
/// # Errors
/// A Python without pyarrow, an arm that does not drain the whole topic, and a broker or a disk that
/// fails.
pub async fn compare(plan: &Plan, start: Start<'_>, say: Say<'_>) -> Result<Report> {
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

async fn on_broker(plan: &Plan, dir: &Path, start: Start<'_>, say: Say<'_>) -> Result<Report> {
    if let Some(address) = &plan.broker {
        let bus = Bus::connect(address, &BTreeMap::new())?;
        return compare_on(plan, dir, &bus, start, say).await;
    }
    let kafka = LocalKafka::up(&dir.join("kafka"), LocalOptions::default()).await?;
    let outcome = compare_on(plan, dir, &kafka.bus()?, start, say).await;
    kafka.down().await?;
    outcome
}

async fn compare_on(
    plan: &Plan,
    dir: &Path,
    bus: &Bus,
    start: Start<'_>,
    say: Say<'_>,
) -> Result<Report> {
    let python = Command::new(&plan.python)
        .args(["-c", "import pyarrow, confluent_kafka"])
        .stderr(Stdio::null())
        .status();
    if !python.is_ok_and(|status| status.success()) {
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
    Ok(Report {
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

/// Distinct for every call: topics of earlier ones may lie on the broker.
fn uuid_like() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!(
        "{}-{}",
        std::process::id(),
        now.unwrap_or_default().as_millis()
    )
}

fn drain(
    plan: &Plan,
    arm: Arm,
    start: Start<'_>,
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
