//! Edge cases of the definition of M2PO and of its control arms, one by one.

use vintage_losses::{Error, Rule, Tokens, group_advantages, mask_m2, stratify, weigh};

const ALL: [Rule; 7] = [
    Rule::PAPER,
    Rule::M2poAreal {
        tau: 0.04,
        eps: 0.2,
        behavior_cap: Some(5.0),
    },
    Rule::M2poFork { tau: 0.04 },
    Rule::GrpoClip { eps: 0.2 },
    Rule::MixPpg {
        eps: 0.2,
        dual_clip: Some(3.0),
    },
    Rule::DecoupledPpo {
        eps: 0.2,
        dual_clip: Some(3.0),
        cap: Some(5.0),
    },
    Rule::None,
];

/// Weighs a batch with behaviour log-prob -2 at every token and these log-ratios.
fn weigh_gaps(
    rule: &Rule,
    gaps: &[f32],
    advantage: &[f32],
    valid: &[bool],
) -> Result<vintage_losses::Weighed, Error> {
    let new: Vec<f32> = gaps.iter().map(|gap| gap - 2.0).collect();
    weigh(
        rule,
        &Tokens::new(&new, &vec![-2.0; gaps.len()], advantage, valid),
    )
}

#[test]
fn no_valid_token_is_no_loss() {
    for rule in ALL {
        for valid in [&[][..], &[false, false]] {
            let nan = vec![f32::NAN; valid.len()];
            let weighed = weigh_gaps(&rule, &nan, &nan, valid).expect("nothing to refuse");
            assert_eq!(weighed.loss, 0.0, "{rule:?}");
            assert!(
                weighed.weight.iter().all(|&weight| weight == 0.0),
                "{rule:?}"
            );
            assert!(weighed.mask.iter().all(|&kept| !kept), "{rule:?}");
            assert_eq!(weighed.stats.clip_frac, 0.0, "{rule:?}");
        }
    }
}

#[test]
fn non_finite_values_on_a_valid_token_are_refused_by_name() {
    for rule in ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (position, field) in ["new", "behavior", "advantage", "prox"].iter().enumerate() {
                let mut slices = vec![vec![-1.0_f32; 1500]; 4];
                slices[position][1234] = bad;
                let [new, behavior, advantage, prox] = &slices[..] else {
                    panic!("four slices");
                };
                let valid = [true; 1500];
                let tokens = Tokens {
                    prox: Some(prox),
                    ..Tokens::new(new, behavior, advantage, &valid)
                };
                let error = weigh(&rule, &tokens).expect_err("refused");
                let Error::NonFinite {
                    field: named,
                    index,
                    ..
                } = error
                else {
                    panic!("{error}");
                };
                assert_eq!((named, index), (*field, 1234));
                let mut padded = valid;
                padded[1234] = false;
                let tokens = Tokens {
                    valid: &padded,
                    ..tokens
                };
                weigh(&rule, &tokens).expect("padding holds anything");
            }
        }
    }
}

