//! vLLM's `/inference/v1/generate`, which `--enable-scale-out` turns on.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{missing, only, parse, top_k};
use crate::{
    fault::ServerFault,
    reply::{Ask, End, LabelSpan, Raw},
};

/// Every sampling setting is sent, because those that are not come from the model's
/// `generation_config.json`.
pub(super) fn body(ask: &Ask, model: &str, stop: &[u32]) -> Value {
    json!({
        "model": model,
        "token_ids": ask.prompt,
        "return_token_ids": true,
        "stream": false,
        "sampling_params": sampling(ask, stop),
    })
}

/// Sampling settings of vLLM. End of text is the run's stop tokens, not the server's idea of them.
pub(super) fn sampling(ask: &Ask, stop: &[u32]) -> Value {
    json!({
        "n": 1,
        "max_tokens": ask.max_tokens,
        "min_tokens": 0,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "top_k": top_k(ask),
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": ask.seed,
        "logprobs": 0,
        "ignore_eos": true,
        "stop_token_ids": stop,
    })
}

#[derive(Deserialize)]
struct Answer {
    prompt_token_ids: Option<Vec<i64>>,
    usage: Option<Usage>,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
pub(super) struct Usage {
    pub(super) completion_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct Choice {
    token_ids: Option<Vec<i64>>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
    weight_versions: Option<Vec<LabelSpan>>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Vec<Token>,
}

#[derive(Deserialize)]
struct Token {
    token_id: i64,
    logprob: Option<f64>,
}

pub(super) fn read(reply: &[u8]) -> Result<Raw, ServerFault> {
    let answer: Answer = parse(reply)?;
    let choice = only(answer.choices, "choices")?;
    let word = choice
        .finish_reason
        .ok_or_else(|| missing("finish_reason"))?;
    let tokens = choice.token_ids.ok_or_else(|| missing("token_ids"))?;
    // A completion that was aborted before its first token has no log-probs at all.
    let content = match choice.logprobs {
        Some(logprobs) => logprobs.content,
        None if tokens.is_empty() => Vec::new(),
        None => return Err(missing("logprobs")),
    };
    Ok(Raw {
        tokens,
        logprobs: content.iter().map(|token| token.logprob).collect(),
        logprob_tokens: Some(content.iter().map(|token| token.token_id).collect()),
        prompt: answer.prompt_token_ids,
        counted: answer.usage.and_then(|usage| usage.completion_tokens),
        end: End::of(&word)?,
        spans: choice.weight_versions,
    })
}
