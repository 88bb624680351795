//! Small run for tests, any part of which can be changed before it is audited.

use vintage_control::{
    CheckpointManifest, Incarnation, LearnerStart, MicroBatch, Offset, Partition, PartitionResume,
    Plan, PlannedGroup, PolicyVersion, ProducerWindow, RecordId, RejectReason, Rejection, Sha256,
    UpdateNumber, UpdateResult,
};
use vintage_trajectory::{GroupId, Identity};

use super::{
    counts::GroupAccount,
    fate::Lost,
    findings::Findings,
    inventory::{Inventory, RecordReport},
    ledger::Ledger,
};

pub(super) const INCARNATION: Incarnation = Incarnation(0);
pub(super) const PARTITION: Partition = Partition(0);

/// Record: offset, number and producer as far as its headers give them, part, and decodability.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) seq: Option<u64>,
    /// True if the headers name the producer.
    pub(super) named: bool,
    /// Number whose group id the record has, if not its own.
    pub(super) other: Option<u64>,
    pub(super) part: (u32, u32),
    pub(super) decodes: bool,
    pub(super) crc32c: u32,
}

#[derive(Clone)]
pub(super) struct Case {
    pub(super) acknowledged: Option<Vec<u64>>,
    pub(super) archived: Vec<Entry>,
    pub(super) claimed: Vec<(i64, i64)>,
    pub(super) live: Option<(i64, i64, Vec<Entry>)>,
    pub(super) start: Option<LearnerStart>,
    pub(super) plans: Vec<Option<Plan>>,
    pub(super) results: Vec<Option<UpdateResult>>,
    pub(super) checkpoint: CheckpointManifest,
    pub(super) mirrored: Vec<Rejection>,
    pub(super) lost: Lost,
}

pub(super) fn entry(offset: i64, seq: u64) -> Entry {
    Entry {
        offset,
        seq: Some(seq),
        named: true,
        other: None,
        part: (1, 1),
        decodes: true,
        crc32c: offset as u32,
    }
}

pub(super) fn at(offset: i64) -> RecordId {
    RecordId {
        incarnation: INCARNATION,
        partition: PARTITION,
        offset: Offset(offset),
    }
}

pub(super) fn weights(version: u64) -> Sha256 {
    Sha256([version as u8; 32])
}

pub(super) fn id(seq: u64) -> GroupId {
    GroupId((u128::from(seq) + 1).to_be_bytes())
}

/// Creates a plan that trains groups (number, offsets) and rejects records (number, offset,
/// reason).
pub(super) fn plan(
    version: u64,
    trained: &[(u64, &[i64])],
    rejected: &[(Option<u64>, i64, RejectReason)],
) -> Plan {
    let golden = include_str!("../../../schemas/control/tests/golden/plan.json");
    let mut plan: Plan = serde_json::from_str(golden).unwrap();
    plan.version = PolicyVersion(version);
    plan.weights_sha256 = weights(version);
    let group = |(seq, offsets): &(u64, &[i64])| PlannedGroup {
        group: id(*seq).to_string(),
        records: offsets.iter().map(|offset| at(*offset)).collect(),
        rows: 2 * offsets.len() as u32,
        producer: "p".to_owned(),
        producer_seq: *seq,
        content_sha256: weights(0),
        source: None,
    };
    plan.groups = trained.iter().map(group).collect();
    let rows = plan.groups.iter().map(|group| group.rows).sum();
    plan.micro_batches = vec![MicroBatch {
        rows: (0..rows).collect(),
    }];
    let refuse = |(seq, offset, reason): &(Option<u64>, i64, RejectReason)| Rejection {
        group: seq.map(|seq| id(seq).to_string()),
        producer: seq.map(|_| "p".to_owned()),
        producer_seq: *seq,
        records: vec![at(*offset)],
        reason: *reason,
        detail: String::new(),
        source: None,
    };
    plan.rejections = rejected.iter().map(refuse).collect();
    plan
}

pub(super) fn result(plan: &Plan) -> UpdateResult {
    let golden = include_str!("../../../schemas/control/tests/golden/update_result.json");
    let mut result: UpdateResult = serde_json::from_str(golden).unwrap();
    result.version = plan.version;
    result.weights_sha256 = weights(plan.update().version_after().0);
    result.groups = plan.groups.len() as u64;
    result.rows = plan.groups.iter().map(|group| u64::from(group.rows)).sum();
    result
}

