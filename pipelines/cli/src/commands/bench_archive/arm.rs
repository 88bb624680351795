//! One arm of `vintage bench archive`, in a process of its own.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result};
use vintage_archive::{Codec, Reader, Sink, SinkOptions, column_bytes};
use vintage_bus::Bus;
use vintage_control::{Incarnation, Partition};
use vintage_store::Store;
use vintage_trajectory::Rows;

use super::Drained;
use crate::{
    args::{ArchiveArmArgs, BenchArm},
    output::writer,
};

const LIFE: Incarnation = Incarnation(0);

/// Drains the topic as the arm requires, and prints the measurements.
pub(crate) async fn arm(args: &ArchiveArmArgs) -> Result<()> {
    let bus = Bus::connect(&args.broker, &BTreeMap::new())?;
    let marks = bus.watermarks(&args.topic).await?;
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    let mut drained = if args.arm == BenchArm::Null {
        read(&bus, args).await?
    } else {
        sink(&bus, args).await?
    };
    drained.wall_seconds = begun.elapsed().as_secs_f64();
    drained.cpu_seconds = cpu_seconds()? - cpu;
    drained.peak_rss_mb = peak_rss_mb()?;
    if args.arm != BenchArm::Null {
        drained.token_bytes = token_bytes(args, marks.len()).await?;
    }
    serde_json::to_writer(writer(), &drained).context("cannot print the result")
}

/// Reads and decodes all messages, and keeps nothing.
async fn read(bus: &Bus, args: &ArchiveArmArgs) -> Result<Drained> {
    let from = |_, low, _| Some(low);
    let mut records = bus.snapshot("bench-null", &args.topic, from).await?;
    let mut drained = nothing();
    while let Some(record) = records.next().await? {
        let payload = record.payload.context("a message without payload")?;
        drained.rows += Rows::decode(&payload)?.len() as u64;
        drained.messages += 1;
    }
    Ok(drained)
}

async fn sink(bus: &Bus, args: &ArchiveArmArgs) -> Result<Drained> {
    let (fsync, fence) = match args.arm {
        BenchArm::NoFsync => (false, true),
        BenchArm::NoFence => (true, false),
        BenchArm::Neither => (false, false),
        _ => (true, true),
    };
    let store = Store::open(&args.out.to_string_lossy())?.keeping_only(fsync, fence);
    let options = SinkOptions {
        codec: Codec::Zstd(args.level),
        ..SinkOptions::new(store, &args.topic, LIFE)
    };
    let (handle, task) = Sink::start(options, bus).await?;
    let ends = bus.record_ends(&args.topic).await?;
    handle.drain_through(ends).await?;
    handle.shutdown();
    let summary = task.await.context("the sink panicked")??;
    Ok(Drained {
        messages: summary.messages,
        rows: summary.rows,
        files: summary.files,
        file_bytes: summary.bytes,
        ..nothing()
    })
}

fn nothing() -> Drained {
    Drained {
        messages: 0,
        rows: 0,
        files: 0,
        file_bytes: 0,
        token_bytes: 0,
        cpu_seconds: 0.0,
        wall_seconds: 0.0,
        peak_rss_mb: 0.0,
    }
}

async fn token_bytes(args: &ArchiveArmArgs, partitions: usize) -> Result<u64> {
    let store = Store::open(&args.out.to_string_lossy())?;
    let reader = Reader::new(store.clone(), &args.topic);
    let mut bytes = 0;
    for partition in 0..partitions as i32 {
        for file in reader.chain(LIFE, Partition(partition)).await? {
            let columns = column_bytes(&store, &file).await?;
            let of = |name: &str| columns.get(name).copied().unwrap_or(0);
            bytes += of("completion_tokens") + of("behavior_logprobs");
        }
    }
    Ok(bytes)
}

/// Returns the user and system time of this process so far in seconds; the kernel counts them in
/// ticks of 10 ms.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")
        .context("cannot read this process's CPU time")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Ok(ticks
        .map(|ticks| ticks.parse::<f64>().unwrap_or_default() / 100.0)
        .sum())
}

fn peak_rss_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("cannot read this process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("the kernel tells no peak of memory")? * 1024.0 / 1e6)
}
