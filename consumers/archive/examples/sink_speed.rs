//! Measures the sink on records in memory, and the reader on what it wrote:
//! `cargo run --release -p vintage-archive --example sink_speed [FOLDER]`.
#![expect(
    clippy::print_stdout,
    reason = "a measuring program: its numbers go to stdout"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use mimalloc::MiMalloc;
use vintage_archive::{Codec, Filter, Reader, Result, Sink, SinkOptions, Source};
use vintage_bus::{Event, Header, Record};
use vintage_control::{Incarnation, Offset, Partition, PolicyVersion};
use vintage_store::Store;
use vintage_trajectory::{GroupId, Headers, LogprobMode, PolicySpan, Trajectory, encode};

/// As in the `vintage` program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const TOPIC: &str = "bench.archive.rollouts.v1";

struct Memory(VecDeque<Record>);

impl Source for Memory {
    async fn next(&mut self) -> Result<Option<Event>> {
        match self.0.pop_front() {
            Some(record) => Ok(Some(Event::Record(record))),
            None => std::future::pending().await,
        }
    }
}

struct Fed(tokio::sync::mpsc::UnboundedReceiver<Record>);

impl Source for Fed {
    async fn next(&mut self) -> Result<Option<Event>> {
        Ok(self.0.recv().await.map(Event::Record))
    }
}

/// Token ids drawn as a language's words are (few of them often), log-probs with full mantissas.
struct Text(u64);

impl Text {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn token(&mut self) -> i32 {
        (128_000_f64.powf(self.unit()) - 1.0) as i32
    }

    fn logprob(&mut self) -> f32 {
        (self.unit().ln() * 0.6) as f32
    }
}

fn message(text: &mut Text, partition: i32, offset: i64, rows: u16, tokens: usize) -> Record {
    let number = offset as u64 * 64 + partition as u64;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let version = PolicyVersion(number / 50);
    let prompt: Vec<i32> = (0..tokens / 4).map(|_| text.token()).collect();
    let rows: Vec<_> = (0..rows)
        .map(|sample_index| Trajectory {
            group_id: GroupId(id),
            group_size: rows,
            sample_index,
            policy: "lead".to_owned(),
            batch: -1,
            prompt_id: format!("prompt-{}", number % 1000),
            prompt_tokens: prompt.clone(),
            completion_tokens: (0..tokens).map(|_| text.token()).collect(),
            behavior_logprobs: (0..tokens).map(|_| text.logprob()).collect(),
            loss_mask: None,
            policy_spans: vec![PolicySpan { start: 0, version }],
            reward: f32::from(u8::from(text.unit() < 0.5)),
            reward_parts: None,
            finish_reason: "stop".to_owned(),
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            logprob_mode: LogprobMode::Full,
            engine: "local".to_owned(),
            created_at_us: 1_700_000_000_000_000 + number as i64 * 1000,
            generation_seconds: text.unit() as f32,
            prompt_text: None,
            completion_text: None,
            metadata: None,
        })
        .collect();
    let payload = encode(&rows).expect("rows encode");
    let headers = Headers {
        run: "bench".parse().expect("a name"),
        policy: "lead".to_owned(),
        group: rows[0].group_id,
        rows: rows.len() as u32,
        part: (1, 1),
        batch: -1,
        min_policy_version: version,
        max_policy_version: version,
        producer: "p0".to_owned(),
        producer_seq: number,
        crc32c: crc32c::crc32c(&payload),
        replay_of: None,
        traceparent: None,
    };
    let header = |(key, value): (String, Vec<u8>)| Header {
        key,
        value: Some(value.into()),
    };
    Record {
        partition: Partition(partition),
        offset: Offset(offset),
        timestamp_ms: Some(1_700_000_000_000 + offset),
        key: Some(Bytes::copy_from_slice(&id)),
        headers: headers.to_pairs().into_iter().map(header).collect(),
        payload: Some(payload),
    }
}

/// Seconds in user mode and in the kernel so far.
fn cpu_seconds() -> [f64; 2] {
    // utime and stime, in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut ticks = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .map(|ticks| ticks.parse::<f64>().unwrap_or_default() / 100.0);
    [
        ticks.next().unwrap_or_default(),
        ticks.next().unwrap_or_default(),
    ]
}

fn since([user, system]: [f64; 2]) -> [f64; 2] {
    let now = cpu_seconds();
    [now[0] - user, now[1] - system]
}