/// Creates a run without a breach of eight records: update 0 trains 0 and 1 and rejects 2; 3 and 4
/// are the two parts of a group that update 1 trains; 5 is a second copy of 1, 6 is foreign bytes,
/// 7 is in flight.
pub(super) fn clean() -> Case {
    let mut archived: Vec<_> = (0..8).map(|offset| entry(offset, offset as u64)).collect();
    archived[3].part = (1, 2);
    archived[4] = Entry {
        seq: Some(3),
        part: (2, 2),
        ..entry(4, 3)
    };
    archived[5].seq = Some(1);
    archived[6].seq = None;
    archived[6].named = false;
    archived[6].decodes = false;
    archived[7].seq = Some(4);
    let plans = [
        plan(
            0,
            &[(0, &[0]), (1, &[1])],
            &[(Some(2), 2, RejectReason::BadLogprob)],
        ),
        plan(
            1,
            &[(3, &[3, 4])],
            &[
                (Some(1), 5, RejectReason::Duplicate),
                (None, 6, RejectReason::BadHeaders),
            ],
        ),
    ];
    let golden = include_str!("../../../schemas/control/tests/golden/checkpoint_manifest.json");
    let mut checkpoint: CheckpointManifest = serde_json::from_str(golden).unwrap();
    checkpoint.version = PolicyVersion(2);
    checkpoint.weights_sha256 = weights(2);
    checkpoint.partitions = vec![PartitionResume::starting(INCARNATION, PARTITION, Offset(7))];
    let window = ProducerWindow {
        next: 4,
        ..ProducerWindow::default()
    };
    checkpoint.producers = [("p".to_owned(), window)].into();
    checkpoint.waiting = vec![at(7)];
    checkpoint.groups_trained = 3;
    checkpoint.groups_rejected = 2;
    Case {
        acknowledged: Some((0..5).collect()),
        archived,
        claimed: vec![(0, 5), (5, 8)],
        live: None,
        start: None,
        results: plans.iter().map(|plan| Some(result(plan))).collect(),
        mirrored: plans[0].rejections.clone(),
        plans: plans.into_iter().map(Some).collect(),
        checkpoint,
        lost: Lost::Never,
    }
}

pub(super) fn identity(entry: &Entry) -> Identity {
    Identity {
        group: entry.other.or(entry.seq).map(id),
        producer: entry.named.then(|| "p".to_owned()),
        producer_seq: entry.seq,
        policy: Some("lead".to_owned()),
        batch: Some(-1),
        part: Some(entry.part),
        slot: None,
    }
}

impl Case {
    pub(super) fn inventory(&self, findings: &mut Findings) -> Inventory {
        let mut inventory = Inventory::default();
        if let Some(numbers) = &self.acknowledged {
            inventory.journal("p");
            for number in numbers {
                inventory.acknowledge("p", *number);
            }
        }
        inventory.begin((INCARNATION, PARTITION), 0);
        for (from, to) in &self.claimed {
            inventory.claim((INCARNATION, PARTITION), *from..*to);
        }
        let add =
            |entry: &Entry, live: bool, inventory: &mut Inventory, findings: &mut Findings| {
                let report = RecordReport {
                    record: at(entry.offset),
                    identity: identity(entry),
                    rows: entry.decodes.then_some(2),
                    crc32c: Some(entry.crc32c),
                    content: None,
                };
                if live {
                    inventory.found_live(&report, findings);
                } else {
                    inventory.archived(&report, findings);
                }
            };
        for entry in &self.archived {
            add(entry, false, &mut inventory, findings);
        }
        if let Some((low, high, entries)) = &self.live {
            inventory.live((INCARNATION, PARTITION), *low..*high);
            for entry in entries {
                add(entry, true, &mut inventory, findings);
            }
        }
        inventory.close(findings);
        inventory
    }

    /// Returns the account and the breaches.
    pub(super) fn audited(&self) -> (GroupAccount, Vec<String>) {
        let (account, breaches, _) = self.findings();
        (account, breaches)
    }

    /// Returns the account, the breaches and the notes.
    pub(super) fn findings(&self) -> (GroupAccount, Vec<String>, Vec<String>) {
        let mut findings = Findings::default();
        let inventory = self.inventory(&mut findings);
        let mut ledger = Ledger::new(&inventory, "lead");
        if let Some(start) = &self.start {
            ledger.began_at(start);
        }
        for (number, (plan, result)) in self.plans.iter().zip(&self.results).enumerate() {
            let update = UpdateNumber(number as u64);
            if let Some(plan) = plan {
                ledger.plan(update, plan, &mut findings);
            }
            if let Some(result) = result {
                ledger.result(update, result, plan.as_ref(), &mut findings);
            }
        }
        let version = PolicyVersion(self.plans.len() as u64);
        ledger.checkpoint(version, &self.checkpoint, &mut findings);
        for rejection in &self.mirrored {
            ledger.mirrored(rejection, &mut findings);
        }
        let account = ledger.close(self.lost, &mut findings);
        let (breaches, notes) = findings.into_lines();
        (account, breaches, notes)
    }

    /// Asserts that each of these texts is in some breach, and returns the account.
    pub(super) fn is_caught(&self, texts: &[&str]) -> GroupAccount {
        let (account, breaches) = self.audited();
        for text in texts {
            let found = breaches.iter().any(|breach| breach.contains(text));
            assert!(found, "no breach says {text:?}: {breaches:#?}");
        }
        account
    }

    pub(super) fn plan(&mut self, version: usize) -> &mut Plan {
        self.plans[version].as_mut().unwrap()
    }
}
