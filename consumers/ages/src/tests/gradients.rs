//! Tests of what the directions of gradients are made of.

use proptest::prelude::*;
use vintage_control::{AlgorithmName, PolicyVersion};
use vintage_losses::{Baseline, Level, Rule};

use super::{group, loss, sampled};
use crate::{
    BatchDirection, Bounds, Directions, Estimate, Gradients, Group, Loss, Reference, Weights,
    choose, cosine, verdict,
};

/// Returns losses whose weight of a token at ratio 1 is that of REINFORCE, each by another rule.
fn menu() -> Vec<Loss> {
    use AlgorithmName as Name;
    let eps = Some(0.2);
    let all = [
        (Name::M2po, Rule::PAPER),
        (Name::Grpo, Rule::GrpoClip { eps: 0.2 }),
        (
            Name::Cispo,
            Rule::Cispo {
                low: 0.0,
                high: 5.0,
            },
        ),
        (
            Name::Tis,
            Rule::Tis {
                level: Level::Sequence,
                cap: 2.0,
                eps,
            },
        ),
        (
            Name::Icepop,
            Rule::Mis {
                level: Level::Token,
                low: 0.5,
                high: 2.0,
                eps,
            },
        ),
        (
            Name::GeoRs,
            Rule::GeometricRejection {
                low: 0.999,
                high: 1.001,
                eps,
            },
        ),
        (
            Name::DppoTv,
            Rule::DppoTv {
                low: 0.2,
                high: 0.2,
                cap: 20.0,
            },
        ),
        (
            Name::Ipo,
            Rule::Ipo {
                distance: 0.1,
                square: 1e-3,
            },
        ),
        (Name::Drpo, Rule::Drpo { delta: 12.5 }),
        (Name::Topr, Rule::Topr),
        (
            Name::Sapo,
            Rule::Sapo {
                positive: 1.0,
                negative: 1.05,
            },
        ),
        (
            Name::Vespo,
            Rule::Vespo {
                positive: (2.0, 3.0),
                negative: (3.0, 2.0),
            },
        ),
        (
            Name::Vcpo,
            Rule::Vcpo {
                cap: 8.0,
                base: 1.0,
            },
        ),
        (Name::Dro, Rule::Dro { beta: 0.05 }),
        (Name::PrefixTis, Rule::PrefixTis { cap: 5.0 }),
        (Name::None, Rule::None),
    ];
    let mut losses: Vec<_> = all
        .into_iter()
        .map(|(name, rule)| loss(name, rule))
        .collect();
    losses.push(Loss {
        baseline: Baseline::Shifted { shift: -0.1 },
        ..loss(Name::Asymre, Rule::Reinforce)
    });
    losses
}

fn groups(ratio: f32) -> Vec<Group> {
    let (short, long) = ([ratio; 2], [ratio, -ratio, ratio]);
    vec![
        group("a", &[(1.0, &short), (0.0, &long), (0.0, &short)]),
        group("b", &[(0.0, &long), (1.0, &long), (1.0, &short)]),
    ]
}

/// Gradient of a model whose log-probs are linear in three parameters.
fn differentiate(weights: &[f32]) -> Vec<f32> {
    let column = |of: usize| {
        let terms = weights.iter().enumerate();
        terms
            .map(|(at, weight)| weight * ((at * (of + 2)) % 7) as f32)
            .sum()
    };
    (0..3).map(column).collect()
}

#[test]
fn on_the_very_same_fresh_samples_every_loss_points_where_reinforce_does() {
    let groups = groups(0.0);
    for loss in menu() {
        let name = loss.name;
        let weights = Weights::of(&loss, &groups).unwrap();
        let fresh = Weights::reinforce(&loss, &groups).unwrap();
        let found = cosine(&differentiate(&weights.of_tokens), &differentiate(&fresh));
        assert!((found - 1.0).abs() < 1e-6, "{name:?}: {found}");
        assert_eq!(
            (weights.masked, weights.truncated.unwrap_or(0.0)),
            (0.0, 0.0),
            "{name:?}"
        );
        assert!(
            (weights.effective - 1.0).abs() < 1e-6,
            "{name:?}: {}",
            weights.effective
        );
    }
}

