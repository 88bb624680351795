use vintage_control::{PolicyVersion, RejectReason};
use vintage_trajectory::{PolicySpan, Rows, Trajectory, encode, plausible, validate};

use crate::sample::{full, group, minimal};

type Edit = fn(&mut Trajectory);

fn judge(rows: &[Trajectory]) -> Result<(), vintage_trajectory::Invalid> {
    validate(&Rows::decode(&encode(rows).unwrap()).unwrap())
}

#[test]
fn sound_rows_pass() {
    for rows in [
        vec![full()],
        vec![minimal()],
        group(8, 30),
        group(8, 30)[3..5].to_vec(),
    ] {
        judge(&rows).unwrap();
    }
    let mut row = minimal();
    row.completion_tokens.clear();
    row.behavior_logprobs.clear();
    judge(&[row]).unwrap();
    let mut row = full();
    row.behavior_logprobs[0] = 1e-4;
    // Log-probs are not checked where the mask is false.
    row.behavior_logprobs[2] = f32::NAN;
    judge(&[row]).unwrap();
}

#[test]
fn unsound_rows_are_refused_by_their_reason() {
    use RejectReason::{BadLogprob, BadReward, Malformed, OutOfVocabulary, Temperature};
    let span = |start, version| PolicySpan {
        start,
        version: PolicyVersion(version),
    };
    let edits: [(RejectReason, &str, Edit); 26] = [
        (Malformed, "log-probs", |row| {
            row.behavior_logprobs.truncate(4);
        }),
        (Malformed, "log-probs", |row| row.completion_tokens.push(1)),
        (Malformed, "loss_mask", |row| {
            row.loss_mask = Some(vec![true; 6]);
        }),
        (Malformed, "loss_mask", |row| {
            row.loss_mask = Some(Vec::new());
        }),
        (Malformed, "prompt token", |row| row.prompt_tokens.clear()),
        (Malformed, "no policy_spans", |row| row.policy_spans.clear()),
        (Malformed, "starts at 1", |row| {
            row.policy_spans[0].start = 1;
        }),
        (Malformed, "starts at -1", |row| {
            row.policy_spans[0].start = -1;
        }),
        (Malformed, "span at 0", |row| row.policy_spans[1].start = 0),
        (Malformed, "span at 5", |row| row.policy_spans[1].start = 5),
        (Malformed, "span at -2", |row| {
            row.policy_spans[1].start = -2;
        }),
        (Malformed, "goes back", |row| {
            row.policy_spans[1].version = PolicyVersion(2);
        }),
        (Malformed, "group of 0", |row| row.group_size = 0),
        (Malformed, "sample_index 4", |row| row.sample_index = 4),
        (Malformed, "batch -2", |row| row.batch = -2),
        (OutOfVocabulary, "prompt token 3", |row| {
            row.prompt_tokens[3] = -1;
        }),
        (OutOfVocabulary, "completion token 0", |row| {
            row.completion_tokens[0] = i32::MIN;
        }),
        (BadLogprob, "token 0", |row| {
            row.behavior_logprobs[0] = f32::NAN;
        }),
        (BadLogprob, "token 1", |row| {
            row.behavior_logprobs[1] = f32::INFINITY;
        }),
        (BadLogprob, "token 3", |row| {
            row.behavior_logprobs[3] = f32::NEG_INFINITY;
        }),
        (BadLogprob, "token 4", |row| {
            row.behavior_logprobs[4] = 1.1e-4;
        }),
        (BadReward, "NaN", |row| row.reward = f32::NAN),
        (BadReward, "inf", |row| row.reward = f32::NEG_INFINITY),
        (Temperature, "temperature 0", |row| row.temperature = 0.0),
        (Temperature, "temperature -1", |row| row.temperature = -1.0),
        (Temperature, "temperature NaN", |row| {
            row.temperature = f32::NAN;
        }),
    ];
    for (reason, part, edit) in edits {
        let mut row = full();
        edit(&mut row);
        let invalid = judge(&[row]).unwrap_err();
        assert_eq!(invalid.reason, reason, "{invalid}");
        assert!(
            invalid.to_string().contains(part),
            "{part:?} is not in: {invalid}"
        );
    }
    let mut row = full();
    row.policy_spans = vec![span(0, 1), span(1, 1), span(1, 2)];
    assert_eq!(judge(&[row]).unwrap_err().reason, Malformed);
}

