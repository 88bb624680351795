//! Benchmark of carrying rollouts through a broker. Measures rollouts that are encoded, numbered,
//! published, consumed, checked and decoded as a producer and a learner do it, against the same
//! bytes through bare librdkafka clients with the same settings.

use std::time::Instant;

use futures::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use serde::Serialize;
use vintage_bus::{Bus, ConsumerLimits, TopicTable};
use vintage_control::{BadName, Incarnation, Name, Offset, Partition, Topics};
use vintage_learner::{LogSource, RolloutSource as _};
use vintage_trajectory::Trajectory;

use crate::{
    bare::{self, Opaque},
    error::{Error, Result, of},
    median::median,
    synthetic::{Synthetic, SyntheticMessage},
    used::cpu_seconds,
};

const PARTITIONS: i32 = 4;
/// Maximum number of messages in flight, the same as a producer's.
const IN_FLIGHT: usize = 64;
/// Number of different groups in a pass, which cycles through them: more than any core's cache
/// holds.
const GROUPS: u64 = 128;

/// Size of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Payload of each pass in bytes.
    pub bytes: usize,
    /// Number of passes for each of the two ways to send.
    pub passes: usize,
    /// Number of rows (completions) in a message.
    pub rows: u16,
    /// Number of completion tokens in a row.
    pub tokens: usize,
}

/// Result of the benchmark. CPU seconds are those of this process, without the broker's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Number of messages in a pass.
    pub messages: usize,
    /// Payload of a message in bytes.
    pub message_bytes: usize,
    /// Number of passes for each of the two ways to send.
    pub passes: usize,
    /// Cost of rollouts, encoded and decoded as in a run.
    pub vintage: Arm,
    /// Cost of the same payloads as opaque bytes through bare clients.
    pub bare: Arm,
    /// Throughput of rollouts over that of bare clients, producing and consuming together: median
    /// over the passes.
    pub throughput_ratio: f64,
    /// CPU seconds of rollouts over those of bare clients, producing and consuming together: median
    /// over the passes.
    pub cpu_ratio: f64,
}

/// Medians over the passes of one way to send.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Arm {
    /// Cost from a group to its acknowledgement.
    pub produce: Phase,
    /// Cost from the log to a decoded group.
    pub consume: Phase,
    /// Cost of producing and consuming, one after the other.
    pub both: Phase,
}

/// Medians over the passes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Phase {
    /// CPU seconds of this process per 1e9 bytes of payload.
    pub cpu_s_per_gb: f64,
    /// Throughput in units of 1e9 bytes of payload per second.
    pub gb_per_s: f64,
}

/// Wall-clock seconds and CPU seconds of a measurement.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    wall: f64,
    cpu: f64,
}

impl std::ops::Add for Spent {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
        }
    }
}

/// Cost of one pass: producing, then consuming.
type Pass = [Spent; 2];

