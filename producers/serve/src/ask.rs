//! Requests for completions, as the three endpoints read them: no IO.

use serde_json::{Value, json};
use vintage_local::{NO_CHAT_TEMPLATE, Texts};
use vintage_model::SamplingParams;
use vintage_rollout::row_seed;

use crate::{fields::Fields, refusal::Refusal};

/// Largest number of completions of one prompt.
const COMPLETIONS: u64 = 1024;
/// Largest number of completions of one request, and of its prompts.
const ROWS: usize = 4096;
/// Largest number of likeliest tokens beside each sampled one.
const LIKELIEST: u64 = 20;
/// Longest completion of `/v1/completions` if the request names none: OpenAI's default.
const SHORT: usize = 16;

/// Model that requests are read for.
pub(crate) struct Facts<'a> {
    /// Name of the model in requests.
    pub(crate) model: &'a str,
    pub(crate) texts: &'a Texts,
}

/// Endpoint that was asked, which decides the form of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
    /// `/inference/v1/generate`.
    Generate,
}

/// Request for completions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    pub(crate) endpoint: Endpoint,
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Number of completions of each prompt.
    pub(crate) completions: usize,
    pub(crate) params: SamplingParams,
    /// Seed of the first completion of each prompt; `None` draws one.
    seed: Option<u64>,
    /// Number of likeliest tokens beside each sampled one; `None` leaves log-probs out.
    pub(crate) logprobs: Option<usize>,
    pub(crate) return_token_ids: bool,
    /// True if tokens are named `token_id:ID` instead of by their text.
    pub(crate) named_by_id: bool,
    pub(crate) skip_special_tokens: bool,
    /// Id that the client gives to the request.
    pub(crate) id: Option<String>,
}

impl Ask {
    /// Seeds of all completions, prompt by prompt. The first completion of a prompt has the request's
    /// seed, so it is the same however many there are; the others have seeds derived from it.
    pub(crate) fn seeds(&self, drawn: u64) -> impl Iterator<Item = u64> {
        let seed = self.seed.unwrap_or(drawn);
        let drawn = self.seed.is_none();
        let count = self.completions;
        (0..self.prompts.len()).flat_map(move |prompt| {
            // Prompts of one request are sampled apart unless a seed says otherwise.
            let base = if drawn {
                row_seed(seed, prompt as u16)
            } else {
                seed
            };
            let of_row = move |row: usize| match row {
                0 => base,
                row => row_seed(base, row as u16),
            };
            (0..count).map(of_row)
        })
    }
}

/// Reads the body of a request.
pub(crate) fn read(endpoint: Endpoint, body: &[u8], facts: &Facts) -> Result<Ask, Refusal> {
    let mut fields = Fields::parse(body)?;
    if let Some(model) = fields.text("model")?
        && model != facts.model
    {
        let message = format!(
            "the model {model:?} is not served here; there is {:?}",
            facts.model
        );
        return Err(Refusal::field("model", message).with_status(404));
    }
    if fields.flag("stream")? == Some(true) {
        let reason = "completions are sent whole; send \"stream\": false";
        return Err(fields.refuse("stream", reason));
    }
    fields.ignore(&["stream_options", "user", "metadata", "store"]);
    let id = fields.text("request_id")?;
    if id.as_ref().is_some_and(|id| id.len() > 200) {
        return Err(fields.refuse("request_id", "must have at most 200 bytes"));
    }
    let return_token_ids = fields.flag("return_token_ids")?.unwrap_or(false);
    let mut ask = match endpoint {
        Endpoint::Generate => {
            let prompt = fields.list("token_ids")?.unwrap_or_default();
            let prompts = vec![ids(&fields, "token_ids", &prompt, facts)?];
            let mut sampling = fields.object("sampling_params")?;
            let mut ask = sampled(&mut sampling, endpoint, prompts, facts)?;
            ask.logprobs = likeliest(&mut sampling, "logprobs")?;
            sampling.ignore(&["detokenize"]);
            sampling.finish()?;
            ask
        }
        Endpoint::Completions => {
            let prompts = prompts(&mut fields, facts)?;
            let mut ask = sampled(&mut fields, endpoint, prompts, facts)?;
            ask.logprobs = likeliest(&mut fields, "logprobs")?;
            fields.only(&[("echo", json!(false)), ("suffix", json!(""))])?;
            ask
        }
        Endpoint::Chat => {
            let prompts = vec![chat(&mut fields, facts)?];
            if let Some(longest) = fields.take("max_completion_tokens") {
                // The newer name of the same; both of them at once have to agree.
                fields.only(&[("max_tokens", longest.clone())])?;
                fields.put("max_tokens", longest);
            }
            let mut ask = sampled(&mut fields, endpoint, prompts, facts)?;
            let count = likeliest(&mut fields, "top_logprobs")?;
            ask.logprobs = match (fields.flag("logprobs")?.unwrap_or(false), count) {
                (true, count) => Some(count.unwrap_or(0)),
                (false, None | Some(0)) => None,
                (false, Some(_)) => {
                    let reason = "is for requests with \"logprobs\": true";
                    return Err(fields.refuse("top_logprobs", reason));
                }
            };
            fields.only(&[
                ("response_format", json!({"type": "text"})),
                ("modalities", json!(["text"])),
                ("tool_choice", json!("none")),
                ("add_generation_prompt", json!(true)),
                ("add_special_tokens", json!(false)),
            ])?;
            ask
        }
    };
    fields.finish()?;
    ask.return_token_ids = return_token_ids || endpoint == Endpoint::Generate;
    ask.id = id;
    Ok(ask)
}

