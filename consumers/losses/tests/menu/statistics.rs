//! Tests of the statistics of weights, of baselines, of M2PO's scopes and of BAPO's search, against
//! hand arithmetic.

use proptest::prelude::*;
use vintage_losses::{
    Baseline, CAP, Error, Rule, Tokens, group_advantages, mask_m2, prefix_cap, prefix_weights,
    weigh, weight_stats,
};

use super::{batch::Batch, batch::batch, near};

/// Returns a batch of fresh-proximal rows with these ratios.
fn rows_of(ratios: &[&[f64]], advantage: f64) -> Batch {
    let mut batch = Batch::default();
    for row in ratios {
        let tokens: Vec<_> = row
            .iter()
            .map(|ratio| (-2.0, ratio.ln(), 0.0, advantage, true))
            .collect();
        batch.push(&tokens);
    }
    batch
}

#[test]
fn effective_shares_and_concentrability_are_those_of_hand_arithmetic() {
    // Rows of weight 4 and 1; tokens of weight 2, 2, 0.5 and 2; prefixes of 2, 4, 0.5 and 1.
    let batch = rows_of(&[&[2.0, 2.0], &[0.5, 2.0]], 1.0);
    let stats = weight_stats(&batch.tokens()).expect("finite");
    assert_eq!(stats.n_rows, 2);
    assert!(near(stats.effective_rows, 25.0 / (2.0 * 17.0), 1e-12));
    let tokens = 6.5 * 6.5 / (4.0 * 12.25);
    assert!(near(stats.effective_tokens, tokens, 1e-12));
    // Beside their mean, 2.5, the weights of the rows are 1.6 and 0.4.
    let under_new = (4.0 * 1.6 + 1.0 * 0.4) / 5.0;
    assert!(near(stats.concentrability, under_new, 1e-12));
    let weights = prefix_weights(&batch.tokens(), 3.0).expect("finite");
    for (got, expected) in weights.iter().zip([2.0, 3.0, 0.5, 1.0]) {
        assert!(near(*got, expected, 1e-12));
    }
    let empty = weight_stats(&Batch::default().tokens()).expect("empty");
    assert_eq!((empty.effective_rows, empty.concentrability), (1.0, 1.0));
    // One row of twenty is a million times as likely as the others: 20 times the mean, but for the cap.
    let mut ratios = vec![&[1e-6][..]; 19];
    ratios.push(&[1.0]);
    let stats = weight_stats(&rows_of(&ratios, 1.0).tokens()).expect("finite");
    assert!(near(stats.concentrability, CAP, 1e-4));
    let refused = prefix_weights(&batch.tokens(), 0.0);
    assert!(matches!(refused, Err(Error::Setting { name: "cap", .. })));
}

#[test]
fn the_prefix_cap_grows_from_1_to_its_limit() {
    let caps = [0, 5, 10, 100].map(|t| prefix_cap(0.2, t, 8.0));
    assert_eq!(caps, [1.0, 1.0, 2.0, 8.0]);
}

proptest! {
    /// Checks the identity that joins the two kinds of statistics: where the mean weight is 1, the
    /// mean under the new policy, which is the weighted mean, is the inverse of the effective share.
    #[test]
    fn concentrability_without_a_cap_is_the_inverse_of_the_effective_share(
        mut weights in prop::collection::vec(0.05..4.0_f64, 1..30),
    ) {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        for weight in &mut weights {
            *weight /= mean;
        }
        let rows: Vec<[f64; 1]> = weights.iter().map(|&weight| [weight]).collect();
        let rows: Vec<&[f64]> = rows.iter().map(|row| &row[..]).collect();
        let stats = weight_stats(&rows_of(&rows, 1.0).tokens()).expect("finite");
        let under_new = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
        prop_assert!(near(stats.effective_rows, 1.0 / under_new, 1e-9));
        if weights.iter().all(|weight| *weight <= CAP) {
            prop_assert!(near(stats.concentrability, under_new, 1e-9));
        }
    }

    /// Checks that a scope's mask is the one that its tokens get alone, and that one scope for all
    /// is no scope.
    #[test]
    fn every_scope_has_a_budget_of_its_own(batch in batch(), seed in 0_u32..100) {
        let scope: Vec<u32> = (0..batch.new.len() as u32).map(|at| (at * 7 + seed) % 3 * 5).collect();
        let tokens = Tokens { scope: Some(&scope), ..batch.tokens() };
        let found = mask_m2(&tokens, 0.04).expect("finite");
        let weighed = weigh(&Rule::PAPER, &tokens).expect("finite");
        prop_assert_eq!(&weighed.mask, &found.mask);
        let mut masked = 0;
        for own in [0, 5, 10] {
            let valid: Vec<bool> = batch.valid.iter().zip(&scope).map(|(v, s)| *v && *s == own).collect();
            let alone = Tokens { valid: &valid, ..batch.tokens() };
            let alone = mask_m2(&alone, 0.04).expect("finite");
            prop_assert!(alone.m2_after <= 0.04);
            masked += alone.n_masked;
            for at in (0..valid.len()).filter(|&at| valid[at]) {
                prop_assert_eq!(found.mask[at], alone.mask[at]);
            }
        }
        prop_assert_eq!(found.n_masked, masked);
        prop_assert!(found.m2_after <= 0.04 * (1.0 + 1e-12));
        let stats = weighed.stats;
        prop_assert!(near(found.m2_before, stats.m2_trust_before, 1e-9));
        prop_assert!(near(found.m2_after, stats.m2_trust_after, 1e-9));
        let one = vec![7; scope.len()];
        let one = Tokens { scope: Some(&one), ..batch.tokens() };
        let (one, none) = (mask_m2(&one, 0.04), mask_m2(&batch.tokens(), 0.04));
        prop_assert_eq!(one.expect("finite").mask, none.expect("finite").mask);
    }
}

