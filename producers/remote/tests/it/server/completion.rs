//! One completion of the server, rightly or with a misbehaviour.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};
use vintage_model::{Decoder, FinishReason, SamplingParams};

use super::{Answer, Gone, Mischief, State, reply};

pub(super) async fn complete(path: &str, body: &Value, state: &Mutex<State>) -> Answer {
    let native = path == "/inference/v1/generate";
    let sampling = if native {
        &body["sampling_params"]
    } else {
        body
    };
    let prompt = if native {
        &body["token_ids"]
    } else {
        &body["prompt"]
    };
    let prompt: Vec<u32> = serde_json::from_value(prompt.clone()).unwrap();
    if prompt.is_empty() {
        return reply(
            400,
            &json!({"error": {"message": "an empty prompt", "code": 400}}),
        );
    }
    let (decoder, stop, label, earlier, mischief, processed) = {
        let mut state = state.lock().unwrap();
        let mischief = state.mischief.pop_front().or(state.always);
        let asked = body["model"].as_str().unwrap();
        let decoder = match state.adapted.get(asked) {
            Some(adapted) => Arc::clone(adapted),
            None if asked == "policy" => Arc::clone(&state.decoder),
            None => {
                let message = format!("The model `{asked}` does not exist.");
                return reply(404, &json!({"error": {"message": message, "code": 404}}));
            }
        };
        let (label, earlier) = (state.label.borrow().clone(), state.earlier.clone());
        (
            decoder,
            state.stop.clone(),
            label,
            earlier,
            mischief,
            state.switches.processed,
        )
    };
    match mischief {
        Some(Mischief::Drop) => return Err(Gone),
        Some(Mischief::Hang) => std::future::pending().await,
        Some(Mischief::Slow) => tokio::time::sleep(Duration::from_millis(300)).await,
        Some(Mischief::UntilLabel) => {
            let mut now = state.lock().unwrap().label.subscribe();
            now.wait_for(|now| *now != label).await.unwrap();
        }
        Some(Mischief::UntilPause) => {
            let mut paused = state.lock().unwrap().paused.subscribe();
            paused.wait_for(|paused| *paused).await.unwrap();
        }
        Some(Mischief::Status(status)) => {
            return reply(
                status,
                &json!({"error": {"message": "EngineCore encountered an issue"}}),
            );
        }
        Some(Mischief::Garbage) => {
            return Ok(Response::new(Full::new(Bytes::from_static(b"<html>"))));
        }
        _ => {}
    }
    let number = |key: &str| sampling[key].as_f64().unwrap();
    let mut longest = number("max_tokens") as usize;
    if mischief == Some(Mischief::UntilPause) {
        longest = longest.min(2);
    }
    let params = SamplingParams {
        temperature: number("temperature") as f32,
        top_p: number("top_p") as f32,
        top_k: number("top_k").max(0.0) as i32,
        max_tokens: longest,
        stop,
    };
    let seed = sampling["seed"].as_u64().unwrap();
    let asked = prompt.clone();
    let sampled = tokio::task::spawn_blocking(move || {
        let mut sampled = decoder
            .generate(std::slice::from_ref(&asked), &params, &[seed])
            .unwrap()
            .remove(0);
        if !processed {
            sampled.logprobs = raw(&decoder, &asked, &sampled.tokens);
        }
        sampled
    });
    let sampled = sampled.await.unwrap();
    let aborted = matches!(mischief, Some(Mischief::UntilPause | Mischief::AbortAtOnce));
    let finish = match sampled.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::Length if aborted => "abort",
        FinishReason::Length => "length",
    };
    let (mut ids, mut logprobs) = (sampled.tokens.clone(), Vec::new());
    logprobs.extend(sampled.logprobs.iter().map(|&logprob| json!(logprob)));
    let mut named = ids.clone();
    let (mut echo, mut label, mut finish) = (prompt, Some(label), finish.to_owned());
    match mischief {
        Some(Mischief::AbortAtOnce) => {
            (ids, named, logprobs) = Default::default();
            "abort".clone_into(&mut finish);
        }
        Some(Mischief::Short) => {
            named.pop();
            logprobs.pop();
        }
        Some(Mischief::Shifted) => {
            named.insert(0, 0);
            named.pop();
            logprobs.insert(0, json!(-0.5));
            logprobs.pop();
        }
        Some(Mischief::OtherIds) => ids[0] = (ids[0] + 1) % 14,
        Some(Mischief::OutOfVocabulary) => (ids[0], named[0]) = (14, 14),
        Some(Mischief::PositiveLogprob) => logprobs[0] = json!(0.25),
        Some(Mischief::NoLogprob) => logprobs[0] = json!(null),
        Some(Mischief::WrongFinish) => {
            let other = if finish == "stop" { "length" } else { "stop" };
            other.clone_into(&mut finish);
        }
        Some(Mischief::OtherPrompt) => echo[0] += 1,
        Some(Mischief::UnknownVersion) => label = Some("main-7-0123456789ab".to_owned()),
        Some(Mischief::StaleVersion) => label = Some(earlier),
        Some(Mischief::NoVersion) => label = None,
        _ => {}
    }
    let spans = label.map(|label| json!([{"version": label, "start": 0, "end": ids.len()}]));
    let usage = json!({"completion_tokens": ids.len()});
    let choice = if native {
        let content = named.iter().zip(&logprobs);
        let content: Vec<_> = content
            .map(|(id, logprob)| json!({"token_id": id, "logprob": logprob}))
            .collect();
        json!({"index": 0, "finish_reason": finish, "token_ids": ids,
            "logprobs": {"content": content}, "weight_versions": spans})
    } else {
        let names: Vec<_> = named.iter().map(|id| format!("token_id:{id}")).collect();
        json!({"index": 0, "finish_reason": finish, "token_ids": ids, "prompt_token_ids": echo,
            "logprobs": {"token_logprobs": logprobs, "tokens": names}})
    };
    let mut answer = json!({"usage": usage, "choices": [choice]});
    if native {
        answer["prompt_token_ids"] = json!(echo);
    }
    reply(200, &answer)
}

/// Log-probs at temperature 1.
fn raw(decoder: &Decoder, prompt: &[u32], tokens: &[u32]) -> Vec<f32> {
    let all: Vec<u32> = prompt.iter().chain(tokens).copied().collect();
    let first = prompt.len() as u32 - 1;
    let targets = vintage_model::Targets {
        position: (first..first + tokens.len() as u32).collect(),
        token: tokens.to_vec(),
        temperature: vec![1.0; tokens.len()],
    };
    let batch = vintage_model::Packed::new([all]);
    decoder.score(&batch, &targets).unwrap().logprob
}
