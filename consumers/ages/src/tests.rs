mod gradients;

use proptest::prelude::*;
use vintage_control::{AlgorithmName, PolicyVersion};
use vintage_losses::{Baseline, Level, Rule};

use crate::{
    Ages, Bounds, Group, Loss, Rollout, Sampled, answer, choose, figures::AgeFigures, tolerance,
};

fn loss(name: AlgorithmName, rule: Rule) -> Loss {
    Loss {
        name,
        rule,
        baseline: Baseline::Group,
        clamp: 20.0,
    }
}

fn losses() -> Vec<Loss> {
    let mis = |level| Rule::Mis {
        level,
        low: 0.5,
        high: 2.0,
        eps: Some(0.2),
    };
    vec![
        loss(AlgorithmName::M2po, Rule::M2poPaper { tau: 0.04 }),
        loss(AlgorithmName::Grpo, Rule::GrpoClip { eps: 0.2 }),
        loss(
            AlgorithmName::Gspo,
            Rule::Gspo {
                low: 3e-4,
                high: 4e-4,
            },
        ),
        loss(AlgorithmName::Icepop, mis(Level::Token)),
        loss(AlgorithmName::SeqMis, mis(Level::Sequence)),
        loss(
            AlgorithmName::Tis,
            Rule::Tis {
                level: Level::Token,
                cap: 2.0,
                eps: Some(0.2),
            },
        ),
        loss(
            AlgorithmName::Cispo,
            Rule::Cispo {
                low: 0.0,
                high: 5.0,
            },
        ),
    ]
}

/// Returns a group of version 0 with these rewards and log-ratios.
fn group(id: &str, rollouts: &[(f32, &[f32])]) -> Group {
    let rollout = |(reward, ratios): &(f32, &[f32])| Rollout {
        reward: *reward,
        behavior: vec![-1.0; ratios.len()],
        new: ratios.iter().map(|ratio| ratio - 1.0).collect(),
        trained: vec![true; ratios.len()],
    };
    Group {
        id: id.to_owned(),
        oldest: PolicyVersion(0),
        rollouts: rollouts.iter().map(rollout).collect(),
    }
}

fn measured(age: u64, groups: Vec<Group>, per_batch: usize) -> AgeFigures {
    let mut ages = Ages::new(losses(), per_batch);
    ages.add(age, PolicyVersion(age), groups).unwrap();
    ages.figures().remove(0)
}

#[test]
fn a_policy_that_did_not_move_discards_nothing() {
    let still: &[f32] = &[0.0; 5];
    let found = measured(0, vec![group("a", &[(1.0, still), (0.0, still)])], 16);
    assert_eq!((found.m2, found.m2_all, found.kl), (0.0, 0.0, 0.0));
    assert_eq!(
        (found.effective_tokens, found.effective_rollouts),
        (1.0, 1.0)
    );
    assert_eq!(found.chi_square, 0.0);
    assert_eq!((found.beyond_tenth, found.beyond_double), (0.0, 0.0));
    assert_eq!(found.losses.len(), losses().len());
    for (name, of) in &found.losses {
        assert_eq!(
            (of.masked, of.truncated.unwrap_or(0.0)),
            (0.0, 0.0),
            "{name}"
        );
    }
}