/// Measures rollouts and bare clients alternately, each pass on a new topic that is deleted
/// afterwards.
///
/// # Errors
/// [`Error::Because`] if the broker fails; [`Error::Failed`] if a message does not come back
/// intact.
pub async fn measure(bus: &Bus, load: Load) -> Result<Measured> {
    let mut synthetic = Synthetic::new(1, load.rows, load.tokens);
    let groups: Vec<_> = (0..GROUPS).map(|number| synthetic.group(number)).collect();
    let opaque = groups
        .iter()
        .zip(0..)
        .map(|(rows, seq)| {
            let message = SyntheticMessage::new(rows, seq)?;
            Ok(Opaque {
                key: message.key,
                headers: message.headers,
                payload: message.payload.to_vec(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let message_bytes = opaque[0].payload.len();
    let messages = load.bytes.div_ceil(message_bytes);
    let (mut ours, mut bare): (Vec<Pass>, Vec<Pass>) = (Vec::new(), Vec::new());
    for pass in 0..load.passes {
        // The order alternates, so neither way is always first.
        for first in [pass % 2 == 0, pass % 2 == 1] {
            let topic = fresh_topic(bus, pass, first).await?;
            if first {
                ours.push(rollouts(bus, &topic, &groups, messages).await?);
            } else {
                bare.push(bytes(bus, &topic, opaque.clone(), messages).await?);
            }
            bus.delete_topic(&topic).await.map_err(of("broker"))?;
        }
    }
    let gigabytes = (messages * message_bytes) as f64 / 1e9;
    let ratio = |of: fn(Spent) -> f64| {
        median(
            bare.iter()
                .zip(&ours)
                .map(|(bare, ours)| of(bare[0] + bare[1]) / of(ours[0] + ours[1])),
        )
    };
    Ok(Measured {
        messages,
        message_bytes,
        passes: load.passes,
        vintage: arm(&ours, gigabytes),
        bare: arm(&bare, gigabytes),
        throughput_ratio: ratio(|spent| spent.wall),
        cpu_ratio: 1.0 / ratio(|spent| spent.cpu),
    })
}

fn arm(passes: &[Pass], gigabytes: f64) -> Arm {
    let phase = |of: fn(&Pass) -> Spent| Phase {
        cpu_s_per_gb: median(passes.iter().map(|pass| of(pass).cpu)) / gigabytes,
        gb_per_s: gigabytes / median(passes.iter().map(|pass| of(pass).wall)),
    };
    Arm {
        produce: phase(|pass| pass[0]),
        consume: phase(|pass| pass[1]),
        both: phase(|pass| pass[0] + pass[1]),
    }
}

async fn fresh_topic(bus: &Bus, pass: usize, ours: bool) -> Result<String> {
    let topics = Topics {
        namespace: name("vintage")?,
        run: name(&format!(
            "bench-{pass}-{}",
            if ours { "rows" } else { "bytes" }
        ))?,
    };
    let mut specs = TopicTable::builtin().specs(&topics, PARTITIONS, 1);
    specs.truncate(1);
    bus.ensure_topics(&specs).await.map_err(of("broker"))?;
    Ok(topics.rollouts())
}

/// Measures a pass of rollouts: published as a producer does, then read as a learner does.
async fn rollouts(
    bus: &Bus,
    topic: &str,
    groups: &[Vec<Trajectory>],
    messages: usize,
) -> Result<Pass> {
    let meter = Meter::start()?;
    let producer = bus.producer("bench").map_err(of("broker"))?;
    let mut in_flight = FuturesOrdered::new();
    for (seq, rows) in (0..).zip(groups.iter().cycle().take(messages)) {
        let message = SyntheticMessage::new(rows, seq)?;
        let producer = &producer;
        in_flight.push_back(async move {
            let SyntheticMessage {
                key,
                headers,
                payload,
            } = message;
            producer.publish(topic, &key, headers, payload).await
        });
        let done = if in_flight.len() >= IN_FLIGHT {
            in_flight.next().await
        } else {
            in_flight.next().now_or_never().flatten()
        };
        done.transpose().map_err(of("broker"))?;
    }
    while let Some(sent) = in_flight.next().await {
        sent.map_err(of("broker"))?;
    }
    let produced = meter.stop()?;

    let meter = Meter::start()?;
    let start = (0..PARTITIONS).map(|partition| (Partition(partition), Offset(0)));
    let consumer = bus
        .consumer("bench", topic, start.collect(), ConsumerLimits::default())
        .map_err(of("broker"))?;
    let mut source = LogSource::new(consumer, Incarnation(0));
    for _ in 0..messages {
        let incoming = source.next().await.map_err(of("learner"))?;
        let message = incoming.map(|incoming| incoming.message);
        if !matches!(message, Some(Ok(_))) {
            let what = format!("{topic} gave back {message:?}");
            return Err(Error::Failed(what));
        }
    }
    Ok([produced, meter.stop()?])
}

async fn bytes(bus: &Bus, topic: &str, records: Vec<Opaque>, messages: usize) -> Result<Pass> {
    let (bus, topic) = (bus.clone(), topic.to_owned());
    let measuring = tokio::task::spawn_blocking(move || {
        let meter = Meter::start()?;
        bare::produce(&bus, &topic, PARTITIONS, &records, messages).map_err(of("broker"))?;
        let produced = meter.stop()?;
        let meter = Meter::start()?;
        bare::consume(&bus, &topic, PARTITIONS, messages).map_err(of("broker"))?;
        Ok([produced, meter.stop()?])
    });
    let measured = measuring.await;
    measured.map_err(of("measuring bare clients"))?
}

struct Meter {
    begun: Instant,
    cpu: f64,
}

impl Meter {
    fn start() -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            cpu: cpu_seconds()?,
        })
    }

    fn stop(&self) -> Result<Spent> {
        Ok(Spent {
            wall: self.begun.elapsed().as_secs_f64(),
            cpu: cpu_seconds()? - self.cpu,
        })
    }
}

fn name(text: &str) -> Result<Name> {
    text.parse()
        .map_err(|error: BadName| Error::Failed(error.to_string()))
}
