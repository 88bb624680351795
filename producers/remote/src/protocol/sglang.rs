//! SGLang's `/generate`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{missing, parse, top_k};
use crate::{
    fault::{Reason, ServerFault},
    reply::{Ask, End, LabelSpan, Raw},
};

/// `ignore_eos` stays off: it would turn the stop tokens off too.
pub(super) fn body(ask: &Ask, stop: &[u32]) -> Value {
    json!({
        "input_ids": ask.prompt,
        "sampling_params": {
            "n": 1,
            "max_new_tokens": ask.max_tokens,
            "min_new_tokens": 0,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "top_k": top_k(ask),
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "sampling_seed": ask.seed,
            "stop_token_ids": stop,
            "skip_special_tokens": false,
        },
        "return_logprob": true,
        "logprob_start_len": -1,
        "stream": false,
    })
}

#[derive(Deserialize)]
struct Answer {
    output_ids: Option<Vec<i64>>,
    meta_info: Meta,
}

#[derive(Deserialize)]
struct Meta {
    finish_reason: Option<Finish>,
    prompt_tokens: Option<usize>,
    completion_tokens: Option<usize>,
    /// Log-prob, token id and text of each token.
    output_token_logprobs: Option<Vec<(Option<f64>, i64, Value)>>,
    weight_versions: Option<Vec<LabelSpan>>,
}

#[derive(Deserialize)]
struct Finish {
    r#type: String,
}

pub(super) fn read(reply: &[u8]) -> Result<Raw, ServerFault> {
    let answer: Answer = parse(reply)?;
    let meta = answer.meta_info;
    let finish = meta.finish_reason.ok_or_else(|| missing("finish_reason"))?;
    let tokens = answer.output_ids.ok_or_else(|| missing("output_ids"))?;
    let logprobs = meta
        .output_token_logprobs
        .ok_or_else(|| missing("output_token_logprobs"))?;
    if meta.prompt_tokens == Some(0) {
        return Err(ServerFault::new(
            Reason::PromptMismatch,
            "an empty prompt was completed",
        ));
    }
    Ok(Raw {
        tokens,
        logprob_tokens: Some(logprobs.iter().map(|(_, id, _)| *id).collect()),
        logprobs: logprobs
            .into_iter()
            .map(|(logprob, _, _)| logprob)
            .collect(),
        prompt: None,
        counted: meta.completion_tokens,
        end: End::of(&finish.r#type)?,
        spans: meta.weight_versions,
    })
}
