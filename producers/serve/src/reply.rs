//! Replies with completions, in the forms of vLLM's endpoints: no IO.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use vintage_local::{Error, Texts};
use vintage_model::FinishReason;

use crate::{
    ask::{Ask, Endpoint},
    queue::Sampled,
};

/// Completion of a reply; `None` if it was aborted before its first token.
pub(crate) type Choice = Option<Box<Sampled>>;

/// Returns the reply to a request whose choices are all there, prompt by prompt.
///
/// # Errors
/// The tokenizer cannot decode a completion.
pub(crate) fn body(
    ask: &Ask,
    id: &str,
    model: &str,
    texts: &Texts,
    choices: &[Choice],
) -> Result<Value, Error> {
    let all = choices.iter().enumerate();
    let written: Result<Vec<_>, Error> = all
        .map(|(index, choice)| Writer { ask, texts }.choice(index, choice.as_deref()))
        .collect();
    let prompt_tokens: usize = ask.prompts.iter().map(Vec::len).sum();
    let sampled = choices.iter().flatten();
    let completion_tokens: usize = sampled.map(|choice| choice.completion.tokens.len()).sum();
    let usage = json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    });
    let created = SystemTime::now().duration_since(UNIX_EPOCH);
    let created = created.map_or(0, |time| time.as_secs());
    let mut body = json!({"model": model, "created": created, "usage": usage, "choices": written?});
    match ask.endpoint {
        Endpoint::Completions => {
            body["id"] = json!(id);
            body["object"] = json!("text_completion");
        }
        Endpoint::Chat => {
            body["id"] = json!(id);
            body["object"] = json!("chat.completion");
            body["prompt_token_ids"] = echo(ask, 0);
        }
        Endpoint::Generate => {
            body["request_id"] = json!(id);
            body["output_mode"] = json!("tokens");
            body["prompt_token_ids"] = echo(ask, 0);
        }
    }
    Ok(body)
}

/// Returns the tokens of a prompt, if they are wanted.
fn echo(ask: &Ask, index: usize) -> Value {
    if ask.return_token_ids {
        json!(ask.prompts[index])
    } else {
        Value::Null
    }
}

struct Writer<'a> {
    ask: &'a Ask,
    texts: &'a Texts,
}

impl Writer<'_> {
    fn choice(&self, index: usize, sampled: Option<&Sampled>) -> Result<Value, Error> {
        let (ask, empty) = (self.ask, Vec::new());
        let tokens = sampled.map_or(&empty, |sampled| &sampled.completion.tokens);
        let finish = sampled.map(|sampled| sampled.completion.finish_reason);
        let last = tokens.last().filter(|_| finish == Some(FinishReason::Stop));
        // An end of text is the usual stop; another token is named.
        let eos = self.texts.tokenizer().eos_ids();
        let mut choice = json!({
            "index": index,
            "finish_reason": finish.map_or("abort", FinishReason::as_str),
            "stop_reason": last.filter(|id| !eos.contains(id)),
        });
        let ids = if ask.return_token_ids {
            json!(tokens)
        } else {
            Value::Null
        };
        choice["token_ids"] = ids;
        match ask.endpoint {
            Endpoint::Generate => {
                let end = tokens.len();
                choice["weight_versions"] = match sampled {
                    Some(sampled) => json!([{"version": sampled.label, "start": 0, "end": end}]),
                    None => json!([]),
                };
                choice["logprobs"] = self.logprobs(sampled, |id| {
                    Ok(Map::from_iter([("token_id".to_owned(), json!(id))]))
                })?;
            }
            Endpoint::Completions => {
                choice["text"] = json!(self.text(tokens, last.is_some())?);
                choice["prompt_token_ids"] = echo(ask, index / ask.completions);
                choice["prompt_logprobs"] = Value::Null;
                choice["logprobs"] = self.named(sampled)?;
            }
            Endpoint::Chat => {
                let text = self.text(tokens, last.is_some())?;
                choice["message"] = json!({"role": "assistant", "content": text});
                choice["logprobs"] = self.logprobs(sampled, |id| {
                    let name = self.name(id)?;
                    let bytes = json!(name.as_bytes());
                    let entries = [
                        ("token".to_owned(), json!(name)),
                        ("bytes".to_owned(), bytes),
                    ];
                    Ok(Map::from_iter(entries))
                })?;
            }
        }
        Ok(choice)
    }

    fn text(&self, tokens: &[u32], stopped: bool) -> Result<String, Error> {
        let tokens = &tokens[..tokens.len() - usize::from(stopped)];
        if self.ask.skip_special_tokens {
            self.texts.decode(tokens, false)
        } else {
            self.texts.decode_all(tokens)
        }
    }

    /// Name of a token in log-probs.
    fn name(&self, id: u32) -> Result<String, Error> {
        if self.ask.named_by_id {
            return Ok(format!("token_id:{id}"));
        }
        self.texts.decode_all(&[id])
    }

    /// Log-probs as a list of objects, each with the likeliest tokens at its place.
    fn logprobs(
        &self,
        sampled: Option<&Sampled>,
        entry: impl Fn(u32) -> Result<Map<String, Value>, Error>,
    ) -> Result<Value, Error> {
        let (Some(_), Some(sampled)) = (self.ask.logprobs, sampled) else {
            return Ok(Value::Null);
        };
        let of = |(id, logprob): (u32, f32)| {
            let mut entry = entry(id)?;
            entry.insert("logprob".to_owned(), json!(logprob));
            Ok::<_, Error>(entry)
        };
        let content: Result<Vec<_>, Error> = places(sampled)
            .map(|(token, likeliest)| {
                let mut whole = of(token)?;
                let top: Result<Vec<_>, Error> = likeliest.iter().copied().map(of).collect();
                whole.insert("top_logprobs".to_owned(), json!(top?));
                Ok(whole)
            })
            .collect();
        Ok(json!({"content": content?}))
    }

    /// Log-probs of `/v1/completions`: parallel lists of names and numbers.
    fn named(&self, sampled: Option<&Sampled>) -> Result<Value, Error> {
        let (Some(_), Some(sampled)) = (self.ask.logprobs, sampled) else {
            return Ok(Value::Null);
        };
        let (mut offset, mut offsets) = (0, Vec::new());
        let (mut names, mut values, mut tops) = (Vec::new(), Vec::new(), Vec::new());
        for ((id, logprob), likeliest) in places(sampled) {
            let name = self.name(id)?;
            let mut top = Map::from_iter([(name.clone(), json!(logprob))]);
            for (id, logprob) in likeliest.iter().filter(|(other, _)| *other != id) {
                // Several tokens may decode to one text; the likeliest of them is kept.
                top.entry(self.name(*id)?).or_insert(json!(logprob));
            }
            offsets.push(offset);
            offset += name.chars().count();
            names.push(name);
            values.push(logprob);
            tops.push(top);
        }
        Ok(json!({
            "text_offset": offsets,
            "tokens": names,
            "token_logprobs": values,
            "top_logprobs": tops,
        }))
    }
}

/// Sampled tokens with their log-probs, and the likeliest tokens at their places, if there are any.
fn places(sampled: &Sampled) -> impl Iterator<Item = ((u32, f32), &[(u32, f32)])> {
    let completion = &sampled.completion;
    let tokens = completion
        .tokens
        .iter()
        .zip(&completion.logprobs)
        .enumerate();
    tokens.map(|(at, (&id, &logprob))| {
        let likeliest = sampled
            .likeliest
            .get(at)
            .map_or(&[][..], |found| &found[..]);
        ((id, logprob), likeliest)
    })
}
