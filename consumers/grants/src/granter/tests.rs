mod bad_input;
mod exact;
mod indexes;
mod refusals;
mod terms;
mod world;

use proptest::prelude::*;
use vintage_control::{
    Ages, CONTROL_FORMAT, GrantNumber, Grants, Heartbeat, Lease, NumberSet, PolicyVersion,
    ProducerWindow, Sha256, SlotNumber, UpdateNumber,
};

use self::world::{World, WorldSettings};
use super::{Granter, Patience, Progress};
use crate::{
    clock::Tick,
    limits::{GateRule, Limits},
};

const PATIENCE: Patience = Patience {
    silence: 1_000,
    lease: 2_000,
};

fn granter(rule: GateRule, groups_per_update: u64) -> Granter {
    let limits = Limits {
        rule,
        groups_per_update,
        updates: 100,
    };
    let policy = "lead".parse().unwrap();
    let done = NumberSet::default();
    Granter::new(policy, "lead-1".to_owned(), limits, PATIENCE, done, None)
}

fn heartbeat(producer: &str, number: u64, capacity: u64) -> Heartbeat {
    Heartbeat {
        format: CONTROL_FORMAT.to_owned(),
        policy: "lead".parse().unwrap(),
        producer: producer.to_owned(),
        number,
        grants_read: None,
        capacity,
        held: ProducerWindow::default(),
        failed: ProducerWindow::default(),
        given_back: ProducerWindow::default(),
        slots_sha256: Sha256([1; 32]),
        slots: None,
        leaving: false,
    }
}

fn at(version: u64, waiting: u64) -> Progress {
    Progress {
        announced: PolicyVersion(version),
        next_update: UpdateNumber(version),
        waiting,
        ..Progress::default()
    }
}

fn slots_of(grants: &[Grants], producer: &str) -> Vec<u64> {
    let of = grants.iter().find(|of| of.producer == producer);
    let leases = of.map(|of| of.leases.iter());
    leases
        .into_iter()
        .flatten()
        .map(|lease| lease.slot.0)
        .collect()
}

#[test]
fn the_bound_is_one_for_all() {
    let mut granter = granter(GateRule::Wait { max_staleness: 2 }, 8);
    for producer in ["a", "b", "c", "d"] {
        granter.hear(Tick(0), &heartbeat(producer, 0, 100));
    }
    granter.advance(Tick(0), at(0, 0));
    let grants = granter.grant(Tick(0));
    assert_eq!(granter.outstanding(), 24);
    let mut all: Vec<_> = grants
        .iter()
        .flat_map(|of| &of.leases)
        .map(|of| of.slot.0)
        .collect();
    all.sort_unstable();
    assert_eq!(
        all,
        (0..24).collect::<Vec<_>>(),
        "each slot to one producer"
    );
    assert!(grants.iter().all(|of| of.leases.len() == 6), "{grants:?}");
    // What waits to be trained counts as well.
    for slot in 0..10 {
        granter.seen(Tick(1), SlotNumber(slot), -1);
    }
    granter.advance(Tick(1), at(0, 10));
    granter.grant(Tick(1));
    assert_eq!(granter.outstanding(), 14);
    // Refused groups make room at once.
    granter.advance(Tick(1), at(0, 7));
    granter.grant(Tick(1));
    assert_eq!(granter.outstanding(), 17);
}

#[test]
fn nothing_is_granted_for_updates_that_never_come() {
    let mut granter = granter(GateRule::Wait { max_staleness: 16 }, 4);
    granter.limits.updates = 3;
    granter.hear(Tick(0), &heartbeat("a", 0, 100));
    granter.advance(Tick(0), at(0, 0));
    granter.grant(Tick(0));
    assert_eq!(granter.outstanding(), 12);
}

#[test]
fn among_idle_producers_the_one_heard_of_last_comes_first() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 2);
    for (heard, producer) in [(0, "dead"), (600, "b"), (800, "a"), (700, "c")] {
        granter.hear(Tick(heard), &heartbeat(producer, 0, 4));
    }
    granter.advance(Tick(900), at(0, 0));
    let grants = granter.grant(Tick(900));
    let holders: Vec<_> = grants.iter().map(|of| &of.producer[..]).collect();
    assert_eq!(holders, ["a", "c"]);
}

