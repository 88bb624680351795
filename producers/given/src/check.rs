use std::collections::BTreeMap;

use vintage_control::PolicyVersion;
use vintage_rollout::{Episode, RewardScore, Sample};
use vintage_trajectory::{LARGEST_REWARD, LOGPROB_SLACK, LogprobMode, PolicySpan};

use crate::{
    desk::{Facts, Slot},
    error::Error,
};

/// One completion as a program gives it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Completion {
    /// Sampled tokens, the stop token included; with a mask, everything after the prompt.
    pub tokens: Vec<i64>,
    /// Log-prob of each token in nats, over the whole vocabulary at the sampling temperature; of
    /// tokens that were not sampled it is not read.
    pub logprobs: Vec<f32>,
    /// Version that sampled the tokens; that of the slot if not given.
    pub versions: Option<Versions>,
    /// Reward; the run's own reward gives one if not given.
    pub reward: Option<f32>,
    /// Named components of the reward.
    pub parts: Option<BTreeMap<String, f32>>,
    /// Text of the completion; the tokens are decoded if not given.
    pub text: Option<String>,
    /// Reason the completion ended, `stop` or `length`; by its last token if not given.
    pub finish_reason: Option<String>,
    /// Mask of tokens: true for those that the model sampled; all, if not given.
    pub mask: Option<Vec<bool>>,
    /// Sampling time in seconds; 0 if not known.
    pub seconds: f32,
}

/// Versions that sampled a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// One version sampled all tokens.
    One(u64),
    /// Each token has a version; they ascend.
    Each(Vec<i64>),
}

/// Constraints on the completions of a group.
pub(crate) struct Expected<'a> {
    pub(crate) slot: &'a Slot,
    /// Newest version that may have sampled.
    pub(crate) newest: PolicyVersion,
    pub(crate) facts: &'a Facts,
}

const STOP: &str = "stop";
const LENGTH: &str = "length";

/// Checks all completions of a group.
///
/// # Errors
/// The first value that does not fit, by field and row.
pub(crate) fn checked(
    expected: &Expected<'_>,
    completions: Vec<Completion>,
) -> Result<Vec<Sample>, Error> {
    let wanted = expected.slot.seeds.len();
    if completions.len() != wanted {
        let found = completions.len();
        let problem = format!("has {found} rows, and the slot asks for {wanted} completions");
        return Err(Error::refused("completions", problem));
    }
    let rows = completions.into_iter().enumerate();
    rows.map(|(row, completion)| expected.sample(row, completion))
        .collect()
}

