use super::{Capacities, Churn, Fleet, Measured, Outcome, Rule, simulate};

/// Fleet of four producers that together outrun the learner.
pub(super) fn small() -> Fleet {
    Fleet {
        seed: 1,
        rule: Rule::Leases,
        producers: 4,
        updates: 60,
        groups_per_update: 8,
        group_size: 2,
        max_staleness: 3,
        concurrent_groups: 2,
        group_seconds: 0.5,
        tail: 2.0,
        update_seconds: 0.4,
        message_bytes: 1e5,
        weights_bytes: 1e6,
        churn: Churn {
            kill_every: 0.0,
            join_after: 1.0,
            stop_every: 0.0,
            stop_for: 15.0,
        },
        capacities: Capacities {
            partitions: 3,
            partition: 1e8,
            broker_out: 1e9,
            decode: 1e9,
            archive: 1e9,
            store: 1e9,
            store_requests: 1e4,
            control_records: 1e5,
            gate_wakes: 1e5,
            latency: 0.001,
        },
    }
}

fn troubled(seed: u64, producers: usize) -> Fleet {
    Fleet {
        seed,
        producers,
        updates: 200,
        churn: Churn {
            kill_every: 20.0,
            stop_every: 20.0,
            ..small().churn
        },
        ..small()
    }
}

/// Outcome without what is not a function of the seed.
fn drawn(fleet: &Fleet) -> Outcome {
    let measured = Measured {
        intake_us_per_rollout: 0.0,
        gate_us_per_slot: 0.0,
        gate_us_per_wake: 0.0,
        books_us_per_slot: 0.0,
    };
    Outcome {
        measured,
        ..simulate(fleet).unwrap()
    }
}

#[test]
fn every_group_is_accounted_for_and_none_exceeds_the_bound() {
    for (seed, producers) in [(1, 1), (2, 3), (3, 9), (4, 40)] {
        let outcome = drawn(&troubled(seed, producers));
        let books = &outcome.books;
        books.balance().unwrap();
        assert_eq!((outcome.updates, books.trained), (200, 1600));
        assert!(outcome.staleness.max <= 3, "{outcome:?}");
        assert!(
            outcome.producers > producers && books.dropped > 0,
            "{outcome:?}"
        );
        assert!(outcome.control.regranted > 0, "{outcome:?}");
    }
}

#[test]
fn a_producer_that_continues_late_finds_its_slots_filled() {
    let outcome = drawn(&troubled(5, 9));
    assert!(
        outcome.books.rejected.contains_key("slot_taken"),
        "{outcome:?}"
    );
}

#[test]
fn books_that_do_not_balance_are_an_error() {
    let mut books = drawn(&small()).books;
    books.balance().unwrap();
    books.in_flight += 1;
    let error = books.balance().unwrap_err();
    assert!(error.to_string().contains("do not balance"), "{error}");
}

#[test]
fn a_seed_gives_one_outcome_and_another_seed_another() {
    let fleet = troubled(7, 5);
    let other = Fleet {
        seed: 8,
        ..fleet.clone()
    };
    assert_eq!(drawn(&fleet), drawn(&fleet));
    assert_ne!(drawn(&fleet), drawn(&other));
}

#[test]
fn without_the_bound_for_all_staleness_grows_with_the_fleet() {
    let fleet = Fleet {
        tail: f64::INFINITY,
        producers: 8,
        ..small()
    };
    let naive = Fleet {
        rule: Rule::EachForItself,
        ..fleet.clone()
    };
    let (leases, naive) = (drawn(&fleet), drawn(&naive));
    assert!(leases.staleness.max <= 3, "{leases:?}");
    assert!(naive.staleness.max > 6, "{naive:?}");
    assert!(
        naive.books.in_flight > 4 * leases.books.in_flight,
        "{naive:?}"
    );
}

#[test]
fn the_bottleneck_is_the_part_that_is_made_scarce() {
    let of = |change: &dyn Fn(&mut Fleet)| {
        let mut fleet = Fleet {
            producers: 24,
            ..small()
        };
        change(&mut fleet);
        simulate(&fleet).unwrap().bottleneck
    };
    assert_eq!(of(&|_| {}), "updates");
    assert_eq!(of(&|fleet| fleet.producers = 1), "producers");
    assert_eq!(of(&|fleet| fleet.capacities.partition = 3e5), "partitions");
    assert_eq!(
        of(&|fleet| fleet.capacities.decode = 8e5),
        "decode in the learner"
    );
    assert_eq!(
        of(&|fleet| fleet.capacities.store = 4e6),
        "store, bytes of weights"
    );
    assert_eq!(
        of(&|fleet| fleet.capacities.store_requests = 10.0),
        "store, requests"
    );
    assert_eq!(
        of(&|fleet| fleet.capacities.broker_out = 2e6),
        "brokers, sending"
    );
    assert_eq!(
        of(&|fleet| fleet.capacities.control_records = 20.0),
        "grants and announcements, reading"
    );
    assert_eq!(of(&|fleet| fleet.capacities.gate_wakes = 2.0), "granter");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Fleet)| {
        let mut fleet = small();
        change(&mut fleet);
        simulate(&fleet).unwrap_err().to_string()
    };
    assert!(refused(&|fleet| fleet.producers = 0).contains("producers must be"));
    assert!(refused(&|fleet| fleet.group_seconds = f64::NAN).contains("group seconds"));
    assert!(refused(&|fleet| fleet.capacities.latency = -1.0).contains("latency"));
    assert!(refused(&|fleet| fleet.tail = 1.0).contains("tail"));
}

#[test]
fn a_long_run_is_measured_by_powers_of_ten() {
    let stretches = super::cost(&small(), 10_000).unwrap();
    let ends: Vec<_> = stretches.iter().map(|stretch| stretch.rollouts).collect();
    assert_eq!(ends, [1_008, 10_000]);
    for stretch in stretches {
        assert!(stretch.measured.intake_us_per_rollout > 0.0, "{stretch:?}");
        assert!(stretch.measured.gate_us_per_slot > 0.0, "{stretch:?}");
    }
}