#[test]
fn the_leases_of_a_silent_producer_go_to_another() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 4);
    granter.hear(Tick(0), &heartbeat("a", 0, 4));
    granter.advance(Tick(0), at(0, 0));
    assert_eq!(slots_of(&granter.grant(Tick(0)), "a"), [0, 1, 2, 3]);
    granter.seen(Tick(10), SlotNumber(1), -1);
    granter.advance(Tick(10), at(0, 1));
    granter.hear(Tick(900), &heartbeat("b", 0, 4));
    assert_eq!(slots_of(&granter.grant(Tick(900)), "b"), Vec::<u64>::new());
    let grants = granter.grant(Tick(1_001));
    assert_eq!(slots_of(&grants, "b"), [0, 2, 3]);
    assert_eq!(slots_of(&grants, "a"), Vec::<u64>::new());
    // The first of the two groups counts; what the second one's producer holds has ended.
    granter.seen(Tick(1_100), SlotNumber(2), -1);
    granter.advance(Tick(1_100), at(0, 2));
    assert_eq!(slots_of(&granter.grant(Tick(1_100)), "b"), [0, 3]);
}

#[test]
fn a_slow_producer_keeps_its_leases_unless_the_learner_starves() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 2);
    let held = |number, held: &[u64]| Heartbeat {
        grants_read: Some(GrantNumber { term: 1, record: 1 }),
        held: ProducerWindow::from(&held.iter().copied().collect::<NumberSet>()),
        ..heartbeat("slow", number, 2)
    };
    granter.hear(Tick(0), &heartbeat("slow", 0, 2));
    granter.advance(Tick(0), at(0, 0));
    assert_eq!(slots_of(&granter.grant(Tick(0)), "slow"), [0, 1]);
    for time in 1..100 {
        granter.hear(Tick(time * 500), &held(time, &[0, 1]));
        granter.hear(Tick(time * 500), &heartbeat("fast", time, 2));
        assert_eq!(
            slots_of(&granter.grant(Tick(time * 500)), "fast"),
            Vec::<u64>::new()
        );
    }
    let starving = Progress {
        starving: true,
        ..at(0, 0)
    };
    granter.advance(Tick(50_000), starving.clone());
    granter.hear(Tick(51_000), &held(100, &[0, 1]));
    granter.hear(Tick(51_000), &heartbeat("fast", 100, 2));
    assert_eq!(
        slots_of(&granter.grant(Tick(51_000)), "fast"),
        Vec::<u64>::new()
    );
    granter.hear(Tick(52_001), &held(101, &[0, 1]));
    granter.hear(Tick(52_001), &heartbeat("fast", 101, 2));
    granter.advance(Tick(52_001), starving);
    let grants = granter.grant(Tick(52_001));
    assert!(!slots_of(&grants, "fast").is_empty(), "{grants:?}");
}

#[test]
fn what_got_no_reward_is_not_sampled_again_and_what_was_not_begun_is() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 4);
    granter.hear(Tick(0), &heartbeat("a", 0, 4));
    granter.advance(Tick(0), at(0, 0));
    granter.grant(Tick(0));
    let window =
        |numbers: &[u64]| ProducerWindow::from(&numbers.iter().copied().collect::<NumberSet>());
    granter.hear(
        Tick(1),
        &Heartbeat {
            grants_read: Some(GrantNumber { term: 1, record: 1 }),
            failed: window(&[0]),
            given_back: window(&[1, 3]),
            held: window(&[2]),
            leaving: true,
            ..heartbeat("a", 1, 4)
        },
    );
    granter.hear(Tick(1), &heartbeat("b", 0, 4));
    let grants = granter.grant(Tick(1));
    assert_eq!(slots_of(&grants, "a"), [2]);
    assert_eq!(slots_of(&grants, "b"), [1, 3, 4]);
}

