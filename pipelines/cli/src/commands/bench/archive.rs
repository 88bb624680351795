//! `vintage bench archive`: a loaded topic drained to Parquet, by the sink, by a pyarrow script and
//! by what only reads.

use std::process::Command;

use anyhow::{Context as _, Result};
use vintage_bench::archive::{ArchivePlan, ArchiveReport, Arm, compare, drain_as};

use crate::{
    args::{ArchiveArmArgs, ArchiveBenchArgs, BenchArm},
    commands::Context,
    output::{print_text, table},
};

/// Compares the arms.
pub(crate) async fn archive(args: &ArchiveBenchArgs, context: &Context) -> Result<()> {
    let plan = ArchivePlan {
        megabytes: args.megabytes,
        rounds: args.rounds,
        level: args.level,
        python: args.python.clone(),
        arms: args.arms().into_iter().map(Arm::from).collect(),
        broker: args.broker.clone(),
        dir: args.dir.clone(),
    };
    let own = |arm: Arm| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "archive-arm", &arm.to_string()]);
        Ok(command)
    };
    let report = compare(&plan, &own, &|line| context.screen.line(line)).await?;
    context.output.print(&report, text)
}

/// One arm, in a process of its own.
pub(crate) async fn arm(args: &ArchiveArmArgs) -> Result<()> {
    let arm = args.arm.into();
    let drained = drain_as(arm, &args.broker, &args.topic, &args.out, args.level).await?;
    let mut line = serde_json::to_string(&drained).context("cannot print the result")?;
    line.push('\n');
    print_text(&line)
}

impl From<BenchArm> for Arm {
    fn from(arm: BenchArm) -> Self {
        match arm {
            BenchArm::Null => Self::Null,
            BenchArm::Vintage => Self::Vintage,
            BenchArm::Pyarrow => Self::Pyarrow,
            BenchArm::NoFsync => Self::NoFsync,
            BenchArm::NoFence => Self::NoFence,
            BenchArm::Neither => Self::Neither,
        }
    }
}

fn text(report: &ArchiveReport) -> String {
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
