//! Settings, records and groups for tests.

use std::collections::BTreeMap;

use vintage_control::{
    Algorithm, AlgorithmName, Incarnation, M2Scope, Offset, OptimizerSettings, Partition,
    PolicyVersion, RecordId,
};
use vintage_learner::{Incoming, LearnerSettings};
use vintage_settings::LearnerConfig;
use vintage_trajectory::{GroupId, Headers, LogprobMode, PolicySpan, Rows, Trajectory, encode};

pub(crate) fn settings() -> LearnerSettings {
    let learner = LearnerConfig {
        steps: 100,
        prompts_per_update: 2,
        micro_batch_tokens: 64,
        checkpoint_every: 10,
        optimizer: OptimizerSettings {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decay_vectors: false,
            grad_clip: 1.0,
        },
        ..LearnerConfig::default()
    };
    let algorithm = Algorithm {
        name: AlgorithmName::M2po,
        m2_threshold: 0.04,
        clip_eps: 0.2,
        log_ratio_clamp: 20.0,
        m2_scope: M2Scope::Batch,
        loss: BTreeMap::new(),
    };
    LearnerSettings {
        pin_every: 10,
        incomplete_after_records: 4,
        ..LearnerSettings::new(learner, 0, algorithm, 32, 16)
    }
}

pub(crate) fn row(seq: u64, sample: u16) -> Trajectory {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seq.to_le_bytes());
    Trajectory {
        group_id: GroupId(id),
        group_size: 2,
        sample_index: sample,
        policy: "lead".to_owned(),
        batch: -1,
        prompt_id: "p".to_owned(),
        prompt_tokens: vec![1, 2, 3],
        completion_tokens: vec![4, 5],
        behavior_logprobs: vec![-0.5, -1.5],
        loss_mask: None,
        policy_spans: vec![PolicySpan {
            start: 0,
            version: PolicyVersion(0),
        }],
        reward: f32::from(sample),
        reward_parts: None,
        finish_reason: "stop".to_owned(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        logprob_mode: LogprobMode::Full,
        engine: "test".to_owned(),
        created_at_us: 0,
        generation_seconds: 0.0,
        prompt_text: None,
        completion_text: None,
        metadata: None,
    }
}

pub(crate) fn at(offset: i64) -> RecordId {
    RecordId {
        incarnation: Incarnation(0),
        partition: Partition(0),
        offset: Offset(offset),
    }
}

pub(crate) fn message(offset: i64, seq: u64, part: (u32, u32), rows: &[Trajectory]) -> Incoming {
    let payload = encode(rows).unwrap();
    let decoded = Rows::decode(&payload).unwrap();
    let headers = Headers {
        run: "run".parse().unwrap(),
        policy: rows[0].policy.clone(),
        group: rows[0].group_id,
        rows: rows.len() as u32,
        part,
        batch: rows[0].batch,
        min_policy_version: decoded.min_version().unwrap_or_default(),
        max_policy_version: decoded.max_version().unwrap_or_default(),
        producer: "p".to_owned(),
        producer_seq: seq,
        crc32c: crc32c::crc32c(&payload),
        slot: None,
        replay_of: None,
        traceparent: None,
    };
    Incoming {
        record: at(offset),
        crc32c: headers.crc32c,
        timestamp_ms: None,
        message: Ok((headers, decoded)),
    }
}

pub(crate) fn group(offset: i64, seq: u64) -> Incoming {
    message(offset, seq, (1, 1), &[row(seq, 0), row(seq, 1)])
}
