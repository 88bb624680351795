//! Tests of slots after a restart, which may read the partitions of the log in another order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vintage_control::{Partition, RecordId};

use super::*;

fn in_partition(partition: i32, mut incoming: Incoming) -> Incoming {
    incoming.record.partition = Partition(partition);
    incoming
}

/// Returns two groups of slot 7 in a partition each; the first is read first by the first process.
fn pair(change: impl Fn(&mut Trajectory) + Copy) -> [Incoming; 2] {
    let first = in_partition(0, granted(0, "a", 7, change));
    let second = in_partition(1, granted(1, "b", 7, change));
    [first, second]
}

/// Reads a log in the opposite order, and runs its one plan again.
fn again(plan: &Plan, log: &[Incoming]) -> Intake {
    let mut again = intake();
    for record in log.iter().rev() {
        again.take(record.clone(), upto(0)).unwrap();
    }
    let groups = again.take_planned(plan).unwrap().unwrap();
    let planned: Vec<_> = groups.iter().map(|group| &group.planned).collect();
    assert_eq!(planned, plan.groups.iter().collect::<Vec<_>>());
    again.finish(plan);
    again
}

#[test]
fn a_plan_may_name_the_group_of_a_slot_that_is_read_second() {
    let log = pair(good);
    let mut live = intake();
    take_all(&mut live, &log);
    let plan = train(&mut live, 1);
    assert_eq!(plan.groups[0].records, [log[0].record]);
    assert_eq!(plan.rejections[0].records, [log[1].record]);

    let mut again = again(&plan, &log);
    assert!(again.waiting().is_empty());
    assert_eq!(refused(&mut again), []);
    assert_eq!(again.take_seen_slots(), [(SlotNumber(7), None)]);
    assert_eq!(again.finished_slots(), live.finished_slots());
    assert_eq!(again.resume_points(), live.resume_points());
    assert_eq!(again.finished_numbers(), live.finished_numbers());
}

/// Checks that the group read first is not trained in addition to the one that a plan names. No plan
/// refused it, because the first process ended before it read it, or before its next plan.
#[test]
fn the_group_that_is_read_first_is_refused_if_a_plan_trains_the_other() {
    let log = pair(good);
    let mut live = intake();
    take_all(&mut live, &log[..1]);
    let plan = train(&mut live, 1);
    take_all(&mut live, &log[1..]);

    let mut again = again(&plan, &log);
    assert!(again.waiting().is_empty(), "slot 7 would be trained twice");
    assert!(again.choose(UpdateNumber(1), 1).is_none());
    assert_eq!(again.finished_slots(), live.finished_slots());
    assert_eq!(refused(&mut again), [(RejectReason::SlotTaken, 1)]);
}

/// Checks that the first group of a slot is trained if a plan refuses the second one, whichever is
/// read first.
#[test]
fn a_slot_keeps_the_group_that_no_plan_refused() {
    let log = pair(good);
    let mut live = intake();
    take_all(&mut live, &log);
    let plan = plan_of(&[], &mut live, 0);
    live.finish(&plan);
    assert_eq!(live.waiting(), [log[0].record]);

    let mut again = again(&plan, &log);
    assert_eq!(again.waiting(), [log[0].record]);
    assert_eq!(refused(&mut again), []);
    assert_eq!(again.finished_slots(), live.finished_slots());
}
#[test]
fn a_second_group_leaves_no_gap_whichever_is_read_first() {
    let log = pair(|row| row.batch = 3);
    let mut live = intake();
    take_all(&mut live, &log);
    let chosen = live.choose(UpdateNumber(3), 1).unwrap();
    let plan = plan_of(&chosen, &mut live, 0);
    live.finish(&plan);
    let again = again(&plan, &log);
    let gaps = |intake: &Intake| intake.refused_batches(UpdateNumber(0));
    assert_eq!(gaps(&live), BTreeMap::new());
    assert_eq!(gaps(&again), BTreeMap::new());
}

