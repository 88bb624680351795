//! Check for values that are finite but cannot be measurements, such as sentinels of an engine.

use std::ops::RangeInclusive;

use vintage_control::RejectReason;

use crate::{
    rows::Rows,
    validate::{Invalid, LARGEST_REWARD},
};

/// Exclusive lower bound of the log-prob of a trained token, in nats. Engines write -9999, -1e30 or
/// f32's least number for minus infinity. A sampled token has a probability of at least e^-37, the
/// resolution of the random numbers; a token forced by a grammar at a temperature of 0.1 has a
/// log-prob of some minus hundreds.
pub const LEAST_LOGPROB: f32 = -1000.0;
/// Accepted duration of sampling one completion, in seconds: up to a year.
pub const GENERATION_SECONDS: RangeInclusive<f32> = 0.0..=31_536_000.0;
/// Accepted range of `top_k`. Vocabularies are far smaller than the upper end; engines write -1 for
/// off.
const TOP_K: RangeInclusive<i32> = -1..=100_000_000;

/// Checks that rows which [`crate::validate`] accepts hold plausible values: trained log-probs
/// above [`LEAST_LOGPROB`], rewards and their parts up to [`LARGEST_REWARD`] in size, `top_p` above
/// 0 and at most 1, `top_k` from -1 to 100 000 000, and `generation_seconds` in
/// [`GENERATION_SECONDS`].
///
/// Separate from [`crate::validate`] because plans made before these ranges existed may name groups
/// outside them, and such plans are run unchanged.
///
/// # Errors
/// The first implausible value found.
pub fn plausible(rows: &Rows) -> Result<(), Invalid> {
    (0..rows.len()).try_for_each(|row| check_row(rows, row))
}

fn check_row(rows: &Rows, row: usize) -> Result<(), Invalid> {
    let refuse = |reason, detail| Err(Invalid { reason, detail });
    let logprobs = rows.behavior_logprobs(row).iter().enumerate();
    let mut low = logprobs.filter(|(_, logprob)| **logprob <= LEAST_LOGPROB);
    if let Some((token, logprob)) = low.find(|(token, _)| rows.is_trained(row, *token)) {
        let detail = format!(
            "row {row} has log-prob {logprob} at completion token {token}: nothing as unlikely is \
             sampled (the range ends at {LEAST_LOGPROB}), and engines write such numbers for minus \
             infinity"
        );
        return refuse(RejectReason::BadLogprob, detail);
    }
    let reward = rows.reward(row);
    if reward.abs() > LARGEST_REWARD {
        let detail = format!("row {row} has reward {reward}, beyond {LARGEST_REWARD}");
        return refuse(RejectReason::BadReward, detail);
    }
    let mut parts = rows.reward_parts(row).into_iter().flatten();
    if let Some((name, part)) = parts.find(|(_, part)| part.abs() > LARGEST_REWARD) {
        let name: String = name.chars().take(80).collect();
        let detail =
            format!("row {row} has reward part {name:?} of {part}, beyond {LARGEST_REWARD}");
        return refuse(RejectReason::BadReward, detail);
    }
    let (top_p, top_k) = (rows.top_p(row), rows.top_k(row));
    if !(top_p > 0.0 && top_p <= 1.0) {
        let detail = format!("row {row} has top_p {top_p}, not above 0 and at most 1");
        return refuse(RejectReason::Malformed, detail);
    }
    if !TOP_K.contains(&top_k) {
        let detail = format!("row {row} has top_k {top_k}, not 0 (off), -1 (off) or a count");
        return refuse(RejectReason::Malformed, detail);
    }
    let seconds = rows.generation_seconds(row);
    if !GENERATION_SECONDS.contains(&seconds) {
        let (least, most) = GENERATION_SECONDS.into_inner();
        let detail = format!(
            "row {row} took {seconds} generation_seconds, not from {least} to {most}; 0 says that \
             nobody measured"
        );
        return refuse(RejectReason::Malformed, detail);
    }
    Ok(())
}
