//! Throughput and latency of the bus: `throughput [embedded|local|HOST:PORT]`.
//!
//! The load resembles a run: a closed loop of one producer and two readers of everything, with 100
//! kB records that do not compress. Latency is measured one record at a time, from publish to
//! acknowledgement and from publish to the reader.
#![expect(clippy::print_stdout, reason = "prints what it measured")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::{join3, try_join_all};
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::{Bus, Consumer, ConsumerLimits, Embedded, Event, TopicSpec};
use vintage_control::{Offset, Partition};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const PARTITIONS: i32 = 4;
const RECORDS: u64 = 3000;
const SIZE: usize = 100_000;

#[tokio::main]
async fn main() -> Result<()> {
    let broker = std::env::args().nth(1).unwrap_or_else(|| "embedded".into());
    match broker.as_str() {
        "embedded" => {
            let embedded = Embedded::start(&[]).await?;
            measure(&embedded.bus()).await
        }
        "local" => {
            let dir = std::env::temp_dir().join(format!("vintage-bus-{}", std::process::id()));
            let begun = Instant::now();
            let kafka = LocalKafka::up(&dir, LocalOptions::default()).await?;
            println!("up in {:.1} s", begun.elapsed().as_secs_f64());
            measure(&kafka.bus()?).await?;
            kafka.down().await?;
            Ok(std::fs::remove_dir_all(&dir)?)
        }
        address => measure(&Bus::connect(address, &BTreeMap::new())?).await,
    }
}

async fn measure(bus: &Bus) -> Result<()> {
    let topic = format!("throughput-{}", std::process::id());
    let config = BTreeMap::from([("max.message.bytes".into(), "4194304".into())]);
    let name = topic.clone();
    bus.ensure_topics(&[TopicSpec {
        name,
        partitions: PARTITIONS,
        replication: 1,
        config,
    }])
    .await?;
    let producer = bus.producer("throughput")?;
    let start = || (0..PARTITIONS).map(|p| (Partition(p), Offset(0))).collect();
    let reader = |id| bus.consumer(id, &topic, start(), ConsumerLimits::default());
    let (mut first, mut second) = (reader("first")?, reader("second")?);

    let payload = noise(SIZE);
    let begun = Instant::now();
    let publish = |i: u64| {
        let payload = payload.clone();
        let (producer, topic) = (&producer, &topic);
        async move {
            producer
                .publish(topic, &i.to_le_bytes(), Vec::new(), payload)
                .await
        }
    };
    let writing = try_join_all((0..RECORDS).map(publish));
    let (written, one, two) = join3(writing, take(&mut first), take(&mut second)).await;
    written?;
    one?;
    two?;
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = RECORDS as f64 * SIZE as f64 / 1e6;
    println!(
        "{RECORDS} x {SIZE} B, 2 readers: {:.0} MB/s each way",
        megabytes / seconds
    );

    // An idle reader would block writers to the embedded broker.
    second.close();
    let mut acknowledged = Vec::new();
    let mut read = Vec::new();
    for i in 0..300 {
        let begun = Instant::now();
        publish(i).await?;
        acknowledged.push(begun.elapsed());
        first.next().await?;
        read.push(begun.elapsed());
    }
    for (what, mut times) in [("acknowledged", acknowledged), ("read", read)] {
        times.sort_unstable();
        println!(
            "{what} after {:?} (median), {:?} (99 %)",
            times[150], times[297]
        );
    }
    let before = cpu_seconds()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = cpu_seconds()? - before;
    println!(
        "one reader, nothing to read: {:.1} % of a core",
        idle / 3.0 * 100.0
    );
    Ok(())
}

/// CPU time that this process has used so far, in seconds; Linux counts it in hundredths.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

async fn take(consumer: &mut Consumer) -> vintage_bus::Result<()> {
    let mut left = RECORDS;
    while left > 0 {
        if let Some(Event::Record(_)) = consumer.next().await? {
            left -= 1;
        }
    }
    Ok(())
}

fn noise(length: usize) -> Bytes {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.flat_map(u64::to_le_bytes).take(length).collect()
}
