//! `vintage bench archive`: measures draining a loaded topic to Parquet, by the sink, by a pyarrow
//! script and by a reader that writes nothing.
//!
//! Every arm of every round is a process of its own, so that its CPU time and memory can be told.
//! The arms take turns within a round, so that other load on the machine affects all of them alike.

mod arm;
mod load;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use vintage_bus::{Bus, LocalKafka, LocalOptions};

use super::Context;
use crate::{
    args::{ArchiveBenchArgs, BenchArm},
    output::table,
};

pub(crate) use self::arm::arm;

/// Python script of the `pyarrow` arm, written as people archive a topic from Python.
const SCRIPT: &str = include_str!("bench_archive/drain.py");

/// Measurements that one process reports of its drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Drained {
    messages: u64,
    rows: u64,
    files: u64,
    /// Bytes of the files on the disk.
    file_bytes: u64,
    /// Compressed bytes of token ids and log-probs of completions; 0 if nothing is written.
    token_bytes: u64,
    cpu_seconds: f64,
    wall_seconds: f64,
    peak_rss_mb: f64,
}

/// Medians over an arm's rounds, with the range of the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    arm: BenchArm,
    cpu_seconds_per_gb: f64,
    cpu_seconds_per_gb_range: (f64, f64),
    mb_per_second: f64,
    peak_rss_mb: f64,
    files: u64,
    file_bytes: u64,
    /// Compressed bits of a completion token: its id and its log-prob.
    bits_per_token: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Report {
    messages: u64,
    payload_bytes: u64,
    tokens: u64,
    rounds: u32,
    zstd_level: i32,
    arms: Vec<Measured>,
}

pub(crate) async fn archive(args: &ArchiveBenchArgs, context: &Context) -> Result<()> {
    let dir = args
        .dir
        .join(format!("bench-archive-{}", std::process::id()));
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let outcome = on_broker(args, &dir, context).await;
    let removed = std::fs::remove_dir_all(&dir);
    outcome?;
    removed.with_context(|| format!("cannot remove {}", dir.display()))
}

async fn on_broker(args: &ArchiveBenchArgs, dir: &Path, context: &Context) -> Result<()> {
    if let Some(address) = &args.broker {
        let bus = Bus::connect(address, &BTreeMap::new())?;
        return compare(args, dir, &bus, context).await;
    }
    let kafka = LocalKafka::up(&dir.join("kafka"), LocalOptions::default()).await?;
    let outcome = compare(args, dir, &kafka.bus()?, context).await;
    kafka.down().await?;
    outcome
}

async fn compare(args: &ArchiveBenchArgs, dir: &Path, bus: &Bus, context: &Context) -> Result<()> {
    let python = Command::new(&args.python)
        .args(["-c", "import pyarrow, confluent_kafka"])
        .stderr(Stdio::null())
        .status();
    ensure!(
        python.is_ok_and(|status| status.success()),
        "cannot run the pyarrow arm: {} has no pyarrow and confluent_kafka; install them there, or \
         give another --python",
        args.python.display()
    );
    context
        .screen
        .line(&format!("loading {} MB", args.megabytes));
    let topic = format!("vintage.bench.archive.{}", uuid_like());
    let loaded = load::topic(bus, &topic, args.megabytes * 1_000_000).await?;
    let arms = args.arms();
    let mut drained: BTreeMap<BenchArm, Vec<Drained>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for &arm in &arms {
            let out = dir.join("out");
            let found = drain(args, arm, bus.bootstrap(), &topic, &out)?;
            ensure!(
                found.messages == loaded.messages,
                "{arm} drained {} of {} messages",
                found.messages,
                loaded.messages
            );
            let per_gb = found.cpu_seconds / (loaded.payload_bytes as f64 / 1e9);
            let line = format!(
                "round {round} of {}: {arm} {per_gb:.2} CPU-s/GB",
                args.rounds
            );
            context.screen.line(&line);
            drained.entry(arm).or_default().push(found);
            if out.exists() {
                std::fs::remove_dir_all(&out)?;
            }
        }
    }
    let report = Report {
        messages: loaded.messages,
        payload_bytes: loaded.payload_bytes,
        tokens: loaded.tokens,
        rounds: args.rounds,
        zstd_level: args.level,
        arms: arms
            .iter()
            .map(|arm| measured(*arm, &drained[arm], &loaded))
            .collect(),
    };
    context.output.print(&report, text)
}

/// Returns a suffix that is distinct for every call, because topics of earlier calls may still
/// exist on the broker.
fn uuid_like() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!(
        "{}-{}",
        std::process::id(),
        now.unwrap_or_default().as_millis()
    )
}

fn drain(
    args: &ArchiveBenchArgs,
    arm: BenchArm,
    broker: &str,
    topic: &str,
    out: &Path,
) -> Result<Drained> {
    let level = args.level.to_string();
    let mut command = if arm == BenchArm::Pyarrow {
        let mut command = Command::new(&args.python);
        command.args(["-c", SCRIPT]);
        command
    } else {
        let own: PathBuf = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(own);
        command.args(["bench", "archive-arm", &arm.to_string()]);
        command
    };
    command.args([broker, topic]).arg(out).arg(&level);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{arm} failed: {}", output.status);
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{arm} said {:?}", String::from_utf8_lossy(&output.stdout)))
}

fn measured(arm: BenchArm, rounds: &[Drained], loaded: &load::Loaded) -> Measured {
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn text(report: &Report) -> String {
    let rows: Vec<_> = report
        .arms
        .iter()
        .map(|measured| {
            let (least, most) = measured.cpu_seconds_per_gb_range;
            vec![
                measured.arm.to_string(),
                format!("{:.2}", measured.cpu_seconds_per_gb),
                format!("{least:.2} to {most:.2}"),
                format!("{:.0}", measured.mb_per_second),
                format!("{:.0}", measured.peak_rss_mb),
                measured.files.to_string(),
                format!("{:.0}", measured.file_bytes as f64 / 1e6),
                format!("{:.1}", measured.bits_per_token),
            ]
        })
        .collect();
    let head = [
        "arm",
        "CPU-s/GB",
        "range",
        "MB/s",
        "RSS MB",
        "files",
        "MB",
        "bits/token",
    ];
    format!(
        "{} messages, {:.0} MB of payload, {} completion tokens; medians of {} rounds, zstd {}\n{}",
        report.messages,
        report.payload_bytes as f64 / 1e6,
        report.tokens,
        report.rounds,
        report.zstd_level,
        table(&head, &rows)
    )
}
