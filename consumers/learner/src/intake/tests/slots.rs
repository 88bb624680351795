//! Tests of granted slots: the first group of each counts, the oldest go first.

use std::collections::BTreeMap;

use vintage_control::{
    NumberSet, PolicyVersion, ProducerWindow, RejectReason, SlotNumber, UpdateNumber,
};
use vintage_trajectory::Headers;

use super::{intake, plan_of, upto};
use crate::{
    intake::{
        Intake,
        fixture::{group, message, row, settings},
    },
    settings::Settings,
    source::Incoming,
};

/// Group number `seq` at `offset`, of a granted slot, sampled by `version`.
fn granted(offset: i64, seq: u64, slot: u64, version: u64) -> Incoming {
    let mut rows = [row(seq, 0), row(seq, 1)];
    for row in &mut rows {
        row.policy_spans[0].version = PolicyVersion(version);
    }
    with(message(offset, seq, (1, 1), &rows), |headers| {
        headers.slot = Some(SlotNumber(slot));
    })
}

fn with(mut incoming: Incoming, change: impl FnOnce(&mut Headers)) -> Incoming {
    let (headers, _) = incoming.message.as_mut().unwrap();
    change(headers);
    incoming
}

fn lead(max_staleness: u64) -> Intake {
    let settings = Settings {
        max_staleness: Some(max_staleness),
        ..settings()
    };
    Intake::new(settings, &[], &BTreeMap::new())
}

fn numbers(intake: &mut Intake, update: u64, wanted: usize) -> Option<Vec<u64>> {
    let chosen = intake.choose(UpdateNumber(update), wanted)?;
    Some(
        chosen
            .iter()
            .map(|group| group.planned.producer_seq)
            .collect(),
    )
}

#[test]
fn the_second_group_of_a_slot_is_refused() {
    let mut intake = intake();
    for (offset, slot) in [(0, 7), (1, 8), (2, 7)] {
        intake
            .take(granted(offset, offset as u64, slot, 0), upto(0))
            .unwrap();
    }
    let news = intake.take_seen_slots();
    assert_eq!(news, [(SlotNumber(7), None), (SlotNumber(8), None)]);
    assert_eq!(intake.ready_groups(), 2);
    // It has a number of its own, and leaves no update short.
    assert_eq!(
        (intake.refused_groups(), intake.numbered_rejections(0)),
        (1, 1)
    );
    let refused = intake.drain_refused();
    assert_eq!(refused[0].reason, RejectReason::SlotTaken);
    assert!(refused[0].detail.contains("slot 7"), "{refused:?}");
}

#[test]
fn a_slot_is_taken_over_restarts_once_its_group_is_settled() {
    let mut intake = intake();
    for offset in 0..3 {
        intake
            .take(
                granted(offset, offset as u64, 10 + offset as u64, 0),
                upto(0),
            )
            .unwrap();
    }
    let chosen = intake.choose(UpdateNumber(0), 2).unwrap();
    let plan = plan_of(&chosen, &mut intake, 0);
    assert!(intake.finished_slots().is_empty());
    intake.finish(&plan);
    let finished = intake.finished_slots().clone();
    assert_eq!(finished.runs().collect::<Vec<_>>(), [(10, 11)]);

    let mut again = Intake::new(
        settings(),
        &intake.resume_points(),
        &intake.finished_numbers(),
    )
    .with_slots(&ProducerWindow::from(&finished));
    again.take(granted(2, 2, 12, 0), upto(0)).unwrap();
    again.take(granted(3, 3, 11, 0), upto(0)).unwrap();
    assert_eq!(again.take_seen_slots(), [(SlotNumber(12), None)]);
    assert_eq!(again.drain_refused()[0].reason, RejectReason::SlotTaken);
}

#[test]
fn a_plan_gets_the_group_of_a_slot_that_is_read_second_after_a_restart() {
    let mut first = intake();
    first.take(granted(0, 0, 5, 0), upto(0)).unwrap();
    first.take(granted(1, 1, 5, 0), upto(0)).unwrap();
    let chosen = first.choose(UpdateNumber(0), 1).unwrap();
    let plan = plan_of(&chosen, &mut first, 0);
    assert_eq!(plan.rejections.len(), 1);

    // Two partitions may be read in another order. Offsets stand for records here.
    let mut again = intake();
    again.take(granted(1, 1, 5, 0), upto(0)).unwrap();
    again.take(granted(0, 0, 5, 0), upto(0)).unwrap();
    let taken = again.take_planned(&plan).unwrap().unwrap();
    assert_eq!(taken[0].planned, chosen[0].planned);
    assert_eq!((again.ready_groups(), again.refusals()), (0, 0));
    again.finish(&plan);
    assert_eq!(
        again.finished_slots(),
        &[5].into_iter().collect::<NumberSet>()
    );
}