impl Expected<'_> {
    fn sample(&self, row: usize, given: Completion) -> Result<Sample, Error> {
        let of = |field: &str| format!("{field}[{row}]");
        let count = given.tokens.len();
        if count == 0 {
            let problem = "is empty: a completion has one token or more, its stop token included";
            return Err(Error::refused(of("completions"), problem));
        }
        let lengths = [
            ("logprobs", Some(given.logprobs.len())),
            ("loss_masks", given.mask.as_ref().map(Vec::len)),
        ];
        for (field, length) in lengths {
            if let Some(length) = length.filter(|length| *length != count) {
                let problem = format!("has {length} values, and completions[{row}] {count} tokens");
                return Err(Error::refused(of(field), problem));
            }
        }
        let tokens = self.tokens(row, &given.tokens)?;
        self.check_length(row, &given)?;
        let sampled = |token: usize| given.mask.as_ref().is_none_or(|mask| mask[token]);
        let mut logprobs = given.logprobs;
        for (token, logprob) in logprobs.iter_mut().enumerate() {
            if !sampled(token) {
                *logprob = 0.0;
            } else if !logprob.is_finite() || *logprob > LOGPROB_SLACK {
                let problem = format!(
                    "is {logprob}: a log-prob is finite and at most 0; it is of the sampled token \
                     alone, in nats"
                );
                return Err(Error::refused(format!("logprobs[{row}][{token}]"), problem));
            }
        }
        let spans = self.spans(row, count, given.versions)?;
        let score = self.score(row, given.reward, given.parts)?;
        let stops = self.facts.texts.tokenizer().eos_ids();
        let stopped = tokens.last().is_some_and(|last| stops.contains(last));
        let reason = match given.finish_reason.as_deref() {
            Some(STOP) => STOP,
            None if stopped => STOP,
            None | Some(LENGTH) => LENGTH,
            Some(other) => {
                let problem = format!("is {other:?}, and not \"stop\" or \"length\"");
                return Err(Error::refused(of("finish_reasons"), problem));
            }
        };
        let text = if let Some(text) = given.text {
            text
        } else {
            let texts = &self.facts.texts;
            let decoded = texts.decode(&tokens, stopped && reason == STOP);
            decoded.map_err(|error| Error::refused(of("completions"), error.to_string()))?
        };
        if !(given.seconds >= 0.0 && given.seconds.is_finite()) {
            let problem = format!("is {}: it is a time in seconds", given.seconds);
            return Err(Error::refused("seconds", problem));
        }
        Ok(Sample {
            prompt_tokens: self.slot.prompt_tokens.clone(),
            completion_tokens: tokens.iter().map(|&token| token as i32).collect(),
            logprobs,
            logprob_mode: LogprobMode::Full,
            completion_text: text,
            finish_reason: reason.to_owned(),
            spans,
            seconds: given.seconds,
            episode: given.mask.map(|sampled| Episode {
                turns: turns(&sampled),
                sampled,
            }),
            score,
        })
    }

    fn tokens(&self, row: usize, given: &[i64]) -> Result<Vec<u32>, Error> {
        let vocabulary = self.facts.texts.config().vocab_size;
        let ids = given.iter().enumerate().map(|(token, &id)| {
            let known = u32::try_from(id).ok();
            known
                .filter(|&id| (id as usize) < vocabulary)
                .ok_or_else(|| {
                    let field = format!("completions[{row}][{token}]");
                    let problem = format!(
                        "is {id}, and the model has ids from 0 to {}",
                        vocabulary - 1
                    );
                    Error::refused(field, problem)
                })
        });
        ids.collect()
    }

    /// Refuses completions that the learner could not take.
    fn check_length(&self, row: usize, given: &Completion) -> Result<(), Error> {
        let count = given.tokens.len();
        let refused = |problem: String| Err(Error::refused(format!("completions[{row}]"), problem));
        let most = self.slot.sampling.max_tokens;
        if given.mask.is_none() && count > most {
            return refused(format!(
                "has {count} tokens, and rollout.max_tokens is {most}"
            ));
        }
        let context = self.facts.texts.config().max_position_embeddings;
        let whole = self.slot.prompt_tokens.len() + count;
        if whole > context {
            return refused(format!(
                "has {count} tokens, {whole} with its prompt, and the model's context is {context}"
            ));
        }
        match &given.mask {
            Some(mask) if !mask.contains(&true) => Err(Error::refused(
                format!("loss_masks[{row}]"),
                "has no token that was sampled",
            )),
            _ => Ok(()),
        }
    }

    fn spans(
        &self,
        row: usize,
        count: usize,
        given: Option<Versions>,
    ) -> Result<Vec<PolicySpan>, Error> {
        let own = self.slot.version;
        let check = |token: usize, version: u64| {
            let field = || format!("versions[{row}][{token}]");
            if self.slot.exact && version != own.0 {
                let problem = format!("is {version}, and this slot is for version {own} alone");
                return Err(Error::refused(field(), problem));
            }
            if version > self.newest.0 {
                let newest = self.newest;
                let problem =
                    format!("is {version}, and the newest that this writer heard of is {newest}");
                return Err(Error::refused(field(), problem));
            }
            Ok(PolicyVersion(version))
        };
        let span = |start: usize, version| PolicySpan {
            start: start as i32,
            version,
        };
        let each = match given {
            None => return Ok(vec![span(0, own)]),
            Some(Versions::One(version)) => return Ok(vec![span(0, check(0, version)?)]),
            Some(Versions::Each(each)) => each,
        };
        if each.len() != count {
            let field = format!("versions[{row}]");
            let found = each.len();
            let problem = format!("has {found} values, and completions[{row}] {count} tokens");
            return Err(Error::refused(field, problem));
        }
        let mut spans: Vec<PolicySpan> = Vec::new();
        for (token, version) in each.into_iter().enumerate() {
            let field = || format!("versions[{row}][{token}]");
            let Ok(version) = u64::try_from(version) else {
                return Err(Error::refused(
                    field(),
                    format!("is {version}: versions count from 0"),
                ));
            };
            let version = check(token, version)?;
            match spans.last() {
                Some(last) if last.version == version => {}
                Some(last) if last.version > version => {
                    let before = last.version;
                    let problem = format!("is {version} after {before}: versions never descend");
                    return Err(Error::refused(field(), problem));
                }
                _ => spans.push(span(token, version)),
            }
        }
        Ok(spans)
    }

    fn score(
        &self,
        row: usize,
        reward: Option<f32>,
        parts: Option<BTreeMap<String, f32>>,
    ) -> Result<Option<RewardScore>, Error> {
        let Some(reward) = reward else {
            if parts.is_some() {
                let problem = "is given without rewards";
                return Err(Error::refused("reward_parts", problem));
            }
            if self.facts.scores {
                return Ok(None);
            }
            let problem = "are missing: pass them, or open the writer with score=True, so that the \
                           run's own reward scores the texts";
            return Err(Error::refused("rewards", problem));
        };
        let named = parts.iter().flatten();
        let named = named.map(|(name, part)| (format!("reward_parts[{row}][{name:?}]"), *part));
        for (field, value) in [(format!("rewards[{row}]"), reward)]
            .into_iter()
            .chain(named)
        {
            if value.is_nan() || value.abs() > LARGEST_REWARD {
                let problem =
                    format!("is {value}: a reward is finite, and at most {LARGEST_REWARD} in size");
                return Err(Error::refused(field, problem));
            }
        }
        Ok(Some(RewardScore { reward, parts }))
    }
}

/// Returns the number of stretches that were sampled.
fn turns(sampled: &[bool]) -> u32 {
    let mut count = 0;
    let mut before = false;
    for &now in sampled {
        count += u32::from(now && !before);
        before = now;
    }
    count
}
