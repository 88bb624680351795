//! Tests of granted slots: their second groups, what is seen and finished of them, and in which
//! order their groups are trained.

use vintage_control::{NumberSet, ProducerWindow, SlotNumber};

use super::*;
use crate::{settings::LearnerSettings, source::Incoming};

mod choice;
mod orders;

/// Returns a record of a whole group that `producer` sampled on a lease of `slot`. Its offset is its
/// number, too, so that no two records share one. `change` is made to each of its rows.
fn granted(offset: i64, producer: &str, slot: u64, change: impl Fn(&mut Trajectory)) -> Incoming {
    let seq = offset as u64;
    let mut rows = [row(seq, 0), row(seq, 1)];
    rows.iter_mut().for_each(change);
    on_lease(message(offset, seq, (1, 1), &rows), producer, slot)
}

/// Returns the record with the headers of a producer and of a slot that was granted to it.
fn on_lease(mut incoming: Incoming, producer: &str, slot: u64) -> Incoming {
    if let Ok((headers, _)) = &mut incoming.message {
        producer.clone_into(&mut headers.producer);
        headers.slot = Some(SlotNumber(slot));
    }
    incoming
}

/// Does nothing to a row.
fn good(_: &mut Trajectory) {}

/// Makes a group that is refused although it is well formed.
fn without_reward(row: &mut Trajectory) {
    row.reward = f32::NAN;
}

fn for_update(batch: i64) -> impl Fn(&mut Trajectory) {
    move |row| row.batch = batch
}

fn take_all(intake: &mut Intake, log: &[Incoming]) {
    for record in log {
        intake.take(record.clone(), upto(0)).unwrap();
    }
}

/// Returns the records of the groups, by offset.
fn offsets(groups: &[ReadyGroup]) -> Vec<i64> {
    let firsts = groups.iter().map(|group| group.planned.records[0].offset.0);
    firsts.collect()
}

/// Returns reason and first offset of each refusal without a plan.
fn refused(intake: &mut Intake) -> Vec<(RejectReason, i64)> {
    let refused = intake.drain_refused();
    let refused = refused.iter().map(|r| (r.reason, r.records[0].offset.0));
    refused.collect()
}

fn slots(numbers: impl IntoIterator<Item = u64>) -> NumberSet {
    numbers.into_iter().collect()
}

/// Returns the intake of the process after the one of `intake`, which wrote a checkpoint.
fn restarted(intake: &Intake) -> Intake {
    let (partitions, producers) = (intake.resume_points(), intake.finished_numbers());
    Intake::new(settings(), &partitions, &producers)
        .remembering(
            &intake.known(),
            &intake.planned_refused_batches(UpdateNumber(0)),
        )
        .with_slots(&ProducerWindow::from(intake.finished_slots()))
}

/// Makes a plan that trains `wanted` groups and records what was refused, and finishes it.
fn train(intake: &mut Intake, wanted: usize) -> Plan {
    let chosen = intake.choose(UpdateNumber(0), wanted).unwrap();
    let plan = plan_of(&chosen, intake, 0);
    intake.finish(&plan);
    plan
}

#[test]
fn the_second_group_of_a_slot_is_refused_and_never_trained() {
    let mut intake = intake();
    take_all(
        &mut intake,
        &[
            granted(0, "a", 7, good),
            granted(1, "b", 7, good),
            granted(2, "b", 8, good),
            granted(3, "c", 7, good),
        ],
    );
    assert_eq!(intake.waiting(), [at(0), at(2)]);
    assert_eq!(
        intake.take_seen_slots(),
        [(SlotNumber(7), None), (SlotNumber(8), None)]
    );
    assert_eq!(intake.take_seen_slots(), []);
    assert_eq!(*intake.finished_slots(), slots([]));

    // Each has a number of its own, so it counts as a group of its producer.
    assert_eq!(intake.refused_groups(), 2);
    assert_eq!(intake.numbered_rejections(0), 2);
    assert_eq!(intake.refused_by_reason()["slot_taken"], 2);
    let plan = train(&mut intake, 2);
    let trained: Vec<_> = plan.groups.iter().map(|group| group.records[0]).collect();
    assert_eq!(trained, [at(0), at(2)]);
    let [second, third] = &plan.rejections[..] else {
        panic!("{:?}", plan.rejections)
    };
    assert_eq!(second.reason, RejectReason::SlotTaken);
    assert_eq!(
        (&second.records[..], third.reason),
        (&[at(1)][..], second.reason)
    );
    assert_eq!(
        (second.producer.as_deref(), second.producer_seq),
        (Some("b"), Some(1))
    );
    assert!(second.detail.contains("slot 7"), "{}", second.detail);
    assert_eq!(intake.numbered_rejections(2), 2, "a plan records them now");
    assert_eq!(*intake.finished_slots(), slots([7, 8]));
    let numbers = intake.finished_numbers();
    assert_eq!(numbers["b"].runs, [(1, 2)]);
    assert_eq!(numbers["c"].above, [3]);
    assert!(intake.choose(UpdateNumber(1), 1).is_none());
}

