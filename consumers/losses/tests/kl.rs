//! Tests of the KL penalty.

use proptest::prelude::*;
use vintage_losses::{Error, KlPenalty, Rule, Tokens, weigh};

const VALID: [bool; 4] = [true, true, false, true];
const BEHAVIOR: [f64; 4] = [-1.0, -2.0, f64::NAN, -0.5];
const ADVANTAGE: [f64; 4] = [1.0, -1.0, f64::NAN, 0.5];

/// Adds the penalty to the loss without a trust region; returns penalty, loss and weights.
fn add(new: &[f64], penalty: &KlPenalty<'_, f64>) -> (f64, f64, Vec<f64>) {
    let tokens = Tokens::new(new, &BEHAVIOR, &ADVANTAGE, &VALID);
    let mut weighed = weigh(&Rule::None, &tokens).expect("finite");
    let bare = weighed.clone();
    let stats = penalty.add(&tokens, &mut weighed).expect("finite");
    assert!(stats.reference >= 0.0 && stats.previous.is_none_or(|kl| kl >= 0.0));
    assert!((weighed.loss - bare.loss - stats.penalty).abs() < 1e-12);
    assert_eq!(weighed.mask, bare.mask);
    assert_eq!(weighed.weight[2], 0.0);
    let added = weighed.weight.iter().zip(&bare.weight);
    let added = added.map(|(after, before)| after - before).collect();
    (stats.penalty, weighed.loss, added)
}

proptest! {
    #[test]
    fn penalty_and_weights_are_those_of_k3(
        new in prop::array::uniform4(-3.0..0.0_f64),
        reference in prop::array::uniform4(-3.0..0.0_f64),
        previous in prop::array::uniform4(-3.0..0.0_f64),
        lambda in 0.0..=1.0_f64,
        at in 0_usize..4,
    ) {
        let penalty = KlPenalty {
            reference: &reference,
            previous: Some(&previous),
            beta: 0.3,
            lambda,
            importance: false,
        };
        let (got, _, added) = add(&new, &penalty);
        // k3 by its definition, token by token.
        let k3 = |to: f64, new: f64| { let q = to - new; q.exp() - q - 1.0 };
        let each = |i: usize| lambda * k3(reference[i], new[i]) + (1.0 - lambda) * k3(previous[i], new[i]);
        let expected: f64 = [0, 1, 3].map(each).iter().sum::<f64>() * 0.3 / 3.0;
        prop_assert!((got - expected).abs() < 1e-12);
        // Weights are derivatives of the penalty.
        let h = 1e-6;
        let moved = |offset: f64| { let mut moved = new; moved[at] += offset; add(&moved, &penalty).0 };
        let slope = (moved(h) - moved(-h)) / (2.0 * h);
        prop_assert!((slope - added[at]).abs() < 1e-7, "{slope} {}", added[at]);
        // With the correction, each token's part is multiplied by its ratio, a constant.
        let corrected = add(&new, &KlPenalty { importance: true, ..penalty });
        for i in [0, 1, 3] {
            let ratio = (new[i] - BEHAVIOR[i]).exp();
            prop_assert!((corrected.2[i] - ratio * added[i]).abs() < 1e-9);
        }
    }
}

#[test]
fn a_policy_at_both_references_pays_nothing() {
    let new = [-1.5, -0.3, f64::NAN, -2.0];
    let penalty = KlPenalty {
        reference: &new,
        previous: Some(&new),
        beta: 1.0,
        lambda: 0.5,
        importance: true,
    };
    let (penalty, _, added) = add(&new, &penalty);
    assert_eq!(penalty, 0.0);
    assert!(added.iter().all(|&weight| weight == 0.0));
}

#[test]
fn runaways_stay_finite() {
    let penalty = KlPenalty {
        reference: &[0.0; 4],
        previous: Some(&[-1000.0; 4]),
        beta: 1.0,
        lambda: 0.5,
        importance: true,
    };
    for new in [[-1000.0; 4], [0.0; 4], [1000.0; 4]] {
        let (_, loss, added) = add(&new, &penalty);
        assert!(loss.is_finite());
        assert!(added.iter().all(|weight| weight.is_finite()), "{added:?}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_named_and_nothing_is_added() {
    let new = [-1.0; 4];
    let tokens = Tokens::new(&new, &BEHAVIOR, &ADVANTAGE, &VALID);
    let before = weigh(&Rule::None, &tokens).expect("finite");
    let sound = KlPenalty {
        reference: &[-1.0; 4],
        previous: None,
        beta: 0.1,
        lambda: 1.0,
        importance: false,
    };
    let bad = [f64::NAN, -1.0, -1.0, -1.0];
    let mut refuse = vec![
        KlPenalty {
            beta: -1.0,
            ..sound
        },
        KlPenalty {
            beta: f64::NAN,
            ..sound
        },
        KlPenalty {
            lambda: 1.1,
            ..sound
        },
        KlPenalty {
            lambda: f64::NAN,
            ..sound
        },
        KlPenalty {
            lambda: 0.9,
            ..sound
        },
    ];
    refuse.push(KlPenalty {
        reference: &[-1.0; 3],
        ..sound
    });
    refuse.push(KlPenalty {
        reference: &bad,
        ..sound
    });
    refuse.push(KlPenalty {
        previous: Some(&bad),
        ..sound
    });
    let says = [
        "`beta` is -1",
        "`beta` is NaN",
        "`lambda` is 1.1",
        "`lambda` is NaN",
        "pass `previous` or set lambda to 1",
        "`reference` has 3 tokens",
        "`reference` is NaN on valid token 0",
        "`previous` is NaN on valid token 0",
    ];
    for (penalty, says) in refuse.into_iter().zip(says) {
        let mut weighed = before.clone();
        let error = penalty.add(&tokens, &mut weighed).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(weighed, before);
    }
    let mut empty = weigh(&Rule::None, &Tokens::new(&[], &[], &[], &[])).expect("empty");
    let error = sound.add(&tokens, &mut empty).expect_err("another batch");
    assert!(matches!(
        error,
        Error::Length {
            field: "weight",
            ..
        }
    ));
}