#[test]
fn the_mask_alone_refuses_too() {
    let mut new = vec![-1.0_f32; 3000];
    new[2999] = f32::NAN;
    let other = vec![-1.0_f32; 3000];
    let valid = vec![true; 3000];
    let error = mask_m2(&Tokens::new(&new, &other, &other, &valid), 0.04).expect_err("refused");
    assert!(
        matches!(
            error,
            Error::NonFinite {
                field: "new",
                index: 2999,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn slices_of_unlike_lengths_are_refused() {
    for rule in ALL {
        let error = weigh(&rule, &Tokens::<f32>::new(&[-1.0], &[-1.0], &[1.0], &[]));
        assert_eq!(
            error,
            Err(Error::Length {
                field: "valid",
                got: 0,
                expected: 1
            })
        );
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let tau = |tau| Rule::M2poPaper { tau };
    let areal = |eps, cap| Rule::M2poAreal {
        tau: 0.04,
        eps,
        behavior_cap: cap,
    };
    let mix = |eps, dual_clip| Rule::MixPpg { eps, dual_clip };
    for rule in [
        tau(-0.01),
        tau(f64::NAN),
        tau(f64::INFINITY),
        tau(1e300),
        Rule::M2poFork { tau: -1.0 },
        areal(-0.1, None),
        areal(0.2, Some(0.0)),
        areal(0.2, Some(f64::NAN)),
        Rule::GrpoClip { eps: f64::NAN },
        mix(-0.1, None),
        mix(0.2, Some(1.0)),
        mix(0.2, Some(f64::NAN)),
        Rule::DecoupledPpo {
            eps: 0.2,
            dual_clip: None,
            cap: Some(f64::NAN),
        },
    ] {
        let error = weigh_gaps(&rule, &[0.1], &[1.0], &[true]).expect_err("refused");
        assert!(matches!(error, Error::Setting { .. }), "{rule:?}: {error}");
    }
    let tokens = Tokens {
        clamp: 1e4,
        ..Tokens::<f32>::new(&[], &[], &[], &[])
    };
    assert!(matches!(
        weigh(&Rule::None, &tokens),
        Err(Error::Setting { name: "clamp", .. })
    ));
}

#[test]
fn a_budget_of_zero_masks_all_of_trust_and_nothing_else() {
    let rule = Rule::M2poPaper { tau: 0.0 };
    // T is the first and the fifth token. Tokens with ratio 1, outside the quadrants, or with A = 0
    // are kept.
    let gaps = [1e-30, 0.0, -0.5, 0.5, -0.25, 0.5];
    let new: Vec<f64> = gaps.to_vec();
    let behavior = vec![0.0; gaps.len()];
    let advantage = [1.0, 1.0, 1.0, -1.0, -1.0, 0.0];
    let tokens = Tokens::new(&new, &behavior, &advantage, &[true; 6]);
    let weighed = weigh(&rule, &tokens).expect("finite");
    assert_eq!(weighed.mask, [false, true, true, true, false, true]);
    assert_eq!(weighed.stats.n_trust, 2);
}

#[test]
fn every_trust_token_over_the_budget_empties_the_set() {
    let weighed = weigh_gaps(
        &Rule::PAPER,
        &[0.5, 0.5, -0.5],
        &[1.0, 1.0, 1.0],
        &[true; 3],
    )
    .expect("finite");
    assert_eq!(weighed.mask, [false, false, true]);
    assert_eq!(weighed.stats.m2_trust_after, 0.0);
    assert_eq!(weighed.stats.n_masked, 2);
}

#[test]
fn areal_keeps_the_last_of_the_smallest() {
    let rule = Rule::M2poAreal {
        tau: 0.04,
        eps: 0.2,
        behavior_cap: None,
    };
    let weighed = weigh_gaps(&rule, &[0.5, -0.5, 1.0, 0.5], &[1.0; 4], &[true; 4]).expect("finite");
    assert_eq!(weighed.mask, [false, false, false, true]);
    // A mean of exactly tau is too large for AReaL's rule and is kept by the paper's.
    let rule = Rule::M2poAreal {
        tau: 0.25,
        eps: 0.2,
        behavior_cap: None,
    };
    let weighed = weigh_gaps(&rule, &[0.5, -0.5, 0.5], &[1.0; 3], &[true; 3]).expect("finite");
    assert_eq!(weighed.mask, [false, false, true]);
    let rule = Rule::M2poPaper { tau: 0.25 };
    let weighed = weigh_gaps(&rule, &[0.5, -0.5, 0.5], &[1.0; 3], &[true; 3]).expect("finite");
    assert_eq!(weighed.mask, [true; 3]);
}

#[test]
fn areal_rejects_by_the_behaviour_weight_without_changing_the_count() {
    // Gaps of the proximal policy: nine tokens of 0 and one of 2, whose weight exp(2) = 7.4 is over
    // 5.
    let behavior = [-3.0_f64; 10];
    let mut prox = behavior;
    prox[4] = -1.0;
    let advantage = [1.0; 10];
    let tokens = Tokens {
        prox: Some(&prox),
        ..Tokens::new(&prox, &behavior, &advantage, &[true; 10])
    };
    let rule = |behavior_cap| Rule::M2poAreal {
        tau: 1.0,
        eps: 0.2,
        behavior_cap,
    };
    let rejected = weigh(&rule(Some(5.0)), &tokens).expect("finite");
    assert!(rejected.mask[4], "a mean of 0.4 is under tau");
    assert_eq!(rejected.weight[4], 0.0);
    assert_eq!(rejected.stats.n_clipped, 1);
    assert!(
        (rejected.loss + 0.9).abs() < 1e-15,
        "9 of 10 tokens: {}",
        rejected.loss
    );
    let open = weigh(&rule(Some(8.0)), &tokens).expect("finite");
    assert!((open.weight[4] + 2_f64.exp() / 10.0).abs() < 1e-15);
}

#[test]
fn zero_advantage_counts_as_valid_and_moves_nothing() {
    let weighed = weigh_gaps(&Rule::PAPER, &[3.0, 0.1], &[0.0, 1.0], &[true; 2]).expect("finite");
    assert_eq!(weighed.mask, [true, true]);
    assert_eq!(weighed.weight[0], 0.0);
    assert_eq!((weighed.stats.n_valid, weighed.stats.n_trust), (2, 1));
}

#[test]
fn a_runaway_outside_trust_is_bounded_and_counted() {
    // r = e^50 with A < 0 is outside the trust region; f32 would overflow at e^88.7.
    let weighed = weigh_gaps(&Rule::PAPER, &[50.0, 0.1], &[-1.0, 1.0], &[true; 2]).expect("finite");
    assert_eq!(weighed.mask, [true, true]);
    assert_eq!(weighed.weight[0], (20_f64.exp() / 2.0) as f32);
    assert_eq!(weighed.stats.n_clamped, 1);
    assert_eq!(weighed.stats.max_kept_log_ratio, 50.0);
}

#[test]
fn the_fork_has_no_answer_where_the_released_code_has_none() {
    let fork = |tau| Rule::M2poFork { tau };
    let refused = |rule: Rule, gaps: &[f64]| {
        let behavior = vec![0.0; gaps.len()];
        let (advantage, valid) = (vec![1.0; gaps.len()], vec![true; gaps.len()]);
        matches!(
            weigh(&rule, &Tokens::new(gaps, &behavior, &advantage, &valid)),
            Err(Error::ForkUndefined { .. })
        )
    };
    assert!(refused(fork(0.0), &[0.1, 0.2]));
    assert!(
        refused(fork(0.04), &[1e-7, 3.0]),
        "the root of a negative number"
    );
    assert!(!refused(fork(0.04), &[1e-5, 3.0]));
    assert!(!refused(fork(0.0), &[-0.1]), "nothing in T");
}

#[test]
fn means_agree_with_hand_arithmetic() {
    let weighed = weigh_gaps(
        &Rule::PAPER,
        &[0.125, 0.5, -0.25, 0.0],
        &[1.0, 2.0, 1.0, -1.0],
        &[true, true, true, true],
    )
    .expect("finite");
    let stats = weighed.stats;
    assert_eq!(weighed.mask, [true, false, true, true]);
    assert_eq!((stats.n_valid, stats.n_trust, stats.n_masked), (4, 2, 1));
    assert_eq!(stats.clip_frac, 0.25);
    assert_eq!(stats.m2_trust_before, f64::midpoint(0.015_625, 0.25));
    assert_eq!(stats.m2_trust_after, 0.015_625);
    assert_eq!(stats.m2_all_before, (0.015_625 + 0.25 + 0.0625) / 4.0);
    assert_eq!(stats.m2_all_after, (0.015_625 + 0.0625) / 3.0);
    assert_eq!(stats.kl_k1, -(0.125 + 0.5 - 0.25) / 4.0);
    assert_eq!(stats.max_kept_log_ratio, 0.25);
    let expected = -(0.125_f64.exp() + (-0.25_f64).exp() - 1.0) / 4.0;
    assert!((weighed.loss - expected).abs() < 1e-15);
}

#[test]
fn strata_add_up_to_the_batch() {
    let new = [-1.9_f32, -1.0, -2.3, -2.0, -1.7, f32::NAN];
    let behavior = [-2.0_f32; 6];
    let advantage = [1.0, 1.0, -1.0, 1.0, -1.0, 1.0];
    let valid = [true, true, true, true, true, false];
    let tokens = Tokens::new(&new, &behavior, &advantage, &valid);
    let weighed = weigh(&Rule::PAPER, &tokens).expect("finite");
    let staleness = [0, 7, 7, 0, 7, 99];
    let strata = stratify(&tokens, &weighed.mask, |i| staleness[i]).expect("lengths");
    assert_eq!(strata.keys().copied().collect::<Vec<_>>(), [0, 7]);
    let whole = weighed.stats;
    assert_eq!(
        strata.values().map(|s| s.n_valid).sum::<u64>(),
        whole.n_valid
    );
    assert_eq!(
        strata.values().map(|s| s.n_trust).sum::<u64>(),
        whole.n_trust
    );
    assert_eq!(
        strata.values().map(|s| s.n_masked).sum::<u64>(),
        whole.n_masked
    );
    let m2: f64 = strata
        .values()
        .map(|s| s.m2_all_before * s.n_valid as f64)
        .sum();
    assert!((m2 - whole.m2_all_before * whole.n_valid as f64).abs() < 1e-12);
    assert!(stratify(&tokens, &[true], |_| 0).is_err());
}

#[test]
fn advantages_are_normalised_within_the_group() {
    assert_eq!(group_advantages(&[]), []);
    assert_eq!(group_advantages(&[1.0]), [0.0]);
    assert_eq!(group_advantages(&[0.5; 8]), [0.0; 8]);
    // Mean 0.25, unbiased variance (3 * 0.0625 + 0.5625) / 3 = 0.25.
    let expected = [-0.25, -0.25, -0.25, 0.75].map(|x: f64| (x / (0.5 + 1e-6)) as f32);
    assert_eq!(group_advantages(&[0.0, 0.0, 0.0, 1.0]), expected);
}
