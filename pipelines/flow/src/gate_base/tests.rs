use std::collections::BTreeMap;
use vintage_settings::RunConfig;

use bytes::Bytes;
use vintage_archive::{Reader, Sink, SinkOptions};
use vintage_bench::synthetic::Synthetic;
use vintage_bus::{Embedded, TopicTable};
use vintage_control::{
    CheckpointManifest, Incarnation, LearnerStart, Offset, Partition, PartitionStart, Plan,
    PolicyVersion, ProducerWindow, RejectReason, Rejection, Topics,
};
use vintage_rollout::{Filled, GateBase};
use vintage_store::{Created, Store};
use vintage_trajectory::{Headers, Trajectory, encode};

use super::{of_archive, of_log};
use crate::archive_source::ends;

/// Log of one partition, and the records of its learner.
struct Place {
    broker: Embedded,
    topic: String,
    writer: vintage_bus::Producer,
    config: RunConfig,
    store: Store,
    _folder: tempfile::TempDir,
}

/// Header values and slot of a group's message.
#[derive(Clone, Copy)]
struct Told {
    producer: &'static str,
    seq: u64,
    part: (u32, u32),
    policy: &'static str,
    batch: i64,
    slot: Option<u64>,
}

const GROUP: Told = Told {
    producer: "p",
    seq: 0,
    part: (1, 1),
    policy: "lead",
    batch: -1,
    slot: None,
};

impl Place {
    async fn new() -> Self {
        let config = RunConfig::default();
        let topics: Topics = config.topic_names();
        let specs = TopicTable::builtin().specs(&topics, 1, 1);
        let broker = Embedded::start(&specs).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            writer: broker.bus().producer("writer").unwrap(),
            broker,
            topic: topics.rollouts(),
            config,
            store: Store::open(&folder.path().to_string_lossy()).unwrap(),
            _folder: folder,
        }
    }

    async fn send(&self, headers: Vec<(String, Vec<u8>)>, payload: Bytes) {
        let sent = self.writer.publish(&self.topic, b"key", headers, payload);
        sent.await.unwrap();
    }

    async fn group(&self, told: Told) {
        let mut rows: Vec<Trajectory> = Synthetic::new(1 + told.seq, 2, 4).group(told.seq);
        for row in &mut rows {
            row.policy = told.policy.to_owned();
            row.batch = told.batch;
            let slot = told.slot.map(|slot| ("slot".to_owned(), slot.to_string()));
            row.metadata = slot.map(|slot| BTreeMap::from([slot]));
        }
        let payload = encode(&rows).unwrap();
        let headers = Headers {
            run: "run".parse().unwrap(),
            policy: told.policy.to_owned(),
            group: rows[0].group_id,
            rows: rows.len() as u32,
            part: told.part,
            batch: told.batch,
            min_policy_version: PolicyVersion(0),
            max_policy_version: PolicyVersion(0),
            producer: told.producer.to_owned(),
            producer_seq: told.seq,
            crc32c: crc32c::crc32c(&payload),
            slot: None,
            replay_of: None,
            traceparent: None,
        };
        self.send(headers.to_pairs(), payload).await;
    }

    /// Writes a plan of the learner that trains and refuses these numbers.
    async fn plan(&self, version: u64, trained: &[(&str, u64)], refused: &[(Option<&str>, u64)]) {
        let golden = include_str!("../../../../schemas/control/tests/golden/plan.json");
        let mut plan: Plan = serde_json::from_str(golden).unwrap();
        let group = plan.groups[0].clone();
        plan.version = PolicyVersion(version);
        plan.rejections = refused
            .iter()
            .map(|(producer, seq)| Rejection {
                group: None,
                producer: producer.map(str::to_owned),
                producer_seq: producer.map(|_| *seq),
                records: group.records.clone(),
                reason: RejectReason::Undecodable,
                detail: String::new(),
                source: None,
            })
            .collect();
        plan.groups = trained
            .iter()
            .map(|(producer, seq)| {
                let mut group = group.clone();
                (group.producer, group.producer_seq) = ((*producer).to_owned(), *seq);
                group
            })
            .collect();
        let path = format!("plans/lead/{version}.json");
        self.keep(&path, &plan).await;
    }

    async fn keep(&self, path: &str, record: &impl serde::Serialize) {
        let created = self.store.create_json(path, record).await.unwrap();
        assert_eq!(created, Created::New);
    }

    async fn of_log(&self) -> crate::Result<GateBase> {
        of_log(&self.broker.bus(), &self.topic, &self.store, &self.config).await
    }
}

