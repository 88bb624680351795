//! Fixtures of the tests: rollouts, a log in memory, and an archive to write.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::watch;
use vintage_bus::{Event, Header, Record};
use vintage_control::{Incarnation, Offset, Partition, PolicyVersion};
use vintage_store::Store;
use vintage_trajectory::{GroupId, Headers, LogprobMode, PolicySpan, Trajectory, encode};

use crate::{
    error::Result,
    filter::Filter,
    handle::SinkHandle,
    message::ArchivedMessage,
    options::SinkOptions,
    path::TopicFolder,
    reader::Reader,
    sink::{Sink, SinkTask},
    source::SinkSource,
};

pub(crate) const TOPIC: &str = "test.archive.rollouts.v1";
pub(crate) const INCARNATION: Incarnation = Incarnation(0);

/// Returns the folder in which [`TOPIC`] is archived.
pub(crate) fn topic_folder() -> Arc<TopicFolder> {
    Arc::new(TopicFolder::keyed(TOPIC))
}

pub(crate) fn scratch() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    (folder, store)
}

/// Xorshift generator: the tests need variety, not quality.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Returns a group in which every column has values.
pub(crate) fn group(number: u64, rows: u16, tokens: usize, version: u64) -> Vec<Trajectory> {
    let mut dice = Dice(number * 7919 + 1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let prompt: Vec<i32> = (0..=tokens / 4).map(|_| dice.roll(32_000) as i32).collect();
    (0..rows)
        .map(|sample| {
            let length = tokens + dice.roll(3) as usize;
            let optional = dice.roll(2) == 0;
            Trajectory {
                group_id: GroupId(id),
                group_size: rows,
                sample_index: sample,
                policy: "lead".to_owned(),
                batch: -1,
                prompt_id: format!("prompt-{}", number % 5),
                prompt_tokens: prompt.clone(),
                completion_tokens: (0..length).map(|_| dice.roll(32_000) as i32).collect(),
                behavior_logprobs: (0..length)
                    .map(|_| -(dice.roll(1 << 22) as f32) / 9e5)
                    .collect(),
                loss_mask: optional.then(|| (0..length).map(|at| at % 3 != 0).collect()),
                policy_spans: vec![
                    PolicySpan {
                        start: 0,
                        version: PolicyVersion(version),
                    },
                    PolicySpan {
                        start: 1,
                        version: PolicyVersion(version + 1),
                    },
                ],
                reward: dice.roll(2) as f32,
                reward_parts: optional.then(|| {
                    BTreeMap::from([("exact".to_owned(), 1.0), ("format".to_owned(), 0.5)])
                }),
                finish_reason: "stop".to_owned(),
                temperature: 1.0,
                top_p: 1.0,
                top_k: 0,
                logprob_mode: LogprobMode::Full,
                engine: "local".to_owned(),
                created_at_us: 1_700_000_000_000_000 + number as i64,
                generation_seconds: 0.25,
                prompt_text: Some("1+1=".to_owned()),
                completion_text: optional.then(|| "2 ümlaut".to_owned()),
                metadata: optional
                    .then(|| BTreeMap::from([("source".to_owned(), number.to_string())])),
            }
        })
        .collect()
}

/// Returns headers and payload of a message.
pub(crate) fn published(number: u64, rows: &[Trajectory]) -> (Vec<(String, Vec<u8>)>, Bytes) {
    let payload = encode(rows).unwrap();
    let versions = rows
        .iter()
        .flat_map(|row| row.policy_spans.iter().map(|span| span.version));
    let headers = Headers {
        run: "archive".parse().unwrap(),
        policy: "lead".to_owned(),
        group: rows[0].group_id,
        rows: rows.len() as u32,
        part: (1, 1),
        batch: -1,
        min_policy_version: versions.clone().min().unwrap(),
        max_policy_version: versions.max().unwrap(),
        producer: "p0".to_owned(),
        producer_seq: number,
        crc32c: crc32c::crc32c(&payload),
        slot: None,
        replay_of: None,
        traceparent: None,
    };
    (headers.to_pairs(), payload)
}

pub(crate) fn record(partition: i32, offset: i64, rows: &[Trajectory]) -> Record {
    let (headers, payload) = published(offset as u64, rows);
    let header = |(key, value): (String, Vec<u8>)| Header {
        key,
        value: Some(value.into()),
    };
    Record {
        partition: Partition(partition),
        offset: Offset(offset),
        timestamp_ms: Some(1_700_000_000_000 + 10 * offset),
        key: Some(Bytes::copy_from_slice(&rows[0].group_id.0)),
        headers: headers.into_iter().map(header).collect(),
        payload: Some(payload),
    }
}

/// Returns the group that [`Log::small`] has at an offset.
pub(crate) fn group_at(partition: i32, offset: i64) -> Vec<Trajectory> {
    let number = (partition as u64) << 32 | offset as u64;
    group(number, 2 + (offset % 3) as u16, 5, offset as u64 / 4)
}

/// Topic in memory that sinks can read from any offset on.
#[derive(Clone)]
pub(crate) struct Log {
    partitions: Arc<Mutex<Vec<Vec<Record>>>>,
    appended: watch::Sender<()>,
}

impl Log {
    pub(crate) fn new(partitions: usize) -> Self {
        let partitions = Arc::new(Mutex::new(vec![Vec::new(); partitions]));
        Self {
            partitions,
            appended: watch::Sender::new(()),
        }
    }

    /// Returns a log of `messages` small messages in each partition.
    pub(crate) fn small(partitions: usize, messages: i64) -> Self {
        let log = Self::new(partitions);
        log.grow(messages);
        log
    }

    /// Adds `messages` small messages to each partition.
    pub(crate) fn grow(&self, messages: i64) {
        let partitions = self.partitions.lock().unwrap().len();
        for partition in 0..partitions as i32 {
            for _ in 0..messages {
                let offset = self.partitions.lock().unwrap()[partition as usize].len() as i64;
                self.append(record(partition, offset, &group_at(partition, offset)));
            }
        }
    }

    pub(crate) fn append(&self, record: Record) {
        let partition = record.partition.0 as usize;
        self.partitions.lock().unwrap()[partition].push(record);
        self.appended.send_replace(());
    }

    /// Returns the first offset not written of each partition.
    pub(crate) fn ends(&self) -> Vec<(Partition, Offset)> {
        let partitions = self.partitions.lock().unwrap();
        let ends = partitions.iter().enumerate();
        ends.map(|(p, records)| (Partition(p as i32), Offset(records.len() as i64)))
            .collect()
    }

    pub(crate) fn reader(&self, starts: &[(Partition, Offset)]) -> LogReader {
        let appended = self.appended.subscribe();
        LogReader {
            log: self.clone(),
            next: starts.to_vec(),
            turn: 0,
            appended,
            limit: None,
        }
    }

    fn at(&self, partition: Partition, offset: Offset) -> Option<Record> {
        self.partitions.lock().unwrap()[partition.0 as usize]
            .get(offset.0 as usize)
            .cloned()
    }
}

/// Source that reads the partitions in turn and waits at the end.
pub(crate) struct LogReader {
    log: Log,
    next: Vec<(Partition, Offset)>,
    turn: usize,
    appended: watch::Receiver<()>,
    /// Number of records to deliver before waiting for ever.
    pub(crate) limit: Option<usize>,
}

impl SinkSource for LogReader {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if self.limit == Some(0) {
                return std::future::pending().await;
            }
            self.appended.borrow_and_update();
            for _ in 0..self.next.len() {
                self.turn = (self.turn + 1) % self.next.len();
                let (partition, offset) = self.next[self.turn];
                if let Some(record) = self.log.at(partition, offset) {
                    self.next[self.turn].1 = offset.next();
                    self.limit = self.limit.map(|left| left - 1);
                    return Ok(Some(Event::Record(record)));
                }
            }
            self.appended.changed().await.unwrap();
        }
    }
}