/// Computes one batch by hand: a good rollout with log-ratios 1 and 0, a bad one with 0.1 and -0.3.
#[test]
fn the_figures_are_those_computed_by_hand() {
    let found = measured(
        4,
        vec![group("a", &[(1.0, &[1.0, 0.0]), (0.0, &[0.1, -0.3])])],
        16,
    );
    let close = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
    };
    // In the trust region: the good token that gained, and the bad one that lost.
    close(found.m2, f64::midpoint(1.0, 0.09));
    close(found.m2_all, (1.0 + 0.01 + 0.09) / 4.0);
    close(found.kl, -(1.0 + 0.1 - 0.3) / 4.0);
    let ratios = [1.0_f64, 0.0, 0.1, -0.3].map(f64::exp);
    let (sum, squares): (f64, f64) = (
        ratios.iter().sum(),
        ratios.iter().map(|ratio| ratio * ratio).sum(),
    );
    close(found.effective_tokens, sum * sum / (4.0 * squares));
    let rows = [1.0_f64.exp(), (-0.2_f64).exp()];
    let sums = (rows[0] + rows[1], rows[0] * rows[0] + rows[1] * rows[1]);
    close(found.effective_rollouts, sums.0 * sums.0 / (2.0 * sums.1));
    close(found.chi_square, 2.0 * sums.1 / (sums.0 * sums.0) - 1.0);
    // exp(0.1) is above 1.1, exp(-0.3) below 1 / 1.1, and exp(1) above 2.
    assert_eq!((found.beyond_tenth, found.beyond_double), (0.75, 0.25));
    close(found.log_ratio_p01, -0.3);
    close(found.log_ratio_p99, 1.0);
    let masked = |name: &str| found.losses[name].masked;
    // 0.09 alone is above the threshold as well, so M2PO drops all of the trust region.
    assert_eq!(masked("m2po"), 0.5);
    // Of the same two tokens GRPO clips both: 2.7 > 1.2 and 0.74 < 0.8.
    assert_eq!(masked("grpo"), 0.5);
    // The good row's geometric mean is above 1, the bad row's below it: both are clipped.
    assert_eq!(masked("gspo"), 1.0);
    assert_eq!(masked("icepop"), 0.25);
    assert_eq!(masked("seq_mis"), 0.5);
    assert_eq!(found.losses["tis"].truncated, Some(0.25));
    assert_eq!(found.losses["cispo"].truncated, Some(0.0));
    assert_eq!(found.losses["grpo"].truncated, None);
}

#[test]
fn tokens_that_are_not_trained_do_not_count() {
    let mut with = group("a", &[(1.0, &[0.1, 9.0]), (0.0, &[0.0])]);
    with.rollouts[0].trained[1] = false;
    with.rollouts[0].new[1] = f32::NAN;
    let without = group("a", &[(1.0, &[0.1]), (0.0, &[0.0])]);
    assert_eq!(measured(1, vec![with], 4), measured(1, vec![without], 4));
}

#[test]
fn a_log_prob_that_is_no_number_is_named() {
    let bad = group("a", &[(1.0, &[f32::NAN]), (0.0, &[0.0])]);
    let refused = Ages::new(losses(), 4).add(2, PolicyVersion(9), vec![bad]);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("age 2 under version 9"), "{refused}");
}

#[test]
fn a_batch_is_no_larger_than_an_update() {
    let groups =
        || ["a", "b", "c", "d", "e"].map(|id| group(id, &[(1.0, &[0.2, 0.1]), (0.0, &[-0.1])]));
    let found = measured(2, groups().into(), 2);
    let sizes: Vec<_> = found.batches.iter().map(|batch| batch.groups).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!((found.groups, found.rollouts, found.tokens), (5, 10, 15));
}

fn at(age: u64, m2: f64, masked: f64) -> AgeFigures {
    let mut found = measured(age, vec![group("a", &[(1.0, &[0.0]), (0.0, &[0.0])])], 1);
    found.m2 = m2;
    for (name, of) in &mut found.losses {
        of.masked = if *name == "m2po" { masked } else { 0.096 };
    }
    found
}

