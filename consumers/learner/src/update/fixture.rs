//! Policies, groups and plans for tests of updates. Tests of `consumers/learner-gpu` include it.

use vintage_control::{
    CONTROL_FORMAT, LoraSettings, Plan, PolicyVersion, Precision, Sha256, Training, UpdateNumber,
};
use vintage_learner::intake::{Intake, ReadyGroup, judge::PermittedVersions};
use vintage_learner::update::TrainedPolicy;
use vintage_learner::{AdamW, HostEngine, fingerprint, micro_batches};
use vintage_model::{Decoder, DecoderConfig, ParamSet};

use crate::intake::fixture;

/// Returns the tiny policy, on the CPU.
pub(crate) fn policy() -> TrainedPolicy {
    let config = DecoderConfig::tiny(16);
    let params = ParamSet::init(&config, 5).unwrap();
    TrainedPolicy::new(
        Decoder::new(config, params).unwrap(),
        Box::new(HostEngine::new(AdamW::default())),
    )
}

/// Returns four groups of two rows, with different rewards, log-probs and lengths.
pub(crate) fn groups(change: impl Fn(&mut vintage_trajectory::Trajectory)) -> Vec<ReadyGroup> {
    groups_of(4, change)
}

/// Returns `count` such groups.
pub(crate) fn groups_of(
    count: u64,
    change: impl Fn(&mut vintage_trajectory::Trajectory),
) -> Vec<ReadyGroup> {
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
        intake.take(message, PermittedVersions::Any).unwrap();
    }
    intake.choose(UpdateNumber(0), count as usize).unwrap()
}

/// Returns the plan of an update of these groups, in micro-batches of up to `budget` tokens.
pub(crate) fn plan(groups: &[ReadyGroup], budget: usize) -> Plan {
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
        reused: Vec::new(),
        reuse: vintage_control::Reuse::default(),
    }
}

/// Returns the weights of a policy as they are published.
pub(crate) fn weights(policy: &TrainedPolicy) -> Vec<u8> {
    policy.decoder.to_safetensors().unwrap()
}

/// Returns every way to train: all combinations of precision, recomputation and adapters.
pub(crate) fn ways() -> Vec<Training> {
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
                    ..Training::default()
                });
            }
        }
    }
    ways
}

/// Returns a policy that is wide enough for a micro-batch of 64 rows to go to the thread pool.
pub(crate) fn wide(training: &Training) -> TrainedPolicy {
    let mut config = DecoderConfig::tiny(16);
    (config.hidden_size, config.intermediate_size) = (256, 1024);
    (config.num_attention_heads, config.num_key_value_heads) = (16, 16);
    let params = ParamSet::init(&config, 5).unwrap();
    let mut decoder = Decoder::new(config, params).unwrap();
    if let Some(lora) = &training.lora {
        decoder = decoder.with_adapters(lora.clone(), 9).unwrap();
    }
    TrainedPolicy::new(decoder, Box::new(HostEngine::new(AdamW::default())))
}
