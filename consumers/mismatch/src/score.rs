//! Log-probs of rollouts under a decoder.

use vintage_model::{Decoder, Packed, Result, Targets};

use crate::row::Row;

/// Maximum number of tokens that are computed together, unless one rollout alone has more. It
/// bounds the memory of the activations.
const TOKENS: usize = 4096;

/// Returns the log-prob of every completion token of each row under `decoder`, at the temperature of
/// those that the engine reported.
///
/// # Errors
/// A row that the model does not take.
pub fn recompute(decoder: &Decoder, rows: &[&Row]) -> Result<Vec<Vec<f32>>> {
    score(decoder, rows, Row::reported_temperature)
}

/// Returns the log-prob of every completion token of each row, at the temperature that
/// `temperature` gives for the row.
pub(crate) fn score(
    decoder: &Decoder,
    rows: &[&Row],
    temperature: impl Fn(&Row) -> f32,
) -> Result<Vec<Vec<f32>>> {
    let mut scores = Vec::with_capacity(rows.len());
    for now in parts(rows) {
        let (packed, targets) = lay_out_at(now, &temperature);
        let mut scored = decoder.score(&packed, &targets)?.logprob.into_iter();
        for row in now {
            scores.push(scored.by_ref().take(row.completion.len()).collect());
        }
    }
    Ok(scores)
}

/// Splits rows, in order, into parts that are computed together: of 4,096 tokens at most, unless one row
/// alone has more.
pub fn parts<'a, 'r>(rows: &'a [&'r Row]) -> impl Iterator<Item = &'a [&'r Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|row| {
            tokens += row.prompt.len() + row.completion.len();
            tokens <= TOKENS
        });
        let (now, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}

/// Lays out rows for a model: every completion token is a target, at the temperature of the log-probs
/// that the engine reported.
pub fn lay_out(rows: &[&Row]) -> (Packed, Targets) {
    lay_out_at(rows, &Row::reported_temperature)
}

fn lay_out_at(rows: &[&Row], temperature: &impl Fn(&Row) -> f32) -> (Packed, Targets) {
    let (mut packed, mut targets) = (Packed::default(), Targets::default());
    for row in rows {
        let (prompt, completion) = (row.prompt.iter(), row.completion.iter());
        let positions = packed.push_row(prompt.copied(), completion.copied());
        targets.position.extend(positions);
        targets.token.extend_from_slice(&row.completion);
        let places = row.completion.len();
        targets
            .temperature
            .extend(std::iter::repeat_n(temperature(row), places));
    }
    (packed, targets)
}