/// Recovers and starts a sink on `log`, which reads at most `limit` records.
pub(crate) async fn start_limited(
    options: SinkOptions,
    log: &Log,
    limit: Option<usize>,
) -> Result<(SinkHandle, SinkTask)> {
    let ends = log
        .ends()
        .into_iter()
        .map(|(partition, end)| (partition, Offset(0), end));
    let watermarks: Vec<_> = ends.collect();
    let source = |starts: &[_]| {
        let mut source = log.reader(starts);
        source.limit = limit;
        Ok(source)
    };
    Sink::start_on(options, &watermarks, source).await
}

pub(crate) async fn start(options: SinkOptions, log: &Log) -> (SinkHandle, SinkTask) {
    start_limited(options, log, None).await.unwrap()
}

pub(crate) fn options(store: &Store) -> SinkOptions {
    SinkOptions::new(store.clone(), TOPIC, INCARNATION)
}

/// Archives all of `log` in one go.
pub(crate) async fn archive(store: &Store, log: &Log) {
    let (handle, task) = start(options(store), log).await;
    handle.drain_up_to(log.ends()).await.unwrap();
    handle.shutdown();
    task.await.unwrap().unwrap();
}

pub(crate) async fn messages(
    store: &Store,
    partition: i32,
    filter: &Filter,
) -> Vec<ArchivedMessage> {
    let reader = Reader::new(store.clone(), TOPIC);
    let mut messages = reader
        .messages(INCARNATION, Partition(partition), filter)
        .await
        .unwrap();
    let mut all = Vec::new();
    while let Some(message) = messages.next().await.unwrap() {
        all.push(message);
    }
    all
}

/// Checks that the archive holds each record of `log` once and as it was, and nothing else.
pub(crate) async fn assert_holds(store: &Store, log: &Log) {
    for (partition, end) in log.ends() {
        let archived = messages(store, partition.0, &Filter::default()).await;
        assert_eq!(
            archived.len() as i64,
            end.0,
            "messages of partition {partition}"
        );
        for (offset, message) in archived.iter().enumerate() {
            let record = log.at(partition, Offset(offset as i64)).unwrap();
            assert_eq!(
                (message.record.partition, message.record.offset),
                (partition, record.offset)
            );
            assert_eq!(message.timestamp_ms, record.timestamp_ms);
            assert_eq!(message.key, record.key);
            assert_eq!(message.raw_headers, record.headers);
            assert_eq!(
                message.payload_crc32c,
                record.payload.as_deref().map(crc32c::crc32c)
            );
            let rows = message.rows.as_ref().unwrap().to_trajectories();
            assert_eq!(rows, group_at(partition.0, record.offset.0));
        }
    }
}