fn likeliest(fields: &mut Fields, name: &str) -> Result<Option<usize>, Refusal> {
    Ok(fields
        .whole(name, 0..=LIKELIEST)?
        .map(|count| count as usize))
}

/// Reads the sampling settings, which the endpoints share, and checks that the completions fit.
fn sampled(
    fields: &mut Fields,
    endpoint: Endpoint,
    prompts: Vec<Vec<u32>>,
    facts: &Facts,
) -> Result<Ask, Refusal> {
    let completions = fields.whole("n", 1..=COMPLETIONS)?.unwrap_or(1) as usize;
    if completions * prompts.len() > ROWS {
        let reason = format!("one request has at most {ROWS} completions in all");
        return Err(fields.refuse("n", &reason));
    }
    let context = facts.texts.config().max_position_embeddings;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let room = context.saturating_sub(longest);
    if room == 0 {
        let reason = format!(
            "has {longest} tokens, which leaves no room in the model's context of {context}"
        );
        return Err(fields.refuse(prompt_field(endpoint), &reason));
    }
    let asked = fields.whole("max_tokens", 1..=u64::from(u32::MAX))?;
    let usual = match endpoint {
        Endpoint::Completions | Endpoint::Generate => SHORT.min(room),
        Endpoint::Chat => room,
    };
    let max_tokens = asked.map_or(usual, |asked| asked as usize);
    if max_tokens > room {
        let reason = format!(
            "{longest} tokens of the prompt and {max_tokens} of the completion are more than the \
             model's context of {context}"
        );
        return Err(fields.refuse("max_tokens", &reason));
    }
    let temperature = fields.number(
        "temperature",
        |value| value == 0.0 || (0.001..=1000.0).contains(&value),
        "0 (greedy) or a number from 0.001 to 1000",
    )?;
    let top_p = fields.number(
        "top_p",
        // As it is used: the smallest numbers are 0 there.
        |value| value as f32 > 0.0 && value <= 1.0,
        "a number above 0 and at most 1",
    )?;
    let fits = |value: f64| value.fract() == 0.0 && (-1.0..=f64::from(i32::MAX)).contains(&value);
    let wanted = "a whole number from 1 up, or 0 or -1 for none";
    let top_k = fields.number("top_k", fits, wanted)?;
    let seed = fields.whole("seed", 0..=u64::MAX)?;
    let mut stop = match fields.flag("ignore_eos")? {
        Some(true) => Vec::new(),
        _ => facts.texts.tokenizer().eos_ids().to_vec(),
    };
    let more = fields.list("stop_token_ids")?.unwrap_or_default();
    let more = ids(fields, "stop_token_ids", &more, facts)?;
    stop.extend(
        more.iter()
            .filter(|id| !stop.contains(id))
            .copied()
            .collect::<Vec<_>>(),
    );
    let skip_special_tokens = fields.flag("skip_special_tokens")?.unwrap_or(true);
    let named_by_id = fields.flag("return_tokens_as_token_ids")?.unwrap_or(false);
    if fields.take("stop").is_some_and(|stop| stop != json!([])) {
        let reason = "texts that end a completion are not supported here; see stop_token_ids";
        return Err(fields.refuse("stop", reason));
    }
    fields.only(&[
        ("min_p", json!(0)),
        ("min_tokens", json!(0)),
        ("repetition_penalty", json!(1)),
        ("presence_penalty", json!(0)),
        ("frequency_penalty", json!(0)),
        ("length_penalty", json!(1)),
        ("use_beam_search", json!(false)),
        ("best_of", json!(1)),
        ("logit_bias", json!({})),
        ("bad_words", json!([])),
        ("include_stop_str_in_output", json!(false)),
        ("spaces_between_special_tokens", json!(true)),
    ])?;
    Ok(Ask {
        endpoint,
        prompts,
        completions,
        params: SamplingParams {
            temperature: temperature.unwrap_or(1.0) as f32,
            top_p: top_p.unwrap_or(1.0) as f32,
            top_k: top_k.unwrap_or(0.0).max(0.0) as i32,
            max_tokens,
            stop,
        },
        seed,
        logprobs: None,
        return_token_ids: false,
        named_by_id,
        skip_special_tokens,
        id: None,
    })
}

