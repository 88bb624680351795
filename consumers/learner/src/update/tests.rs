use vintage_control::{CONTROL_FORMAT, Plan, PolicyVersion, Sha256};
use vintage_model::{Decoder, ModelConfig, ParamSet};

use super::{Policy, update};
use crate::{
    AdamW, Error, Settings, fingerprint,
    intake::{Announced, Intake, ReadyGroup, fixture},
    pack::micro_batches,
};

fn policy() -> Policy {
    let config = ModelConfig::tiny(16);
    let params = ParamSet::init(&config, 5).unwrap();
    Policy {
        decoder: Decoder::new(config, params).unwrap(),
        optimizer: AdamW::default(),
    }
}

/// Four groups of two rows with other rewards, log-probs and lengths each.
fn groups(change: impl Fn(&mut vintage_trajectory::Trajectory)) -> Vec<ReadyGroup> {
    let settings = Settings {
        groups_per_update: 4,
        ..fixture::settings()
    };
    let mut intake = Intake::new(settings, &[], &std::collections::BTreeMap::new());
    for seq in 0..4 {
        let mut rows = [fixture::row(seq, 0), fixture::row(seq, 1)];
        for row in &mut rows {
            for extra in 0..seq as i32 {
                row.completion_tokens.push(6 + extra);
                row.behavior_logprobs.push(-2.5 - extra as f32 / 8.0);
            }
            change(row);
        }
        let message = fixture::message(seq as i64, seq, (1, 1), &rows);
        intake.take(message, Announced::Any).unwrap();
    }
    intake.choose(PolicyVersion(0), 4).unwrap()
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
        optimizer: fixture::settings().optimizer,
        fingerprint: fingerprint::current(),
        follows: None,
        known: Vec::new(),
    }
}

fn weights(policy: &Policy) -> Vec<u8> {
    policy.decoder.params().to_safetensors().unwrap()
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

#[test]
fn a_batch_without_valid_tokens_is_skipped() {
    let groups = groups(|row| row.loss_mask = Some(vec![false; row.completion_tokens.len()]));
    let mut policy = policy();
    let before = weights(&policy);
    let outcome = update(&mut policy, &plan(&groups, 4096), &groups).unwrap();
    assert!(outcome.skipped.is_some());
    assert_eq!((outcome.stats.n_valid, policy.optimizer.steps()), (0, 0));
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
    assert_eq!(policy.optimizer.steps(), 0);
}

#[test]
fn an_empty_completion_counts_as_a_row_without_tokens() {
    let groups = groups(|row| {
        if row.sample_index == 1 {
            row.completion_tokens.clear();
            row.behavior_logprobs.clear();
        }
    });
    let mut policy = policy();
    let outcome = update(&mut policy, &plan(&groups, 4096), &groups).unwrap();
    assert_eq!(outcome.rows, 8);
    assert_eq!(outcome.stats.n_valid, 2 + 3 + 4 + 5);
}
