use super::*;

/// Replaying operations gives the same state, whoever asks meanwhile; a checkpoint in the middle
/// goes on as if it had not been; and kinds without history need only what lives.
fn the_state_is_a_function_of_the_operations<O: Objective>(
    objective: &O,
    ops: &[Op<O::Features>],
    k: usize,
) -> Result<(), TestCaseError> {
    for kind in KINDS {
        let mut live = Vec::new();
        let mut first = curator(objective, kind, k, 3);
        apply(&mut first, ops, &mut live, 0, |_, _| ());

        let mut asked = curator(objective, kind, k, 3);
        apply(&mut asked, ops, &mut Vec::new(), 0, |curator, _| {
            curator.chosen();
        });
        prop_assert_eq!(state(&first), state(&asked));

        let mut half = curator(objective, kind, k, 3);
        let mut some = Vec::new();
        let (before, after) = ops.split_at(ops.len() / 2);
        apply(&mut half, before, &mut some, 0, |_, _| ());
        let mut restarted: Curator<O> = serde_json::from_str(&state(&half)).unwrap();
        prop_assert_eq!(state(&restarted), state(&half));
        prop_assert_eq!(restarted.chosen(), half.chosen());
        let next = before.len() as u64;
        apply(&mut restarted, after, &mut some, next, |_, _| ());
        prop_assert_eq!(state(&restarted), state(&first));
        prop_assert_eq!(restarted.chosen(), first.chosen());

        if kind.is_function_of_live_set() {
            let mut fresh = curator(objective, kind, k, 3);
            for (number, item) in &live {
                let version = PolicyVersion(*number);
                fresh
                    .insert_features(id(*number), version, item.weight, item.features.clone())
                    .unwrap();
            }
            prop_assert_eq!(fresh.chosen(), first.chosen());
            prop_assert_eq!(fresh.unfilled().to_bits(), first.unfilled().to_bits());
        }
    }
    Ok(())
}
for_each_objective!(the_state_is_a_function_of_the_operations, 60, 60);

/// Coverage items that differ, of equal weight.
fn filled(kind: Kind, seed: u64) -> Curator<WeightedCoverage> {
    let mut curator = curator(&WeightedCoverage, kind, 5, seed);
    for number in 0..200 {
        let features = vec![number, number + 1000];
        curator
            .insert_features(id(number), PolicyVersion(number), 1.0, features)
            .unwrap();
    }
    curator
}

#[test]
fn a_seed_decides_what_is_drawn_and_nothing_else() {
    for kind in KINDS {
        let of = |seed| filled(kind, seed).chosen();
        assert_eq!(of(1), of(1));
        let random = matches!(kind, Kind::DynamicLevels { .. } | Kind::Uniform);
        assert_eq!(of(1) != of(2), random, "{kind:?}");
    }
}

#[test]
fn a_uniform_sample_takes_all_alike_and_changes_with_the_live_set() {
    let mut counts = [0; 200];
    for seed in 0..2000 {
        for id in filled(Kind::Uniform, seed).chosen() {
            counts[u128::from_be_bytes(id.0) as usize] += 1;
        }
    }
    // 50 each, with a deviation of 7.
    assert!(
        counts.iter().all(|count| (15..=95).contains(count)),
        "{counts:?}"
    );
    let mut curator = filled(Kind::Uniform, 0);
    let before = curator.chosen();
    curator.delete(id(0)).unwrap();
    assert_ne!(curator.chosen(), before);
}

#[test]
fn greedy_at_intervals_is_greedy_of_the_last_interval_less_what_was_deleted() {
    let mut at_intervals = filled(Kind::LazyGreedy { every: 10 }, 0);
    let before = filled(Kind::LazyGreedy { every: 0 }, 0).chosen();
    assert_eq!(at_intervals.chosen(), before);
    at_intervals.delete(before[0]).unwrap();
    assert_eq!(at_intervals.chosen(), before[1..]);
    for number in 200..209 {
        at_intervals
            .insert_features(id(number), PolicyVersion(0), 1.0, vec![number])
            .unwrap();
    }
    assert_eq!(at_intervals.chosen().len(), 5);
}

/// Curator with decay of groups that differ by version alone.
fn decaying(kind: Kind, versions: impl Iterator<Item = u64>) -> Curator {
    let settings = Settings {
        kind,
        k: 3,
        seed: 0,
        decay: 0.9,
    };
    let mut curator = Curator::with(ConcaveOverGroups::default(), settings).unwrap();
    for version in versions {
        let bins = Bins {
            prompt: version % 7,
            outcome: version % 3,
            length: version % 2,
        };
        curator
            .insert_features(id(version), PolicyVersion(version), 1.0, bins)
            .unwrap();
    }
    curator
}

#[test]
fn newer_groups_weigh_more_for_as_long_as_a_run_may_last() {
    for kind in KINDS {
        let mut long = decaying(kind, (0..40_000).step_by(8));
        for version in (0..40_000 - 400).step_by(8) {
            long.delete(id(version)).unwrap();
        }
        assert!(long.value().is_finite());
        let chosen = long.chosen();
        assert_eq!(chosen.len(), 3, "{kind:?}");
        if kind.is_function_of_live_set() {
            let mut fresh = decaying(kind, (39_600..40_000).step_by(8));
            assert_eq!(chosen, fresh.chosen(), "{kind:?}");
        }
        // One of e weighs 10 updates' decay more than the other of its bins.
        if kind == Kind::default() {
            assert_eq!(chosen[0], id(39_992));
        }
    }
}
