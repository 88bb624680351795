use vintage_control::{
    AlgorithmName, CONTROL_FORMAT, LoraSettings, Plan, PolicyVersion, Precision, Sha256, Training,
    UpdateNumber,
};
use vintage_model::{Decoder, ModelConfig, ParamSet};

use super::{Policy, update};
use crate::{
    adamw::AdamW,
    error::Error,
    fingerprint,
    intake::{Intake, ReadyGroup, fixture, judge::Announced},
    pack::micro_batches,
};

fn policy() -> Policy {
    let config = ModelConfig::tiny(16);
    let params = ParamSet::init(&config, 5).unwrap();
    Policy::new(
        Decoder::new(config, params).unwrap(),
        AdamW::default(),
        None,
    )
}

/// Returns four groups of two rows, with different rewards, log-probs and lengths.
fn groups(change: impl Fn(&mut vintage_trajectory::Trajectory)) -> Vec<ReadyGroup> {
    groups_of(4, change)
}

fn groups_of(count: u64, change: impl Fn(&mut vintage_trajectory::Trajectory)) -> Vec<ReadyGroup> {
    let mut settings = fixture::settings();
    settings.learner.prompts_per_update = count as usize;
    let mut intake = Intake::new(settings, &[], &std::collections::BTreeMap::new());
    for seq in 0..count {
        let mut rows = [fixture::row(seq, 0), fixture::row(seq, 1)];
        for row in &mut rows {
            for extra in 0..(seq % 4) as i32 {
                row.completion_tokens.push(6 + extra);
                row.behavior_logprobs.push(-2.5 - extra as f32 / 8.0);
            }
            change(row);
        }
        let message = fixture::message(seq as i64, seq, (1, 1), &rows);
        intake.take(message, Announced::Any).unwrap();
    }
    intake.choose(UpdateNumber(0), count as usize).unwrap()
}

fn plan(groups: &[ReadyGroup], budget: usize) -> Plan {
    Plan {
        format: CONTROL_FORMAT.to_owned(),
        learner: "lead".parse().unwrap(),
        writer: "w".to_owned(),
        policy: "lead".parse().unwrap(),
        version: PolicyVersion(0),
        weights_sha256: Sha256([0; 32]),
        seed: 0,
        groups: groups.iter().map(|group| group.planned.clone()).collect(),
        micro_batches: micro_batches(groups, budget),
        rejections: Vec::new(),
        algorithm: fixture::settings().algorithm,
        optimizer: fixture::settings().learner.optimizer,
        training: Training::default(),
        fingerprint: fingerprint::current(),
        follows: None,
        known: Vec::new(),
    }
}

fn weights(policy: &Policy) -> Vec<u8> {
    policy.decoder.to_safetensors().unwrap()
}

/// Returns every way to train: all combinations of precision, recomputation and adapters.
fn ways() -> Vec<Training> {
    let lora = LoraSettings {
        rank: 4,
        alpha: 8.0,
        target_modules: LoraSettings::all_modules(),
    };
    let mut ways = Vec::new();
    for compute in [Precision::F32, Precision::Bf16] {
        for recompute in [false, true] {
            for lora in [None, Some(lora.clone())] {
                ways.push(Training {
                    compute,
                    recompute,
                    lora,
                });
            }
        }
    }
    ways
}

/// Returns a policy that is wide enough for a micro-batch of 64 rows to go to the thread pool.
fn wide(training: &Training) -> Policy {
    let mut config = ModelConfig::tiny(16);
    (config.hidden_size, config.intermediate_size) = (256, 1024);
    (config.num_attention_heads, config.num_key_value_heads) = (16, 16);
    let params = ParamSet::init(&config, 5).unwrap();
    let mut decoder = Decoder::new(config, params).unwrap();
    if let Some(lora) = &training.lora {
        decoder = decoder.with_adapters(lora.clone(), 9).unwrap();
    }
    Policy::new(decoder, AdamW::default(), None)
}

