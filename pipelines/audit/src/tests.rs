//! Tests of books that balance, and of the verdict when one thing in them is changed.

use vintage_control::{LearnerStart, Offset, PartitionStart, ProducerWindow, RejectReason};

use super::{
    fate::Lost,
    fixture::{INCARNATION, PARTITION, at, clean, entry, plan, result, weights},
};

#[test]
fn books_that_hold() {
    let (account, breaches) = clean().audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    let counts = &account.total;
    // Five groups of the producer, and the foreign bytes.
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
    // Only the producer's journal still names a group that no plan names.
    let mut case = clean();
    case.archived.remove(7);
    let account = case.is_caught(&["group p/4 was acknowledged, and neither log nor archive"]);
    assert_eq!((account.total.in_flight, account.total.lost), (0, 1));
    assert!(account.total.balances());
    // Records missing after the archive's first offset were not deleted by retention.
    let mut case = clean();
    case.claimed.remove(0);
    case.archived.drain(..5);
    let account = case.is_caught(&["offset 0, which neither archive nor log holds"]);
    assert_eq!((account.total.expired, account.total.lost), (0, 3));
    assert!(!account.total.balances());
    let mut case = clean();
    case.archived.remove(7);
    // A log that is lost with its process may take acknowledged groups with it.
    case.lost = Lost::WithItsLog;
    assert!(case.audited().1.is_empty());
    // A log that is alive inside its process holds it still.
    case.lost = Lost::NotYet;
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert_eq!((account.total.in_flight, account.total.lost), (1, 0));
}

#[test]
fn a_hole_in_the_numbers_of_a_producer_without_a_journal() {
    let mut case = clean();
    case.acknowledged = None;
    case.archived[7].seq = Some(7);
    let account = case.is_caught(&["left 3 numbers that nothing holds (4 to 6)"]);
    assert_eq!((account.total.produced, account.total.lost), (9, 3));
    assert_eq!(account.partitions["unknown"].lost, 3);
    // A forged number costs no memory and is counted up to the limit.
    case.archived[7].seq = Some(u64::MAX);
    let account = case.is_caught(&["numbers that nothing holds (4 to 18446744073709551614)"]);
    assert_eq!(account.total.lost, 1 << 53);
    assert!(account.total.balances());
}

