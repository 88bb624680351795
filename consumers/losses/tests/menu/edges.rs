//! Edge cases of the menu: no tokens, one token, one sign, missing rows, settings out of range.

use vintage_losses::{Error, Level, Rule, Tokens, weigh};

use super::{batch::Batch, menu, near};

#[test]
fn nothing_to_train_on_is_no_loss() {
    let mut unfilled = Batch::default();
    unfilled.push(&[]);
    unfilled.push(&[(-1.0, 0.1, 0.1, 1.0, false)]);
    for batch in [Batch::default(), unfilled] {
        for rule in menu() {
            let weighed = weigh(&rule, &batch.tokens()).expect("nothing to refuse");
            assert_eq!(weighed.loss, 0.0, "{rule:?}");
            assert!(weighed.weight.iter().all(|&weight| weight == 0.0));
            assert!(weighed.mask.iter().all(|&kept| !kept));
            assert_eq!(weighed.stats.n_valid, 0);
        }
    }
}

/// Checks that a fresh token moves by its advantage alone, with and without empty rows beside it.
#[test]
fn one_fresh_token_moves_by_its_advantage() {
    for advantage in [1.5, -1.5] {
        let mut batch = Batch::default();
        batch.push(&[]);
        batch.push(&[(-1.0, 0.0, 0.0, advantage, true)]);
        batch.push(&[(-1.0, 0.0, 0.0, 9.0, false)]);
        for rule in menu() {
            let weighed = weigh(&rule, &batch.tokens()).expect("finite");
            let scale = match rule {
                Rule::Oapl { beta } => 2.0 * beta,
                _ => 1.0,
            };
            let expected = -advantage * scale;
            assert!(near(weighed.weight[0], expected, 1e-12), "{rule:?}");
            assert_eq!(weighed.mask, [true, false]);
        }
    }
}

/// Checks that a stale batch of one sign never pushes a token the wrong way, but for rules that
/// also pull towards behaviour.
#[test]
fn batches_of_one_sign_move_one_way() {
    for sign in [1.0, -1.0] {
        let mut batch = Batch::default();
        batch.push(&[(-1.0, 0.3, 0.1, sign, true), (-2.0, -0.4, 0.1, sign, true)]);
        batch.push(&[(-0.5, 0.2, 0.1, sign, true), (-3.0, 0.9, -0.1, sign, true)]);
        for rule in menu() {
            let weighed = weigh(&rule, &batch.tokens()).expect("finite");
            let pulls = matches!(
                rule,
                Rule::Ipo { .. } | Rule::Oapl { .. } | Rule::Dro { .. } | Rule::Drpo { .. }
            );
            let one_way = weighed.weight.iter().all(|&weight| weight * sign <= 0.0);
            assert!(one_way || pulls, "{rule:?}: {:?}", weighed.weight);
            let moves = weighed.weight.iter().any(|&weight| weight != 0.0);
            let may_stop = matches!(
                rule,
                Rule::GeometricRejection { .. } | Rule::K3Rejection { .. } | Rule::Gspo { .. }
            );
            assert!(moves || may_stop, "{rule:?}");
        }
    }
}

#[test]
fn rules_per_sequence_refuse_a_batch_without_rows() {
    let mut batch = Batch::default();
    batch.push(&[(-1.0, 0.1, 0.1, 1.0, true)]);
    let mut refused = 0;
    for rule in menu() {
        let tokens = Tokens {
            row_ends: None,
            ..batch.tokens()
        };
        match weigh(&rule, &tokens) {
            Ok(without) => assert_eq!(without, weigh(&rule, &batch.tokens()).expect("finite")),
            Err(Error::NoRows { what }) => {
                assert!(!what.is_empty());
                refused += 1;
            }
            Err(error) => panic!("{rule:?}: {error}"),
        }
    }
    // Two of Tis and Mis, two rejections, the sequence mask, GSPO, TOPR, VESPO, VCPO, M2PO with a share, OAPL,
    // prefix.
    assert_eq!(refused, 12);
}

