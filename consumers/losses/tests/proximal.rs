//! Tests of Mix-PPG and decoupled PPO: where they agree, where they differ, and their derivatives.

use proptest::prelude::*;
use vintage_losses::{Rule, Tokens, interpolate_prox, weigh};

const EPS: f64 = 0.2;

fn mix(dual_clip: Option<f64>) -> Rule {
    Rule::MixPpg {
        eps: EPS,
        dual_clip,
    }
}

fn decoupled(dual_clip: Option<f64>, cap: Option<f64>) -> Rule {
    Rule::DecoupledPpo {
        eps: EPS,
        dual_clip,
        cap,
    }
}

/// Batch with a proximal policy. Log-probs are behaviour, proximal and new.
#[derive(Debug, Clone)]
struct Batch {
    behavior: Vec<f64>,
    prox: Vec<f64>,
    new: Vec<f64>,
    advantage: Vec<f64>,
    valid: Vec<bool>,
}

impl Batch {
    fn tokens(&self) -> Tokens<'_, f64> {
        Tokens {
            prox: Some(&self.prox),
            ..Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid)
        }
    }
}

fn batch() -> impl Strategy<Value = Batch> {
    let token = (
        -8.0..-0.1_f64,
        -1.0..1.0_f64,
        -0.6..0.6_f64,
        prop_oneof![8 => -2.0..2.0_f64, 1 => Just(0.0)],
        prop::bool::weighted(0.9),
    );
    prop::collection::vec(token, 1..40).prop_map(|tokens| {
        let mut batch = Batch {
            behavior: Vec::new(),
            prox: Vec::new(),
            new: Vec::new(),
            advantage: Vec::new(),
            valid: Vec::new(),
        };
        for (behavior, severity, step, advantage, valid) in tokens {
            batch.behavior.push(behavior);
            batch.prox.push(behavior + severity);
            batch.new.push(behavior + severity + step);
            batch.advantage.push(advantage);
            batch.valid.push(valid);
        }
        batch
    })
}

fn dual_clip() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![Just(None), Just(Some(3.0)), Just(Some(1.1))]
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * b.abs().max(1e-6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Checks that the two are PPO's clip, bit for bit the same, where the proximal policy is the
    /// one that sampled (c = w = 1).
    #[test]
    fn both_are_ppo_where_the_proximal_policy_sampled(batch in batch(), dual in dual_clip()) {
        let fresh = Batch { prox: batch.behavior.clone(), ..batch };
        let one = weigh(&mix(dual), &fresh.tokens()).expect("finite");
        let other = weigh(&decoupled(dual, Some(5.0)), &fresh.tokens()).expect("finite");
        prop_assert_eq!(&one.weight, &other.weight);
        prop_assert_eq!(&one.mask, &other.mask);
        prop_assert_eq!(one.loss, other.loss);
        if dual.is_none() {
            let ppo = weigh(&Rule::GrpoClip { eps: EPS }, &fresh.tokens()).expect("finite");
            prop_assert_eq!(&one.weight, &ppo.weight);
            prop_assert_eq!(one.loss, ppo.loss);
        }
    }

    /// Checks that the two give the importance-weighted gradient before the first step on a batch,
    /// with the proximal log-probs given or absent.
    #[test]
    fn both_are_importance_sampling_at_the_first_step(batch in batch()) {
        let first = Batch { prox: batch.new.clone(), ..batch };
        let open = weigh(&Rule::None, &first.tokens()).expect("finite");
        for rule in [mix(None), decoupled(None, None)] {
            let given = weigh(&rule, &first.tokens()).expect("finite");
            let absent = Tokens { prox: None, ..first.tokens() };
            prop_assert_eq!(&given, &weigh(&rule, &absent).expect("finite"));
            prop_assert_eq!(&given.mask, &first.valid);
            for (got, expected) in given.weight.iter().zip(&open.weight) {
                prop_assert!(near(*got, *expected), "{got} {expected}");
            }
        }
    }

    /// Checks that weights are derivatives of the loss, the proximal policy being a constant.
    #[test]
    fn weights_are_derivatives(batch in batch(), dual in dual_clip(), at in 0_usize..40) {
        prop_assume!(at < batch.new.len() && batch.valid[at]);
        let h = 1e-6;
        for rule in [mix(dual), decoupled(dual, Some(5.0)), decoupled(dual, None)] {
            let moved = |offset: f64| {
                let mut moved = batch.clone();
                moved.new[at] += offset;
                weigh(&rule, &moved.tokens()).expect("finite")
            };
            let (low, here, high) = (moved(-h), moved(0.0), moved(h));
            if low.mask == here.mask && high.mask == here.mask {
                let slope = (high.loss - low.loss) / (2.0 * h);
                let size = here.weight[at].abs().max(1e-2);
                prop_assert!(
                    (slope - here.weight[at]).abs() <= 1e-6 * size,
                    "{rule:?}: {slope} against {}", here.weight[at]
                );
            }
        }
    }
}