#[test]
fn the_sentence_names_the_last_ages_inside_and_the_first_outside() {
    let own = AlgorithmName::M2po;
    let of = |figures: &[AgeFigures], own| answer(figures, 0.04, own).unwrap();
    let ages = |of: &crate::Answer| (of.inside, of.light, of.beyond);
    let figures = [
        at(0, 0.0, 0.0),
        at(64, 0.031, 0.0),
        at(128, 0.05, 0.01),
        at(256, 0.06, 0.021),
    ];
    let found = of(&figures, own);
    assert_eq!(ages(&found), (Some(64), Some(128), Some(256)));
    assert_eq!(
        found.sentence,
        "Rollouts of up to 64 updates stay inside M2PO's budget, which masks nothing (M2 0.031 of \
         0.04); up to 128 it masks at most 1 % of tokens; at 256 it masks 2.1 %, GRPO's clip 9.6 % of \
         tokens."
    );
    // An age that is inside again, after one that is not, does not count.
    let figures = [at(1, 0.01, 0.0), at(2, 0.05, 0.02), at(4, 0.03, 0.0)];
    assert_eq!(ages(&of(&figures, own)), (Some(1), Some(1), Some(2)));
    let found = of(&[at(0, 0.0, 0.0), at(1, 0.05, 0.02)], own);
    let begins = "Fresh rollouts alone stay inside M2PO's budget";
    assert!(found.sentence.starts_with(begins), "{}", found.sentence);
    let figures = [at(0, 0.0, 0.0), at(1, 0.001, 0.0)];
    let found = of(&figures, AlgorithmName::Icepop);
    assert_eq!(ages(&found), (Some(1), Some(1), None));
    assert_eq!(
        found.sentence,
        "Rollouts of up to 1 update, the oldest measured, stay inside M2PO's budget, which masks \
         nothing (M2 0.0010 of 0.04); there GRPO's clip 9.6 %, icepop 9.6 % of tokens."
    );
    let found = of(&[at(0, 0.2, 0.3)], own);
    assert_eq!(ages(&found), (None, None, Some(0)));
    let ends = "`vintage mismatch` finds out why.";
    assert!(found.sentence.ends_with(ends), "{}", found.sentence);
    assert_eq!(answer(&[], 0.04, own), None);
}

fn sampled(versions: impl IntoIterator<Item = (u64, u64)>) -> Vec<Sampled> {
    let groups = versions.into_iter().enumerate();
    groups
        .map(|(number, (oldest, newest))| Sampled {
            id: format!("{:08x}", (number as u32).wrapping_mul(0x9e37_79b9)),
            oldest: PolicyVersion(oldest),
            newest: PolicyVersion(newest),
        })
        .collect()
}

const BOUNDS: Bounds = Bounds {
    groups: 64,
    versions: 4,
};

/// Tests a run of 400 updates, 16 groups a version, that kept one version in 25.
#[test]
fn versions_are_few_far_apart_and_the_same_at_every_age() {
    let groups = sampled((0..400).flat_map(|version| [(version, version); 16]));
    let there: Vec<_> = (0..=400).step_by(25).map(PolicyVersion).collect();
    let chosen = choose(&groups, &there, BOUNDS);
    let versions: std::collections::BTreeSet<_> = chosen.iter().map(|of| of.version.0).collect();
    // Those with groups of about 256 updates, but for 400, of which nothing was sampled.
    assert!(
        versions.iter().all(|version| (225..400).contains(version)),
        "{versions:?}"
    );
    assert!(versions.len() == 4, "{versions:?}");
    for age in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256] {
        let of_age: Vec<_> = chosen.iter().filter(|of| of.age == age).collect();
        let count: usize = of_age.iter().map(|of| of.groups.len()).sum();
        assert_eq!((of_age.len(), count), (4, 64), "age {age}");
    }
}

#[test]
fn one_version_serves_every_age_and_later_tokens_are_left_alone() {
    let groups = sampled([(7, 7), (8, 8), (6, 9), (10, 10), (2, 2)]);
    let chosen = choose(&groups, &[PolicyVersion(8)], BOUNDS);
    let found: Vec<_> = chosen
        .iter()
        .map(|of| (of.age, of.groups.clone()))
        .collect();
    // (6, 9) holds tokens that version 8 could not have trained on, and 6 updates are no age.
    assert_eq!(found, [(0, vec![1]), (1, vec![0])]);
    assert!(choose(&groups, &[], BOUNDS).is_empty());
    assert!(choose(&[], &[PolicyVersion(8)], BOUNDS).is_empty());
}

