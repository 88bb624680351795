//! Replies of servers, and the checks that every completion passes before it is used.

use vintage_trajectory::LOGPROB_SLACK;

use crate::fault::{Reason, ServerFault};

/// Request for one completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    /// Tokens to complete.
    pub(crate) prompt: Vec<u32>,
    /// Maximum number of tokens to sample.
    pub(crate) max_tokens: usize,
    pub(crate) temperature: f32,
    /// Nucleus sampling probability; 1 is off.
    pub(crate) top_p: f32,
    /// Number of likeliest tokens to sample from; 0 is off.
    pub(crate) top_k: i32,
    /// Seed, below 2^31: what all servers take.
    pub(crate) seed: u32,
}

/// Facts of the model that replies are checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Number of tokens that the model can sample.
    pub(crate) vocabulary: usize,
    /// Tokens that end a completion.
    pub(crate) stop: Vec<u32>,
    /// Longest sequence of the server, in tokens.
    pub(crate) context: usize,
}

/// Reason for which a server ended a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Stop,
    Length,
    /// Ended by a pause or an abort, with the tokens sampled so far.
    Abort,
}

impl End {
    /// Reads the word that servers share.
    pub(crate) fn of(word: &str) -> Result<Self, ServerFault> {
        match word {
            "stop" => Ok(Self::Stop),
            "length" => Ok(Self::Length),
            "abort" => Ok(Self::Abort),
            _ => Err(ServerFault::new(
                Reason::BadFinish,
                format!("the reply ends for the reason {word:?}, not stop, length or abort"),
            )),
        }
    }
}

/// Span of sampled tokens with the server's label of the weights.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct LabelSpan {
    /// Label of the weights.
    pub(crate) version: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Reply as a protocol reads it, before any check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Raw {
    pub(crate) tokens: Vec<i64>,
    pub(crate) logprobs: Vec<Option<f64>>,
    /// Token of each log-prob, where the server names it.
    pub(crate) logprob_tokens: Option<Vec<i64>>,
    /// Prompt, where the server echoes it.
    pub(crate) prompt: Option<Vec<i64>>,
    /// Number of sampled tokens, where the server counts them.
    pub(crate) counted: Option<usize>,
    pub(crate) end: End,
    /// Spans of weight versions, where the server has them.
    pub(crate) spans: Option<Vec<LabelSpan>>,
}

/// Checked reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) tokens: Vec<u32>,
    /// Log-prob of each token in nats.
    pub(crate) logprobs: Vec<f32>,
    pub(crate) end: End,
    /// Spans that cover all tokens without a gap; `None` if the server has none.
    pub(crate) spans: Option<Vec<LabelSpan>>,
}

/// Checks a reply against its request and the model.
///
/// # Errors
/// The first fault found. What passes is as long as it says, of the vocabulary, with a log-prob for
/// every token, and ends as its tokens say.
pub(crate) fn check(raw: Raw, ask: &Ask, limits: &Limits) -> Result<Reply, ServerFault> {
    let fault = |reason, detail: String| Err(ServerFault::new(reason, detail));
    let count = raw.tokens.len();
    if raw.logprobs.len() != count {
        let detail = format!("{count} tokens and {} log-probs", raw.logprobs.len());
        return fault(Reason::LengthMismatch, detail);
    }
    if let Some(counted) = raw.counted.filter(|&counted| counted != count) {
        let detail = format!("{count} tokens where the server counts {counted}");
        return fault(Reason::LengthMismatch, detail);
    }
    if count > ask.max_tokens || (count == 0 && raw.end != End::Abort) {
        let detail = format!(
            "{count} tokens where 1 to {} were asked for",
            ask.max_tokens
        );
        return fault(Reason::LengthMismatch, detail);
    }
    if let Some(echo) = &raw.prompt
        && !echo
            .iter()
            .copied()
            .eq(ask.prompt.iter().map(|&id| i64::from(id)))
    {
        let detail = format!(
            "the reply completes another prompt, of {} tokens, than the one of {} tokens sent",
            echo.len(),
            ask.prompt.len()
        );
        return fault(Reason::PromptMismatch, detail);
    }
    if let Some(named) = &raw.logprob_tokens
        && *named != raw.tokens
    {
        let at = named.iter().zip(&raw.tokens).position(|(a, b)| a != b);
        let detail = format!(
            "log-probs of other tokens than those sampled, from token {} on",
            at.unwrap_or(named.len().min(count))
        );
        return fault(Reason::IdMismatch, detail);
    }
    let mut tokens = Vec::with_capacity(count);
    for (at, &id) in raw.tokens.iter().enumerate() {
        match u32::try_from(id) {
            Ok(id) if (id as usize) < limits.vocabulary => tokens.push(id),
            _ => {
                let detail = format!(
                    "token {at} has id {id}, and the model's vocabulary {} tokens",
                    limits.vocabulary
                );
                return fault(Reason::OutOfVocabulary, detail);
            }
        }
    }
    let mut logprobs = Vec::with_capacity(count);
    for (at, logprob) in raw.logprobs.iter().enumerate() {
        match logprob.map(|value| value as f32) {
            Some(value) if value.is_finite() && value <= LOGPROB_SLACK => logprobs.push(value),
            found => {
                let detail = format!("log-prob {found:?} at token {at}");
                return fault(Reason::BadLogprob, detail);
            }
        }
    }
    check_end(&tokens, raw.end, ask, limits)?;
    if let Some(spans) = &raw.spans {
        check_spans(spans, count)?;
    }
    Ok(Reply {
        tokens,
        logprobs,
        end: raw.end,
        spans: raw.spans.map(|spans| {
            spans
                .into_iter()
                .filter(|span| span.start < span.end)
                .collect()
        }),
    })
}

fn check_end(tokens: &[u32], end: End, ask: &Ask, limits: &Limits) -> Result<(), ServerFault> {
    let is_stop = |id: &u32| limits.stop.contains(id);
    let stopped = tokens.last().is_some_and(is_stop);
    let early = tokens.iter().position(is_stop);
    if let Some(at) = early.filter(|at| at + 1 < tokens.len()) {
        let detail = format!(
            "the stop token {} at {at} of {} tokens ends nothing",
            tokens[at],
            tokens.len()
        );
        return Err(ServerFault::new(Reason::BadFinish, detail));
    }
    let full = tokens.len() == ask.max_tokens
        || ask.prompt.len() + tokens.len() >= limits.context.saturating_sub(1);
    let agrees = match end {
        End::Stop => stopped,
        End::Length => full && !stopped,
        End::Abort => true,
    };
    if agrees {
        return Ok(());
    }
    Err(ServerFault::new(
        Reason::BadFinish,
        format!(
            "a completion of {} tokens of at most {} that ends with token {:?} is said to end by \
             {end:?}; the model's stop tokens are {:?}",
            tokens.len(),
            ask.max_tokens,
            tokens.last(),
            limits.stop
        ),
    ))
}

fn check_spans(spans: &[LabelSpan], count: usize) -> Result<(), ServerFault> {
    let mut at = 0;
    let joined = spans.iter().all(|span| {
        let joins = span.start == at && span.end >= span.start;
        at = span.end;
        joins
    });
    if joined && at == count {
        return Ok(());
    }
    Err(ServerFault::new(
        Reason::MixedVersion,
        format!("weight versions of the spans {spans:?} do not cover {count} tokens"),
    ))
}
