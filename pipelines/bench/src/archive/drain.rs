//! Drain of a topic by one arm of `vintage bench archive`, in a process of its own.

use std::{collections::BTreeMap, path::Path, time::Instant};

use vintage_archive::{Codec, Reader, Sink, SinkOptions, column_bytes};
use vintage_bus::Bus;
use vintage_control::{Incarnation, Partition};
use vintage_store::Store;
use vintage_trajectory::Rows;

use super::arm::{Arm, Drained};
use crate::{
    error::{Error, Result, because},
    used::{cpu_seconds, peak_rss_mb},
};

const INCARNATION: Incarnation = Incarnation(0);

/// Drains `topic` into the folder `out` by the given arm, and measures time, CPU time and memory of
/// this process.
///
/// # Errors
/// A broker or disk that fails, or a message that is not a rollout.
pub async fn drain_as(
    arm: Arm,
    broker: &str,
    topic: &str,
    out: &Path,
    level: i32,
) -> Result<Drained> {
    let bus = Bus::connect(broker, &BTreeMap::new())?;
    let marks = bus.watermarks(topic).await?;
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    let mut drained = if arm == Arm::Null {
        read(&bus, topic).await?
    } else {
        sink(&bus, arm, topic, out, level).await?
    };
    drained.wall_seconds = begun.elapsed().as_secs_f64();
    drained.cpu_seconds = cpu_seconds()? - cpu;
    drained.peak_rss_mb = peak_rss_mb()?;
    if arm != Arm::Null {
        drained.token_bytes = token_bytes(topic, out, marks.len()).await?;
    }
    Ok(drained)
}

/// Reads and decodes every record, and writes nothing.
async fn read(bus: &Bus, topic: &str) -> Result<Drained> {
    let from = |_, low, _| Some(low);
    let mut records = bus.snapshot("bench-null", topic, from).await?;
    let mut drained = Drained::default();
    while let Some(record) = records.next().await? {
        let payload = record
            .payload
            .ok_or_else(|| Error::Failed("a message without payload".to_owned()))?;
        drained.rows += Rows::sharing(&payload)?.len() as u64;
        drained.messages += 1;
    }
    Ok(drained)
}

async fn sink(bus: &Bus, arm: Arm, topic: &str, out: &Path, level: i32) -> Result<Drained> {
    let (fsync, fence) = match arm {
        Arm::NoFsync => (false, true),
        Arm::NoFence => (true, false),
        Arm::Neither => (false, false),
        _ => (true, true),
    };
    let store = Store::open(&out.to_string_lossy())?.keeping_only(fsync, fence);
    let options = SinkOptions {
        codec: Codec::Zstd(level),
        ..SinkOptions::new(store, topic, INCARNATION)
    };
    let (handle, task) = Sink::start(options, bus).await?;
    let ends = bus.record_ends(topic).await?;
    handle.drain_up_to(ends).await?;
    handle.shutdown();
    let summary = task.await.map_err(because("the sink panicked"))??;
    Ok(Drained {
        messages: summary.messages,
        rows: summary.rows,
        files: summary.files,
        file_bytes: summary.bytes,
        ..Drained::default()
    })
}

async fn token_bytes(topic: &str, out: &Path, partitions: usize) -> Result<u64> {
    let store = Store::open(&out.to_string_lossy())?;
    let reader = Reader::new(store.clone(), topic);
    let mut bytes = 0;
    for partition in 0..partitions as i32 {
        for file in reader.chain(INCARNATION, Partition(partition)).await? {
            let columns = column_bytes(&store, &file).await?;
            let of = |name: &str| columns.get(name).copied().unwrap_or(0);
            bytes += of("completion_tokens") + of("behavior_logprobs");
        }
    }
    Ok(bytes)
}
