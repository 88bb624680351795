use vintage_control::RejectReason;

use crate::rows::Rows;

/// Largest log-prob accepted, in nats; values above 0 come from rounding in the engine's
/// log-softmax.
pub const LOGPROB_SLACK: f32 = 1e-4;
/// Largest size of a reward, or of a part of one, that is accepted.
///
/// Beyond a million an f32 has steps of 0.06 and more, and one such value dominates every mean it
/// is a term of. A larger value (`1e38`, a time in milliseconds) is a fault of the program that
/// computed it. Producers refuse to publish it; readers reject its group.
pub const LARGEST_REWARD: f32 = 1e6;

/// Error for rows that cannot be trained on, whatever the learner's settings and state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Invalid {
    /// Kind of the fault, as a class to count by.
    pub reason: RejectReason,
    /// Description of the fault, in words.
    pub detail: String,
}

/// Checks a message's rows as far as possible without a learner: lengths agree, spans ascend from
/// 0, trained log-probs are finite and at most [`LOGPROB_SLACK`], rewards are finite, temperatures
/// are positive and finite, token ids are not negative, prompts are not empty, and all rows are
/// different samples of one group.
///
/// # Errors
/// The first fault found.
pub fn validate(rows: &Rows) -> Result<(), Invalid> {
    check_group(rows)?;
    (0..rows.len()).try_for_each(|row| check_row(rows, row))
}

fn check_group(rows: &Rows) -> Result<(), Invalid> {
    if rows.is_empty() {
        return Err(malformed("the message has no rows".to_owned()));
    }
    let (group, size) = (rows.group_id(0), rows.group_size(0));
    if rows.len() > usize::from(size) {
        return Err(malformed(format!(
            "{} rows of a group of {size}",
            rows.len()
        )));
    }
    let mut seen = vec![false; usize::from(size)];
    for row in 0..rows.len() {
        if rows.group_id(row) != group {
            let other = rows.group_id(row);
            return Err(malformed(format!(
                "row {row} is of group {other}, row 0 of {group}"
            )));
        }
        if rows.group_size(row) != size {
            let other = rows.group_size(row);
            return Err(malformed(format!(
                "row {row} has group_size {other}, row 0 has {size}"
            )));
        }
        if rows.policy(row) != rows.policy(0) {
            // The detail is stored in a plan, so text of a producer in it is limited in length.
            let [other, first]: [String; 2] =
                [row, 0].map(|row| rows.policy(row).chars().take(80).collect());
            return Err(malformed(format!(
                "row {row} is of policy {other:?}, row 0 of {first:?}"
            )));
        }
        if rows.batch_number(row) != rows.batch_number(0) {
            let (other, first) = (rows.batch_number(row), rows.batch_number(0));
            return Err(malformed(format!(
                "row {row} is for batch {other}, row 0 for {first}"
            )));
        }
        let index = rows.sample_index(row);
        match seen.get_mut(usize::from(index)) {
            None => {
                let what = format!("row {row} has sample_index {index} in a group of {size}");
                return Err(malformed(what));
            }
            Some(true) => {
                return Err(malformed(format!("sample_index {index} occurs twice")));
            }
            Some(fresh) => *fresh = true,
        }
        if rows.trajectory_id(row) != group.trajectory(index) {
            let (found, derived) = (rows.trajectory_id(row), group.trajectory(index));
            return Err(malformed(format!(
                "row {row} has trajectory_id {found}, and group and sample_index give {derived}"
            )));
        }
    }
    if rows.batch_number(0) < -1 {
        return Err(malformed(format!(
            "batch {} is below -1",
            rows.batch_number(0)
        )));
    }
    Ok(())
}

fn check_row(rows: &Rows, row: usize) -> Result<(), Invalid> {
    let (prompt, completion) = (rows.prompt_tokens(row), rows.completion_tokens(row));
    let logprobs = rows.behavior_logprobs(row);
    let tokens = completion.len();
    if prompt.is_empty() {
        return Err(malformed(format!(
            "row {row} has no prompt token to predict the first completion token from"
        )));
    }
    if logprobs.len() != tokens {
        return Err(malformed(format!(
            "row {row} has {tokens} completion tokens and {} log-probs",
            logprobs.len()
        )));
    }
    let mask = rows.loss_mask(row);
    if let Some(mask) = mask.as_ref().filter(|mask| mask.len() != tokens) {
        return Err(malformed(format!(
            "row {row} has {tokens} completion tokens and a loss_mask of {}",
            mask.len()
        )));
    }
    check_spans(rows, row, tokens)?;
    for (name, ids) in [("prompt", prompt), ("completion", completion)] {
        // Several ids are taken at a time, and the first bad one is looked for only if there is one.
        let signs = ids.iter().fold(0, |signs, id| signs | id);
        if signs < 0
            && let Some(at) = ids.iter().position(|&id| id < 0)
        {
            return Err(Invalid {
                reason: RejectReason::OutOfVocabulary,
                detail: format!("row {row} has id {} as {name} token {at}", ids[at]),
            });
        }
    }
    // NaN compares false with everything, so it is refused too.
    let sound = |logprob: f32| logprob <= LOGPROB_SLACK && logprob > f32::NEG_INFINITY;
    let trained = |token: usize| mask.as_ref().is_none_or(|mask| mask.value(token));
    let unsound = |(token, &logprob): (usize, &f32)| !sound(logprob) && trained(token);
    let all_sound = logprobs
        .iter()
        .fold(true, |all, &logprob| all & sound(logprob));
    if !all_sound
        && let Some((token, logprob)) = logprobs.iter().enumerate().find(|&each| unsound(each))
    {
        return Err(Invalid {
            reason: RejectReason::BadLogprob,
            detail: format!("row {row} has log-prob {logprob} at completion token {token}"),
        });
    }
    let reward = rows.reward(row);
    if !reward.is_finite() {
        let detail = format!("row {row} has reward {reward}");
        return Err(Invalid {
            reason: RejectReason::BadReward,
            detail,
        });
    }
    let temperature = rows.temperature(row);
    if !(temperature > 0.0 && temperature.is_finite()) {
        let detail = format!("row {row} was sampled at temperature {temperature}");
        return Err(Invalid {
            reason: RejectReason::Temperature,
            detail,
        });
    }
    Ok(())
}

fn check_spans(rows: &Rows, row: usize, tokens: usize) -> Result<(), Invalid> {
    let mut spans = rows.policy_spans(row);
    let Some(first) = spans.next() else {
        return Err(malformed(format!("row {row} has no policy_spans")));
    };
    if first.start != 0 {
        return Err(malformed(format!(
            "row {row}'s first span starts at {}",
            first.start
        )));
    }
    let mut last = first;
    for span in spans {
        if span.start <= last.start || span.start as usize >= tokens {
            return Err(malformed(format!(
                "row {row} has a span at {} after one at {}, of {tokens} completion tokens",
                span.start, last.start
            )));
        }
        if span.version < last.version {
            return Err(malformed(format!(
                "row {row} goes back from version {} to {} at completion token {}",
                last.version, span.version, span.start
            )));
        }
        last = span;
    }
    Ok(())
}

fn malformed(detail: String) -> Invalid {
    Invalid {
        reason: RejectReason::Malformed,
        detail,
    }
}
