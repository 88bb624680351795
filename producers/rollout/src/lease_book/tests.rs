use std::collections::BTreeSet;

use proptest::prelude::*;
use vintage_control::{
    CONTROL_FORMAT, GrantNumber, Grants, Lease, NumberSet, PolicyVersion, ProducerWindow, Sha256,
    SlotNumber,
};

use super::LeaseBook;

fn book() -> LeaseBook {
    let policy = "main".parse().unwrap();
    LeaseBook::new(policy, "p".to_owned(), 8, Sha256([1; 32]))
}

fn grants(lead: &str, number: u64, leases: &[(u64, i64, u64)]) -> Grants {
    Grants {
        format: CONTROL_FORMAT.to_owned(),
        policy: "main".parse().unwrap(),
        lead: lead.to_owned(),
        producer: "p".to_owned(),
        number: GrantNumber {
            // Lead "l2" is the process of term 2.
            term: lead[1..].parse().unwrap(),
            record: number,
        },
        leases: leases
            .iter()
            .map(|&(slot, batch, version)| Lease {
                slot: SlotNumber(slot),
                batch,
                version: PolicyVersion(version),
            })
            .collect(),
        withdrawn: ProducerWindow::default(),
        refused: None,
    }
}

fn begin(book: &mut LeaseBook, newest: u64, at_most: usize) -> (u64, Vec<u64>) {
    let admission = book.begin(PolicyVersion(newest), at_most);
    admission.map_or((newest, Vec::new()), |of| {
        let slots = of.leases.iter().map(|lease| lease.slot.0);
        (of.version.0, slots.collect())
    })
}

fn numbers(window: &ProducerWindow) -> Vec<u64> {
    let set = NumberSet::from(window);
    set.runs().flat_map(|(first, last)| first..=last).collect()
}

#[test]
fn a_lease_is_begun_once_and_by_the_newest_version() {
    let mut book = book();
    assert_eq!(begin(&mut book, 3, 2), (3, vec![]));
    assert!(book.take(grants("l1", 1, &[(4, -1, 3), (7, -1, 5), (2, -1, 3)])));
    // The announcement of version 5 is still on its way.
    assert_eq!(begin(&mut book, 4, 8), (4, vec![2, 4]));
    assert_eq!(begin(&mut book, 6, 8), (6, vec![7]));
    assert_eq!(begin(&mut book, 6, 8), (6, vec![]));
}

#[test]
fn groups_of_one_call_are_sampled_by_one_version() {
    let mut book = book();
    book.take(grants(
        "l1",
        1,
        &[(8, 2, 1), (4, 1, 0), (5, 1, 0), (9, 2, 1)],
    ));
    assert_eq!(begin(&mut book, 1, 3), (0, vec![4, 5]));
    assert_eq!(begin(&mut book, 1, 1), (1, vec![8]));
}

#[test]
fn reports_say_what_is_held_published_and_failed() {
    let mut book = book();
    assert_eq!(book.report().grants_read, None);
    book.take(grants(
        "l1",
        6,
        &[(0, -1, 0), (1, -1, 0), (2, -1, 0), (3, -1, 0)],
    ));
    begin(&mut book, 0, 3);
    book.published(SlotNumber(0));
    book.failed(SlotNumber(1));
    let report = book.report();
    assert_eq!(
        (report.number, report.grants_read),
        (1, Some(GrantNumber { term: 1, record: 6 }))
    );
    assert_eq!(numbers(&report.held), [2, 3]);
    assert_eq!(numbers(&report.failed), [1]);
    book.leave();
    let report = book.report();
    assert_eq!(
        (numbers(&report.held), numbers(&report.given_back)),
        (vec![2], vec![3])
    );
    assert!(report.leaving);
    // A lease that ended while its group was sampled is reported no more.
    book.take(grants("l1", 7, &[]));
    book.published(SlotNumber(2));
    let report = book.report();
    assert!(numbers(&report.held).is_empty() && numbers(&report.failed).is_empty());
}

#[test]
fn only_the_last_lead_counts_and_its_newest_record() {
    let mut book = book();
    assert!(book.take(grants("l1", 5, &[(0, -1, 0)])));
    assert!(!book.take(grants("l1", 4, &[])));
    assert!(book.take(grants("l2", 1, &[(1, -1, 0)])));
    assert!(
        !book.take(grants("l1", 9, &[(2, -1, 0)])),
        "cut off, and back"
    );
    assert_eq!(begin(&mut book, 0, 8), (0, vec![1]));
    let other = Grants {
        producer: "q".to_owned(),
        ..grants("l3", 1, &[(3, -1, 0)])
    };
    assert!(!book.take(other));
    assert!(!book.take(grants("l2", 2, &[(4, -1, 0)])), "l3 grants now");
}

/// Checks that of a record for another producer its policy and term are enough.
#[test]
fn the_term_of_another_producers_record_counts_without_its_leases() {
    let mut book = book();
    assert!(book.take(grants("l1", 5, &[(0, -1, 0)])));
    book.heed("other", 9);
    assert!(book.take(grants("l1", 6, &[(0, -1, 0), (1, -1, 0)])));
    book.heed("main", 2);
    assert!(!book.take(grants("l1", 7, &[])), "l2 grants now");
    book.heed("main", 1);
    assert!(!book.take(grants("l1", 8, &[])), "terms only grow");
    assert!(book.take(grants("l2", 1, &[(1, -1, 0)])));
    assert_eq!(begin(&mut book, 0, 8), (0, vec![1]));
}

