//! A small run whose books hold, and what becomes of the verdict when one thing in it is changed.

use vintage_control::{
    CheckpointManifest, Incarnation, LearnerStart, MicroBatch, Offset, Partition, PartitionResume,
    PartitionStart, Plan, PlannedGroup, PolicyVersion, ProducerWindow, RecordId, RejectReason,
    Rejection, Sha256, UpdateResult,
};
use vintage_trajectory::{GroupId, Headers};

use super::{
    books::{Books, Told},
    counts::Account,
    findings::Findings,
    ledger::{Ledger, Lost},
};

const LIFE: Incarnation = Incarnation(0);
const HOME: Partition = Partition(0);

/// A record of the case: its number, if its headers can be read, part, and whether it decodes.
#[derive(Clone)]
struct Entry {
    offset: i64,
    seq: Option<u64>,
    part: (u32, u32),
    decodes: bool,
    crc32c: u32,
}

#[derive(Clone)]
struct Case {
    acknowledged: Option<Vec<u64>>,
    archived: Vec<Entry>,
    claimed: Vec<(i64, i64)>,
    live: Option<(i64, i64, Vec<Entry>)>,
    start: Option<LearnerStart>,
    plans: Vec<Option<Plan>>,
    results: Vec<Option<UpdateResult>>,
    checkpoint: CheckpointManifest,
    mirrored: Vec<Rejection>,
    lost: Lost,
}

fn entry(offset: i64, seq: u64) -> Entry {
    Entry {
        offset,
        seq: Some(seq),
        part: (1, 1),
        decodes: true,
        crc32c: offset as u32,
    }
}

fn at(offset: i64) -> RecordId {
    RecordId {
        incarnation: LIFE,
        partition: HOME,
        offset: Offset(offset),
    }
}

fn weights(version: u64) -> Sha256 {
    Sha256([version as u8; 32])
}

fn id(seq: u64) -> GroupId {
    GroupId((u128::from(seq) + 1).to_be_bytes())
}