#[test]
fn a_fast_producer_gets_more_and_a_slow_one_is_not_starved() {
    let mut granter = granter(GateRule::Wait { max_staleness: 4 }, 10);
    let mut filled = [0_u64; 2];
    let mut held: [Vec<u64>; 2] = Default::default();
    let mut trained = 0;
    for time in 1..2_000_u64 {
        for (of, producer) in ["fast", "slow"].into_iter().enumerate() {
            granter.hear(
                Tick(time),
                &Heartbeat {
                    grants_read: Some(GrantNumber {
                        term: 1,
                        record: u64::MAX,
                    }),
                    held: ProducerWindow::from(&held[of].iter().copied().collect::<NumberSet>()),
                    ..heartbeat(producer, time, 8)
                },
            );
            // The fast one fills a lease every 2 ms, the slow one every 40.
            if time % [2, 40][of] == 0 && !held[of].is_empty() {
                granter.seen(Tick(time), SlotNumber(held[of].remove(0)), -1);
                filled[of] += 1;
            }
        }
        let all = filled[0] + filled[1];
        trained = all / 10;
        granter.advance(Tick(time), at(trained, all % 10));
        for grants in granter.grant(Tick(time)) {
            let of = usize::from(grants.producer == "slow");
            held[of] = grants.leases.iter().map(|lease| lease.slot.0).collect();
        }
    }
    assert!(trained > 60, "{trained}");
    assert!(filled[1] >= 20 && filled[0] > 10 * filled[1], "{filled:?}");
}

#[test]
fn a_group_that_the_log_holds_is_granted_to_nobody_and_counts_until_it_is_read() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 4);
    for slot in [0, 2] {
        granter.logged(SlotNumber(slot), -1);
    }
    granter.hear(Tick(0), &heartbeat("a", 0, 9));
    granter.advance(Tick(0), at(0, 0));
    assert_eq!(slots_of(&granter.grant(Tick(0)), "a"), [1, 3]);
    granter.seen(Tick(1), SlotNumber(0), -1);
    granter.advance(Tick(1), at(0, 1));
    assert!(granter.grant(Tick(1)).is_empty());
    // It was refused, which makes room.
    granter.advance(Tick(2), at(0, 0));
    assert_eq!(slots_of(&granter.grant(Tick(2)), "a"), [1, 3, 4]);
}

#[test]
fn a_report_on_grants_of_an_earlier_learner_says_nothing_of_later_ones() {
    let lease = Lease {
        slot: SlotNumber(0),
        batch: -1,
        version: PolicyVersion(0),
    };
    let earlier = Grants {
        format: CONTROL_FORMAT.to_owned(),
        policy: "lead".parse().unwrap(),
        lead: "lead-0".to_owned(),
        producer: "a".to_owned(),
        number: GrantNumber {
            term: 4,
            record: 90,
        },
        leases: vec![lease],
        withdrawn: ProducerWindow::default(),
        refused: None,
    };
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 2);
    granter.restore(Tick(0), &earlier);
    granter.hear(Tick(0), &heartbeat("a", 0, 8));
    granter.advance(Tick(0), at(0, 0));
    let grants = granter.grant(Tick(0));
    assert_eq!(slots_of(&grants, "a"), [0, 1]);
    assert_eq!(grants[0].number, GrantNumber { term: 5, record: 1 });
    // The producer has not read them: it has published slot 0 and knows nothing of slot 1.
    let report = Heartbeat {
        grants_read: Some(earlier.number),
        ..heartbeat("a", 1, 8)
    };
    granter.hear(Tick(1), &report);
    // It dies. Slot 1 goes to another; slot 0 is in the log.
    granter.hear(Tick(2_000), &heartbeat("b", 0, 8));
    let grants = granter.grant(Tick(2_000));
    assert_eq!(slots_of(&grants, "b"), [1]);
    assert_eq!(withdrawn_from(&grants, "a"), [1]);
}

#[test]
fn the_slots_of_a_silent_producer_are_named_until_it_reports_again() {
    let mut first = granter(GateRule::Wait { max_staleness: 0 }, 3);
    first.hear(Tick(0), &heartbeat("a", 0, 8));
    first.advance(Tick(0), at(0, 0));
    assert_eq!(slots_of(&first.grant(Tick(0)), "a"), [0, 1, 2]);
    first.seen(Tick(1), SlotNumber(1), -1);
    let grants = first.grant(Tick(1_500));
    assert_eq!(withdrawn_from(&grants, "a"), [0, 2]);
    let last = &grants[0];
    assert!(last.leases.is_empty(), "{last:?}");

    // The next process of the learner repeats it, and forgets a producer that stays silent.
    let mut next = granter(GateRule::Wait { max_staleness: 0 }, 3);
    next.restore(Tick(0), last);
    next.advance(Tick(0), at(0, 0));
    assert_eq!(withdrawn_from(&next.grant(Tick(0)), "a"), [0, 2]);
    next.hear(Tick(1), &heartbeat("a", 1, 0));
    let grants = next.grant(Tick(1));
    assert!(grants[0].withdrawn.is_empty(), "{grants:?}");
}