#[test]
fn a_slot_is_taken_after_a_restart_too() {
    let log = [
        granted(0, "a", 7, good),
        granted(1, "a", 8, good),
        granted(2, "a", 9, good),
    ];
    let mut first = intake();
    take_all(&mut first, &log);
    train(&mut first, 2);
    assert_eq!(*first.finished_slots(), slots([7, 8]));

    // The groups of 7 and 8 are trained, the one of 9 waits and is read again.
    let mut second = restarted(&first);
    assert_eq!(*second.finished_slots(), slots([7, 8]));
    take_all(&mut second, &log[1..]);
    let again = [
        granted(3, "b", 7, good),
        granted(4, "b", 9, good),
        granted(5, "b", 10, good),
    ];
    take_all(&mut second, &again);
    assert_eq!(
        refused(&mut second),
        [(RejectReason::SlotTaken, 3), (RejectReason::SlotTaken, 4)]
    );
    assert_eq!(second.waiting(), [at(2), at(5)]);
    let seen = second.take_seen_slots();
    assert_eq!(seen, [(SlotNumber(9), None), (SlotNumber(10), None)]);
}

/// Checks that the first group of a slot is trained where only the second is finished: the slot is
/// not finished with it.
#[test]
fn the_rejection_of_a_second_group_does_not_finish_the_slot() {
    let log = [
        granted(0, "a", 7, good),
        granted(1, "b", 7, good),
        granted(2, "b", 8, good),
    ];
    let mut first = intake();
    take_all(&mut first, &log);
    let plan = plan_of(&[], &mut first, 0);
    first.finish(&plan);
    assert_eq!(*first.finished_slots(), slots([]));

    let mut second = restarted(&first);
    take_all(&mut second, &log);
    assert_eq!(second.waiting(), [at(0), at(2)]);
    assert_eq!(refused(&mut second), []);
    train(&mut second, 2);
    assert_eq!(*second.finished_slots(), slots([7, 8]));
}

/// Checks that a slot whose group is refused for any other reason is seen at once, and finished by
/// the plan that records the refusal: the same slot would give the same group again.
#[test]
fn a_slot_is_seen_and_finished_whatever_its_group_is_refused_for() {
    use RejectReason as R;

    let unreadable = |offset: i64, slot: u64| {
        let mut broken = granted(offset, "a", slot, good);
        let (headers, _) = broken.message.unwrap();
        broken.message = Err(BadRecord {
            class: BadClass::Undecodable,
            identity: Identity::from(&headers),
            detail: "noise".to_owned(),
        });
        broken
    };
    let half = |offset: i64, slot: u64| {
        let seq = offset as u64;
        on_lease(message(offset, seq, (1, 2), &[row(seq, 0)]), "a", slot)
    };
    let newest = |row: &mut Trajectory| row.policy_spans[0].version = PolicyVersion(3);
    let cases: [(R, Vec<Incoming>); 6] = [
        (R::BadReward, vec![granted(0, "a", 7, without_reward)]),
        (R::FutureVersion, vec![granted(0, "a", 7, newest)]),
        (R::BatchFull, vec![granted(0, "a", 7, for_update(1_000))]),
        // Only an implausible value; a plan may name such a group.
        (
            R::BadReward,
            vec![granted(0, "a", 7, |row| row.reward = 1e38)],
        ),
        (R::Undecodable, vec![unreadable(0, 7)]),
        (R::Incomplete, {
            let mut log = vec![half(0, 7)];
            log.extend((1..6).map(|offset| group(offset, offset as u64)));
            log
        }),
    ];
    for (reason, log) in cases {
        let mut intake = intake();
        take_all(&mut intake, &log);
        let seen = intake.take_seen_slots();
        let numbers: Vec<_> = seen.iter().map(|(slot, _)| slot.0).collect();
        assert_eq!(numbers, [7], "{reason:?}");
        assert_eq!(*intake.finished_slots(), slots([]), "{reason:?}");
        let plan = plan_of(&[], &mut intake, 0);
        assert_eq!(plan.rejections[0].reason, reason);
        intake.finish(&plan);
        assert_eq!(*intake.finished_slots(), slots([7]), "{reason:?}");

        take_all(&mut intake, &[granted(9, "b", 7, good)]);
        assert_eq!(
            refused(&mut intake),
            [(R::SlotTaken, 9)],
            "after {reason:?}"
        );
        assert!(intake.take_seen_slots().is_empty(), "{reason:?}");
    }
}

