use std::collections::BTreeSet;

use super::*;
use crate::{Candidate, Error, Features};

fn gain<O: Objective>(objective: &O, set: &[&Item<O::Features>], item: &Item<O::Features>) -> f64 {
    let mut chosen = O::Chosen::default();
    for member in set {
        objective.add(&mut chosen, &member.features, member.weight);
    }
    objective.gain(&chosen, &item.features, item.weight)
}

/// Returns what the operations insert, in their order.
fn inserted<F>(ops: &[Op<F>]) -> Vec<&Item<F>> {
    let items = ops.iter().filter_map(|op| match op {
        Op::Insert(item) => Some(item),
        Op::Delete(_) => None,
    });
    items.collect()
}

/// Gains are not negative, fall to the bit as members are added, and are 0 for a weight of 0.
fn gains_fall_and_are_not_negative<O: Objective>(
    objective: &O,
    ops: &[Op<O::Features>],
    _k: usize,
) -> Result<(), TestCaseError> {
    let items = inserted(ops);
    let Some((last, others)) = items.split_last() else {
        return Ok(());
    };
    let gains: Vec<_> = (0..=others.len())
        .map(|size| gain(objective, &others[..size], last))
        .collect();
    prop_assert!(gains.iter().all(|gain| *gain >= 0.0), "{gains:?}");
    prop_assert!(gains.windows(2).all(|pair| pair[1] <= pair[0]), "{gains:?}");
    prop_assert!(last.weight > 0.0 || gains[0] == 0.0);
    Ok(())
}
for_each_objective!(gains_fall_and_are_not_negative, 30, 300);

/// Subsets gain no less than supersets, whatever was added in which order.
fn any_subset_gains_more<O: Objective>(
    objective: &O,
    ops: &[Op<O::Features>],
    k: usize,
) -> Result<(), TestCaseError> {
    let items = inserted(ops);
    let Some((last, others)) = items.split_last() else {
        return Ok(());
    };
    let some: Vec<_> = others.iter().copied().skip(k % 2).step_by(k + 1).collect();
    let (small, large) = (gain(objective, &some, last), gain(objective, others, last));
    prop_assert!(small >= large - 1e-12 * small.abs(), "{small} {large}");
    Ok(())
}
for_each_objective!(any_subset_gains_more, 20, 300);

#[test]
fn the_objectives_are_their_formulas() {
    let bins = |prompt, outcome, length| Bins {
        prompt,
        outcome,
        length,
    };
    let groups = ConcaveOverGroups {
        prompt: 1.0,
        outcome: 2.0,
        length: 0.5,
    };
    let mut chosen = Default::default();
    let mut value = 0.0;
    for (of, weight) in [(bins(1, 1, 1), 4.0), (bins(1, 2, 1), 5.0)] {
        value += groups.gain(&chosen, &of, weight);
        groups.add(&mut chosen, &of, weight);
    }
    // Prompt √9, outcomes 2(√4 + √5), length √9 / 2.
    let expected = 3.0 + 2.0 * (2.0 + 5_f64.sqrt()) + 1.5;
    assert!((value - expected).abs() < 1e-12, "{value} {expected}");

    let mut covered = Vec::new();
    WeightedCoverage.add(&mut covered, &vec![1, 2], 1.0);
    assert_eq!(WeightedCoverage.gain(&covered, &vec![2, 3], 3.0), 5.0);

    let anchors = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![-1.0, 0.0]];
    let facility = FacilityLocation::new(anchors).unwrap();
    let similar = facility.similarities(&[3.0, 4.0]).unwrap();
    assert_eq!(similar, [0.6, 0.8, 0.0]);
    let mut served = Vec::new();
    facility.add(&mut served, &similar, 1.0);
    let gain = facility.gain(&served, &vec![1.0, 0.0, 0.25], 1.0);
    assert!((gain - (0.4 + 0.25)).abs() < 1e-6, "{gain}");
    let refused = facility.similarities(&[1.0]).unwrap_err();
    assert_eq!(
        refused,
        Error::Sketch {
            got: 1,
            expected: 2
        }
    );
    assert!(FacilityLocation::new(vec![vec![1.0], Vec::new()]).is_err());
}

fn group(correct: f64, mean_length: f64, spread: f64) -> Candidate {
    Candidate {
        id: id(1),
        prompt: "p".to_owned(),
        version: PolicyVersion(1),
        mean_reward: correct,
        correct,
        mean_length,
        spread,
        sketch: Vec::new(),
    }
}

#[test]
fn groups_alike_share_their_bins_and_a_group_without_spread_weighs_nothing() {
    let of = |correct, length, spread| Features::of(&group(correct, length, spread)).unwrap();
    let outcomes: BTreeSet<_> = [0.0, 0.2, 0.25, 0.6, 0.9, 1.0]
        .map(|correct| of(correct, 10.0, 1.0).outcome)
        .into();
    assert_eq!(outcomes.len(), 5, "0 and 0.2 share a quarter");
    assert_eq!(of(0.5, 100.0, 1.0).length, of(0.5, 120.0, 1.0).length);
    assert_ne!(of(0.5, 100.0, 1.0).length, of(0.5, 130.0, 1.0).length);
    assert_eq!(of(1.0, 10.0, 0.0).weight, 0.0);
    let mut curator = Curator::new(Kind::default(), 4, 0).unwrap();
    curator.insert(&group(1.0, 10.0, 0.0)).unwrap();
    assert!(curator.chosen().is_empty() && curator.len() == 1);
}

#[test]
fn numbers_out_of_range_are_refused_and_named() {
    let mut bad_reward = group(0.5, 1.0, 1.0);
    bad_reward.mean_reward = f64::NAN;
    let cases = [
        (group(1.5, 1.0, 1.0), "share of correct rows"),
        (group(f64::NAN, 1.0, 1.0), "mean reward"),
        (group(0.5, -1.0, 1.0), "mean length"),
        (group(0.5, 1.0, f64::INFINITY), "spread"),
        (bad_reward, "mean reward"),
    ];
    for kind in KINDS {
        let mut curator = Curator::new(kind, 4, 0).unwrap();
        for (candidate, named) in &cases {
            let text = curator.insert(candidate).unwrap_err().to_string();
            assert!(text.contains(named), "{text}");
        }
        let bins = Bins {
            prompt: 0,
            outcome: 0,
            length: 0,
        };
        for weight in [f64::NAN, -1.0, 1e101] {
            let inserted = curator.insert_features(id(1), PolicyVersion(0), weight, bins);
            assert!(inserted.unwrap_err().to_string().contains("weight"));
        }
        assert!(curator.is_empty());
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let kinds = [
        (Kind::Newest, 0, 1.0),
        (Kind::Newest, 40_000, 1.0),
        (Kind::Sieve { epsilon: 0.0 }, 1, 1.0),
        (Kind::Sieve { epsilon: f64::NAN }, 1, 1.0),
        (
            Kind::DynamicLevels {
                epsilon: 0.6,
                eager: false,
            },
            1,
            1.0,
        ),
        (Kind::Uniform, 1, 0.4),
        (Kind::Uniform, 1, f64::NAN),
    ];
    for (kind, k, decay) in kinds {
        let settings = Settings {
            kind,
            k,
            seed: 0,
            decay,
        };
        let refused = Curator::with(WeightedCoverage, settings).unwrap_err();
        assert_eq!(refused.fault(), vintage_control::Fault::User, "{refused}");
    }
}