#[test]
fn old_samples_are_weighed_as_the_loss_says() {
    let groups = groups(1.0);
    let of = |name| {
        let menu = menu();
        let loss = menu.iter().find(|loss| loss.name == name).unwrap();
        Weights::of(loss, &groups).unwrap()
    };
    // Every ratio is e or 1 / e, so that the clip takes all of the trust region and nothing else.
    let rollouts = || groups.iter().flat_map(|of| &of.rollouts);
    let tokens: usize = rollouts().map(|of| of.new.len()).sum();
    let clipped = of(AlgorithmName::Grpo);
    let zeros = clipped
        .of_tokens
        .iter()
        .filter(|weight| **weight == 0.0)
        .count();
    assert!(zeros > 0 && zeros < tokens, "{clipped:?}");
    let share = zeros as f64 / tokens as f64;
    assert!((clipped.masked - share).abs() < 1e-9, "{clipped:?}");
    // Masked tokens count in the number of tokens and in neither sum.
    // Equal rewards leave nothing to weigh, and nothing to throw away.
    let equal = [group("a", &[(1.0, &[0.3]), (1.0, &[0.0])])];
    let nothing = Weights::of(&loss(AlgorithmName::None, Rule::None), &equal).unwrap();
    assert_eq!(
        (nothing.of_tokens, nothing.effective),
        (vec![-0.0, -0.0], 1.0)
    );
    let open = of(AlgorithmName::None);
    assert_eq!(open.masked, 0.0);
    assert!(
        clipped.effective <= 1.0 - share && open.effective < 1.0,
        "{open:?}"
    );
    // Within a factor, VCPO's weights are those of truncated rows.
    let rows = Rule::Tis {
        level: Level::Sequence,
        cap: 8.0,
        eps: None,
    };
    let rows = Weights::of(&loss(AlgorithmName::SeqTis, rows), &groups).unwrap();
    let short = of(AlgorithmName::Vcpo);
    let factor = f64::from(short.of_tokens[0]) / f64::from(rows.of_tokens[0]);
    assert!(factor > 0.1 && factor < 0.99, "{factor}");
    for (short, long) in short.of_tokens.iter().zip(&rows.of_tokens) {
        assert!(
            (f64::from(*short) - factor * f64::from(*long)).abs() < 1e-6,
            "{short} {long}"
        );
    }
}

#[test]
fn a_gradient_is_compared_with_all_batches_but_one() {
    let batches = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 1.0]];
    let reference = Reference::of(batches).unwrap();
    let close = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
    };
    // Without each batch in turn the sum is (1, 2), (2, 1) and (1, 1).
    let (fifth, half) = (5.0_f64.sqrt(), 2.0_f64.sqrt());
    close(reference.fresh(), (1.0 / fifth + 1.0 / fifth + 1.0) / 3.0);
    // Batches 0 and 2 are (2, 1), batch 1 is (0, 1).
    close(reference.halves(), 1.0 / fifth);
    let found = reference.agreement(&[-3.0, 0.0]).unwrap();
    close(
        found.cosine,
        -(1.0 / fifth + 2.0 / fifth + 1.0 / half) / 3.0,
    );
    close(found.norm, 3.0 / ((2.0 + half) / 3.0));
    let nothing = reference.agreement(&[0.0, 0.0]).unwrap();
    assert_eq!((nothing.cosine, nothing.norm), (0.0, 0.0));
    assert_eq!(reference.agreement(&[f32::NAN, 0.0]), None);
}

#[test]
fn no_reference_is_made_of_one_batch_or_of_nothing() {
    assert!(Reference::of(vec![]).is_none());
    assert!(Reference::of(vec![vec![1.0]]).is_none());
    assert!(Reference::of(vec![vec![0.0]; 4]).is_none());
    // All but one batch are zero, so that there is nothing to compare that one with.
    assert!(Reference::of(vec![vec![0.0], vec![1.0]]).is_none());
    assert!(Reference::of(vec![vec![f32::NAN], vec![1.0]]).is_none());
}

