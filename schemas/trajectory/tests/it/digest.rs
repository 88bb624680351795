use vintage_control::{PolicyVersion, Sha256};
use vintage_trajectory::{LogprobMode, Rows, Trajectory, content_sha256, encode, sampled_sha256};

use crate::sample::{full, group, minimal};

fn read(rows: &[Trajectory]) -> Rows {
    Rows::decode(&encode(rows).unwrap()).unwrap()
}

fn digest(row: Trajectory) -> Sha256 {
    content_sha256([&read(&[row])])
}

#[test]
fn parts_and_buffers_do_not_matter() {
    let rows = [group(8, 20), vec![full(), minimal()]].concat();
    let whole = read(&rows);
    let expected = content_sha256([&whole]);
    for cut in 1..rows.len() {
        let parts = [read(&rows[..cut]), read(&rows[cut..])];
        assert_eq!(content_sha256(&parts), expected);
        let slices = [(0, cut), (cut, rows.len() - cut)]
            .map(|(at, len)| Rows::from_batch(whole.batch().slice(at, len)).unwrap());
        assert_eq!(content_sha256(&slices), expected);
    }
    let reversed: Vec<_> = rows.into_iter().rev().collect();
    assert_ne!(content_sha256([&read(&reversed)]), expected);
}

#[test]
fn each_value_training_reads_matters() {
    let edits: [fn(&mut Trajectory); 16] = [
        |row| row.group_id.0[15] ^= 1,
        |row| row.group_size += 1,
        |row| row.sample_index += 1,
        |row| row.prompt_tokens[0] += 1,
        |row| row.completion_tokens[4] += 1,
        |row| row.behavior_logprobs[3] = -0.0,
        |row| row.behavior_logprobs[0] += 1e-3,
        |row| row.loss_mask = None,
        |row| row.loss_mask.as_mut().unwrap()[0] = false,
        |row| row.policy_spans[1].start = 3,
        |row| row.policy_spans[1].version = PolicyVersion(4),
        |row| row.policy_spans.truncate(1),
        |row| row.reward = 0.5,
        |row| row.temperature = 1.0,
        |row| row.logprob_mode = LogprobMode::Raw,
        // Moves a token across the boundary of two lists.
        |row| {
            let token = row.prompt_tokens.pop().unwrap();
            row.completion_tokens.insert(0, token);
        },
    ];
    for (at, edit) in edits.iter().enumerate() {
        let mut row = full();
        edit(&mut row);
        // Without ids, only what was sampled matters.
        let sampled = |row: Trajectory| sampled_sha256([&read(&[row])]);
        assert_eq!(
            sampled(row.clone()) == sampled(full()),
            at == 0,
            "edit {at}"
        );
        assert_ne!(digest(row), digest(full()), "edit {at} went unseen");
    }
}

#[test]
fn what_training_does_not_read_does_not_matter() {
    let mut row = full();
    row.metadata = None;
    row.prompt_text = None;
    row.completion_text = None;
    row.reward_parts = None;
    row.engine = "other".to_owned();
    row.created_at_us = 0;
    row.generation_seconds = 9.0;
    row.finish_reason = "length".to_owned();
    assert_eq!(digest(row), digest(full()));
}