#[test]
fn a_lease_is_begun_once_however_often_it_is_granted() {
    let mut book = book();
    book.take(grants("l1", 1, &[(0, -1, 0), (1, -1, 0), (2, -1, 0)]));
    assert_eq!(begin(&mut book, 0, 2), (0, vec![0, 1]));
    book.failed(SlotNumber(1));
    // A lead that has read no report yet repeats what it had granted; so does the next one.
    for (lead, number) in [("l1", 2), ("l2", 1)] {
        book.take(grants(lead, number, &[(0, -1, 0), (1, -1, 0)]));
        assert_eq!(begin(&mut book, 0, 8), (0, vec![]));
    }
    // Slot 0 is taken away and comes back while it is sampled.
    book.take(grants("l2", 2, &[]));
    let report = book.report();
    assert!(numbers(&report.held).is_empty() && numbers(&report.failed).is_empty());
    book.take(grants("l2", 3, &[(0, -1, 0), (2, -1, 0)]));
    assert_eq!(numbers(&book.report().held), [0, 2]);
    assert_eq!(begin(&mut book, 0, 8), (0, vec![2]));
    book.published(SlotNumber(0));
    assert_eq!(numbers(&book.report().held), [2]);
    assert_eq!(begin(&mut book, 0, 8), (0, vec![]));
}

#[test]
fn a_refusal_counts_until_a_record_without_one() {
    let mut book = book();
    let refusal = |lead, number| Grants {
        withdrawn: ProducerWindow::default(),
        refused: Some("its prompts differ".to_owned()),
        ..grants(lead, number, &[])
    };
    let other = Grants {
        producer: "q".to_owned(),
        ..refusal("l1", 1)
    };
    book.take(other);
    assert_eq!(book.refused(), None);
    book.take(refusal("l1", 2));
    assert_eq!(book.refused(), Some("its prompts differ"));
    book.take(grants("l1", 3, &[]));
    assert_eq!(book.refused(), None);
    book.take(grants("l2", 1, &[]));
    book.take(refusal("l1", 4));
    assert_eq!(book.refused(), None, "the lead is another");
}

#[test]
fn grants_of_another_policy_neither_count_nor_replace_the_lead() {
    let mut book = book();
    book.take(grants("l1", 1, &[(0, -1, 0)]));
    let other = Grants {
        policy: "other".parse().unwrap(),
        ..grants("l2", 1, &[(9, -1, 0)])
    };
    assert!(!book.take(other));
    assert!(book.take(grants("l1", 2, &[(0, -1, 0), (1, -1, 0)])));
    assert_eq!(begin(&mut book, 0, 8), (0, vec![0, 1]));
}

/// Step in the history of a producer. A grant withdraws the leases that it lacks.
#[derive(Debug, Clone)]
enum Step {
    Grant(BTreeSet<u64>),
    Begin(usize),
    Publish(usize),
    Fail(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::btree_set(0_u64..12, 0..8).prop_map(Step::Grant),
        (0_usize..5).prop_map(Step::Begin),
        (0_usize..12).prop_map(Step::Publish),
        (0_usize..12).prop_map(Step::Fail),
    ]
}

proptest! {
    /// Checks that only leased slots are begun, none while it is being sampled, and that a
    /// report names every leased slot that the log lacks in exactly one set.
    #[test]
    fn every_report_accounts_for_every_lease(
        steps in prop::collection::vec(step(), 1..60), leaves: bool,
    ) {
        let mut book = book();
        let mut leased = BTreeSet::new();
        let mut running = BTreeSet::new();
        // Slots published or failed under a lease that has not ended since.
        let (mut published, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::Grant(slots) => {
                    let leases: Vec<_> = slots.iter().map(|slot| (*slot, -1, 0)).collect();
                    prop_assert!(book.take(grants("l1", number, &leases)));
                    published.retain(|slot| slots.contains(slot));
                    failed.retain(|slot| slots.contains(slot));
                    leased = slots;
                }
                Step::Begin(at_most) => {
                    let (_, begun) = begin(&mut book, 0, at_most);
                    prop_assert!(begun.len() <= at_most);
                    for slot in begun {
                        prop_assert!(leased.contains(&slot), "{slot} is not leased");
                        let done = published.contains(&slot) || failed.contains(&slot);
                        prop_assert!(!done && running.insert(slot), "{slot} twice");
                    }
                }
                Step::Publish(which) | Step::Fail(which) if running.len() <= which => {}
                Step::Publish(which) | Step::Fail(which) => {
                    let slot = *running.iter().nth(which).unwrap();
                    running.remove(&slot);
                    let done = if matches!(step, Step::Publish(_)) {
                        book.published(SlotNumber(slot));
                        &mut published
                    } else {
                        book.failed(SlotNumber(slot));
                        &mut failed
                    };
                    if leased.contains(&slot) {
                        done.insert(slot);
                    }
                }
            }
            let report = book.report();
            let held: BTreeSet<_> = numbers(&report.held).into_iter().collect();
            let done: BTreeSet<_> = published.union(&failed).copied().collect();
            let undone: BTreeSet<_> = leased.difference(&done).copied().collect();
            prop_assert_eq!(&held, &undone);
            let reported: BTreeSet<_> = numbers(&report.failed).into_iter().collect();
            prop_assert_eq!(&reported, &failed);
            prop_assert!(numbers(&report.given_back).is_empty());
        }
        if leaves {
            book.leave();
            let report = book.report();
            let held: BTreeSet<_> = numbers(&report.held).into_iter().collect();
            let begun: BTreeSet<_> = leased.intersection(&running).copied().collect();
            prop_assert_eq!(&held, &begun);
            for slot in numbers(&report.given_back) {
                prop_assert!(leased.contains(&slot) && !running.contains(&slot));
                prop_assert!(!published.contains(&slot) && !failed.contains(&slot));
            }
        }
    }
}
