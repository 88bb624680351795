//! Sample rows with known values.

use std::collections::BTreeMap;

use vintage_control::{PolicyVersion, SlotNumber};
use vintage_trajectory::{GroupId, Headers, LogprobMode, PolicySpan, Trajectory, encode};

/// Returns a row with every optional column filled, text beyond ASCII and a change of weights
/// mid-completion.
pub(crate) fn full() -> Trajectory {
    Trajectory {
        group_id: GroupId(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"),
        group_size: 4,
        sample_index: 2,
        policy: "main".to_owned(),
        batch: 17,
        prompt_id: "sum-0042".to_owned(),
        prompt_tokens: vec![5, 9, 2, 130_000],
        completion_tokens: vec![7, 8, 9, 10, 1],
        behavior_logprobs: vec![-0.5, -1.25, -0.0625, 0.0, -3.0e-7],
        loss_mask: Some(vec![true, true, false, true, true]),
        policy_spans: vec![
            PolicySpan {
                start: 0,
                version: PolicyVersion(3),
            },
            PolicySpan {
                start: 2,
                version: PolicyVersion(5),
            },
        ],
        reward: 0.75,
        reward_parts: Some(BTreeMap::from([
            ("correct".to_owned(), 1.0),
            ("length".to_owned(), -0.25),
        ])),
        finish_reason: "stop".to_owned(),
        temperature: 0.7,
        top_p: 0.95,
        top_k: 50,
        logprob_mode: LogprobMode::Full,
        engine: "local".to_owned(),
        created_at_us: 1_790_000_000_123_456,
        generation_seconds: 0.125,
        prompt_text: Some("3+4×5=".to_owned()),
        completion_text: Some("dreiundzwanzig ✓".to_owned()),
        metadata: Some(BTreeMap::from([
            ("difficulty".to_owned(), "2".to_owned()),
            ("источник".to_owned(), String::new()),
        ])),
    }
}

/// Returns a row with no optional column and the shortest valid value of everything else.
pub(crate) fn minimal() -> Trajectory {
    Trajectory {
        group_id: GroupId([0; 16]),
        group_size: 1,
        sample_index: 0,
        policy: "main".to_owned(),
        batch: -1,
        prompt_id: "p".to_owned(),
        prompt_tokens: vec![0],
        completion_tokens: vec![1],
        behavior_logprobs: vec![-0.5],
        loss_mask: None,
        policy_spans: vec![PolicySpan {
            start: 0,
            version: PolicyVersion(0),
        }],
        reward: 0.0,
        reward_parts: None,
        finish_reason: "length".to_owned(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        logprob_mode: LogprobMode::Raw,
        engine: "local".to_owned(),
        created_at_us: 0,
        generation_seconds: 0.0,
        prompt_text: None,
        completion_text: None,
        metadata: None,
    }
}

/// Returns a valid group of `size` rows with `tokens` completion tokens each.
pub(crate) fn group(size: u16, tokens: usize) -> Vec<Trajectory> {
    let row = |sample_index: u16| Trajectory {
        group_size: size,
        sample_index,
        completion_tokens: (0..tokens as i32).map(|at| at * 7 % 97).collect(),
        behavior_logprobs: (0..tokens).map(|at| -(at as f32) / 16.0).collect(),
        loss_mask: Some(
            (0..tokens)
                .map(|at| (at + usize::from(sample_index)) % 3 > 0)
                .collect(),
        ),
        ..full()
    };
    (0..size).map(row).collect()
}

/// Returns the headers of `golden/full.arrow`.
pub(crate) fn headers() -> Headers {
    Headers {
        run: "demo".parse().unwrap(),
        policy: "main".to_owned(),
        group: full().group_id,
        rows: 1,
        part: (2, 3),
        batch: 17,
        min_policy_version: PolicyVersion(3),
        max_policy_version: PolicyVersion(5),
        producer: "producer-0".to_owned(),
        producer_seq: 41,
        crc32c: crc32c::crc32c(&encode(&[full()]).unwrap()),
        slot: None,
        replay_of: Some("vintage.old.rollouts.v1".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    }
}

/// Returns the headers of `golden/headers_slot.json`: a message of the run that granted its slot.
pub(crate) fn granted_headers() -> Headers {
    Headers {
        slot: Some(SlotNumber(1_099_511_627_793)),
        replay_of: None,
        traceparent: None,
        ..headers()
    }
}