#[test]
fn noise_lowers_the_cosine_of_fresh_batches_and_of_others_alike() {
    // Batches of one direction plus noise of twice its norm, in 400 dimensions.
    let mut state = 7_u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let mut batch = || -> Vec<f32> { (0..400).map(|_| 0.3 + draw()).collect() };
    let reference = Reference::of((0..16).map(|_| batch()).collect()).unwrap();
    // The noise has a variance of 1/3 beside 0.09: cosine² is 0.09 / (0.09 + 1/3) less what is left in the mean.
    assert!(
        (reference.fresh() - 0.42).abs() < 0.05,
        "{}",
        reference.fresh()
    );
    let fresh: Vec<_> = (0..16)
        .map(|_| reference.agreement(&batch()).unwrap())
        .collect();
    let mean = |of: fn(&crate::Agreement) -> f64| fresh.iter().map(of).sum::<f64>() / 16.0;
    let (cosine, norm) = (mean(|of| of.cosine), mean(|of| of.norm));
    assert!((cosine - reference.fresh()).abs() < 0.03, "{cosine}");
    assert!((norm - 1.0).abs() < 0.05, "{norm}");
    assert!(
        reference.halves() > reference.fresh(),
        "{}",
        reference.halves()
    );
}

fn batch(version: u64, cosine: f64) -> BatchDirection {
    BatchDirection {
        version: PolicyVersion(version),
        groups: 16,
        staleness: 8.0,
        cosine,
        fresh: 0.5,
        norm: 2.0,
        masked: 0.25,
        truncated: None,
        effective: 0.5,
    }
}

#[test]
fn means_and_intervals_are_over_versions() {
    let mut directions = Directions::default();
    let (own, other, failing) = (
        AlgorithmName::M2po,
        AlgorithmName::Grpo,
        AlgorithmName::M2poFork,
    );
    // Two batches of version 10 count as one.
    for (version, cosine) in [(10, 0.3), (10, 0.5), (20, 0.2)] {
        directions.add(8, own, Some(batch(version, cosine)));
        directions.add(8, other, Some(batch(version, cosine - 0.1)));
        let fails = (version == 20).then(|| batch(version, 0.0));
        directions.add(8, failing, fails);
    }
    let figures = directions.figures(own);
    let [of] = &figures[..] else {
        panic!("one age, {figures:?}")
    };
    assert_eq!((of.age, of.staleness, of.batches), (8, 8.0, 3));
    let names: Vec<_> = of.losses.keys().copied().collect();
    assert_eq!(names, ["grpo", "m2po"]);
    let found = &of.losses["m2po"];
    assert!((found.cosine.mean - 0.3).abs() < 1e-9);
    // Of two values 0.2 apart the standard error is 0.1, and t is 12.706.
    assert!((found.cosine.half.unwrap() - 1.2706).abs() < 1e-6);
    assert!((found.short.mean - 0.2).abs() < 1e-9 && found.over_own.is_none());
    let other = of.losses["grpo"].over_own.unwrap();
    assert!(
        (other.mean + 0.1).abs() < 1e-9 && other.half.unwrap() < 1e-9,
        "{other:?}"
    );
    assert_eq!(
        (found.masked, found.truncated, found.effective),
        (0.25, None, 0.5)
    );
    assert_eq!(
        Estimate::of(&[0.5]),
        Estimate {
            mean: 0.5,
            half: None
        }
    );
}