#[test]
fn a_group_that_is_refused_takes_its_slot_too() {
    let mut intake = intake();
    let mut rows = [row(0, 0), row(0, 1)];
    rows[1].reward = f32::NAN;
    let bad = with(message(0, 0, (1, 1), &rows), |headers| {
        headers.slot = Some(SlotNumber(3))
    });
    intake.take(bad, upto(0)).unwrap();
    assert_eq!(intake.take_seen_slots(), [(SlotNumber(3), None)]);
    let plan = plan_of(&[], &mut intake, 0);
    intake.finish(&plan);
    assert_eq!(
        intake.finished_slots(),
        &[3].into_iter().collect::<NumberSet>()
    );
}

#[test]
fn slots_belong_to_the_own_policy_and_to_the_run_that_granted_them() {
    let mut intake = intake();
    let replayed = with(granted(0, 0, 1, 0), |headers| {
        headers.replay_of = Some("vintage.old.rollouts.v1".to_owned());
    });
    intake.take(replayed, upto(0)).unwrap();
    intake.take(granted(1, 1, 1, 0), upto(0)).unwrap();
    intake.take(group(2, 2), upto(0)).unwrap();
    assert_eq!(intake.ready_groups(), 3);
    assert_eq!(intake.take_seen_slots(), [(SlotNumber(1), None)]);
    let mut archived = self::intake().of_archive("vintage.old.rollouts.v1");
    archived.take(granted(0, 0, 1, 0), upto(0)).unwrap();
    archived.take(granted(1, 1, 1, 0), upto(0)).unwrap();
    assert_eq!(archived.ready_groups(), 2);
}

#[test]
fn the_lead_trains_the_oldest_first_and_others_in_order_of_arrival() {
    let fill = |mut intake: Intake| {
        for (offset, version) in [(0, 3), (1, 1), (2, 3), (3, 2)] {
            let group = granted(offset, offset as u64, offset as u64, version);
            intake.take(group, upto(3)).unwrap();
        }
        intake
    };
    let mut lead = fill(lead(4));
    assert_eq!(numbers(&mut lead, 3, 2), Some(vec![1, 3]));
    assert_eq!(numbers(&mut lead, 3, 2), Some(vec![0, 2]));
    let mut other = fill(intake());
    assert_eq!(numbers(&mut other, 3, 2), Some(vec![0, 1]));
}

#[test]
fn a_granted_group_beyond_the_bound_is_refused_and_one_at_it_is_trained() {
    let mut intake = lead(2);
    intake.take(granted(0, 0, 0, 1), upto(4)).unwrap();
    intake.take(granted(1, 1, 1, 2), upto(4)).unwrap();
    // Nobody granted this one: only `learner.max_age` limits its age.
    intake.take(group(2, 2), upto(4)).unwrap();
    assert_eq!(numbers(&mut intake, 4, 2), Some(vec![1, 2]));
    let refused = intake.drain_refused();
    assert_eq!(
        (refused.len(), refused[0].reason),
        (1, RejectReason::TooStale)
    );
    assert_eq!(refused[0].producer_seq, Some(0));
}

#[test]
fn the_groups_of_an_update_are_in_the_order_of_their_slots() {
    let mut intake = intake();
    for (offset, slot) in [(0, 9), (1, 8), (2, 1 << 40)] {
        let seq = offset as u64;
        let mut rows = [row(seq, 0), row(seq, 1)];
        rows.iter_mut().for_each(|row| row.batch = 4);
        let group = with(message(offset, seq, (1, 1), &rows), |headers| {
            headers.slot = Some(SlotNumber(slot));
        });
        intake.take(group, upto(4)).unwrap();
    }
    assert_eq!(
        intake.take_seen_slots()[0],
        (SlotNumber(9), Some(UpdateNumber(4)))
    );
    assert_eq!(numbers(&mut intake, 4, 3), Some(vec![1, 0, 2]));
}