#[test]
fn micro_batches_change_rounding_only() {
    let groups = groups(|_| {});
    let (mut one, mut many) = (policy(), policy());
    let whole = update(&mut one, &plan(&groups, 4096), &groups).unwrap();
    let split = plan(&groups, 12);
    assert!(split.micro_batches.len() > 2, "{:?}", split.micro_batches);
    let parts = update(&mut many, &split, &groups).unwrap();
    assert_eq!(
        whole.stats.n_masked, parts.stats.n_masked,
        "one mask over the whole batch"
    );
    assert!(
        (whole.loss - parts.loss).abs() < 1e-6,
        "{} {}",
        whole.loss,
        parts.loss
    );
    let off = (whole.grad_norm - parts.grad_norm).abs() / whole.grad_norm;
    assert!(off < 1e-5, "{} {}", whole.grad_norm, parts.grad_norm);
    assert!(whole.grad_norm > 0.0);
}

#[test]
fn the_same_plan_gives_the_same_bits() {
    let groups = groups(|_| {});
    let plan = plan(&groups, 4096);
    let (mut a, mut b) = (policy(), policy());
    update(&mut a, &plan, &groups).unwrap();
    update(&mut b, &plan, &groups).unwrap();
    assert_eq!(weights(&a), weights(&b));
    assert_ne!(weights(&a), weights(&policy()), "something was learnt");
}

/// Checks invariant 6 in every mode: one plan gives equal weights at any number of threads, and
/// recomputation does not change them.
#[test]
fn every_way_to_train_gives_its_bits_at_any_number_of_threads() {
    let groups = groups_of(32, |_| {});
    let mut seen: Vec<(Training, Vec<u8>)> = Vec::new();
    for training in ways() {
        let plan = Plan {
            training: training.clone(),
            ..plan(&groups, 4096)
        };
        let after = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut policy = wide(&training);
            pool.unwrap().install(|| {
                for _ in 0..2 {
                    update(&mut policy, &plan, &groups).unwrap();
                }
            });
            weights(&policy)
        };
        let one = after(1);
        assert!(one == after(2), "{training:?}: 2 threads differ from 1");
        assert!(one == after(8), "{training:?}: 8 threads differ from 1");
        assert!(
            one != weights(&wide(&training)),
            "{training:?}: nothing learnt"
        );
        for (other, theirs) in &seen {
            let (a, b) = (&training, other);
            let is_same = (a.compute, &a.lora) == (b.compute, &b.lora);
            assert_eq!(&one == theirs, is_same, "{training:?}, {other:?}");
        }
        seen.push((training, one));
    }
}