/// Archives `messages` of each partition, and reads them back.
async fn throughput(store: Store, codec: Codec, partitions: i32, messages: i64) -> Result<()> {
    let mut text = Text(1);
    let mut records = VecDeque::new();
    for offset in 0..messages {
        for partition in 0..partitions {
            records.push_back(message(&mut text, partition, offset, 8, 722));
        }
    }
    let bytes: usize = records
        .iter()
        .filter_map(|r| r.payload.as_ref())
        .map(Bytes::len)
        .sum();
    let tokens = records.len() * 8 * 722;
    let watermarks: Vec<_> = (0..partitions)
        .map(|p| (Partition(p), Offset(0), Offset(messages)))
        .collect();
    let ends = watermarks
        .iter()
        .map(|(partition, _, high)| (*partition, *high))
        .collect();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let options = SinkOptions {
        codec,
        ..SinkOptions::new(store.clone(), TOPIC, Incarnation(0))
    };
    let (handle, task) = Sink::start_on(options, &watermarks, |_| Ok(Memory(records))).await?;
    handle.drain_through(ends).await?;
    handle.shutdown();
    let summary = task.await.expect("the sink did not panic")?;
    let (wall, [user, system]) = (begun.elapsed().as_secs_f64(), since(cpu));
    let mb = bytes as f64 / 1e6;
    println!(
        "write {codec:?}: {} rows, {mb:.0} MB of payload in {wall:.2} s wall, {user:.2} s user, \
         {system:.2} s system: {:.0} rows/s, {:.0} MB/s wall, {:.2} CPU-s/GB; {} files, {:.0} MB, ratio {:.2}, \
         {:.1} bits per completion token all in",
        summary.rows,
        summary.rows as f64 / wall,
        mb / wall,
        (user + system) / (mb / 1e3),
        summary.files,
        summary.bytes as f64 / 1e6,
        bytes as f64 / summary.bytes as f64,
        summary.bytes as f64 * 8.0 / tokens as f64,
    );
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut rows = 0;
    let mut merged = Reader::new(store, TOPIC).merged(&Filter::default()).await?;
    while let Some(message) = merged.next().await? {
        rows += message.rows.map_or(0, |rows| rows.len());
    }
    let (wall, [user, system]) = (begun.elapsed().as_secs_f64(), since(cpu));
    println!(
        "read {codec:?}: {rows} rows in {wall:.2} s wall, {user:.2} s user, {system:.2} s system: {:.0} rows/s, \
         {:.0} MB/s of payload",
        rows as f64 / wall,
        mb / wall
    );
    Ok(())
}

/// How long a demand for ~100 small rows, spread over the partitions, takes.
async fn demand_latency(store: Store, partitions: i32) -> Result<()> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let watermarks: Vec<_> = (0..partitions)
        .map(|p| (Partition(p), Offset(0), Offset(0)))
        .collect();
    let options = SinkOptions::new(store, TOPIC, Incarnation(1));
    let (handle, task) = Sink::start_on(options, &watermarks, |_| Ok(Fed(receiver))).await?;
    let mut text = Text(2);
    let mut times = Vec::new();
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for _ in 0..50 {
        let mut bytes = 0;
        for message_number in 0..13 {
            let partition = message_number % partitions;
            let offset = next.entry(partition).or_default();
            let record = message(&mut text, partition, *offset, 8, 12);
            bytes += record.payload.as_ref().map_or(0, Bytes::len);
            *offset += 1;
            let _ = sender.send(record);
        }
        let asked = next
            .iter()
            .map(|(p, offset)| (Partition(*p), Offset(*offset)))
            .collect();
        let begun = Instant::now();
        handle.commit_through(asked).await?;
        times.push((begun.elapsed(), bytes));
    }
    times.sort_unstable();
    let ms = |at: usize| times[at].0.as_secs_f64() * 1e3;
    println!(
        "demand over {partitions} partitions, 104 rows, {} kB: median {:.1} ms, p90 {:.1} ms, max {:.1} ms",
        times[0].1 / 1000,
        ms(25),
        ms(45),
        ms(49)
    );
    handle.shutdown();
    let summary = task.await.expect("the sink did not panic")?;
    println!(
        "  {} files of {} bytes on average",
        summary.files,
        summary.bytes / summary.files
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "target/sink_speed".to_owned());
    let store = Store::open(&folder)?;
    let life = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let store = store.at(&life.unwrap_or(Duration::ZERO).as_millis().to_string());
    for partitions in [1, 4] {
        demand_latency(store.at(&format!("latency-{partitions}")), partitions).await?;
    }
    for round in 0..3 {
        throughput(
            store.at(&format!("plain-{round}")),
            Codec::Uncompressed,
            4,
            1000,
        )
        .await?;
        throughput(store.at(&format!("zstd-{round}")), Codec::Zstd(1), 4, 1000).await?;
    }
    println!("in {}", store.location());
    Ok(())
}