#[test]
fn a_producer_slower_than_the_patience_is_waited_for_longer_each_time() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 1);
    granter.hear(Tick(0), &heartbeat("slow", 0, 1));
    let starving = Progress {
        starving: true,
        ..at(0, 0)
    };
    granter.advance(Tick(0), starving);
    // It reports all the time, and its group takes ten times as long as the patience.
    let mut granted = Vec::new();
    for number in 1..200 {
        let now = Tick(number * 100);
        granter.hear(now, &heartbeat("slow", number, 1));
        let records = granter.grant(now);
        granted.extend(
            records
                .iter()
                .filter(|of| !of.leases.is_empty())
                .map(|_| now.0),
        );
    }
    assert_eq!(granted.len(), 3, "{granted:?}");
}

#[test]
fn a_producer_that_is_not_measured_yet_is_waited_for_like_the_slowest_one() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 3);
    let starving = Progress {
        starving: true,
        ..at(0, 0)
    };
    granter.hear(Tick(0), &heartbeat("old", 0, 1));
    granter.advance(Tick(0), starving);
    assert_eq!(slots_of(&granter.grant(Tick(0)), "old"), [0]);
    granter.hear(Tick(900), &heartbeat("old", 1, 0));
    granter.hear(Tick(1_800), &heartbeat("old", 2, 0));
    // Its group took 1.9 s, below the patience of 2 s, so others are waited for 5.7 s.
    granter.seen(Tick(1_900), SlotNumber(0), -1);
    granter.hear(Tick(1_900), &heartbeat("new", 0, 1));
    let grants = granter.grant(Tick(1_900));
    let held = slots_of(&grants, "new");
    assert_eq!(held.len(), 1);
    for (number, now) in [
        (1, 2_800),
        (2, 3_700),
        (3, 4_600),
        (4, 5_500),
        (5, 6_400),
        (6, 7_300),
    ] {
        granter.hear(Tick(now), &heartbeat("old", number + 2, 0));
        granter.hear(Tick(now), &heartbeat("new", number, 1));
        assert!(
            granter
                .grant(Tick(now))
                .iter()
                .all(|of| of.producer != "new"),
            "{now}"
        );
    }
    granter.hear(Tick(8_200), &heartbeat("old", 9, 0));
    granter.hear(Tick(8_200), &heartbeat("new", 7, 1));
    let grants = granter.grant(Tick(8_200));
    assert_ne!(slots_of(&grants, "new"), Vec::<u64>::new());
}

fn withdrawn_from(grants: &[Grants], producer: &str) -> Vec<u64> {
    let of = grants.iter().find(|of| of.producer == producer).unwrap();
    let withdrawn = NumberSet::from(&of.withdrawn);
    withdrawn
        .runs()
        .flat_map(|(first, last)| first..=last)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Checks over random histories of joins, deaths, pauses, delays, repeated and reordered
    /// messages, and restarts of the learner, that the bound holds at every moment, that no slot is
    /// lost and none trained twice, and that the run ends.
    #[test]
    fn every_history_stays_under_the_bound_and_loses_no_slot(
        seed: u64,
        groups_per_update in 1_u64..9,
        bound in 0_u64..6,
        exact in prop::option::of(prop::sample::select(Ages::ALL.to_vec())),
        producers in 1_usize..7,
        trouble in 0_u64..20,
    ) {
        let rule = match exact {
            Some(ages) => GateRule::Exact { k: bound, ages },
            None => GateRule::Wait { max_staleness: bound },
        };
        World::new(WorldSettings { seed, rule, groups_per_update, producers, trouble }).run();
    }
}