#[test]
fn implausible_values_are_refused_by_their_reason() {
    use RejectReason::{BadLogprob, BadReward, Malformed};
    let judge = |edit: Edit| {
        let mut row = full();
        edit(&mut row);
        let rows = Rows::decode(&encode(&[row]).unwrap()).unwrap();
        validate(&rows).unwrap();
        plausible(&rows)
    };
    let sound: [Edit; 8] = [
        |_| {},
        |row| row.behavior_logprobs[0] = -999.0,
        // A token that does not train.
        |row| row.behavior_logprobs[2] = -9999.0,
        |row| row.reward = -1e6,
        |row| row.reward_parts = Some([("a".to_owned(), f32::NAN)].into()),
        |row| row.top_k = -1,
        |row| row.top_p = 1e-3,
        |row| row.generation_seconds = 86_400.0,
    ];
    for (number, edit) in sound.into_iter().enumerate() {
        assert_eq!(judge(edit), Ok(()), "{number}");
    }
    let edits: [(RejectReason, &str, Edit); 14] = [
        (BadLogprob, "-9999 at completion token 0", |row| {
            row.behavior_logprobs[0] = -9999.0;
        }),
        (BadLogprob, "-1000", |row| {
            row.behavior_logprobs[3] = -1000.0;
        }),
        (BadLogprob, "token 4", |row| {
            row.behavior_logprobs[4] = f32::MIN;
        }),
        (BadReward, "beyond 1000000", |row| row.reward = 1e38),
        (BadReward, "-1000001", |row| row.reward = -1_000_001.0),
        (BadReward, "\"length\"", |row| {
            row.reward_parts = Some([("length".to_owned(), f32::NEG_INFINITY)].into());
        }),
        (Malformed, "top_p 0", |row| row.top_p = 0.0),
        (Malformed, "top_p 1.5", |row| row.top_p = 1.5),
        (Malformed, "top_p NaN", |row| row.top_p = f32::NAN),
        (Malformed, "top_k -2", |row| row.top_k = -2),
        (Malformed, "top_k 2147483647", |row| row.top_k = i32::MAX),
        (Malformed, "-1 generation_seconds", |row| {
            row.generation_seconds = -1.0;
        }),
        (Malformed, "NaN generation_seconds", |row| {
            row.generation_seconds = f32::NAN;
        }),
        (Malformed, "generation_seconds", |row| {
            row.generation_seconds = 1.79e12;
        }),
    ];
    for (reason, part, edit) in edits {
        let invalid = judge(edit).unwrap_err();
        assert_eq!(invalid.reason, reason, "{invalid}");
        assert!(
            invalid.to_string().contains(part),
            "{part:?} is not in: {invalid}"
        );
    }
}

#[test]
fn a_message_is_one_group() {
    let edits: [(&str, Edit); 6] = [
        ("of group", |row| row.group_id.0[0] ^= 1),
        ("group_size", |row| row.group_size = 9),
        ("policy", |row| row.policy = "other".to_owned()),
        ("batch", |row| row.batch = 18),
        ("occurs twice", |row| row.sample_index = 0),
        ("sample_index 8", |row| row.sample_index = 8),
    ];
    for (part, edit) in edits {
        let mut rows = group(8, 5);
        edit(&mut rows[3]);
        let invalid = judge(&rows).unwrap_err();
        assert_eq!(invalid.reason, RejectReason::Malformed);
        assert!(
            invalid.to_string().contains(part),
            "{part:?} is not in: {invalid}"
        );
    }
    let mut rows = group(8, 5);
    for row in &mut rows {
        row.group_size = 7;
    }
    assert!(
        judge(&rows)
            .unwrap_err()
            .to_string()
            .contains("8 rows of a group of 7")
    );
}

/// A changed `trajectory_id` (here in the second row's 16 bytes) is refused.
#[test]
fn a_trajectory_id_is_the_derived_one() {
    let rows = group(2, 5);
    let mut message = encode(&rows).unwrap().to_vec();
    let id = rows[1].trajectory_id().0;
    let at = message.windows(16).position(|window| window == id).unwrap();
    message[at] ^= 1;
    let invalid = validate(&Rows::decode(&message).unwrap()).unwrap_err();
    assert!(invalid.to_string().contains("trajectory_id"), "{invalid}");
}