#[test]
fn vcpo_shortens_the_step_with_the_effective_share() {
    let rule = Rule::Vcpo {
        cap: 2.0,
        base: 0.8,
    };
    let batch = rows_of(&[&[2.0, 2.0], &[0.5, 2.0]], 1.0);
    let weighed = weigh(&rule, &batch.tokens()).expect("finite");
    let expected = (25.0_f64 / 34.0 / 0.8).sqrt();
    let scale = weighed.stats.step_scale.expect("VCPO scales the step");
    assert!(near(scale, expected, 1e-12), "{scale} {expected}");
    // The weights are truncated: 2 instead of 4 in the first row.
    for (got, expected) in weighed.weight.iter().zip([-0.5, -0.5, -0.25, -0.25]) {
        assert!(near(*got, expected, 1e-12));
    }
}

/// Checks BAPO's bounds: they stay where they began if good answers have their share, and go to
/// their ends if there are none.
#[test]
fn bapo_opens_as_far_as_good_answers_need() {
    let rule = |balance| Rule::Bapo {
        low: (0.6, 0.9),
        high: (1.2, 3.0),
        step: 0.05,
        balance,
    };
    let bounds = |batch: &Batch, balance| {
        let weighed = weigh(&rule(balance), &batch.tokens()).expect("finite");
        weighed.stats.ratio_bounds.expect("bounds")
    };
    assert_eq!(bounds(&rows_of(&[&[2.0]], 1.0), 1.0), (0.6, 1.2));
    assert_eq!(bounds(&rows_of(&[&[1.0]], -1.0), 1.0), (0.9, 3.0));
    // min(2, high) has to reach 1.5 times max(1, low) = 1.
    let mut both = rows_of(&[&[2.0]], 1.0);
    both.push(&[(-2.0, 0.0, 0.0, -1.0, true)]);
    let (low, high) = bounds(&both, 1.5);
    assert!(
        near(low, 0.9, 1e-9) && near(high, 1.5, 0.04),
        "{low} {high}"
    );
}

#[test]
fn baselines_are_those_of_hand_arithmetic() {
    let rewards = [1.0, 0.0, 0.0, 1.0];
    let lengths = [1, 2, 3, 4];
    let check = |baseline: Baseline, subtracted: f32| {
        let advantages = baseline.advantages(&rewards, &lengths);
        for (advantage, reward) in advantages.iter().zip(rewards) {
            let expected = reward - subtracted;
            assert!((advantage - expected).abs() < 1e-6, "{baseline:?}");
        }
    };
    check(Baseline::Mean, 0.5);
    check(Baseline::LengthWeighted, 0.5);
    check(Baseline::Shifted { shift: -0.1 }, 0.4);
    check(Baseline::Zero, 0.0);
    let soft = f32::midpoint(1.0, 1.0_f32.exp()).ln();
    check(Baseline::SoftMax { beta: 1.0 }, soft);
    let unequal = Baseline::LengthWeighted.advantages(&[1.0, 0.0], &[3, 1]);
    assert_eq!(unequal, [0.25, -0.75]);
    let group = Baseline::Group.advantages(&rewards, &lengths);
    assert_eq!(group, group_advantages(&rewards));
}

#[test]
fn baselines_stand_edges() {
    let all = [
        Baseline::Group,
        Baseline::Mean,
        Baseline::LengthWeighted,
        Baseline::Shifted { shift: -0.1 },
        Baseline::SoftMax { beta: 1e-3 },
        Baseline::Zero,
    ];
    for baseline in all {
        assert!(baseline.advantages(&[], &[]).is_empty());
        for rewards in [&[3.0][..], &[-1e4, 1e4], &[0.0; 5]] {
            let advantages = baseline.advantages(rewards, &vec![0; rewards.len()]);
            assert_eq!(advantages.len(), rewards.len());
            assert!(advantages.iter().all(|advantage| advantage.is_finite()));
        }
    }
    // No lengths: the plain mean.
    assert_eq!(
        Baseline::LengthWeighted.advantages(&[1.0, 0.0], &[0, 0]),
        [0.5, -0.5]
    );
    // A cold soft maximum is the maximum, up to beta log n.
    let cold = Baseline::SoftMax { beta: 1e-3 }.advantages(&[0.0, 5.0], &[1, 1]);
    assert!(
        (cold[1] - 6.93e-4).abs() < 1e-5 && (cold[0] + 5.0).abs() < 1e-3,
        "{cold:?}"
    );
}
