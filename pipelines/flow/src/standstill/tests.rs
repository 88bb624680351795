//! Tests on a clock that the test itself advances.

use std::collections::BTreeMap;
use vintage_config::Layers;
use vintage_settings::RunConfig;

use vintage_control::{Offset, Partition, PolicyVersion, UpdateNumber, UpdateResult};
use vintage_learner::Waiting;
use vintage_trajectory::GroupId;

use super::*;
use crate::fixture::result;

const STEPS: u64 = 400;

fn state(role: Role) -> Standstill {
    let defaults = Layers::new().resolve::<RunConfig>().expect("the defaults");
    Standstill::new(role, STEPS, Health::of(&defaults.config))
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn updated(version: u64) -> RunEvent {
    RunEvent::Learner(LearnerEvent::Updated(Box::new(result(version))))
}

fn idle(version: u64) -> RunEvent {
    let still = UpdateResult {
        grad_norm: 0.0,
        reward: 0.0,
        ..result(version)
    };
    RunEvent::Learner(LearnerEvent::Updated(Box::new(still)))
}

fn waiting(records: u64, refused: &[(&'static str, u64)]) -> RunEvent {
    RunEvent::Learner(LearnerEvent::Waiting(Box::new(Waiting {
        update: UpdateNumber(3),
        ready: 2,
        wanted: 16,
        records,
        refused: refused.iter().copied().collect(),
        ..Waiting::default()
    })))
}

fn published(equal: bool) -> RunEvent {
    RunEvent::Producer(ProducerEvent::Published {
        group: GroupId([0; 16]),
        partition: Partition(0),
        offset: Offset(0),
        seq: 0,
        batch: -1,
        version: PolicyVersion(3),
        rows: 8,
        tokens: 500,
        bytes: 4000,
        parts: 1,
        reward: 0.0,
        equal,
        cut: 0,
        excerpt: None,
    })
}

fn training() -> RunEvent {
    RunEvent::Phase("training".to_owned())
}

/// Returns the lines written up to second `end`, each with its time.
fn lines(state: &mut Standstill, events: &[(f64, RunEvent)], end: u32) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    let mut events = events.iter().peekable();
    for second in 0..=end {
        while let Some((time, event)) = events.next_if(|(time, _)| *time <= f64::from(second)) {
            state.observe(event, at(*time));
        }
        lines.extend(state.tick(at(f64::from(second))).map(|line| (second, line)));
    }
    lines
}

#[test]
fn a_run_that_goes_on_says_nothing() {
    let mut state = state(Role::Learner);
    let events: Vec<_> = (0..200).map(|i| (f64::from(i) * 0.5, updated(0))).collect();
    assert!(lines(&mut state, &events, 99).is_empty());
    assert_eq!(state.account(at(99.0)), EndNotice::default());
}

#[test]
fn nothing_that_comes_is_told_within_seconds_and_then_ever_more_rarely() {
    let mut state = state(Role::Learner);
    let events = [(0.0, training()), (0.1, waiting(0, &[]))];
    let logged = lines(&mut state, &events, 3600);
    let times: Vec<_> = logged.iter().map(|(second, _)| *second).collect();
    assert_eq!(
        times,
        [5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035]
    );
    let expected = "no update for 5 s: 2 of 16 groups for update 3 are there; no record came; is a \
                    producer running? (`vintage rollout`)";
    assert_eq!(logged[0].1, expected);
    let account = state.account(at(3600.0)).standstill.expect("a standstill");
    assert!(account.starts_with("no update for 1 h 00 min"), "{account}");
}

#[test]
fn groups_that_come_and_are_refused_are_counted_by_reason() {
    let mut state = state(Role::Learner);
    let refused = [("other_policy", 30), ("malformed", 7)];
    let events = [(0.0, training()), (0.1, waiting(40, &refused))];
    let logged = lines(&mut state, &events, 6);
    let expected = "no update for 5 s: 2 of 16 groups for update 3 are there; 40 records came; 37 \
                    groups refused (malformed 7, other_policy 30); `vintage audit DIR` says of \
                    each group why";
    assert_eq!(logged, [(5, expected.to_owned())]);
}

#[test]
fn answers_that_are_all_worth_the_same_are_told_after_five_updates() {
    let mut state = state(Role::Learner);
    let mut events = vec![(0.0, training()), (0.1, updated(0))];
    events.extend((0..5).map(|i| (1.0 + f64::from(i) * 0.1, idle(u64::from(i as u32) + 1))));
    let logged = lines(&mut state, &events, 4);
    assert_eq!(logged.len(), 1, "{logged:?}");
    let (second, line) = &logged[0];
    assert_eq!(*second, 2, "before five seconds are over");
    let expected = "nothing was learned for 2 s: 5 updates changed nothing (equal_rewards 5; mean \
                    reward 0.000); look at rollout.reward";
    assert!(line.starts_with(expected), "{line}");
    state.observe(&updated(6), at(5.0));
    assert_eq!(state.account(at(6.0)).standstill, None, "it goes on");
    let warnings = state.account(at(6.0)).warnings;
    assert_eq!(
        warnings,
        ["5 of 7 updates changed nothing (equal_rewards 5)"]
    );
}

#[test]
fn steps_that_take_long_are_given_their_time() {
    let mut state = state(Role::Learner);
    let mut events = vec![(0.0, training())];
    events.extend((0..5).map(|i| (f64::from(i) * 20.0, updated(u64::from(i as u32)))));
    let logged = lines(&mut state, &events, 155);
    let times: Vec<_> = logged.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [5, 15], "only before it is known how long one takes");
    let logged = state.tick(at(160.0)).expect("after 80 s");
    assert!(logged.starts_with("no update for 1 min 20 s"), "{logged}");
}

#[test]
fn what_is_being_done_is_told_too() {
    let mut learner = state(Role::Learner);
    let events = [
        (0.0, training()),
        (
            1.0,
            RunEvent::Evaluating {
                version: PolicyVersion::ZERO,
                prompts: 512,
            },
        ),
        (
            2.0,
            RunEvent::Producer(ProducerEvent::Sampling { groups: 16 }),
        ),
    ];
    let logged = lines(&mut learner, &events, 5);
    let expected = "no update for 5 s: sampling 16 groups for 3 s; evaluating version 0 on 512 \
                    prompts for 4 s";
    assert_eq!(logged, [(5, expected.to_owned())]);
    let computing = RunEvent::Learner(LearnerEvent::Updating {
        update: UpdateNumber(0),
        excerpt: None,
    });
    learner.observe(&computing, at(6.0));
    let logged = learner.tick(at(15.0)).expect("due");
    assert!(logged.contains("computing update 0 for 9 s"), "{logged}");
    let mut nowhere = state(Role::Learner);
    let phase = RunEvent::Phase("connecting to the broker at nowhere:9092".to_owned());
    let logged = lines(&mut nowhere, &[(0.0, phase)], 5);
    let expected = "no update for 5 s: connecting to the broker at nowhere:9092 for 5 s";
    assert_eq!(logged, [(5, expected.to_owned())]);
    let mut early = state(Role::Producer);
    let phase = RunEvent::Phase("waiting for the first announcement of policy lead".to_owned());
    let logged = lines(&mut early, &[(0.0, phase)], 5);
    let expected = "no group published for 5 s: waiting for the first announcement of policy lead \
                    for 5 s";
    assert_eq!(logged, [(5, expected.to_owned())]);
}

#[test]
fn a_producer_whose_groups_teach_nothing_and_one_without_a_lease_say_so() {
    let mut state = state(Role::Producer);
    let mut events = vec![(0.0, RunEvent::Phase("sampling".to_owned()))];
    events.extend((0..4).map(|i| (f64::from(i), published(true))));
    let version = Some(PolicyVersion(7));
    let closed = RunEvent::Producer(ProducerEvent::Waiting { version });
    events.push((4.0, closed));
    let logged = lines(&mut state, &events, 5);
    let expected = "no group that anything can be learned from for 5 s: all 4 groups published have \
                    equal rewards (mean 0.000); no lease granted for 1 s: version 7 is the \
                    newest announced; look at rollout.reward";
    assert!(logged[0].1.starts_with(expected), "{logged:?}");
    state.observe(&published(false), at(6.0));
    assert_eq!(state.tick(at(7.0)), None, "that is something");
}

#[test]
fn a_producer_stopped_at_a_full_gate_is_told_of_the_gate() {
    let mut state = state(Role::Producer);
    let waiting = |version: Option<u64>| {
        let version = version.map(PolicyVersion);
        RunEvent::Producer(ProducerEvent::Waiting { version })
    };
    let waited = |stopped| {
        RunEvent::Producer(ProducerEvent::Waited {
            seconds: 1.0,
            stopped,
        })
    };
    let sampling = (0.0, RunEvent::Phase("sampling".to_owned()));
    // The announcements are read a moment after the first look at the gate.
    let events = [
        sampling,
        (0.0, waiting(None)),
        (1.0, waiting(Some(0))),
        (3.0, waiting(Some(1))),
    ];
    let logged = lines(&mut state, &events, 5);
    let expected = "no group published for 5 s: no lease granted for 4 s: version 1 is the \
                    newest announced; is the learner running?";
    assert!(logged[0].1.starts_with(expected), "{logged:?}");
    state.observe(&waited(true), at(20.0));
    let account = state.account(at(20.0)).standstill.expect("a standstill");
    let expected = "no group published for 20 s: no lease granted for 19 s: version 1";
    assert!(account.starts_with(expected), "{account}");
    // A gate that opened is no reason any more.
    state.observe(&waited(false), at(21.0));
    let account = state.account(at(21.0)).standstill.expect("a standstill");
    assert!(!account.contains("gate"), "{account}");
}

#[test]
fn rewards_that_fail_are_counted_by_reason() {
    let mut state = state(Role::Producer);
    let failed = |seconds| {
        let event = ProducerEvent::RewardFailed {
            group: GroupId([0; 16]),
            prompt_id: "p".to_owned(),
            reason: "timeout",
            detail: String::new(),
        };
        (seconds, RunEvent::Producer(event))
    };
    let logged = lines(&mut state, &[failed(1.0), failed(2.0)], 5);
    assert!(
        logged[0].1.contains("2 groups got no reward (timeout 2)"),
        "{logged:?}"
    );
}

#[test]
fn an_archive_to_which_nothing_comes_says_what_came_before() {
    let mut state = state(Role::Archive);
    let archived = |records| RunEvent::Archived {
        records,
        bad: BTreeMap::from([("checksum", 1)]),
    };
    let events = [(0.0, archived(0)), (1.0, archived(12)), (2.0, archived(12))];
    let logged = lines(&mut state, &events, 6);
    let expected = "no record came for 5 s: 12 records came before, quarantined checksum 1; is a \
                    producer running? (`vintage rollout`)";
    assert_eq!(logged, [(6, expected.to_owned())]);
}

#[test]
fn a_follower_names_the_learner_whose_plan_it_waits_for() {
    let mut state = state(Role::Learner);
    let event = LearnerEvent::Waiting(Box::new(Waiting {
        update: UpdateNumber(9),
        leader: Some("lead".parse().expect("a name")),
        ..Waiting::default()
    }));
    let logged = lines(&mut state, &[(0.0, RunEvent::Learner(event))], 5);
    let expected = "no update for 5 s: learner lead has not planned update 9 yet; is that learner \
                    running?";
    assert_eq!(logged, [(5, expected.to_owned())]);
}

#[test]
fn after_the_last_update_nothing_is_waited_for() {
    let mut state = state(Role::Learner);
    let logged = lines(&mut state, &[(0.0, updated(STEPS - 1))], 100);
    assert!(logged.is_empty(), "{logged:?}");
    assert_eq!(state.due(), None);
}