/// Checks the clip of Mix-PPG against hand arithmetic: c = 2 gives the bounds 1.8 and 2.2, in which
/// u = r / c may move by a tenth, half of what decoupled PPO allows.
#[test]
fn mix_ppg_is_tighter_where_the_policy_grew_more_likely() {
    let two = 2.0_f64.ln();
    let ratio = |r: f64| -1.0 + r.ln();
    let batch = Batch {
        behavior: vec![-1.0; 4],
        prox: vec![-1.0 + two; 4],
        new: [2.1, 2.3, 1.7, 1.7].map(ratio).to_vec(),
        advantage: vec![1.0, 1.0, 1.0, -1.0],
        valid: vec![true; 4],
    };
    let weighed = weigh(&mix(None), &batch.tokens()).expect("finite");
    assert_eq!(weighed.mask, [true, false, true, false]);
    let expected = -(2.1 + 2.2 + 1.7 - 1.8) / 4.0;
    assert!(near(weighed.loss, expected), "{}", weighed.loss);
    let wide = weigh(&decoupled(None, None), &batch.tokens()).expect("finite");
    assert_eq!(wide.mask, [true; 4]);
    // With a weight of 2 above the cap, nothing is left.
    let capped = weigh(&decoupled(None, Some(1.9)), &batch.tokens()).expect("finite");
    assert_eq!((capped.mask, capped.loss), (vec![false; 4], 0.0));
}

/// Checks that the lower bound of Mix-PPG is never below 0.
#[test]
fn mix_ppg_is_open_below_where_the_policy_grew_less_likely() {
    let batch = Batch {
        behavior: vec![-1.0],
        prox: vec![-1.0 + 0.1_f64.ln()],
        new: vec![-30.0],
        advantage: vec![-1.0],
        valid: vec![true],
    };
    let weighed = weigh(&mix(None), &batch.tokens()).expect("finite");
    assert_eq!(weighed.mask, [true]);
}

#[test]
fn the_dual_clip_bounds_runaways_of_bad_answers_alone() {
    let batch = Batch {
        behavior: vec![-3.0; 3],
        prox: vec![-3.0; 3],
        new: vec![
            -3.0 + 4.0_f64.ln(),
            -3.0 + 2.0_f64.ln(),
            -3.0 + 1.1_f64.ln(),
        ],
        advantage: vec![-1.0, -1.0, 1.0],
        valid: vec![true; 3],
    };
    for rule in [mix(Some(3.0)), decoupled(Some(3.0), None)] {
        let weighed = weigh(&rule, &batch.tokens()).expect("finite");
        assert_eq!(weighed.mask, [false, true, true], "{rule:?}");
        assert!(near(weighed.loss, (3.0 + 2.0 - 1.1) / 3.0), "{rule:?}");
        assert_eq!(weighed.weight[0], 0.0);
    }
}

#[test]
fn an_interpolated_policy_is_between_behaviour_and_new() {
    let found = interpolate_prox(&[-1.0; 3], &[-2.0; 3], &[0, 1, 3]);
    assert_eq!(found, [-2.0, -1.5, -1.25]);
}