/// Trains (seq, offsets), rejects (seq, offset, reason).
fn plan(
    version: u64,
    trained: &[(u64, &[i64])],
    rejected: &[(Option<u64>, i64, RejectReason)],
) -> Plan {
    let golden = include_str!("../../../../schemas/control/tests/golden/plan.json");
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

fn result(plan: &Plan) -> UpdateResult {
    let golden = include_str!("../../../../schemas/control/tests/golden/update_result.json");
    let mut result: UpdateResult = serde_json::from_str(golden).unwrap();
    result.version = plan.version;
    result.weights_sha256 = weights(plan.version.0 + 1);
    result.groups = plan.groups.len() as u64;
    result.rows = plan.groups.iter().map(|group| u64::from(group.rows)).sum();
    result
}

/// Eight records: 0 and 1 trained by update 0, which rejects 2; 3 and 4 are two parts of a group
/// that update 1 trains, 5 a second copy of 1, 6 foreign bytes; 7 waits.
fn clean() -> Case {
    let mut archived: Vec<_> = (0..8).map(|offset| entry(offset, offset as u64)).collect();
    archived[3].part = (1, 2);
    archived[4] = Entry {
        seq: Some(3),
        part: (2, 2),
        ..entry(4, 3)
    };
    archived[5].seq = Some(1);
    archived[6].seq = None;
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
    let golden = include_str!("../../../../schemas/control/tests/golden/checkpoint_manifest.json");
    let mut checkpoint: CheckpointManifest = serde_json::from_str(golden).unwrap();
    checkpoint.version = PolicyVersion(2);
    checkpoint.weights_sha256 = weights(2);
    checkpoint.partitions = vec![PartitionResume::starting(LIFE, HOME, Offset(7))];
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

fn headers(entry: &Entry) -> Option<Headers> {
    Some(Headers {
        run: "run".parse().unwrap(),
        policy: "lead".to_owned(),
        group: id(entry.seq?),
        rows: 2,
        part: entry.part,
        batch: -1,
        min_policy_version: PolicyVersion(0),
        max_policy_version: PolicyVersion(0),
        producer: "p".to_owned(),
        producer_seq: entry.seq?,
        crc32c: entry.crc32c,
        replay_of: None,
        traceparent: None,
    })
}

impl Case {
    fn books(&self, findings: &mut Findings) -> Books {
        let mut books = Books::default();
        if let Some(numbers) = &self.acknowledged {
            books.journal("p");
            for number in numbers {
                books.acknowledge("p", *number);
            }
        }
        for (from, to) in &self.claimed {
            books.claim((LIFE, HOME), *from..*to);
        }
        let tell = |entry: &Entry, live: bool, books: &mut Books, findings: &mut Findings| {
            let headers = headers(entry);
            let told = Told {
                record: at(entry.offset),
                headers: headers.as_ref(),
                rows: entry.decodes.then_some(2),
                crc32c: Some(entry.crc32c),
                content: None,
            };
            if live {
                books.found_live(&told, findings);
            } else {
                books.archived(&told, findings);
            }
        };
        for entry in &self.archived {
            tell(entry, false, &mut books, findings);
        }
        if let Some((low, high, entries)) = &self.live {
            books.live((LIFE, HOME), *low..*high);
            for entry in entries {
                tell(entry, true, &mut books, findings);
            }
        }
        books.close(findings);
        books
    }

    /// The account, and the breaches.
    fn audited(&self) -> (Account, Vec<String>) {
        let mut findings = Findings::default();
        let books = self.books(&mut findings);
        let mut ledger = Ledger::new(&books, "lead");
        if let Some(start) = &self.start {
            ledger.began_at(start);
        }
        for (version, (plan, result)) in self.plans.iter().zip(&self.results).enumerate() {
            let version = PolicyVersion(version as u64);
            if let Some(plan) = plan {
                ledger.plan(version, plan, &mut findings);
            }
            if let Some(result) = result {
                ledger.result(version, result, plan.as_ref(), &mut findings);
            }
        }
        let version = PolicyVersion(self.plans.len() as u64);
        ledger.checkpoint(version, &self.checkpoint, &mut findings);
        for rejection in &self.mirrored {
            ledger.mirrored(rejection, &mut findings);
        }
        let account = ledger.close(self.lost, &mut findings);
        (account, findings.told().0)
    }

    /// Some breach has each of these texts.
    fn is_caught(&self, texts: &[&str]) -> Account {
        let (account, breaches) = self.audited();
        for text in texts {
            let found = breaches.iter().any(|breach| breach.contains(text));
            assert!(found, "no breach says {text:?}: {breaches:#?}");
        }
        account
    }

    fn plan(&mut self, version: usize) -> &mut Plan {
        self.plans[version].as_mut().unwrap()
    }
}

#[test]
fn books_that_hold() {
    let (account, breaches) = clean().audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    let counts = &account.total;
    // Five of the producer's, and the foreign one.
    assert_eq!((counts.produced, counts.archived), (6, 6));
    assert_eq!((counts.trained, counts.in_flight, counts.lost), (3, 1, 0));
    assert_eq!(counts.rejected["bad_logprob"], 1);
    assert_eq!(counts.rejected["bad_headers"], 1);
    assert_eq!((counts.quarantined, counts.duplicated), (1, 1));
    assert_eq!(account.partitions["0"], *counts);
}

#[test]
fn a_record_that_is_gone() {
    let mut case = clean();
    case.archived.remove(1);
    case.is_caught(&[
        "names incarnation 0 partition 0 offset 1, which neither",
        "as a duplicate, and there is no other copy",
    ]);
    // Of a group that no plan names, only its producer's journal still tells.
    let mut case = clean();
    case.archived.remove(7);
    let account = case.is_caught(&["group p/4 was acknowledged, and neither log nor archive"]);
    assert_eq!((account.total.in_flight, account.total.lost), (0, 1));
    assert!(account.total.balances());
    // A log that dies with its process may take what it acknowledged along.
    case.lost = Lost::WithItsLog;
    assert!(case.audited().1.is_empty());
}

#[test]
fn a_hole_in_the_numbers_of_a_producer_without_a_journal() {
    let mut case = clean();
    case.acknowledged = None;
    case.archived[7].seq = Some(7);
    let account = case.is_caught(&["left 3 numbers that nothing holds (4 to 6)"]);
    assert_eq!((account.total.produced, account.total.lost), (9, 3));
    assert_eq!(account.partitions["unknown"].lost, 3);
    // A forged number costs no memory, and cannot be counted past.
    case.archived[7].seq = Some(u64::MAX);
    let account = case.is_caught(&["numbers that nothing holds (4 to 18446744073709551614)"]);
    assert_eq!(account.total.lost, 1 << 53);
    assert!(account.total.balances());
}

#[test]
fn a_group_trained_twice() {
    let mut case = clean();
    *case.plan(1) = plan(1, &[(3, &[3, 4]), (0, &[0])], &[]);
    let account = case.is_caught(&[
        "group p/0 was trained by update 0 already",
        "offset 0, which plan 0 names already",
        "learner lead partition 0: 6 produced, but 4 trained",
    ]);
    assert!(!account.total.balances());
}

#[test]
fn a_group_trained_and_rejected() {
    let mut case = clean();
    *case.plan(1) = plan(1, &[(3, &[3, 4]), (2, &[2])], &[]);
    let account = case.is_caught(&["was rejected (bad_logprob) by plan 0 already"]);
    assert!(!account.total.balances());
}

#[test]
fn a_plan_that_is_missing() {
    let mut case = clean();
    case.plans[0] = None;
    let account = case.is_caught(&[
        "results/lead/0.json: update 0 was done, and there is no plan of it",
        "it counts 3 trained and 2 rejected, the plans before it 1 and 1",
        "offset 0: by checkpoints/lead/2/manifest.json it lies before the resume point",
        "group p/0 counts as finished, and no plan names it",
        "was rejected (bad_logprob), and no plan of it says so",
    ]);
    assert_eq!(account.total.in_flight, 4);
}

#[test]
fn a_chain_of_weights_that_is_broken() {
    let mut case = clean();
    case.plan(1).weights_sha256 = weights(9);
    case.is_caught(&["version 1 of lead is 0101"]);
    let mut case = clean();
    case.checkpoint.weights_sha256 = weights(9);
    case.is_caught(&["version 2 of lead is 0202"]);
}

#[test]
fn a_rejection_that_no_plan_records() {
    let mut case = clean();
    case.plan(0).rejections.clear();
    let account = case.is_caught(&[
        "offset 2: by checkpoints/lead/2/manifest.json it lies before the resume point",
        "it counts 3 trained and 2 rejected, the plans before it 3 and 1",
        "group p/2 counts as finished",
        "was rejected (bad_logprob), and no plan of it says so",
    ]);
    assert_eq!(account.total.in_flight, 2);
    // Beyond the resume point too: what stands before a planned record was read, and must wait.
    case.checkpoint.partitions[0].resume = Offset(2);
    case.is_caught(&["offset 2: by checkpoints/lead/2/manifest.json it lies among records"]);
}

#[test]
fn a_duplicate_of_nothing() {
    let mut case = clean();
    case.plan(0).rejections[0].reason = RejectReason::Duplicate;
    case.is_caught(&["rejected group p/2 as a duplicate, and there is no other copy"]);
}

#[test]
fn a_plan_that_is_not_about_its_records() {
    let mut case = clean();
    case.plan(0).groups[0].records = vec![at(2)];
    case.is_caught(&["names offset 2, where group p/2 lies"]);
    let mut case = clean();
    case.plan(0).groups[0].rows = 3;
    case.is_caught(&[
        "has 3 rows by its plan, 2 by its records",
        "packs all rows but row 4",
    ]);
    let mut case = clean();
    case.plan(1).groups[0].records.pop();
    case.is_caught(&["has 1 of 2 parts"]);
    let mut case = clean();
    case.plan(0).micro_batches[0].rows[1] = 0;
    case.is_caught(&["it trains row 0 twice"]);
    let mut case = clean();
    case.archived[0].decodes = false;
    case.is_caught(&["was trained on offset 0, which cannot be decoded"]);
    let mut case = clean();
    case.plan(1).policy = "other".parse().unwrap();
    case.is_caught(&["it trains other, the plans before it lead"]);
}

#[test]
fn a_result_that_is_not_its_plans() {
    let mut case = clean();
    case.results[0].as_mut().unwrap().groups = 3;
    case.is_caught(&["it trained 3 groups of 4 rows, its plan names 2 of 4"]);
}

#[test]
fn a_log_that_is_not_the_archives() {
    let live: Vec<_> = clean().archived;
    let mut case = clean();
    case.live = Some((0, 8, live.clone()));
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert_eq!(account, clean().audited().0, "the log tells nothing new");
    // Another payload at an archived offset.
    case.live.as_mut().unwrap().2[1].crc32c = 77;
    case.is_caught(&["offset 1: the archive holds another payload than the log"]);
    // A record that the archive says was never there.
    let mut case = clean();
    case.live = Some((0, 8, live.clone()));
    case.archived.remove(7);
    case.is_caught(&["offset 7: the log holds a record, and the archive claims the offset"]);
    // Recreated: it ends before its archive, or holds nothing where the archive does.
    let mut case = clean();
    case.live = Some((0, 2, live[..2].to_vec()));
    case.is_caught(&["the archive reaches offset 8, the log ends at 2"]);
    let mut case = clean();
    case.live = Some((0, 9, live[..7].to_vec()));
    case.is_caught(&["offset 7: the archive holds a record, the log has none there"]);
    // Retention was faster than the archive.
    let mut case = clean();
    case.live = Some((10, 11, vec![entry(10, 5)]));
    case.is_caught(&["the archive ends at offset 8, the log now begins at 10"]);
}

#[test]
fn what_only_the_log_holds_is_in_flight() {
    let mut case = clean();
    case.acknowledged = Some((0..6).collect());
    let mut live = case.archived.clone();
    live.push(entry(8, 5));
    case.live = Some((0, 9, live));
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    let counts = account.total;
    assert_eq!(
        (counts.produced, counts.archived, counts.in_flight),
        (7, 6, 2)
    );
}

#[test]
fn a_learner_that_began_in_the_middle() {
    let mut case = clean();
    case.start = Some(LearnerStart {
        format: "vintage.control/1".to_owned(),
        learner: "lead".parse().unwrap(),
        start: "offset=2".to_owned(),
        partitions: vec![PartitionStart {
            incarnation: LIFE,
            partition: HOME,
            offset: Offset(2),
        }],
    });
    *case.plan(0) = plan(0, &[], &[(Some(2), 2, RejectReason::BadLogprob)]);
    case.results[0] = Some(result(&case.plan(0).clone()));
    case.checkpoint.groups_trained = 1;
    let window = ProducerWindow {
        runs: vec![(2, 3)],
        ..ProducerWindow::default()
    };
    case.checkpoint.producers = [("p".to_owned(), window)].into();
    // It never met the first copy of group 1, and trains the second.
    *case.plan(1) = plan(
        1,
        &[(3, &[3, 4]), (1, &[5])],
        &[(None, 6, RejectReason::BadHeaders)],
    );
    case.results[1] = Some(result(&case.plan(1).clone()));
    case.checkpoint.groups_trained = 2;
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    let counts = account.total;
    assert_eq!(
        (counts.before_start, counts.trained, counts.in_flight),
        (1, 2, 1)
    );
    assert!(counts.balances());
}