/// Checks that a restart finishes the slot of a group that a plan refused as incomplete, although it
/// has not read as many records as the first process when it runs the plan again.
#[test]
fn the_slot_of_an_incomplete_group_is_finished_after_a_restart() {
    let mut log = vec![on_lease(message(0, 0, (1, 2), &[row(0, 0)]), "a", 7)];
    log.extend((1..6).map(|offset| group(offset, offset as u64)));
    let mut live = intake();
    take_all(&mut live, &log);
    let plan = train(&mut live, 2);
    assert_eq!(plan.rejections[0].reason, RejectReason::Incomplete);

    let mut again = intake();
    take_all(&mut again, &log[..3]);
    assert_eq!(again.take_planned(&plan).unwrap().unwrap().len(), 2);
    again.finish(&plan);
    assert_eq!(again.finished_slots(), live.finished_slots());
    take_all(&mut again, &[granted(6, "b", 7, good)]);
    assert_eq!(refused(&mut again), [(RejectReason::SlotTaken, 6)]);
}

/// State of a group in a random log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Bad,
    Implausible,
    Unreadable,
    /// Only the first of its two parts comes.
    Half,
}

#[derive(Debug, Clone, Copy)]
struct Sampled {
    partition: i32,
    producer: u8,
    slot: Option<u64>,
    batch: i64,
    kind: Kind,
}

/// Returns groups of all kinds, `halves` of ten with a part missing.
fn any_sampled(halves: u32) -> impl Strategy<Value = Sampled> {
    let kind = prop_oneof![
        6 => Just(Kind::Good),
        1 => Just(Kind::Bad),
        1 => Just(Kind::Implausible),
        1 => Just(Kind::Unreadable),
        halves => Just(Kind::Half),
    ];
    let slot = prop::option::weighted(0.9, 0_u64..12);
    let batch = prop_oneof![3 => Just(-1_i64), 1 => 0..8_i64];
    (0..2, 0_u8..3, slot, batch, kind).prop_map(|(partition, producer, slot, batch, kind)| {
        Sampled {
            partition,
            producer,
            slot,
            batch,
            kind,
        }
    })
}

/// Returns the records of the groups; each has a number of its own.
fn log_of(sampled: &[Sampled]) -> Vec<Incoming> {
    let mut offsets = [0_i64; 2];
    let mut log = Vec::new();
    for (number, of) in (0_u64..).zip(sampled) {
        let mut rows = [row(number, 0), row(number, 1)];
        for row in &mut rows {
            row.batch = of.batch;
            match of.kind {
                Kind::Bad => row.reward = f32::NAN,
                Kind::Implausible => row.reward = 1e38,
                _ => {}
            }
        }
        let mut incoming = match of.kind {
            Kind::Half => message(0, number, (1, 2), &rows[..1]),
            _ => message(0, number, (1, 1), &rows),
        };
        if let Some(slot) = of.slot {
            let producer = format!("p{}", of.producer);
            incoming = on_lease(incoming, &producer, slot);
        }
        if of.kind == Kind::Unreadable {
            let (headers, _) = incoming.message.unwrap();
            incoming.message = Err(BadRecord {
                class: BadClass::Undecodable,
                identity: Identity::from(&headers),
                detail: "noise".to_owned(),
            });
        }
        let offset = &mut offsets[of.partition as usize];
        incoming.record.offset = Offset(*offset);
        *offset += 1;
        log.push(in_partition(of.partition, incoming));
    }
    log
}

/// Intake and plans of an uninterrupted process, and the intakes of its successors that start after
/// each of its plans.
struct Lived {
    intake: Intake,
    plans: Vec<Plan>,
    successors: Vec<Intake>,
}

/// Trains two groups at a time, as soon as there are two more records than `delay` since the last
/// plan. A last plan records the refusals that are left.
fn live(log: &[Incoming], delay: usize) -> Lived {
    let mut lived = Lived {
        intake: intake(),
        plans: Vec::new(),
        successors: vec![intake()],
    };
    let mut since = 0;
    for record in log {
        let live = &mut lived.intake;
        live.take(record.clone(), upto(0)).unwrap();
        since += 1;
        let version = lived.plans.len() as u64;
        if since > delay
            && let Some(chosen) = live.choose(UpdateNumber(version), 2)
        {
            let plan = plan_of(&chosen, live, version);
            live.finish(&plan);
            lived.successors.push(restarted(live));
            lived.plans.push(plan);
            since = 0;
        }
    }
    let plan = plan_of(&[], &mut lived.intake, lived.plans.len() as u64);
    lived.intake.finish(&plan);
    lived.plans.push(plan);
    lived
}

