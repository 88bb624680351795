use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{fault::Reason, reply::End};

/// Replies of real servers with the requests that they answer: vLLM 0.32.0, SGLang 0.5.23 and
/// llama-server, all with one tiny Qwen3 of 291 tokens.
const EXCHANGES: &str = include_str!("../../tests/golden/exchanges.json");

fn limits() -> Limits {
    Limits {
        vocabulary: 291,
        stop: vec![282],
        context: 512,
    }
}

/// Recorded exchange: its protocol, the request as asked, and the reply.
fn exchange(protocol: &str, name: &str) -> (Protocol, Ask, Value) {
    let all: Vec<Value> = serde_json::from_str(EXCHANGES).unwrap();
    let found = all
        .into_iter()
        .find(|one| one["protocol"] == protocol && one["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no exchange {protocol}, {name}"));
    let request = &found["request"];
    let first = |places: &[&str]| {
        places
            .iter()
            .find_map(|place| request.pointer(place))
            .cloned()
    };
    let prompt = first(&["/token_ids", "/input_ids", "/prompt"]).unwrap();
    let longest = first(&[
        "/sampling_params/max_tokens",
        "/sampling_params/max_new_tokens",
        "/max_tokens",
        "/n_predict",
    ]);
    let ask = Ask {
        prompt: serde_json::from_value(prompt).unwrap(),
        max_tokens: longest.unwrap().as_i64().unwrap().max(1) as usize,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        seed: 3,
    };
    let protocol = match protocol {
        "generate" => Protocol::Generate,
        "completions" => Protocol::Completions,
        "sglang" => Protocol::Sglang,
        "llama" => Protocol::Llama,
        other => panic!("no protocol {other}"),
    };
    (protocol, ask, found["reply"].clone())
}

fn read(protocol: &str, name: &str) -> Result<Reply, ServerFault> {
    let (protocol, ask, reply) = exchange(protocol, name);
    // These were recorded without an end of text.
    let endless = Limits {
        stop: Vec::new(),
        ..limits()
    };
    protocol.read(reply.to_string().as_bytes(), &ask, &endless)
}

fn spans(reply: &Reply) -> Vec<(&str, usize, usize)> {
    let spans = reply.spans.as_ref().expect("spans").iter();
    spans
        .map(|span| (span.version.as_str(), span.start, span.end))
        .collect()
}

#[test]
fn completions_of_real_servers_are_read() {
    let reply = read("generate", "one completion").unwrap();
    assert_eq!(reply.tokens, [61, 61, 41]);
    assert_eq!(reply.logprobs, [-0.342_842_88, -0.846_692_6, -3.065_364]);
    assert_eq!(
        (reply.end, spans(&reply)),
        (End::Length, vec![("default", 0, 3)])
    );

    let reply = read("completions", "one completion").unwrap();
    assert_eq!(reply.tokens, [61, 207, 207, 207, 207, 207]);
    assert_eq!(reply.logprobs[1], -5.465_993_4);
    assert!(reply.spans.is_none());
    assert_eq!(read("completions", "24 tokens").unwrap().tokens.len(), 24);
    assert_eq!(
        spans(&read("completions", "of SGLang").unwrap()),
        [("default", 0, 4)]
    );

    let reply = read("sglang", "one completion").unwrap();
    assert_eq!(reply.tokens, [61, 114, 114, 241, 259, 259]);
    assert_eq!(reply.logprobs[0], -0.342_842_67);
    assert_eq!(spans(&reply), [("default", 0, 6)]);

    let reply = read("llama", "greedy").unwrap();
    assert_eq!((reply.tokens.len(), reply.logprobs.len()), (16, 16));
}

#[test]
fn a_change_of_weights_and_an_abort_are_read() {
    let reply = read("generate", "over a change of weights").unwrap();
    assert_eq!(spans(&reply), [("step5", 0, 124), ("step0", 124, 240)]);
    let reply = read("sglang", "over a change of weights").unwrap();
    assert_eq!(spans(&reply), [("1", 0, 102), ("2", 102, 240)]);
    for (protocol, tokens) in [("generate", 108), ("sglang", 103)] {
        let reply = read(protocol, "aborted by a pause").unwrap();
        assert_eq!((reply.end, reply.tokens.len()), (End::Abort, tokens));
    }
}