proptest! {
    #[test]
    fn the_order_of_groups_does_not_matter(
        ratios in prop::collection::vec((prop::collection::vec(-2.0_f32..2.0, 1..5), 0..3_u8), 4..24),
        by in 1..20_usize,
    ) {
        let groups: Vec<_> = ratios.chunks(2).enumerate().map(|(at, rows)| {
            let rows: Vec<_> = rows.iter().map(|(of, reward)| (f32::from(*reward), &of[..])).collect();
            group(&format!("{at:03}"), &rows)
        }).collect();
        let mut turned = groups.clone();
        let by = by % turned.len();
        turned.rotate_left(by);
        prop_assert_eq!(measured(4, groups, 3), measured(4, turned, 3));
    }

    #[test]
    fn shares_are_shares(
        ratios in prop::collection::vec((prop::collection::vec(-600.0_f32..600.0, 1..5), 0..3_u8), 2..24),
    ) {
        let rows: Vec<_> = ratios.iter().map(|(of, reward)| (f32::from(*reward), &of[..])).collect();
        let found = measured(1, vec![group("a", &rows)], 3);
        let losses = found.losses.values().flat_map(|of| [Some(of.masked), of.truncated]);
        let shares = losses.flatten().chain([
            found.effective_tokens, found.effective_rollouts, found.beyond_tenth, found.beyond_double,
        ]);
        for share in shares {
            prop_assert!((0.0..=1.0 + 1e-9).contains(&share), "{}", share);
        }
        prop_assert!(found.log_ratio_p01 <= found.log_ratio_p99);
    }

    #[test]
    fn what_is_chosen_is_within_bounds_and_does_not_depend_on_order(
        versions in prop::collection::vec((0..40_u64, 0..3_u64), 0..120),
        there in prop::collection::btree_set(0..48_u64, 0..12),
        (groups, most, by) in (1..20_usize, 1..5_usize, 0..120_usize),
    ) {
        let sampled = sampled(versions.into_iter().map(|(oldest, more)| (oldest, oldest + more)));
        let there: Vec<_> = there.into_iter().map(PolicyVersion).collect();
        let bounds = Bounds { groups, versions: most };
        let chosen = choose(&sampled, &there, bounds);
        let mut counts = std::collections::BTreeMap::<u64, usize>::new();
        for of in &chosen {
            prop_assert!(there.contains(&of.version) && !of.groups.is_empty());
            *counts.entry(of.age).or_default() += of.groups.len();
            for &at in &of.groups {
                prop_assert!(sampled[at].newest <= of.version);
                let staleness = of.version.0 - sampled[at].oldest.0;
                prop_assert!(staleness.abs_diff(of.age) <= tolerance(of.age));
            }
        }
        prop_assert!(counts.values().all(|count| *count <= groups));
        // Every age that any version has groups of is there.
        for version in &there {
            for group in sampled.iter().filter(|group| group.newest <= *version) {
                let staleness = version.0 - group.oldest.0;
                if staleness == 0 || staleness.is_power_of_two() {
                    prop_assert!(counts.contains_key(&staleness), "{}", staleness);
                }
            }
        }
        let named = |of: &[Sampled], chosen: &[crate::Chosen]| -> Vec<(u64, PolicyVersion, Vec<String>)> {
            let ids = |groups: &[usize]| groups.iter().map(|at| of[*at].id.clone()).collect();
            chosen.iter().map(|one| (one.age, one.version, ids(&one.groups))).collect()
        };
        let mut turned = sampled.clone();
        let by = by % turned.len().max(1);
        turned.rotate_left(by);
        let again = choose(&turned, &there, bounds);
        prop_assert_eq!(named(&sampled, &chosen), named(&turned, &again));
    }
}