fn prompt_field(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Completions => "prompt",
        Endpoint::Chat => "messages",
        Endpoint::Generate => "token_ids",
    }
}

/// Reads `prompt`: a text, token ids, or a list of either.
fn prompts(fields: &mut Fields, facts: &Facts) -> Result<Vec<Vec<u32>>, Refusal> {
    let Some(prompt) = fields.take("prompt") else {
        return Err(fields.refuse("prompt", "is missing"));
    };
    let one = |fields: &Fields, prompt: &Value| match prompt {
        Value::String(text) => encoded(fields, "prompt", text, false, facts),
        Value::Array(list) => ids(fields, "prompt", list, facts),
        _ => Err(fields.refuse("prompt", "must be a text, token ids, or a list of either")),
    };
    match &prompt {
        Value::Array(list) if list.len() > ROWS => {
            let reason = format!("one request has at most {ROWS} prompts");
            Err(fields.refuse("prompt", &reason))
        }
        Value::Array(list) if list.iter().any(|item| !item.is_number()) => {
            list.iter().map(|prompt| one(fields, prompt)).collect()
        }
        prompt => Ok(vec![one(fields, prompt)?]),
    }
}

/// Reads `messages` and what else the chat template takes, and renders the prompt.
fn chat(fields: &mut Fields, facts: &Facts) -> Result<Vec<u32>, Refusal> {
    let Some(mut messages) = fields.list("messages")? else {
        return Err(fields.refuse("messages", "is missing"));
    };
    for message in &mut messages {
        let Some(Value::Array(parts)) = message.get("content") else {
            continue;
        };
        // A content in parts is the text of its parts, where all of them are texts.
        let texts: Option<Vec<&str>> = parts
            .iter()
            .map(|part| {
                part.get("text")
                    .filter(|_| part["type"] == "text")?
                    .as_str()
            })
            .collect();
        let Some(texts) = texts else {
            let reason = "a part of a message's content is no text, and this model reads no other";
            return Err(fields.refuse("messages", reason));
        };
        message["content"] = json!(texts.join("\n"));
    }
    let mut whole = json!({"messages": messages});
    for name in [
        "tools",
        "documents",
        "chat_template_kwargs",
        "continue_final_message",
    ] {
        if let Some(value) = fields.take(name) {
            whole[name] = value;
        }
    }
    let rendered = facts.texts.render(&whole.to_string());
    let rendered = rendered.map_err(|error| match error {
        vintage_local::Error::NoChatTemplate { .. } => fields.refuse("messages", NO_CHAT_TEMPLATE),
        other => fields.refuse("messages", &other.to_string()),
    })?;
    encoded(fields, "messages", &rendered, true, facts)
}

fn encoded(
    fields: &Fields,
    name: &str,
    text: &str,
    rendered: bool,
    facts: &Facts,
) -> Result<Vec<u32>, Refusal> {
    let ids = facts.texts.encode(text, rendered);
    let ids = ids.map_err(|error| fields.refuse(name, &error.to_string()))?;
    if ids.is_empty() {
        return Err(fields.refuse(name, "has no token"));
    }
    Ok(ids)
}

/// Reads token ids of the model's vocabulary.
fn ids(fields: &Fields, name: &str, list: &[Value], facts: &Facts) -> Result<Vec<u32>, Refusal> {
    let vocabulary = facts.texts.config().vocab_size;
    if list.is_empty() && name != "stop_token_ids" {
        return Err(fields.refuse(name, "has no token"));
    }
    let id = |value: &Value| {
        let id = value.as_u64().filter(|&id| id < vocabulary as u64);
        id.map(|id| id as u32).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(40).collect();
            let last = vocabulary - 1;
            let reason = format!("{shown} is no token id of the model: those are 0 to {last}");
            fields.refuse(name, &reason)
        })
    };
    list.iter().map(id).collect()
}

#[cfg(test)]
mod tests;