#[test]
fn a_token_without_its_log_prob_spoils_a_completion() {
    let fault = read("llama", "a token without its log-prob").unwrap_err();
    assert_eq!(fault.reason, Reason::LengthMismatch, "{fault}");
    let fault = read("generate", "refused").unwrap_err();
    assert_eq!(fault.reason, Reason::Malformed, "{fault}");
}

/// Reason for which a recorded reply is refused once `spoil` has changed it.
fn refused(protocol: &str, spoil: impl Fn(&mut Value)) -> Reason {
    let (protocol, ask, mut reply) = exchange(protocol, "one completion");
    spoil(&mut reply);
    let fault = protocol.read(reply.to_string().as_bytes(), &ask, &limits());
    fault.unwrap_err().reason
}

/// Returns the list at a place of a reply.
fn list<'a>(reply: &'a mut Value, place: &str) -> &'a mut Vec<Value> {
    let found = reply.pointer_mut(place).expect(place);
    found.as_array_mut().expect("a list")
}

#[test]
fn whatever_is_wrong_in_a_reply_has_its_reason() {
    let at = |place: &'static str, value: Value| {
        move |reply: &mut Value| *reply.pointer_mut(place).expect(place) = value.clone()
    };
    let cut = |place: &'static str| move |reply: &mut Value| drop(list(reply, place).remove(0));
    let turn = |place: &'static str| move |reply: &mut Value| list(reply, place).rotate_left(1);
    let content = "/choices/0/logprobs/content";
    let generate = |spoil: &dyn Fn(&mut Value)| refused("generate", spoil);
    assert_eq!(generate(&cut(content)), Reason::LengthMismatch);
    assert_eq!(
        generate(&cut("/choices/0/token_ids")),
        Reason::LengthMismatch
    );
    assert_eq!(generate(&turn(content)), Reason::IdMismatch);
    assert_eq!(
        generate(&at("/choices/0/token_ids/0", json!(60))),
        Reason::IdMismatch
    );
    assert_eq!(
        generate(&at("/usage/completion_tokens", json!(4))),
        Reason::LengthMismatch
    );
    let logprob = "/choices/0/logprobs/content/1/logprob";
    for wrong in [json!(null), json!(0.5), json!(-1e300)] {
        assert_eq!(generate(&at(logprob, wrong)), Reason::BadLogprob);
    }
    let both = |id: i64| {
        move |reply: &mut Value| {
            reply["choices"][0]["token_ids"][2] = json!(id);
            reply["choices"][0]["logprobs"]["content"][2]["token_id"] = json!(id);
        }
    };
    assert_eq!(generate(&both(291)), Reason::OutOfVocabulary);
    assert_eq!(generate(&both(-1)), Reason::OutOfVocabulary);
    let finish = "/choices/0/finish_reason";
    assert_eq!(generate(&at(finish, json!("stop"))), Reason::BadFinish);
    assert_eq!(
        generate(&at(finish, json!("tool_calls"))),
        Reason::BadFinish
    );
    assert_eq!(generate(&both(282)), Reason::BadFinish);
    assert_eq!(
        generate(&at("/prompt_token_ids", json!([49]))),
        Reason::PromptMismatch
    );
    assert_eq!(
        generate(&at("/choices/0/weight_versions/0/end", json!(2))),
        Reason::MixedVersion
    );
    assert_eq!(generate(&at("/choices", json!([]))), Reason::Malformed);
    assert_eq!(
        generate(&at("/choices/0/logprobs", json!(null))),
        Reason::Malformed
    );

    let completions = |spoil: &dyn Fn(&mut Value)| refused("completions", spoil);
    let values = "/choices/0/logprobs/token_logprobs";
    assert_eq!(completions(&cut(values)), Reason::LengthMismatch);
    let other = json!([
        "token_id:61",
        "token_id:61",
        "token_id:207",
        "token_id:207",
        "token_id:207",
        "token_id:207"
    ]);
    assert_eq!(
        completions(&at("/choices/0/logprobs/tokens", other)),
        Reason::IdMismatch
    );
    assert_eq!(
        completions(&at("/choices/0/token_ids", json!(null))),
        Reason::Malformed
    );

    let sglang = |spoil: &dyn Fn(&mut Value)| refused("sglang", spoil);
    assert_eq!(sglang(&cut("/output_ids")), Reason::LengthMismatch);
    assert_eq!(
        sglang(&turn("/meta_info/output_token_logprobs")),
        Reason::IdMismatch
    );
    assert_eq!(
        sglang(&at("/meta_info/finish_reason", json!(null))),
        Reason::Malformed
    );
}

