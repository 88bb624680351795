//! Tests of groups from elsewhere: of another run, and of machines whose clocks are wrong.

use super::*;
use crate::source::Incoming;

fn of_run(run: &str) -> Intake {
    let mut own = settings();
    own.run = Some(run.parse().unwrap());
    Intake::new(own, &[], &BTreeMap::new())
}

fn leased(offset: i64, change: impl Fn(&mut vintage_trajectory::Headers)) -> Incoming {
    let mut incoming = group(offset, offset as u64);
    if let Ok((headers, _)) = &mut incoming.message {
        headers.slot = Some(vintage_control::SlotNumber(7));
        change(headers);
    }
    incoming
}

/// Checks that a group of another run is refused with both names and takes no slot, and that a
/// replayed one and one of the own run are as before. The rows of the fixture say run `run`.
#[test]
fn a_group_of_another_run_is_counted_and_takes_no_slot() {
    let mut intake = of_run("mine");
    intake.take(leased(0, |_| ()), upto(0)).unwrap();
    assert!(intake.take_seen_slots().is_empty());
    let plan = plan_of(&[], &mut intake, 0);
    intake.finish(&plan);
    assert!(intake.finished_slots().runs().next().is_none());
    let mut intake = of_run("mine");
    intake.take(leased(0, |_| ()), upto(0)).unwrap();
    assert_eq!(intake.refused_by_reason()["other_policy"], 1);
    let replayed = leased(1, |headers| {
        headers.replay_of = Some("vintage.run.rollouts.v1".to_owned());
    });
    intake.take(replayed, upto(0)).unwrap();
    let own = leased(2, |headers| headers.run = "mine".parse().unwrap());
    intake.take(own, upto(0)).unwrap();
    assert_eq!(intake.waiting(), [at(1), at(2)]);
    assert_eq!(intake.take_seen_slots().len(), 1);
    let chosen = intake.choose(UpdateNumber(0), 2).unwrap();
    let plan = plan_of(&chosen, &mut intake, 0);
    let [refused] = &plan.rejections[..] else {
        panic!("{:?}", plan.rejections)
    };
    assert_eq!(refused.records, [at(0)]);
    intake.finish(&plan);
    let finished: Vec<_> = intake.finished_slots().runs().collect();
    assert_eq!(finished, [(7, 7)], "of the group of this run alone");
    assert!(
        refused.detail.contains("for run run") && refused.detail.contains("of run mine"),
        "{}",
        refused.detail
    );
    // Where the run is not known, as in another run's archive, the name says nothing.
    let mut any = super::intake();
    any.take(leased(0, |_| ()), upto(0)).unwrap();
    assert_eq!(any.waiting(), [at(0)]);
}

/// Checks that no clock of a producer or broker decides what trains, or in which order.
#[test]
fn clocks_that_differ_by_hours_change_nothing() {
    const NOW: i64 = 1_790_000_000_000;
    const HOURS: i64 = 5 * 3600 * 1000;
    let clocks = [0, HOURS, -HOURS, 24 * HOURS, -24 * HOURS].map(|ahead| NOW + ahead);
    let mut intake = intake();
    for (offset, clock) in (0..).zip(clocks) {
        let seq = offset as u64;
        let mut rows = [row(seq, 0), row(seq, 1)];
        for row in &mut rows {
            row.created_at_us = clock * 1000;
        }
        let mut incoming = message(offset, seq, (1, 1), &rows);
        incoming.timestamp_ms = Some(clock);
        intake.take(incoming, upto(0)).unwrap();
    }
    assert_eq!(intake.refusals(), 0);
    let chosen = intake.choose(UpdateNumber(0), clocks.len()).unwrap();
    let offsets: Vec<_> = chosen
        .iter()
        .map(|group| group.planned.records[0].offset.0)
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
}
