//! Tests of single updates on a device, against the CPU kernels.

use vintage_control::{AlgorithmName, Plan, PolicyVersion, Precision};
use vintage_learner::update::{TrainedPolicy, update};
use vintage_learner::{AdamW, Devices as _};
use vintage_learner_gpu::WithGpus;
use vintage_model::ParamSet;
use vintage_settings::Device;

use self::fixture::{groups, plan, policy, ways, weights, wide};

#[path = "../../../learner/src/update/fixture.rs"]
mod fixture;

/// Returns the policy with an engine on candle's CPU device.
fn on_device(policy: TrainedPolicy) -> TrainedPolicy {
    let engine = WithGpus.open(Device::Emulated, AdamW::default());
    TrainedPolicy::new(policy.decoder, engine.unwrap())
}

/// Compares three updates by tensor operations with three by the kernels: counts are
/// equal, statistics and weights agree up to rounding, in one micro-batch and in several.
#[test]
fn a_device_trains_as_the_kernels_do() {
    let groups = groups(|row| row.completion_tokens[0] = 7 + i32::from(row.sample_index));
    for (number, training) in ways().into_iter().enumerate() {
        let bf16 = training.compute == Precision::Bf16;
        let mut host = wide(&training);
        let mut device = on_device(wide(&training));
        let start = weights(&host);
        for step in 0..3 {
            let mut plan = Plan {
                training: training.clone(),
                ..plan(&groups, if number % 2 == 0 { 4096 } else { 12 })
            };
            plan.optimizer.lr = 1e-3;
            plan.version = PolicyVersion(step);
            let expected = update(&mut host, &plan, &groups).unwrap();
            let found = update(&mut device, &plan, &groups).unwrap();
            let place = format!("{training:?}, update {step}");
            let (a, b) = (&found.stats, &expected.stats);
            assert_eq!((found.rows, &found.staleness), (8, &expected.staleness));
            assert_eq!(
                (a.n_valid, a.n_clamped),
                (b.n_valid, b.n_clamped),
                "{place}"
            );
            // From the second update on, the two start from slightly different weights.
            if step == 0 || !bf16 {
                assert_eq!((a.n_trust, a.n_masked), (b.n_trust, b.n_masked), "{place}");
            }
            let bound = match (bf16, step) {
                (false, 0) => 2e-5,
                (false, _) => 1e-3,
                (true, 0) => 1e-2,
                (true, _) => 0.1,
            };
            let cosines = (found.gradient_cosine, expected.gradient_cosine);
            match cosines {
                (Some(a), Some(b)) => assert!((a - b).abs() <= bound, "{place}: cosine {a} {b}"),
                none => assert_eq!((step, none), (0, (None, None)), "{place}"),
            }
            for (what, a, b) in [
                ("loss", found.loss, expected.loss),
                ("norm", found.grad_norm, expected.grad_norm),
                ("entropy", found.entropy, expected.entropy),
                ("M2", a.m2_rule_before, b.m2_rule_before),
                ("M2 after", a.m2_rule_after, b.m2_rule_after),
                ("KL", a.kl_k1, b.kl_k1),
            ] {
                assert!((a - b).abs() <= bound * b.abs(), "{place}: {what} {a} {b}");
            }
        }
        assert_eq!(device.optimizer().unwrap().steps(), 3);
        let read = |bytes: &[u8]| {
            let config = host.decoder.config();
            let params = ParamSet::from_safetensors(bytes, config).unwrap();
            let values = |name: &str| params.values(name).unwrap().to_vec();
            let all = params.specs().iter().flat_map(|spec| values(spec.name()));
            all.collect::<Vec<f32>>()
        };
        let (start, a, b) = (read(&start), read(&weights(&device)), read(&weights(&host)));
        // Distance between the two results, relative to the distance they moved: where a gradient
        // is near AdamW's epsilon, its rounding decides a whole step.
        let distance = |a: &[f32], b: &[f32]| {
            let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let off = distance(&a, &b) / distance(&b, &start);
        let bound = if bf16 { 0.1 } else { 1e-2 };
        assert!(off < bound, "{training:?}: weights are off by {off:.1e}");
    }
}

/// Checks that a device trains by rules that it leaves to the host, in several micro-batches.
#[test]
fn rules_that_are_not_on_the_device_are_weighed_on_the_host() {
    let groups = groups(|row| row.completion_tokens[0] = 7 + i32::from(row.sample_index));
    for name in AlgorithmName::ALL {
        let mut plan = plan(&groups, 12);
        plan.algorithm.name = name;
        let (mut host, mut device) = (policy(), on_device(policy()));
        let expected = update(&mut host, &plan, &groups).unwrap();
        let found = update(&mut device, &plan, &groups).unwrap();
        // The two that reject rows reject all of these, which are far from the policy.
        let rejects = matches!(name, AlgorithmName::GeoRs | AlgorithmName::K3Rs);
        assert!(rejects || expected.grad_norm > 0.0, "{name:?}");
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs().max(1e-3);
        // Terms of the loss cancel, so it is compared absolutely.
        assert!((found.loss - expected.loss).abs() < 1e-5, "{name:?}");
        assert!(near(found.grad_norm, expected.grad_norm), "{name:?}");
    }
}

#[test]
fn a_batch_without_valid_tokens_is_skipped() {
    let groups = groups(|row| row.loss_mask = Some(vec![false; row.completion_tokens.len()]));
    let mut policy = on_device(policy());
    let before = weights(&policy);
    let outcome = update(&mut policy, &plan(&groups, 4096), &groups).unwrap();
    assert!(outcome.skipped.is_some());
    let steps = policy.optimizer().unwrap().steps();
    assert_eq!((outcome.stats.n_valid, steps), (0, 0));
    assert_eq!(weights(&policy), before);
}

#[test]
fn an_empty_completion_counts_as_a_row_without_tokens() {
    let groups = groups(|row| {
        if row.sample_index == 1 {
            row.completion_tokens.clear();
            row.behavior_logprobs.clear();
        }
    });
    for budget in [4096, 1] {
        let outcome = update(&mut on_device(policy()), &plan(&groups, budget), &groups).unwrap();
        assert_eq!(outcome.rows, 8);
        assert_eq!(outcome.stats.n_valid, 2 + 3 + 4 + 5);
    }
}