/// Checks that a group takes no slot under a number that another group had first.
#[test]
fn copies_and_renumbered_groups_take_no_slot() {
    let mut intake = intake();
    let numbered = |offset, number, slot| {
        let rows = [row(number, 0), row(number, 1)];
        on_lease(message(offset, 0, (1, 1), &rows), "a", slot)
    };
    take_all(
        &mut intake,
        &[numbered(0, 0, 1), numbered(1, 0, 2), numbered(2, 70, 3)],
    );
    assert_eq!(intake.take_seen_slots(), [(SlotNumber(1), None)]);
    let plan = plan_of(&[], &mut intake, 0);
    let reasons: Vec<_> = plan.rejections.iter().map(|r| r.reason).collect();
    assert_eq!(reasons, [RejectReason::Duplicate, RejectReason::Renumbered]);
    intake.finish(&plan);
    assert_eq!(*intake.finished_slots(), slots([]));
}

/// Checks that slots belong to the learner's policy and to the run whose learner granted them.
#[test]
fn replayed_groups_and_those_of_other_policies_take_no_slot() {
    let replayed = |offset| {
        let mut replayed = granted(offset, "a", 7, good);
        if let Ok((headers, _)) = &mut replayed.message {
            headers.replay_of = Some("vintage.old.rollouts.v1".to_owned());
        }
        replayed
    };
    let foreign = |offset| granted(offset, "a", 7, |row| row.policy = "other".to_owned());
    let own = |offset| granted(offset, "a", 7, good);
    let mut lineages = settings();
    lineages.learner.lineages = vec!["lead".parse().unwrap(), "other".parse().unwrap()];
    let archive = || Intake::new(settings(), &[], &BTreeMap::new()).of_archive("other");
    let cases = [
        (intake(), [replayed(0), replayed(1)]),
        (
            Intake::new(lineages, &[], &BTreeMap::new()),
            [foreign(0), foreign(1)],
        ),
        (archive(), [own(0), own(1)]),
    ];
    for (mut intake, log) in cases {
        take_all(&mut intake, &log);
        assert_eq!(intake.waiting(), [at(0), at(1)]);
        assert!(intake.take_seen_slots().is_empty());
        let chosen = intake.choose(UpdateNumber(0), 2).unwrap();
        assert!(chosen.iter().all(|group| group.slot.is_none()));
        let plan = plan_of(&chosen, &mut intake, 0);
        intake.finish(&plan);
        assert_eq!(*intake.finished_slots(), slots([]));
        // A group of the slot itself is not the second one.
        if intake.source().is_none() {
            take_all(&mut intake, &[own(2)]);
            assert_eq!(intake.waiting(), [at(2)]);
        }
    }
}

/// Checks that only the group that fills a slot can leave a gap in its update: no other one was to
/// be in it.
#[test]
fn a_second_group_leaves_no_gap_in_its_update() {
    let gaps = |first: fn(&mut Trajectory), second: fn(&mut Trajectory)| {
        let mut intake = intake();
        let of = |change: fn(&mut Trajectory)| {
            move |row: &mut Trajectory| {
                row.batch = 3;
                change(row);
            }
        };
        take_all(
            &mut intake,
            &[
                granted(0, "a", 7, of(first)),
                granted(1, "b", 7, of(second)),
            ],
        );
        let open = intake.refused_batches(UpdateNumber(0));
        let plan = plan_of(&[], &mut intake, 0);
        intake.finish(&plan);
        assert_eq!(intake.planned_refused_batches(UpdateNumber(0)), open);
        open
    };
    assert_eq!(gaps(good, good), BTreeMap::new());
    assert_eq!(
        gaps(without_reward, good),
        BTreeMap::from([(UpdateNumber(3), 1)])
    );
    // Both groups of a slot are refused for the same fault, as the same slot gives the same group.
    assert_eq!(
        gaps(without_reward, without_reward),
        BTreeMap::from([(UpdateNumber(3), 1)])
    );
    assert_eq!(gaps(good, without_reward), BTreeMap::new());
}
