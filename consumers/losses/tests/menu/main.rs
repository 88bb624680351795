//! Tests of every rule of the menu against its formula, written down a second time in
//! `formula.rs`, and of what all rules have in common.

mod batch;
mod edges;
mod formula;
mod statistics;

use proptest::prelude::*;
use vintage_losses::{Level, Rule, Tokens, weigh};

use self::batch::{Batch, batch};

/// Returns every rule that is not a variant of M2PO, with settings that leave something to do.
fn menu() -> Vec<Rule> {
    let eps = Some(0.2);
    vec![
        Rule::GrpoClip { eps: 0.2 },
        Rule::Clip {
            low: 0.2,
            high: 0.28,
            dual_clip: None,
        },
        Rule::Clip {
            low: 0.2,
            high: 0.2,
            dual_clip: Some(1.5),
        },
        Rule::MixPpg {
            eps: 0.2,
            dual_clip: Some(1.5),
        },
        Rule::DecoupledPpo {
            eps: 0.2,
            dual_clip: Some(1.5),
            cap: Some(1.7),
        },
        Rule::Tis {
            level: Level::Token,
            cap: 1.5,
            eps,
        },
        Rule::Tis {
            level: Level::Sequence,
            cap: 2.0,
            eps: None,
        },
        Rule::Mis {
            level: Level::Token,
            low: 0.5,
            high: 2.0,
            eps,
        },
        Rule::Mis {
            level: Level::Sequence,
            low: 0.0,
            high: 3.0,
            eps,
        },
        Rule::GeometricRejection {
            low: 0.9,
            high: 1.1,
            eps,
        },
        Rule::K3Rejection { bound: 0.05, eps },
        Rule::SequenceMask {
            eps: 0.2,
            delta: 0.1,
        },
        Rule::Gspo {
            low: 0.1,
            high: 0.2,
        },
        Rule::M2poRestoring {
            tau: 1e200,
            low: 0.8,
            high: 1.5,
            base: Some(1.0),
        },
        Rule::Cispo {
            low: 0.3,
            high: 1.5,
        },
        Rule::DppoTv {
            low: 0.1,
            high: 0.15,
            cap: 20.0,
        },
        Rule::Ipo {
            distance: 0.1,
            square: 0.01,
        },
        Rule::Drpo { delta: 0.5 },
        Rule::Topr,
        Rule::Reinforce,
        Rule::Bapo {
            low: (0.6, 0.9),
            high: (1.2, 3.0),
            step: 0.05,
            balance: 1.0,
        },
        Rule::Sapo {
            positive: 1.0,
            negative: 1.05,
        },
        Rule::Vespo {
            positive: (2.0, 3.0),
            negative: (3.0, 2.0),
        },
        Rule::Vcpo {
            cap: 8.0,
            base: 1.0,
        },
        Rule::Oapl { beta: 0.1 },
        Rule::Dro { beta: 0.05 },
        Rule::PrefixTis { cap: 2.0 },
        Rule::None,
    ]
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs().max(1e-3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Checks loss and weights against the formulas: the loss is the formula's value, and the
    /// weight of every token its derivative by finite differences, with what the formula holds
    /// constant held constant.
    #[test]
    fn losses_and_weights_are_those_of_the_formulas(batch in batch()) {
        for rule in menu() {
            for prox in [None, Some(&batch.prox[..])] {
                let tokens = Tokens { prox, ..batch.tokens() };
                let weighed = weigh(&rule, &tokens).expect("finite");
                let value = |new: &[f64]| formula::loss(&rule, &batch, prox, new);
                let here = value(&batch.new);
                prop_assert!(near(weighed.loss, here, 1e-9), "{rule:?}: {} {here}", weighed.loss);
                for at in (0..batch.new.len()).filter(|&at| batch.valid[at]) {
                    let moved = |offset: f64| {
                        let mut new = batch.new.clone();
                        new[at] += offset;
                        value(&new)
                    };
                    let h = 1e-6;
                    let (up, down) = ((moved(h) - here) / h, (here - moved(-h)) / h);
                    // At a kink, where the two differ, there is no derivative.
                    if (up - down).abs() <= 1e-4 * up.abs().max(1e-2) {
                        let slope = (moved(h) - moved(-h)) / (2.0 * h);
                        let weight = weighed.weight[at];
                        prop_assert!(
                            (slope - weight).abs() <= 1e-5 * slope.abs().max(1e-2),
                            "{rule:?}, token {at}: {slope} against {weight}"
                        );
                    }
                }
            }
        }
    }

    /// Checks that every rule gives REINFORCE's gradient when the batch is on policy.
    #[test]
    fn on_policy_every_rule_is_reinforce(batch in batch()) {
        let fresh = Batch { new: batch.behavior.clone(), prox: batch.behavior.clone(), ..batch };
        let n_valid = fresh.valid.iter().filter(|&&valid| valid).count() as f64;
        let filled: Vec<_> = fresh.rows().filter(|row| !row.is_empty()).collect();
        for rule in menu() {
            let weighed = weigh(&rule, &fresh.tokens()).expect("finite");
            prop_assert_eq!(&weighed.mask, &fresh.valid, "{:?}", rule);
            let mut expected = vec![0.0; fresh.new.len()];
            for row in &filled {
                let mean = row.iter().map(|&i| fresh.advantage[i]).sum::<f64>() / row.len() as f64;
                for &i in row {
                    expected[i] = match rule {
                        Rule::Gspo { .. } => {
                            -fresh.advantage[i] / row.len() as f64 / filled.len() as f64
                        }
                        Rule::Oapl { beta } => -2.0 * beta * mean / filled.len() as f64,
                        _ => -fresh.advantage[i] / n_valid,
                    };
                }
            }
            for (got, expected) in weighed.weight.iter().zip(&expected) {
                prop_assert!(near(*got, *expected, 1e-9), "{rule:?}: {got} {expected}");
            }
            prop_assert!(weighed.stats.step_scale.is_none_or(|scale| near(scale, 1.0, 1e-9)));
        }
    }

    /// Checks that the order of the rows does not matter.
    #[test]
    fn order_of_rows_does_not_matter(
        (batch, order) in batch().prop_flat_map(|batch| {
            let order: Vec<usize> = (0..batch.ends.len()).collect();
            (Just(batch), Just(order).prop_shuffle())
        }),
    ) {
        let (other, places) = batch.reordered(&order);
        for rule in menu() {
            let here = weigh(&rule, &batch.tokens()).expect("finite");
            let there = weigh(&rule, &other.tokens()).expect("finite");
            prop_assert!(near(there.loss, here.loss, 1e-9), "{rule:?}");
            for (at, &from) in places.iter().enumerate() {
                prop_assert_eq!(there.mask[at], here.mask[from], "{:?}", rule);
                prop_assert!(near(there.weight[at], here.weight[from], 1e-9), "{rule:?}");
            }
        }
    }

    /// Checks that tokens that are not valid, whatever they hold, get nothing and change nothing.
    #[test]
    fn tokens_that_are_not_valid_do_not_matter(batch in batch()) {
        let mut other = batch.clone();
        for at in (0..other.new.len()).filter(|&at| !batch.valid[at]) {
            other.new[at] = f64::NAN;
            other.behavior[at] = f64::NEG_INFINITY;
            other.prox[at] = f64::INFINITY;
            other.advantage[at] = f64::NAN;
        }
        for rule in menu() {
            let plain = weigh(&rule, &batch.tokens()).expect("finite");
            let with = weigh(&rule, &other.tokens()).expect("finite");
            prop_assert_eq!(&with, &plain, "{:?}", rule);
            for at in (0..other.new.len()).filter(|&at| !batch.valid[at]) {
                prop_assert_eq!(with.weight[at], 0.0);
                prop_assert!(!with.mask[at]);
            }
            for at in (0..other.new.len()).filter(|&at| !with.mask[at]) {
                let is_bare = matches!(rule, Rule::Ipo { .. }) || with.weight[at] == 0.0;
                prop_assert!(is_bare, "{rule:?}: a masked token moves the policy");
            }
        }
    }

    /// Checks that |log r| up to 1000 gives no NaN and no overflow, at any clamp.
    #[test]
    fn runaways_stay_finite(
        batch in batch(),
        scale in prop::sample::select(vec![10.0, 100.0, 1000.0]),
        clamp in prop::sample::select(vec![0.5, 20.0, 300.0]),
    ) {
        let mut far = batch;
        for at in 0..far.new.len() {
            let gap = (far.new[at] - far.behavior[at]) * scale;
            let severity = (far.prox[at] - far.behavior[at]) * scale;
            far.new[at] = far.behavior[at] + gap.clamp(-1000.0, 1000.0);
            far.prox[at] = far.behavior[at] + severity.clamp(-1000.0, 1000.0);
        }
        for rule in menu() {
            for prox in [None, Some(&far.prox[..])] {
                let tokens = Tokens { prox, clamp, ..far.tokens() };
                let weighed = weigh(&rule, &tokens).expect("finite");
                prop_assert!(weighed.loss.is_finite(), "{rule:?}: {}", weighed.loss);
                prop_assert!(weighed.weight.iter().all(|weight| weight.is_finite()), "{rule:?}");
                let scale = weighed.stats.step_scale;
                prop_assert!(scale.is_none_or(|scale| scale > 0.0 && scale <= 1.0));
            }
        }
    }
}