/// A record refused for one bad header still belongs to its producer. Counted as nobody's, its
/// number would be lost in addition.
#[test]
fn a_record_with_a_bad_header_is_its_producers() {
    let mut case = clean();
    case.acknowledged = None;
    case.archived[2].decodes = false;
    case.plan(0).rejections[0].reason = RejectReason::BadHeaders;
    case.mirrored.clear();
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert_eq!((account.total.produced, account.total.lost), (6, 0));
    // Older plans did not name the producer of such a record.
    case.plan(0).rejections[0].producer = None;
    case.plan(0).rejections[0].producer_seq = None;
    let (again, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert_eq!(again, account);
    // Headers may lack half of the number as well: the producer or the number alone is enough.
    for (seq, named) in [(None, true), (Some(2), false)] {
        let mut case = case.clone();
        (case.archived[2].seq, case.archived[2].named) = (seq, named);
        case.plan(1).rejections.clear();
        case.archived[6] = case.archived[7].clone();
        case.archived[6].offset = 6;
        case.archived.truncate(7);
        case.claimed[1].1 = 7;
        case.checkpoint.partitions[0].resume = Offset(5);
        case.checkpoint.waiting.clear();
        *case.plan(1) = plan(1, &[(3, &[3, 4])], &[(Some(1), 5, RejectReason::Duplicate)]);
        case.checkpoint.groups_rejected = 1;
        let window = ProducerWindow {
            next: 2,
            above: vec![3],
            ..ProducerWindow::default()
        };
        case.checkpoint.producers = [("p".to_owned(), window)].into();
        let (account, breaches, notes) = case.findings();
        assert!(breaches.is_empty(), "{breaches:#?}");
        assert_eq!((account.total.produced, account.total.lost), (5, 0));
        let noted = notes
            .iter()
            .any(|note| note.contains("1 records of producer p"));
        assert!(noted, "{notes:?}");
    }
}

#[test]
fn a_producer_that_numbers_again() {
    // The last two records are of other groups, under numbers that are trained.
    let mut case = clean();
    case.archived[6] = entry(6, 0);
    case.archived[6].other = Some(70);
    case.archived[7] = entry(7, 1);
    case.archived[7].other = Some(71);
    case.acknowledged = None;
    let refused = [
        (Some(1), 5, RejectReason::Duplicate),
        (Some(0), 6, RejectReason::Renumbered),
        (Some(1), 7, RejectReason::Renumbered),
    ];
    *case.plan(1) = plan(1, &[(3, &[3, 4])], &refused);
    case.checkpoint.groups_rejected = 3;
    case.checkpoint.waiting.clear();
    let (account, breaches, notes) = case.findings();
    assert!(breaches.is_empty(), "{breaches:#?}");
    let counts = &account.total;
    assert_eq!((counts.produced, counts.duplicated), (6, 1));
    assert_eq!(counts.rejected["renumbered"], 2);
    assert!(
        notes[0].contains("producer p numbers again: 2"),
        "{notes:?}"
    );
    // Older plans refused renumbered groups as duplicates.
    for rejection in &mut case.plan(1).rejections {
        rejection.reason = RejectReason::Duplicate;
    }
    case.checkpoint.groups_rejected = 1;
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert_eq!(account.total.rejected["duplicate"], 2);
    assert!(account.total.balances());
}

/// The second group of a slot has a number of its own. Counted as a copy, it would be missing.
#[test]
fn the_second_group_of_a_slot_is_a_rejected_group() {
    let mut case = clean();
    let refused = [
        (Some(1), 5, RejectReason::Duplicate),
        (None, 6, RejectReason::BadHeaders),
        (Some(4), 7, RejectReason::SlotTaken),
    ];
    *case.plan(1) = plan(1, &[(3, &[3, 4])], &refused);
    let mirrored = case.plan(1).rejections[2].clone();
    case.mirrored.push(mirrored);
    case.checkpoint.partitions[0].resume = Offset(8);
    case.checkpoint.waiting.clear();
    case.checkpoint.groups_rejected = 3;
    let window = ProducerWindow {
        next: 5,
        ..ProducerWindow::default()
    };
    case.checkpoint.producers = [("p".to_owned(), window)].into();
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    let counts = &account.total;
    assert_eq!(counts.rejected["slot_taken"], 1);
    assert_eq!((counts.produced, counts.rejections()), (6, 3));
    assert_eq!(
        (counts.in_flight, counts.lost, counts.duplicated),
        (0, 0, 1)
    );
    assert!(counts.balances());
    // A checkpoint that leaves it out contradicts the plans.
    case.checkpoint.groups_rejected = 2;
    case.is_caught(&["it counts 3 trained and 2 rejected, the plans before it 3 and 3"]);
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
        "offset 0: by checkpoints/lead/2/manifest.json it precedes the resume point",
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
        "offset 2: by checkpoints/lead/2/manifest.json it precedes the resume point",
        "it counts 3 trained and 2 rejected, the plans before it 3 and 1",
        "group p/2 counts as finished",
        "was rejected (bad_logprob), and no plan of it says so",
    ]);
    assert_eq!(account.total.in_flight, 2);
    // Beyond the resume point too: a record before a planned one was read, so it must be waiting.
    case.checkpoint.partitions[0].resume = Offset(2);
    case.is_caught(&["offset 2: by checkpoints/lead/2/manifest.json it is among records"]);
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
    case.is_caught(&["names offset 2, where group p/2 is"]);
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
    let (live, mut case) = (clean().archived, clean());
    case.live = Some((0, 8, live.clone()));
    let (account, breaches) = case.audited();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert_eq!(account, clean().audited().0, "the log adds nothing new");
    // Another payload at an archived offset.
    case.live.as_mut().unwrap().2[1].crc32c = 77;
    case.is_caught(&["offset 1: the archive holds another payload than the log"]);
    // A record at an offset where the archive claims there was none.
    let mut case = clean();
    case.live = Some((0, 8, live.clone()));
    case.archived.remove(7);
    case.is_caught(&["offset 7: the log holds a record, and the archive claims the offset"]);
    // A recreated topic: it ends before its archive, or holds nothing where the archive does.
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
            incarnation: INCARNATION,
            partition: PARTITION,
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
    // The learner never met the first copy of group 1, and trains the second.
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