/// Returns the log in an order that keeps the one of each partition: at each step the next record
/// of the partition that is named.
fn merged(log: &[Incoming], partitions: &[bool]) -> Vec<Incoming> {
    let of = |partition: i32| {
        let records = log
            .iter()
            .filter(move |incoming| incoming.record.partition.0 == partition);
        records.cloned()
    };
    let (mut zero, mut one) = (of(0), of(1));
    let picked = partitions.iter().filter_map(|first| match first {
        true => zero.next(),
        false => one.next(),
    });
    let mut merged: Vec<_> = picked.collect();
    merged.extend(zero);
    merged.extend(one);
    merged
}

/// Runs the plans from `plans` on again on the log in the given order, reading as little of it as
/// each plan needs, and then reads the rest.
fn run_again(mut intake: Intake, plans: &[Plan], log: Vec<Incoming>) -> Intake {
    let before: BTreeMap<_, _> = intake
        .resume_points()
        .iter()
        .map(|at| (at.partition, at.resume))
        .collect();
    let mut log = log.into_iter().filter(|incoming| {
        let resume = before.get(&incoming.record.partition);
        resume.is_none_or(|resume| incoming.record.offset >= *resume)
    });
    for plan in plans {
        let groups = loop {
            match intake.take_planned(plan).unwrap() {
                Some(groups) => break groups,
                None => intake.take(log.next().unwrap(), upto(0)).unwrap(),
            }
        };
        assert_eq!(groups.len(), plan.groups.len());
        intake.finish(plan);
    }
    for record in log {
        intake.take(record, upto(0)).unwrap();
    }
    intake
}

/// Asserts that no slot is trained twice, by the plans and whatever is chosen after them.
fn assert_no_slot_twice(plans: &[Plan], mut intake: Intake, log: &[Incoming]) {
    let slots: BTreeMap<RecordId, SlotNumber> = log
        .iter()
        .filter_map(|incoming| {
            let (headers, _) = incoming.message.as_ref().ok()?;
            Some((incoming.record, headers.slot?))
        })
        .collect();
    let mut trained: Vec<_> = plans
        .iter()
        .flat_map(|plan| &plan.groups)
        .map(|group| group.records[0])
        .collect();
    for version in plans.len() as u64..20 {
        while let Some(chosen) = intake.choose(UpdateNumber(version), 1) {
            trained.push(chosen[0].planned.records[0]);
        }
    }
    let mut once = BTreeSet::new();
    for record in trained {
        if let Some(slot) = slots.get(&record) {
            assert!(once.insert(*slot), "slot {slot} is trained twice");
        }
    }
}

fn compare(sampled: &[Sampled], delay: usize, order: Option<&[bool]>) {
    let log = log_of(sampled);
    let Lived {
        intake: live,
        plans,
        successors,
    } = live(&log, delay);
    assert_no_slot_twice(&plans, intake(), &log);
    for (from, successor) in successors.into_iter().enumerate() {
        let in_order = order.map_or_else(|| log.clone(), |order| merged(&log, order));
        let again = run_again(successor, &plans[from..], in_order);
        assert_eq!(again.finished_slots(), live.finished_slots());
        let version = UpdateNumber(plans.len() as u64 - 1);
        assert_eq!(
            again.planned_refused_batches(version),
            live.planned_refused_batches(version)
        );
        assert_eq!(again.finished_numbers(), live.finished_numbers());
        if order.is_none() {
            assert_eq!(again.waiting(), live.waiting());
        }
        assert_no_slot_twice(&plans, again, &log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Checks that a process that starts after any plan and runs the later ones again on the same log
    /// finishes the slots that an uninterrupted process finished, and trains none of them twice.
    #[test]
    fn a_restart_finishes_the_slots_that_one_process_finishes(
        sampled in prop::collection::vec(any_sampled(0), 1..30),
        delay in 0_usize..6,
    ) {
        compare(&sampled, delay, None);
    }

    /// Checks that this holds, too, where the restart reads the partitions in another order, and
    /// where parts of groups are missing.
    #[test]
    fn a_restart_in_another_order_finishes_the_same_slots(
        sampled in prop::collection::vec(any_sampled(1), 1..30),
        delay in 0_usize..6,
        order in prop::option::of(prop::collection::vec(any::<bool>(), 30)),
    ) {
        compare(&sampled, delay, order.as_deref());
    }
}
