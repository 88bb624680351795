//! OpenAI's `/v1/completions` with token ids in and out, as vLLM extends it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    generate::{Usage, sampling},
    missing, only, parse,
};
use crate::{
    fault::{Reason, ServerFault},
    reply::{Ask, End, LabelSpan, Raw},
};

pub(super) fn body(ask: &Ask, model: &str, stop: &[u32]) -> Value {
    let mut body = sampling(ask, stop);
    body["model"] = json!(model);
    body["prompt"] = json!(ask.prompt);
    body["return_token_ids"] = json!(true);
    // Log-probs are then keyed by id, so that their order can be compared with that of the tokens.
    body["return_tokens_as_token_ids"] = json!(true);
    body["skip_special_tokens"] = json!(false);
    body["stream"] = json!(false);
    body
}

#[derive(Deserialize)]
struct Answer {
    usage: Option<Usage>,
    choices: Vec<Choice>,
    metadata: Option<Metadata>,
}

/// Addition of SGLang.
#[derive(Deserialize)]
struct Metadata {
    weight_versions: Option<Vec<LabelSpan>>,
}

#[derive(Deserialize)]
struct Choice {
    token_ids: Option<Vec<i64>>,
    prompt_token_ids: Option<Vec<i64>>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Logprobs {
    token_logprobs: Vec<Option<f64>>,
    tokens: Option<Vec<String>>,
}

pub(super) fn read(reply: &[u8]) -> Result<Raw, ServerFault> {
    let answer: Answer = parse(reply)?;
    let choice = only(answer.choices, "choices")?;
    let word = choice
        .finish_reason
        .ok_or_else(|| missing("finish_reason"))?;
    let tokens = choice
        .token_ids
        .ok_or_else(|| missing("token_ids: the server does not know return_token_ids"))?;
    let (logprobs, named) = match choice.logprobs {
        Some(logprobs) => (logprobs.token_logprobs, logprobs.tokens),
        None if tokens.is_empty() => (Vec::new(), None),
        None => return Err(missing("logprobs")),
    };
    Ok(Raw {
        tokens,
        logprobs,
        logprob_tokens: named.as_deref().map(ids).transpose()?.flatten(),
        prompt: choice.prompt_token_ids,
        counted: answer.usage.and_then(|usage| usage.completion_tokens),
        end: End::of(&word)?,
        spans: answer
            .metadata
            .and_then(|metadata| metadata.weight_versions),
    })
}

/// Reads names such as `token_id:61`; `None` if the server names tokens by their text.
fn ids(names: &[String]) -> Result<Option<Vec<i64>>, ServerFault> {
    const PREFIX: &str = "token_id:";
    if !names.iter().any(|name| name.starts_with(PREFIX)) {
        return Ok(None);
    }
    let id = |name: &String| name.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
    let ids: Option<Vec<i64>> = names.iter().map(id).collect();
    let refuse = || {
        ServerFault::new(
            Reason::Malformed,
            "log-probs are named partly by token id and partly by text",
        )
    };
    ids.map(Some).ok_or_else(refuse)
}