#[test]
fn the_sentence_says_how_far_the_runs_loss_keeps_its_direction() {
    let own = AlgorithmName::M2po;
    let mut directions = Directions::default();
    for (age, mine, other) in [(0, 0.49, 0.4), (8, 0.46, 0.5), (64, 0.2, 0.25)] {
        directions.add(age, own, Some(batch(100, mine)));
        directions.add(age, AlgorithmName::Cispo, Some(batch(100, other)));
    }
    let said = |directions: &Directions, own| verdict(&directions.figures(own), own, 16);
    assert_eq!(
        said(&directions, own).unwrap(),
        "The gradient of a fresh batch of 16 groups has a cosine of 0.50 with the on-policy gradient; that of \
         m2po is not told apart from it up to staleness 8, and has 0.20 at 64, where the highest is that of \
         cispo, 0.25."
    );
    let cispo = said(&directions, AlgorithmName::Cispo).unwrap();
    let ends = "that of cispo is below it even at staleness 0, and has 0.25 at 64.";
    assert!(cispo.ends_with(ends), "{cispo}");
    assert_eq!(said(&directions, AlgorithmName::Grpo), None);
    // Over versions, what is missing must be more than chance: at 8 it is 0.05 ± 0.64, at 64 0.3 ± 0.06.
    let mut directions = Directions::default();
    for (version, at_8, at_64) in [(100, 0.5, 0.205), (200, 0.4, 0.195)] {
        directions.add(8, own, Some(batch(version, at_8)));
        directions.add(64, own, Some(batch(version, at_64)));
    }
    let found = said(&directions, own).unwrap();
    assert!(
        found.contains("up to staleness 8, and has 0.20 at 64."),
        "{found}"
    );
    let mut directions = Directions::default();
    directions.add(4, own, Some(batch(100, 0.5)));
    let only = said(&directions, own).unwrap();
    assert!(
        only.contains("at any staleness, up to 4, and has 0.50 at 4."),
        "{only}"
    );
}

/// Chooses of a run of 400 updates, 16 groups a version, that kept one version in 25.
#[test]
fn fewer_versions_are_taken_if_there_are_too_many_passes() {
    let groups = sampled((0..400).flat_map(|version| [(version, version); 16]));
    let there: Vec<_> = (0..=400).step_by(25).map(PolicyVersion).collect();
    let gradients = Gradients {
        losses: 10,
        baselines: 2,
        fresh: 4,
        groups_per_batch: 16,
    };
    let bounds = Bounds {
        groups: 128,
        versions: 8,
    };
    let all = choose(&groups, &there, bounds);
    // Eight batches of each of ten ages, and under each version four fresh ones with two baselines.
    let passes = gradients.passes(&all);
    let versions: std::collections::BTreeSet<_> = all.iter().map(|of| of.version).collect();
    assert_eq!(passes, 8 * 10 * 10 + versions.len() as u64 * 4 * 2);
    assert_eq!(
        gradients.choose_within(&groups, &there, bounds, passes),
        all
    );
    let fewer = gradients.choose_within(&groups, &there, bounds, 400);
    assert!(gradients.passes(&fewer) <= 400 && !fewer.is_empty());
    // As many groups under each version as before.
    assert!(fewer.iter().all(|of| of.groups.len() <= 16));
    assert!(fewer.iter().any(|of| of.groups.len() == 16));
    let least = gradients.choose_within(&groups, &there, bounds, 1);
    assert!(!least.is_empty() && gradients.passes(&least) > 1);
}

proptest! {
    #[test]
    fn weights_are_finite_and_shares_are_shares(
        ratios in prop::collection::vec((prop::collection::vec(-600.0_f32..600.0, 1..5), 0..3_u8), 2..12),
    ) {
        let rows: Vec<_> = ratios.iter().map(|(of, reward)| (f32::from(*reward), &of[..])).collect();
        let groups = [group("a", &rows)];
        let tokens: usize = ratios.iter().map(|(of, _)| of.len()).sum();
        for loss in menu() {
            let found = Weights::of(&loss, &groups).unwrap();
            prop_assert_eq!(found.of_tokens.len(), tokens);
            prop_assert!(found.of_tokens.iter().all(|weight| weight.is_finite()), "{:?}", found);
            for share in [found.masked, found.effective, found.truncated.unwrap_or(0.0)] {
                prop_assert!((0.0..=1.0 + 1e-9).contains(&share), "{:?} {}", loss.name, share);
            }
        }
    }
}