#[test]
fn ends_of_rows_that_do_not_fit_are_refused() {
    let numbers = [-1.0_f64; 3];
    let tokens = Tokens::new(&numbers, &numbers, &numbers, &[true; 3]);
    for (ends, says) in [
        (&[2, 1, 3][..], "row 1 ends at 1"),
        (&[2, 4], "row 1 ends at 4"),
        (&[2], "`row_ends` has 2 tokens"),
        (&[], "`row_ends` has 0 tokens"),
    ] {
        let error = weigh(&Rule::None, &tokens.with_rows(ends)).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
    }
    weigh(&Rule::None, &tokens.with_rows(&[0, 1, 1, 3])).expect("empty rows are rows");
    let scope = Tokens {
        scope: Some(&[1, 2]),
        ..tokens
    };
    let error = weigh(&Rule::PAPER, &scope).expect_err("two of three");
    assert!(
        error.to_string().contains("`scope` has 2 tokens"),
        "{error}"
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    let nan = f64::NAN;
    let token = Level::Token;
    let bapo = |low, high, step, balance| Rule::Bapo {
        low,
        high,
        step,
        balance,
    };
    let mis = |low, high| Rule::Mis {
        level: token,
        low,
        high,
        eps: None,
    };
    let tis = |cap, eps| Rule::Tis {
        level: token,
        cap,
        eps,
    };
    let vespo = |positive| Rule::Vespo {
        positive,
        negative: (3.0, 2.0),
    };
    let restoring = |low, base| Rule::M2poRestoring {
        tau: 0.04,
        low,
        high: 2.0,
        base,
    };
    for rule in [
        Rule::Clip {
            low: -0.1,
            high: 0.2,
            dual_clip: None,
        },
        Rule::Clip {
            low: 0.2,
            high: nan,
            dual_clip: None,
        },
        Rule::Clip {
            low: 0.2,
            high: 0.2,
            dual_clip: Some(1.0),
        },
        tis(0.0, None),
        tis(nan, None),
        tis(2.0, Some(-1.0)),
        mis(1.1, 2.0),
        mis(0.5, 0.9),
        mis(0.5, nan),
        Rule::GeometricRejection {
            low: nan,
            high: 1.0,
            eps: None,
        },
        Rule::K3Rejection {
            bound: -1.0,
            eps: None,
        },
        Rule::SequenceMask {
            eps: 0.2,
            delta: nan,
        },
        Rule::Gspo {
            low: -1.0,
            high: 0.1,
        },
        restoring(1.5, None),
        restoring(0.5, Some(0.0)),
        Rule::Cispo {
            low: 0.0,
            high: 0.5,
        },
        Rule::DppoTv {
            low: 0.2,
            high: 0.2,
            cap: 0.5,
        },
        Rule::Ipo {
            distance: 0.1,
            square: nan,
        },
        Rule::Drpo { delta: 0.0 },
        bapo((0.9, 0.6), (1.2, 3.0), 0.05, 1.0),
        bapo((0.6, 0.9), (1.2, 1.1), 0.05, 1.0),
        bapo((0.6, 0.9), (1.2, 3.0), 0.0, 1.0),
        bapo((0.6, 0.9), (1.2, 3.0), 0.05, nan),
        Rule::Sapo {
            positive: 0.0,
            negative: 1.0,
        },
        vespo((-1.0, 3.0)),
        vespo((2.0, nan)),
        Rule::Vcpo {
            cap: 8.0,
            base: 1.5,
        },
        Rule::Oapl { beta: 0.0 },
        Rule::Dro { beta: -1.0 },
        Rule::PrefixTis { cap: 0.0 },
    ] {
        let error = weigh(&rule, &Batch::default().tokens()).expect_err("refused");
        assert!(matches!(error, Error::Setting { .. }), "{rule:?}: {error}");
    }
}
