use vintage_control::{AlgorithmName, LoraSettings, M2Scope, Plan, Training};
use vintage_model::ParamSet;

use super::fixture::{groups, groups_of, plan, policy, ways, weights, wide};
use super::{TrainedPolicy, update};
use crate::error::Error;
use crate::pack::{Joined, PackedBatch};

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
    let mut policy = policy();
    let before = weights(&policy);
    let outcome = update(&mut policy, &plan(&groups, 4096), &groups).unwrap();
    assert!(outcome.skipped.is_some());
    let steps = policy.optimizer().unwrap().steps();
    assert_eq!((outcome.stats.n_valid, steps), (0, 0));
    assert_eq!(weights(&policy), before);
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
    for budget in [4096, 1] {
        let outcome = update(&mut policy(), &plan(&groups, budget), &groups).unwrap();
        assert_eq!(outcome.rows, 8);
        assert_eq!(outcome.stats.n_valid, 2 + 3 + 4 + 5);
    }
}

/// Checks that every algorithm changes the weights, and that micro-batches do not matter.
#[test]
fn every_algorithm_trains_alike_in_one_pass_and_in_several() {
    let groups = groups(|row| row.completion_tokens[0] = 7 + i32::from(row.sample_index));
    for name in AlgorithmName::ALL {
        let mut found = Vec::new();
        for budget in [4096, 12] {
            let mut plan = plan(&groups, budget);
            plan.algorithm.name = name;
            let outcome = update(&mut policy(), &plan, &groups).unwrap();
            // The two that reject rows reject all of these, which are far from the policy.
            let rejects = matches!(name, AlgorithmName::GeoRs | AlgorithmName::K3Rs);
            assert!(rejects || outcome.grad_norm > 0.0, "{name:?}");
            found.push((outcome.loss, outcome.grad_norm));
        }
        // Terms of the loss cancel, so it is compared absolutely.
        let same_loss = (found[0].0 - found[1].0).abs() < 1e-6;
        let same_norm = (found[0].1 - found[1].1).abs() <= 1e-5 * found[0].1;
        assert!(same_loss && same_norm, "{name:?}: {found:?}");
    }
}

/// Checks that VCPO's step is shorter where rows have unlike weights.
#[test]
fn vcpo_takes_shorter_steps_on_old_data() {
    let groups = groups(|row| {
        for logprob in &mut row.behavior_logprobs {
            *logprob -= f32::from(row.sample_index) / 2.0;
        }
    });
    let mut plan = plan(&groups, 4096);
    plan.algorithm.name = AlgorithmName::Vcpo;
    let start = policy();
    let moved = |plan: &Plan| {
        let mut policy = policy();
        let outcome = update(&mut policy, plan, &groups).unwrap();
        let name = "lm_head.weight";
        let values =
            |policy: &TrainedPolicy| policy.decoder.params().values(name).unwrap().to_vec();
        let pairs = values(&policy).into_iter().zip(values(&start));
        let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2));
        (squares.sum::<f64>().sqrt(), outcome.stats.step_scale)
    };
    let (short, scale) = moved(&plan);
    let scale = scale.unwrap();
    assert!(scale > 0.0 && scale < 0.99, "{scale}");
    plan.optimizer.lr /= scale;
    let (full, _) = moved(&plan);
    assert!(
        (short / full - scale).abs() < 1e-3,
        "{short} {full} {scale}"
    );
}

#[test]
fn scopes_of_m2po_follow_micro_batches_and_staleness() {
    let batch = |staleness: &[u64]| PackedBatch {
        valid: vec![true; staleness.len()],
        staleness: staleness.to_vec(),
        ..PackedBatch::default()
    };
    let batches = [batch(&[0, 1, 3]), batch(&[4, 256])];
    let scope = |kind| Joined::of(&batches, kind).scope;
    assert_eq!(scope(M2Scope::Batch), None);
    assert_eq!(scope(M2Scope::MicroBatch), Some(vec![0, 0, 0, 1, 1]));
    assert_eq!(scope(M2Scope::Staleness), Some(vec![0, 1, 2, 3, 9]));
}