/// State of an old run whose log has lost its beginning.
async fn old_run() -> Place {
    let place = Place::new().await;
    for seq in [4, 5, 5] {
        // Two split groups, the second of which comes twice.
        for part in [(1, 2), (2, 2)] {
            place.group(Told { seq, part, ..GROUP }).await;
        }
    }
    let batch = |seq, slot| Told {
        seq,
        batch: 7,
        slot: Some(slot),
        ..GROUP
    };
    // Slot 31 never came. Number 7 is refused below.
    for group in [batch(6, 30), batch(7, 32)] {
        place.group(group).await;
    }
    let others = Told {
        policy: "other",
        producer: "q",
        ..batch(0, 33)
    };
    place.group(others).await;
    for _ in 0..20 {
        place.send(Vec::new(), Bytes::from_static(b"junk")).await;
    }

    place.plan(0, &[("gone", 0), ("gone", 1)], &[]).await;
    place.plan(1, &[("p", 0), ("p", 2)], &[(None, 0)]).await;
    let golden = include_str!("../../../../schemas/control/tests/golden/checkpoint_manifest.json");
    let mut checkpoint: CheckpointManifest = serde_json::from_str(golden).unwrap();
    checkpoint.version = PolicyVersion(2);
    let window = |next, above: &[u64], runs: &[(u64, u64)]| ProducerWindow {
        next,
        above: above.to_vec(),
        runs: runs.to_vec(),
    };
    checkpoint.producers = BTreeMap::from([
        ("gone".to_owned(), window(2, &[], &[])),
        ("p".to_owned(), window(1, &[2], &[])),
        ("late".to_owned(), window(0, &[], &[(10, 12)])),
    ]);
    let path = "checkpoints/lead/2/manifest.json";
    place.keep(path, &checkpoint).await;
    let refused = [(Some("p"), 7), (None, 0), (None, 0)];
    place.plan(2, &[("p", 3), ("p", 4)], &refused).await;
    place
}

/// Prompts of the lead's groups that the log still holds: numbers 4 to 7 of producer p.
const ASKED: [(&str, u64); 4] = [
    ("prompt-4", 1),
    ("prompt-5", 1),
    ("prompt-6", 1),
    ("prompt-7", 1),
];

/// Expected count. Producer p: 0, 2 and 3 expired, 4 to 7 in the log; gone: 2 expired; late: 3
/// expired; q: 1.
fn expected() -> GateBase {
    let filled = Filled {
        groups: 2,
        slots: [30, 32].into(),
    };
    GateBase {
        published_before: 7 + 2 + 3 + 1,
        asked: ASKED.map(|(id, groups)| (id.to_owned(), groups)).into(),
        unknown_prompts: 3 + 2 + 3,
        filled: BTreeMap::from([(7, filled)]),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_counts_groups_not_records_and_each_once() {
    let place = old_run().await;
    assert_eq!(place.of_log().await.unwrap(), expected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archive_and_log_give_the_gate_one_base() {
    let place = old_run().await;
    let root = place.store.at("archive");
    let options = SinkOptions::new(root.clone(), &place.topic, Incarnation(0));
    let bus = place.broker.bus();
    let (sink, task) = Sink::start(options, &bus).await.unwrap();
    let all = ends(&bus, &place.topic).await.unwrap();
    sink.drain_through(all).await.unwrap();
    sink.shutdown();
    task.await.unwrap().unwrap();
    let reader = Reader::new(root, &place.topic);
    let base = of_archive(&reader, &place.store, &place.config).await;
    assert_eq!(base.unwrap(), expected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_learner_never_reads_takes_no_room() {
    let place = Place::new().await;
    for seq in 0..5 {
        place.group(Told { seq, ..GROUP }).await;
    }
    assert_eq!(place.of_log().await.unwrap().published_before, 5);
    let start = LearnerStart {
        format: vintage_control::CONTROL_FORMAT.to_owned(),
        learner: "lead".parse().unwrap(),
        start: "latest".to_owned(),
        partitions: vec![PartitionStart {
            incarnation: Incarnation(0),
            partition: Partition(0),
            offset: Offset(3),
        }],
    };
    let path = "starts/lead.json";
    place.keep(path, &start).await;
    assert_eq!(place.of_log().await.unwrap().published_before, 2);
}