/// Compares three updates composed of tensor operations with three by the kernels: counts are
/// equal, statistics and weights agree up to rounding, in one micro-batch and in several.
#[test]
fn a_device_trains_as_the_kernels_do() {
    let groups = groups(|row| row.completion_tokens[0] = 7 + i32::from(row.sample_index));
    for (number, training) in ways().into_iter().enumerate() {
        let bf16 = training.compute == Precision::Bf16;
        let mut host = wide(&training);
        let device = wide(&training);
        let mut device = Policy::new(
            device.decoder,
            AdamW::default(),
            Some(candle_core::Device::Cpu),
        );
        let start = weights(&host);
        for update in 0..3 {
            let mut plan = Plan {
                training: training.clone(),
                ..plan(&groups, if number % 2 == 0 { 4096 } else { 12 })
            };
            plan.optimizer.lr = 1e-3;
            plan.version = PolicyVersion(update);
            let expected = super::update(&mut host, &plan, &groups).unwrap();
            let found = super::update(&mut device, &plan, &groups).unwrap();
            let place = format!("{training:?}, update {update}");
            let (a, b) = (&found.stats, &expected.stats);
            assert_eq!((found.rows, &found.staleness), (8, &expected.staleness));
            assert_eq!(
                (a.n_valid, a.n_clamped),
                (b.n_valid, b.n_clamped),
                "{place}"
            );
            // From the second update on, the two start from slightly different weights.
            if update == 0 || !bf16 {
                assert_eq!((a.n_trust, a.n_masked), (b.n_trust, b.n_masked), "{place}");
            }
            let bound = match (bf16, update) {
                (false, 0) => 2e-5,
                (false, _) => 1e-3,
                (true, 0) => 1e-2,
                (true, _) => 0.1,
            };
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

#[test]
fn a_rule_that_is_not_on_the_device_is_named() {
    let groups = groups(|_| {});
    let decoder = policy().decoder;
    let mut policy = Policy::new(decoder, AdamW::default(), Some(candle_core::Device::Cpu));
    let mut plan = plan(&groups, 4096);
    plan.algorithm.name = AlgorithmName::M2poFork;
    let error = update(&mut policy, &plan, &groups).unwrap_err();
    assert!(error.to_string().contains("M2poFork"), "{error}");
}

/// Checks that adapters train what they are put on and nothing else.
#[test]
fn adapters_leave_the_model_alone() {
    let groups = groups(|_| {});
    let training = Training {
        lora: Some(LoraSettings {
            rank: 4,
            alpha: 8.0,
            target_modules: vec!["v_proj".to_owned()],
        }),
        ..Training::default()
    };
    let plan = Plan {
        training: training.clone(),
        ..plan(&groups, 4096)
    };
    let mut policy = wide(&training);
    update(&mut policy, &plan, &groups).unwrap();
    let before = wide(&Training::default()).decoder;
    let config = before.config().clone();
    let merged = ParamSet::from_safetensors(&weights(&policy), &config).unwrap();
    for spec in before.params().specs() {
        let (old, new) = (
            before.params().values(spec.name()).unwrap(),
            merged.values(spec.name()).unwrap(),
        );
        let is_target = spec.name().ends_with("v_proj.weight");
        assert_eq!(*old != *new, is_target, "{}", spec.name());
    }
    // Moments of the adapters alone: 2 layers, A and B.
    let moments = policy.optimizer().unwrap().to_safetensors().unwrap();
    let moments = safetensors::SafeTensors::deserialize(&moments).unwrap();
    assert_eq!(moments.len(), 2 * 2 * 2);
}

/// Checks that the loss of a batch that is trained repeatedly falls in every mode.
#[test]
fn every_way_to_train_learns() {
    // The better row of a group begins with another token.
    let groups = groups(|row| row.completion_tokens[0] = 7 + i32::from(row.sample_index));
    for training in ways() {
        let mut plan = Plan {
            training: training.clone(),
            ..plan(&groups, 4096)
        };
        // Without a mask the loss is one function all along.
        plan.algorithm.name = AlgorithmName::None;
        // Adapters begin at 0 and need a learning rate at which training all parameters diverges.
        plan.optimizer.lr = if training.lora.is_some() { 1e-2 } else { 1e-3 };
        let mut policy = wide(&training);
        let mut losses = Vec::new();
        for _ in 0..8 {
            losses.push(update(&mut policy, &plan, &groups).unwrap().loss);
        }
        assert!(losses[7] < losses[0] - 0.005, "{training:?}: {losses:?}");
    }
}

#[test]
fn a_batch_without_valid_tokens_is_skipped() {
    let groups = groups(|row| row.loss_mask = Some(vec![false; row.completion_tokens.len()]));
    for device in [None, Some(candle_core::Device::Cpu)] {
        let mut policy = Policy::new(policy().decoder, AdamW::default(), device);
        let before = weights(&policy);
        let outcome = update(&mut policy, &plan(&groups, 4096), &groups).unwrap();
        assert!(outcome.skipped.is_some());
        let steps = policy.optimizer().unwrap().steps();
        assert_eq!((outcome.stats.n_valid, steps), (0, 0));
        assert_eq!(weights(&policy), before);
    }
}

#[test]
fn a_gradient_that_is_not_finite_stops_and_changes_nothing() {
    let groups = groups(|_| {});
    let mut policy = policy();
    policy
        .decoder
        .params_mut()
        .update(|name, _, values| {
            if name == "lm_head.weight" {
                values[0] = f32::NAN;
            }
        })
        .unwrap();
    let before = weights(&policy);
    let error = update(&mut policy, &plan(&groups, 4096), &groups).unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { .. } | Error::Weigh { .. }),
        "{error}"
    );
    assert_eq!(weights(&policy), before);
    assert_eq!(policy.optimizer().unwrap().steps(), 0);
}

#[test]
fn an_empty_completion_counts_as_a_row_without_tokens() {
    let groups = groups(|row| {
        if row.sample_index == 1 {
            row.completion_tokens.clear();
            row.behavior_logprobs.clear();
        }
    });
    for device in [None, Some(candle_core::Device::Cpu)] {
        for budget in [4096, 1] {
            let mut policy = Policy::new(policy().decoder, AdamW::default(), device.clone());
            let outcome = update(&mut policy, &plan(&groups, budget), &groups).unwrap();
            assert_eq!(outcome.rows, 8);
            assert_eq!(outcome.stats.n_valid, 2 + 3 + 4 + 5);
        }
    }
}
