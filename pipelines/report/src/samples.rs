//! Samples of a run: the best, the worst and the longest rollout of the first and the last update.

pub(crate) mod section;
#[cfg(test)]
mod tests;

use vintage_control::{PolicyVersion, UpdateNumber};
use vintage_trajectory::{Identity, Rows};

/// Number of characters kept of a text's beginning and of its end, where a final answer is.
const TEXT: (usize, usize) = (1200, 400);
/// Number of token ids kept of the beginning and of the end of a row without text.
const TOKENS: (usize, usize) = (96, 32);

/// Samples of the first and of the last update of which the archive holds a rollout.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    first: Option<UpdateSamples>,
    last: Option<UpdateSamples>,
}

/// Samples of an update. Of equal rollouts the one that the archive lists first is taken.
#[derive(Debug)]
struct UpdateSamples {
    update: UpdateNumber,
    best: Sample,
    worst: Sample,
    longest: Sample,
}

/// Rollout that an update trained.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    prompt: Excerpt,
    answer: Option<String>,
    completion: Excerpt,
    reward: f32,
    tokens: usize,
    finish_reason: String,
    /// Oldest and newest version that sampled a token; `None` without tokens.
    versions: Option<(PolicyVersion, PolicyVersion)>,
    staleness: Option<u64>,
    producer: String,
    seq: Option<u64>,
    /// Number of the rollout within its group.
    index: u16,
}

/// Beginning and end of a text or of a list of token ids, and what was cut out between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    start: String,
    end: String,
    cut: usize,
    unit: &'static str,
}

impl Samples {
    /// Considers a row that `update` trained.
    pub(crate) fn add(
        &mut self,
        update: UpdateNumber,
        rows: &Rows,
        row: usize,
        identity: &Identity,
        staleness: Option<u64>,
    ) {
        let rollout = Candidate {
            rows,
            row,
            identity,
            staleness,
        };
        place(&mut self.first, update, |known| update < known, &rollout);
        place(&mut self.last, update, |known| update > known, &rollout);
    }
}

/// Considers a rollout for the samples at one end of the run.
fn place(
    kept: &mut Option<UpdateSamples>,
    update: UpdateNumber,
    is_further: impl Fn(UpdateNumber) -> bool,
    rollout: &Candidate<'_>,
) {
    match kept {
        Some(known) if known.update == update => known.consider(rollout),
        Some(known) if !is_further(known.update) => {}
        _ => *kept = Some(UpdateSamples::of(update, rollout.sample())),
    }
}

/// Rollout that may become a sample; nothing of it is copied before it does.
struct Candidate<'a> {
    rows: &'a Rows,
    row: usize,
    identity: &'a Identity,
    staleness: Option<u64>,
}

impl UpdateSamples {
    fn of(update: UpdateNumber, sample: Sample) -> Self {
        Self {
            update,
            best: sample.clone(),
            worst: sample.clone(),
            longest: sample,
        }
    }

    fn consider(&mut self, rollout: &Candidate<'_>) {
        let reward = rollout.rows.reward(rollout.row);
        if reward > self.best.reward {
            self.best = rollout.sample();
        }
        if reward < self.worst.reward {
            self.worst = rollout.sample();
        }
        if rollout.rows.completion_tokens(rollout.row).len() > self.longest.tokens {
            self.longest = rollout.sample();
        }
    }
}

impl Candidate<'_> {
    fn sample(&self) -> Sample {
        let (rows, row) = (self.rows, self.row);
        let versions = || rows.policy_spans(row).map(|span| span.version);
        let excerpt = |text: Option<&str>, tokens: &[i32]| {
            text.map_or_else(|| Excerpt::of_tokens(tokens), Excerpt::of_text)
        };
        Sample {
            prompt: excerpt(rows.prompt_text(row), rows.prompt_tokens(row)),
            answer: rows.reference_answer(row).map(str::to_owned),
            completion: excerpt(rows.completion_text(row), rows.completion_tokens(row)),
            reward: rows.reward(row),
            tokens: rows.completion_tokens(row).len(),
            finish_reason: rows.finish_reason(row).to_owned(),
            versions: versions().min().zip(versions().max()),
            staleness: self.staleness,
            producer: self.identity.producer.clone().unwrap_or_default(),
            seq: self.identity.producer_seq,
            index: rows.sample_index(row),
        }
    }
}

impl Excerpt {
    fn of_text(text: &str) -> Self {
        let (start, end) = TEXT;
        let chars = text.chars().count();
        let at = |chars| {
            text.char_indices()
                .nth(chars)
                .map_or(text.len(), |(at, _)| at)
        };
        if chars <= start + end {
            return Self::whole(text.to_owned(), "characters");
        }
        Self {
            start: text[..at(start)].to_owned(),
            end: text[at(chars - end)..].to_owned(),
            cut: chars - start - end,
            unit: "characters",
        }
    }

    fn of_tokens(tokens: &[i32]) -> Self {
        let (start, end) = TOKENS;
        let joined = |tokens: &[i32]| {
            let ids: Vec<_> = tokens.iter().map(i32::to_string).collect();
            ids.join(" ")
        };
        if tokens.len() <= start + end {
            return Self::whole(joined(tokens), "tokens");
        }
        Self {
            start: joined(&tokens[..start]),
            end: joined(&tokens[tokens.len() - end..]),
            cut: tokens.len() - start - end,
            unit: "tokens",
        }
    }

    fn whole(start: String, unit: &'static str) -> Self {
        Self {
            start,
            end: String::new(),
            cut: 0,
            unit,
        }
    }
}
