use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    io::Cursor,
    path::Path,
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use vintage_bus::{Bus, Consumer, ConsumerLimits, Embedded, Event, TopicTable};
use vintage_control::{
    CONTROL_FORMAT, Name, Offset, PolicyAnnouncement, PolicyVersion, Sha256, Topics,
};
use vintage_settings::{AnswerKind, RolloutConfig};
use vintage_trajectory::{Headers, Rows, Trajectory, validate};

use super::{lead::Report, scripted::ScriptedEngine};
use crate::{
    Error, ProducerEvent, ProducerSummary, PromptSet, VerifierReward, Worker, WorkerSetup,
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const BATCH: u64 = 4;
pub(super) const GROUP: u16 = 3;
pub(super) const SEED: u64 = 11;
/// Groups in one call of the engine.
pub(super) const CALL: usize = 3;
/// Run with a broker of its own, whose lead learner is the test.
pub(super) struct Stage {
    pub(super) broker: Embedded,
    pub(super) topics: Topics,
    pub(super) policy: Name,
    pub(super) rollouts: Consumer,
    pub(super) announcer: vintage_bus::Producer,
    pub(super) journals: tempfile::TempDir,
    pub(super) reports: Consumer,
    /// Reports that were read while those of another producer were waited for.
    pub(super) unread: VecDeque<Report>,
    /// Number of the newest report read, by producer.
    pub(super) reported: BTreeMap<String, u64>,
    /// Number of the newest record of grants.
    pub(super) granted: Cell<u64>,
}

/// One group as stored in the log.
pub(super) struct Group {
    pub(super) headers: Headers,
    pub(super) parts: u32,
    pub(super) rows: Vec<Trajectory>,
}

impl Group {
    /// Slot of the group, which its header and the metadata of all its rows name.
    pub(super) fn slot(&self) -> u64 {
        let slot = self.headers.slot.expect("a slot in the headers").0;
        for row in &self.rows {
            let metadata = row.metadata.as_ref().unwrap();
            assert_eq!(metadata["slot"], slot.to_string());
        }
        slot
    }
}

impl Stage {
    pub(super) async fn new() -> Self {
        let topics = Topics {
            namespace: "test".parse().unwrap(),
            run: "lease-run".parse().unwrap(),
        };
        let specs = TopicTable::builtin().specs(&topics, 2, 1);
        let broker = Embedded::start(&specs).await.unwrap();
        let bus = broker.bus();
        let rollouts = reader(&bus, "learner", &topics.rollouts()).await;
        let reports = reader(&bus, "learner-reports", &topics.producers()).await;
        let announcer = bus.producer("learner-announcer").unwrap();
        let journals = tempfile::tempdir().unwrap();
        Self {
            broker,
            topics,
            policy: "main".parse().unwrap(),
            rollouts,
            announcer,
            journals,
            reports,
            unread: VecDeque::new(),
            reported: BTreeMap::new(),
            granted: Cell::new(0),
        }
    }

    pub(super) fn bus(&self) -> Bus {
        self.broker.bus()
    }

    pub(super) fn setup(&self, engine: ScriptedEngine) -> WorkerSetup {
        let rollout = RolloutConfig {
            group_size: GROUP,
            max_tokens: 5,
            concurrent_groups: CALL,
            ..Default::default()
        };
        WorkerSetup {
            bus: self.bus(),
            topics: self.topics.clone(),
            table: TopicTable::builtin(),
            policy: self.policy.clone(),
            engine: Box::new(engine),
            reward: Box::new(VerifierReward::new(AnswerKind::Number)),
            environment: None,
            prompts: prompts(7),
            producer: "scripted".parse().unwrap(),
            rollout,
            seed: SEED,
            groups_per_update: BATCH,
            updates: None,
            updates_of_run: true,
            journal_dir: Some(self.journals.path().to_owned()),
        }
    }

    pub(super) async fn announce(&self, change: impl FnOnce(&mut PolicyAnnouncement)) {
        let mut record = PolicyAnnouncement {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            version: PolicyVersion::ZERO,
            weights_sha256: Sha256([0; 32]),
            retained: vec![PolicyVersion::ZERO],
            groups_trained: 0,
            groups_rejected: 0,
            numbered_rejections: None,
            refused_batches: BTreeMap::new(),
            groups_per_update: BATCH,
            steps: None,
            finished: false,
        };
        change(&mut record);
        let payload = serde_json::to_vec(&record).unwrap();
        self.publish_policy(&payload).await;
    }

    pub(super) async fn publish_policy(&self, payload: &[u8]) {
        let (topic, key) = (self.topics.policies(), self.policy.as_str().as_bytes());
        let payload = bytes::Bytes::copy_from_slice(payload);
        self.announcer
            .publish(&topic, key, Vec::new(), payload)
            .await
            .unwrap();
    }

    pub(super) async fn version(&self, version: u64) {
        self.announce(|record| record.version = PolicyVersion(version))
            .await;
    }

    pub(super) async fn finish(&self) {
        self.announce(|record| {
            record.version = PolicyVersion(1000);
            record.finished = true;
        })
        .await;
    }

    /// Reads the next `count` groups of the log, checked as a learner would.
    pub(super) async fn groups(&mut self, count: usize) -> Vec<Group> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut whole = 0;
        while whole < count {
            let event = timeout(PATIENCE, self.rollouts.next())
                .await
                .expect("a group in time");
            let Some(Event::Record(record)) = event.unwrap() else {
                continue;
            };
            let pairs = record
                .headers
                .iter()
                .map(|h| (h.key.as_str(), h.value.as_deref()));
            let headers = Headers::parse(pairs).unwrap();
            let payload = record.payload.unwrap();
            headers.check_payload(&payload).unwrap();
            let rows = Rows::decode(&payload).unwrap();
            validate(&rows).unwrap();
            assert_eq!(record.key.as_deref(), Some(&headers.group.0[..]));
            assert_eq!(headers.rows as usize, rows.len());
            let id = headers.group.to_string();
            let group = groups.entry(id).or_insert_with(|| Group {
                headers: headers.clone(),
                parts: 0,
                rows: Vec::new(),
            });
            group.parts += 1;
            assert_eq!(headers.part, (group.parts, group.headers.part.1));
            assert_eq!(headers.producer_seq, group.headers.producer_seq);
            assert!(headers.slot.is_some());
            assert_eq!(headers.slot, group.headers.slot);
            group.rows.extend(rows.to_trajectories());
            if group.parts == group.headers.part.1 {
                whole += 1;
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group.headers.producer_seq);
        groups
    }
}

async fn reader(bus: &Bus, client: &str, topic: &str) -> Consumer {
    let start = bus.partitions(topic).await.unwrap();
    let start = start
        .into_iter()
        .map(|partition| (partition, Offset(0)))
        .collect();
    bus.consumer(client, topic, start, ConsumerLimits::default())
        .unwrap()
}

/// Slots of groups, in the order of the groups.
pub(super) fn slots(groups: &[Group]) -> Vec<u64> {
    groups.iter().map(Group::slot).collect()
}

pub(super) fn prompts(count: usize) -> PromptSet {
    let row = |i| {
        format!(
            r#"{{"prompt": "{i}+1=", "answer": "{}", "id": "p{i}"}}"#,
            i + 1
        )
    };
    let rows = (0..count).map(row).collect::<Vec<_>>().join("\n");
    PromptSet::from_reader(Path::new("tasks.jsonl"), Cursor::new(rows)).unwrap()
}

/// Worker that runs in a task.
pub(super) struct Running {
    pub(super) id: String,
    pub(super) cancel: CancellationToken,
    pub(super) events: mpsc::UnboundedReceiver<ProducerEvent>,
    pub(super) task: JoinHandle<Result<ProducerSummary, Error>>,
}

pub(super) fn start(setup: WorkerSetup) -> Running {
    let worker = Worker::new(setup).unwrap();
    let (id, cancel) = (worker.producer_id().to_owned(), CancellationToken::new());
    let (sender, events) = mpsc::unbounded_channel();
    let task = tokio::spawn(worker.run(cancel.clone(), sender));
    Running {
        id,
        cancel,
        events,
        task,
    }
}

impl Running {
    pub(super) async fn until(&mut self, wanted: impl Fn(&ProducerEvent) -> bool) -> ProducerEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv())
                .await
                .expect("the event in time");
            let event = event.expect("a worker at work");
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Waits until `groups` more groups were sampled.
    pub(super) async fn until_sampled(&mut self, groups: u64) {
        let mut sampled = 0;
        while sampled < groups {
            let event = self
                .until(|event| matches!(event, ProducerEvent::Sampled { .. }))
                .await;
            let ProducerEvent::Sampled { groups, .. } = event else {
                unreachable!()
            };
            sampled += groups;
        }
        assert_eq!(sampled, groups);
    }

    /// Waits until the producer, at this version, has no lease to begin.
    pub(super) async fn until_waiting_at(&mut self, version: u64) {
        let version = Some(PolicyVersion(version));
        self.until(|event| *event == ProducerEvent::Waiting { version })
            .await;
    }

    pub(super) async fn end(self) -> Result<ProducerSummary, Error> {
        timeout(PATIENCE, self.task)
            .await
            .expect("the worker ends in time")
            .unwrap()
    }
}
