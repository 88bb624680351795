//! Likely causes of a mismatch: each is a hypothesis that is tried on the same tokens.

use std::fmt;

use vintage_control::PolicyVersion;
use vintage_model::{Decoder, Result};

use crate::{row::Row, score::score};

/// Factor by which a hypothesis must lower the mean difference to be believed.
const BETTER: f64 = 5.0;
/// Factor between the late and the early tokens of completions, from which a difference counts as
/// one that grows.
const GROWS: f64 = 4.0;
/// Share of tokens that explain a difference made by few.
const FEW: f64 = 0.1;

/// Likely cause of a mismatch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cause {
    /// Log-probs of temperature 1 that are labelled with the sampling temperature, or the reverse.
    Temperature,
    /// Log-probs of the neighbouring token.
    Shifted,
    /// Log-probs of another version than the label says.
    OtherVersion {
        /// Version that the label names.
        labelled: PolicyVersion,
        /// Version that the log-probs fit.
        fits: PolicyVersion,
    },
    /// Differences that few tokens make, while all others agree.
    FewTokens,
    /// Differences that grow along the completion.
    Grows,
    /// None of these.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Temperature => f.write_str(
                "they are those of another temperature than the rollouts say; on vLLM, start the \
                 server with --logprobs-mode processed_logprobs, or sample at temperature 1",
            ),
            Self::Shifted => f.write_str(
                "they fit the neighbouring tokens; the client pairs tokens and log-probs wrongly",
            ),
            Self::OtherVersion { labelled, fits } => write!(
                f,
                "they are those of version {fits}, and the rollouts say {labelled}; label a \
                 server's weights after they are loaded, and empty its prefix cache with every swap"
            ),
            Self::FewTokens => f.write_str(
                "few tokens differ, and all others agree; caches that hold older weights after a \
                 swap, and completions that were cut and continued, do that",
            ),
            Self::Grows => f.write_str(
                "the difference grows along the completion; a key-value cache of low precision, or \
                 of other weights, does that",
            ),
            Self::Unknown => f.write_str(
                "another model, tokenizer or adapter, or a much lower precision, does that",
            ),
        }
    }
}

/// Tries each hypothesis on the tokens that `version` sampled. `others` are neighbouring versions.
pub(crate) fn find(
    rows: &[&Row],
    version: PolicyVersion,
    decoder: &Decoder,
    others: &[(PolicyVersion, Decoder)],
) -> Result<Cause> {
    let labelled = score(decoder, rows, Row::reported_temperature)?;
    let found = Distance::between(rows, version, &labelled, 0);
    let explains = |other: &Distance| other.mean() * BETTER < found.mean();
    let mut best: Option<(f64, PolicyVersion)> = None;
    for (fits, other) in others {
        let scores = score(other, rows, Row::reported_temperature)?;
        let distance = Distance::between(rows, version, &scores, 0);
        // Of equal ones the oldest: versions whose update changed nothing have the same weights.
        let found = (distance.mean(), *fits);
        if explains(&distance) && best.is_none_or(|best| found < best) {
            best = Some(found);
        }
    }
    if let Some((_, fits)) = best {
        return Ok(Cause::OtherVersion {
            labelled: version,
            fits,
        });
    }
    let other_temperature = |row: &Row| if row.raw { row.temperature } else { 1.0 };
    let scores = score(decoder, rows, other_temperature)?;
    if explains(&Distance::between(rows, version, &scores, 0)) {
        return Ok(Cause::Temperature);
    }
    for shift in [-1, 1] {
        if explains(&Distance::between(rows, version, &labelled, shift)) {
            return Ok(Cause::Shifted);
        }
    }
    Ok(found.pattern())
}

/// Magnitudes of log-ratios, early and late tokens of the completions apart.
#[derive(Debug, Default)]
struct Distance {
    early: Vec<f64>,
    late: Vec<f64>,
}

impl Distance {
    /// Compares what the engine reported of token i with what was computed of token i + `shift`.
    fn between(rows: &[&Row], version: PolicyVersion, scores: &[Vec<f32>], shift: isize) -> Self {
        let mut distance = Self::default();
        for (row, scores) in rows.iter().zip(scores) {
            for position in row.positions(version) {
                let other = position.checked_add_signed(shift);
                let Some(&recomputed) = other.and_then(|other| scores.get(other)) else {
                    continue;
                };
                let magnitude = f64::from((recomputed - row.reported[position]).abs());
                if position * 2 < row.completion.len() {
                    distance.early.push(magnitude);
                } else {
                    distance.late.push(magnitude);
                }
            }
        }
        distance
    }

    fn mean(&self) -> f64 {
        mean(self.early.iter().chain(&self.late).copied())
    }

    /// Returns the cause that the pattern of the differences speaks for.
    fn pattern(&self) -> Cause {
        let mut all: Vec<_> = self.early.iter().chain(&self.late).copied().collect();
        all.sort_unstable_by(f64::total_cmp);
        let few = (all.len() as f64 * FEW).ceil() as usize;
        let most = &all[..all.len().saturating_sub(few)];
        if !most.is_empty() && mean(most.iter().copied()) * BETTER * BETTER < self.mean() {
            return Cause::FewTokens;
        }
        let (early, late) = (
            mean(self.early.iter().copied()),
            mean(self.late.iter().copied()),
        );
        if !self.early.is_empty() && late > early * GROWS {
            return Cause::Grows;
        }
        Cause::Unknown
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}
