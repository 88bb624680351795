//! llama-server's native `/completion`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{missing, parse};
use crate::{
    fault::{Reason, ServerFault},
    reply::{Ask, End, Raw},
};

/// Samplers that are not named are off, such as those that llama-server has on by default. The
/// temperature is first, as in the other servers: top-p keeps a share of the sampled distribution.
pub(super) fn body(ask: &Ask) -> Value {
    let mut samplers = vec!["temperature"];
    samplers.extend((ask.top_k > 0).then_some("top_k"));
    samplers.extend((ask.top_p < 1.0).then_some("top_p"));
    json!({
        "prompt": ask.prompt,
        "n_predict": ask.max_tokens,
        "temperature": ask.temperature,
        "top_k": ask.top_k,
        "top_p": ask.top_p,
        "min_p": 0.0,
        "samplers": samplers,
        "seed": ask.seed,
        "n_probs": 1,
        "return_tokens": true,
        "cache_prompt": true,
        "stream": false,
    })
}

#[derive(Deserialize)]
struct Answer {
    tokens: Option<Vec<i64>>,
    stop_type: Option<String>,
    tokens_predicted: Option<usize>,
    #[serde(default)]
    truncated: bool,
    completion_probabilities: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    id: i64,
    logprob: Option<f64>,
}

/// The server leaves out the log-probs of tokens that end in the middle of a character. Such a reply
/// has fewer log-probs than tokens and is refused by the check.
pub(super) fn read(reply: &[u8]) -> Result<Raw, ServerFault> {
    let answer: Answer = parse(reply)?;
    if answer.truncated {
        return Err(ServerFault::new(
            Reason::PromptMismatch,
            "the server cut the prompt",
        ));
    }
    let word = answer.stop_type.ok_or_else(|| missing("stop_type"))?;
    let end = match word.as_str() {
        "eos" => End::Stop,
        "limit" => End::Length,
        other => End::of(other)?,
    };
    let logprobs = answer
        .completion_probabilities
        .ok_or_else(|| missing("completion_probabilities"))?;
    Ok(Raw {
        tokens: answer.tokens.ok_or_else(|| missing("tokens"))?,
        logprob_tokens: Some(logprobs.iter().map(|token| token.id).collect()),
        logprobs: logprobs.iter().map(|token| token.logprob).collect(),
        prompt: None,
        counted: answer.tokens_predicted,
        end,
        spans: None,
    })
}