#[test]
fn requests_leave_no_setting_to_the_server() {
    let ask = Ask {
        prompt: vec![1, 2],
        max_tokens: 5,
        temperature: 0.7,
        top_p: 0.9,
        top_k: 0,
        seed: 9,
    };
    let body = Protocol::Generate.body(&ask, "policy", &[282]);
    assert_eq!(body["token_ids"], json!([1, 2]));
    let sampling = &body["sampling_params"];
    for (key, value) in [
        ("top_k", json!(-1)),
        ("repetition_penalty", json!(1.0)),
        ("min_p", json!(0.0)),
        ("stop_token_ids", json!([282])),
        ("ignore_eos", json!(true)),
        ("seed", json!(9)),
    ] {
        assert_eq!(sampling[key], value, "{key}");
    }
    let body = Protocol::Sglang.body(&ask, "policy", &[282]);
    assert_eq!(body["sampling_params"]["sampling_seed"], 9);
    assert!(body["sampling_params"].get("ignore_eos").is_none());
    let body = Protocol::Llama.body(&ask, "policy", &[282]);
    assert_eq!(body["samplers"], json!(["temperature", "top_p"]));
    let body = Protocol::Completions.body(&ask, "policy", &[282]);
    assert_eq!(body["return_tokens_as_token_ids"], true);
}

proptest! {
    /// Whatever is written over any part of a reply, it is refused, or it is a completion that the
    /// learner may train on.
    #[test]
    fn a_spoilt_reply_is_refused_or_sound(
        which in 0_usize..3,
        place in any::<prop::sample::Index>(),
        value in prop_oneof![
            Just(json!(null)), Just(json!("x")), Just(json!([])), Just(json!({})),
            (-400_i64..400).prop_map(|n| json!(n)), (-50.0..50.0).prop_map(|x| json!(x)),
        ],
    ) {
        fn places(value: &Value, at: &str, out: &mut Vec<String>) {
            let below: Vec<(String, &Value)> = match value {
                Value::Array(list) => {
                    list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect()
                }
                Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
                _ => Vec::new(),
            };
            for (name, value) in below {
                let at = format!("{at}/{name}");
                places(value, &at, out);
                out.push(at);
            }
        }
        let (protocol, ask, mut reply) =
            exchange(["generate", "completions", "sglang"][which], "one completion");
        let mut all = Vec::new();
        places(&reply, "", &mut all);
        let place: &String = place.get(&all);
        *reply.pointer_mut(place).unwrap() = value;
        if let Ok(reply) = protocol.read(reply.to_string().as_bytes(), &ask, &limits()) {
            prop_assert_eq!(reply.tokens.len(), reply.logprobs.len());
            prop_assert!(!reply.tokens.is_empty() || reply.end == End::Abort);
            prop_assert!(reply.tokens.iter().all(|&id| id < 291));
            prop_assert!(reply.logprobs.iter().all(|p| p.is_finite() && *p <= 1e-4));
            if let Some(spans) = &reply.spans {
                prop_assert_eq!(spans.last().map(|span| span.end), Some(reply.tokens.len()));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, ask, _) = exchange("generate", "one completion");
        let all = [Protocol::Generate, Protocol::Completions, Protocol::Sglang, Protocol::Llama];
        for protocol in all {
            prop_assert!(protocol.read(&bytes, &ask, &limits()).is_err());
        }
    }
}
