//! Tests on a clock that the test itself advances.

use std::collections::BTreeMap;

use vintage_control::{PolicyVersion, UpdateNumber};
use vintage_learner::Waiting;
use vintage_trajectory::GroupId;

use super::*;
use crate::fixture::result;

const STEPS: u64 = 400;

fn vitals(role: Role) -> Vitals {
    Vitals::new(role, STEPS, Duration::from_secs(30))
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn phase(name: &str) -> RunEvent {
    RunEvent::Phase(name.to_owned())
}

fn updating(update: u64) -> RunEvent {
    RunEvent::Learner(LearnerEvent::Updating {
        update: UpdateNumber(update),
        excerpt: None,
    })
}

fn updated(update: u64) -> RunEvent {
    RunEvent::Learner(LearnerEvent::Updated(Box::new(result(update))))
}

fn waiting(update: u64, records: u64) -> RunEvent {
    RunEvent::Learner(LearnerEvent::Waiting(Box::new(Waiting {
        update: UpdateNumber(update),
        wanted: 16,
        records,
        ..Waiting::default()
    })))
}

fn producer(event: ProducerEvent) -> RunEvent {
    RunEvent::Producer(event)
}

fn sampled(groups: u64) -> RunEvent {
    producer(ProducerEvent::Sampled {
        version: PolicyVersion(1),
        groups,
        rows: 8 * groups,
        tokens: 80 * groups,
        seconds: 1.0,
    })
}

fn failed() -> RunEvent {
    producer(ProducerEvent::RewardFailed {
        group: GroupId([0; 16]),
        prompt_id: "p".to_owned(),
        reason: "timeout",
        detail: String::new(),
    })
}

fn archived(records: u64) -> RunEvent {
    RunEvent::Archived {
        records,
        bad: BTreeMap::new(),
    }
}

fn trained(layers: u64) -> Outside {
    Outside {
        computed: Computed {
            trained: layers,
            sampled: 0,
        },
        ..Outside::default()
    }
}

/// Looks once a second, from `first` to `last`, at the same state of things.
fn look(vitals: &mut Vitals, outside: &Outside, first: u64, last: u64) {
    for second in first..=last {
        vitals.look(outside.clone(), at(second));
    }
}

fn ready(vitals: &Vitals, second: u64) -> Result<String, String> {
    vitals.readiness(at(second), || "no update for a while".to_owned())
}

#[test]
fn a_process_that_starts_is_not_ready_and_not_judged() {
    let mut vitals = vitals(Role::Learner);
    vitals.observe(&phase("loading prompts"), at(0));
    look(&mut vitals, &Outside::default(), 0, 600);
    assert_eq!(
        vitals.health(at(600)),
        Ok("loading prompts for 10 min 00 s".to_owned())
    );
    let expected = "starting: loading prompts for 10 min 00 s";
    assert_eq!(ready(&vitals, 600), Err(expected.to_owned()));
}

#[test]
fn an_update_that_hangs_is_a_stall_within_a_minute_and_one_that_computes_is_none() {
    let mut vitals = vitals(Role::Learner);
    vitals.observe(&updating(7), at(0));
    for second in 0..=300 {
        vitals.look(trained(second), at(second));
    }
    assert!(vitals.health(at(300)).is_ok(), "it computes");
    look(&mut vitals, &trained(300), 301, 344);
    assert_eq!(
        ready(&vitals, 344),
        Ok("the learner is computing update 7".to_owned())
    );
    look(&mut vitals, &trained(300), 345, 345);
    let expected =
        "the learner is stalled: no progress for 45 s, computing update 7 for 5 min 45 s";
    assert_eq!(vitals.health(at(345)), Err(expected.to_owned()));
    assert_eq!(ready(&vitals, 345), Err(expected.to_owned()));
    vitals.observe(&updated(7), at(346));
    assert!(vitals.health(at(346)).is_ok(), "it goes on");
}

#[test]
fn what_usually_takes_long_is_given_four_times_as_long() {
    let mut vitals = vitals(Role::Learner);
    for update in 0..4 {
        vitals.observe(&updated(update), at(30 * update));
    }
    vitals.observe(&updating(4), at(90));
    assert!(vitals.health(at(209)).is_ok());
    assert!(vitals.health(at(210)).is_err());
}

#[test]
fn a_learner_that_waits_for_producers_is_healthy_and_not_ready() {
    let mut vitals = vitals(Role::Learner);
    vitals.observe(&waiting(0, 0), at(0));
    let quiet = Outside {
        learner_lag: Some(0),
        ..Outside::default()
    };
    look(&mut vitals, &quiet, 0, 600);
    assert!(ready(&vitals, 4).is_ok(), "a moment");
    assert_eq!(
        vitals.health(at(600)),
        Ok("the learner is waiting for update 0".to_owned())
    );
    assert_eq!(ready(&vitals, 600), Err("no update for a while".to_owned()));
}

#[test]
fn a_learner_that_does_not_read_the_records_that_are_there_is_stalled() {
    let mut vitals = vitals(Role::Learner);
    vitals.observe(&waiting(3, 0), at(0));
    let behind = Outside {
        learner_lag: Some(40),
        ..Outside::default()
    };
    for second in 0..=100 {
        vitals.observe(&waiting(3, second), at(second));
        vitals.look(behind.clone(), at(second));
    }
    assert!(vitals.health(at(100)).is_ok(), "records come");
    look(&mut vitals, &behind, 101, 145);
    let expected = "the learner is stalled: no progress for 45 s, waiting for update 3 for 2 min \
                    25 s; 40 records of the log wait to be read";
    assert_eq!(vitals.health(at(145)), Err(expected.to_owned()));
}

#[test]
fn after_the_last_update_a_learner_has_no_work() {
    let mut vitals = vitals(Role::Learner);
    vitals.observe(&updated(STEPS - 1), at(0));
    look(&mut vitals, &Outside::default(), 0, 600);
    assert!(vitals.health(at(600)).is_ok());
    assert!(ready(&vitals, 600).is_ok());
}

#[test]
fn a_producer_is_stalled_with_groups_in_hand_and_not_without_leases() {
    let mut vitals = vitals(Role::Producer);
    vitals.observe(&producer(ProducerEvent::Sampling { groups: 2 }), at(0));
    vitals.observe(&sampled(2), at(1));
    let closed = producer(ProducerEvent::Waiting { version: None });
    vitals.observe(&closed, at(2));
    look(&mut vitals, &Outside::default(), 2, 47);
    let expected = "the producer is stalled: no progress for 45 s, publishing the groups that are \
                    sampled for 45 s; 2 groups are sampled and not published";
    assert_eq!(vitals.health(at(47)), Err(expected.to_owned()));
    vitals.observe(&failed(), at(48));
    vitals.observe(&failed(), at(48));
    look(&mut vitals, &Outside::default(), 48, 600);
    assert_eq!(
        vitals.health(at(600)),
        Ok("the producer is waiting for leases".to_owned())
    );
    assert!(ready(&vitals, 600).is_err());
    let opened = ProducerEvent::Waited {
        seconds: 9.0,
        stopped: false,
    };
    vitals.observe(&producer(opened), at(601));
    assert!(ready(&vitals, 601).is_ok());
    look(&mut vitals, &Outside::default(), 601, 646);
    let stalled = vitals.health(at(646)).expect_err("weights that never come");
    assert!(stalled.contains("loading weights for 45 s"), "{stalled}");
}

#[test]
fn a_long_sampling_that_computes_is_no_stall() {
    let mut vitals = vitals(Role::Producer);
    vitals.observe(&producer(ProducerEvent::Sampling { groups: 64 }), at(0));
    for second in 0..=600 {
        let computed = Computed {
            trained: 0,
            sampled: second / 20,
        };
        let outside = Outside {
            computed,
            ..Outside::default()
        };
        vitals.look(outside, at(second));
    }
    assert!(vitals.health(at(600)).is_ok());
}

#[test]
fn without_a_broker_nobody_is_stalled_and_nobody_is_ready() {
    let mut vitals = vitals(Role::Producer);
    vitals.observe(&sampled(2), at(0));
    let alone = Outside {
        outage: Some("no broker at k:9092 has answered for 9 s".to_owned()),
        ..Outside::default()
    };
    look(&mut vitals, &alone, 0, 600);
    let health = vitals.health(at(600)).expect("a restart would not help");
    assert!(
        health.starts_with("no broker at k:9092 has answered for 9 s; "),
        "{health}"
    );
    let expected = "no broker at k:9092 has answered for 9 s";
    assert_eq!(ready(&vitals, 600), Err(expected.to_owned()));
    look(&mut vitals, &Outside::default(), 601, 644);
    assert!(vitals.health(at(644)).is_ok(), "it had no time yet");
    look(&mut vitals, &Outside::default(), 645, 645);
    assert!(vitals.health(at(645)).is_err());
}

#[test]
fn an_archive_is_ready_once_it_is_assigned_and_caught_up() {
    let mut vitals = vitals(Role::Archive);
    vitals.observe(&archived(0), at(0));
    look(&mut vitals, &Outside::default(), 0, 1);
    let expected = "no partition is assigned to this archive yet";
    assert_eq!(ready(&vitals, 1), Err(expected.to_owned()));
    let behind = |records| Outside {
        archive_lag: Some(records),
        ..Outside::default()
    };
    look(&mut vitals, &behind(5000), 2, 2);
    let expected = "catching up: 5000 records of the log wait to be read";
    assert_eq!(ready(&vitals, 2), Err(expected.to_owned()));
    // It takes more in a minute than it is behind.
    vitals.observe(&archived(6000), at(3));
    look(&mut vitals, &behind(5000), 3, 3);
    assert!(ready(&vitals, 3).is_ok());
    look(&mut vitals, &behind(5000), 4, 48);
    let stalled = vitals.health(at(48)).expect_err("nothing is taken");
    assert!(
        stalled.ends_with("5000 records of the log wait to be read"),
        "{stalled}"
    );
    // Without records there is no work.
    look(&mut vitals, &behind(0), 49, 600);
    assert!(ready(&vitals, 600).is_ok());
}

#[test]
fn a_pause_of_the_process_is_no_stall() {
    let mut vitals = vitals(Role::Learner);
    vitals.observe(&updating(0), at(0));
    vitals.look(trained(1), at(1));
    vitals.resume(at(900));
    vitals.look(trained(1), at(900));
    assert!(vitals.health(at(944)).is_ok());
    assert!(vitals.health(at(945)).is_err());
}
