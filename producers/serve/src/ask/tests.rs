use serde_json::{Value, json};
use vintage_local::LocalModel;
use vintage_model::{DecoderConfig, ModelFolder, ParamSet, Tokenizer};

use super::*;

/// Tiny model of digits: `0` is token 2 or above, 1 ends a text, and the context is 512 tokens.
async fn model() -> LocalModel {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::characters(&"0123456789+=".chars().collect()).unwrap();
    let config = DecoderConfig::tiny(tokenizer.vocab_size());
    let params = ParamSet::init(&config, 0).unwrap();
    let whole = ModelFolder::new(config, tokenizer, params).unwrap();
    whole.save(folder.path()).unwrap();
    let path = folder.path().to_owned();
    LocalModel::open(path, "lead".parse().unwrap())
        .await
        .unwrap()
}

fn asked(model: &LocalModel, endpoint: Endpoint, body: &Value) -> Result<Ask, Refusal> {
    let texts = model.texts();
    let facts = Facts {
        model: "policy",
        texts,
    };
    read(endpoint, body.to_string().as_bytes(), &facts)
}

#[tokio::test]
async fn settings_that_are_not_sent_are_openais() {
    let model = model().await;
    let ask = asked(&model, Endpoint::Completions, &json!({"prompt": "1+2="})).unwrap();
    let params = SamplingParams {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        max_tokens: 16,
        stop: vec![1],
    };
    assert_eq!(ask.params, params);
    assert_eq!(
        (ask.prompts[0].len(), ask.completions, ask.logprobs),
        (4, 1, None)
    );
}

#[tokio::test]
async fn a_request_of_a_rollout_client_is_understood() {
    let model = model().await;
    let body = json!({"model": "policy", "token_ids": [2, 3], "return_token_ids": true,
        "stream": false, "sampling_params": {"n": 1, "max_tokens": 5, "min_tokens": 0,
        "temperature": 0.7, "top_p": 0.9, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 9, "logprobs": 0,
        "ignore_eos": true, "stop_token_ids": [1, 4]}});
    let ask = asked(&model, Endpoint::Generate, &body).unwrap();
    assert_eq!(ask.params.stop, [1, 4]);
    assert_eq!((ask.params.temperature, ask.params.top_k), (0.7, 0));
    assert_eq!(ask.logprobs, Some(0));
    assert_eq!(ask.seeds(5).collect::<Vec<_>>(), [9]);
}

#[tokio::test]
async fn the_first_completion_has_the_seed_and_the_others_have_their_own() {
    let model = model().await;
    let of = |body: &Value| asked(&model, Endpoint::Completions, body).unwrap();
    let ask = of(&json!({"prompt": [[2], [3]], "n": 3, "seed": 9}));
    let seeds: Vec<u64> = ask.seeds(5).collect();
    assert_eq!((seeds.len(), seeds[0], seeds[3]), (6, 9, 9));
    assert!(seeds[1] != seeds[2] && seeds[1] == seeds[4], "{seeds:?}");
    // Without a seed, no two completions have one.
    let drawn = of(&json!({"prompt": [[2], [3]], "n": 3}));
    let mut seeds: Vec<u64> = drawn.seeds(5).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 6);
}

#[tokio::test]
async fn whatever_is_wrong_is_refused_with_its_field() {
    let model = model().await;
    let mut cases = vec![
        (Endpoint::Completions, json!({}), "prompt"),
        (Endpoint::Completions, json!({"prompt": ""}), "prompt"),
        (Endpoint::Completions, json!({"prompt": []}), "prompt"),
        (Endpoint::Completions, json!({"prompt": [2, 14]}), "prompt"),
        (Endpoint::Completions, json!({"prompt": [2, -1]}), "prompt"),
        (
            Endpoint::Completions,
            json!({"prompt": [[2], []]}),
            "prompt",
        ),
        (Endpoint::Completions, json!({"prompt": {"a": 1}}), "prompt"),
        (Endpoint::Completions, json!({"prompt": "1é"}), "prompt"),
        (
            Endpoint::Completions,
            json!({"prompt": vec![2; 512]}),
            "prompt",
        ),
        (
            Endpoint::Chat,
            json!({"messages": [{"role": "user", "content": "1"}]}),
            "messages",
        ),
        (Endpoint::Chat, json!({}), "messages"),
        (
            Endpoint::Chat,
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages",
        ),
        (Endpoint::Generate, json!({"token_ids": []}), "token_ids"),
        (
            Endpoint::Generate,
            json!({"token_ids": [2], "sampling_params": {"tempreature": 1}}),
            "sampling_params.tempreature",
        ),
    ];
    for (name, value) in [
        ("n", json!(0)),
        ("n", json!(1.5)),
        ("n", json!(100_000)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(512)),
        ("temperature", json!(-0.1)),
        ("temperature", json!(1e-9)),
        ("temperature", json!("hot")),
        ("top_p", json!(0)),
        ("top_p", json!(1.5)),
        ("top_k", json!(-2)),
        ("top_k", json!(1.5)),
        ("seed", json!(-1)),
        ("logprobs", json!(21)),
        ("stop", json!("x")),
        ("stop_token_ids", json!([99])),
        ("min_p", json!(0.1)),
        ("echo", json!(true)),
        ("stream", json!(true)),
        ("prompt_logprobs", json!(0)),
        ("frobnicate", json!(1)),
    ] {
        cases.push((
            Endpoint::Completions,
            json!({"prompt": "1", name: value}),
            name,
        ));
    }
    for (endpoint, body, field) in cases {
        let refusal = asked(&model, endpoint, &body).expect_err(field);
        let error = &refusal.body()["error"];
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!(400), &json!(field)),
            "{body} {error}"
        );
    }
    let other = asked(
        &model,
        Endpoint::Completions,
        &json!({"model": "gpt", "prompt": "1"}),
    );
    assert_eq!(other.unwrap_err().status, 404);
    let ignored =
        json!({"prompt": "1", "user": "me", "logit_bias": null, "min_p": 0.0, "top_k": 0});
    assert!(asked(&model, Endpoint::Completions, &ignored).is_ok());
    for bad in ["{", "[]", "3", "\"x\""] {
        let facts = Facts {
            model: "policy",
            texts: model.texts(),
        };
        assert_eq!(
            read(Endpoint::Completions, bad.as_bytes(), &facts)
                .unwrap_err()
                .status,
            400
        );
    }
}
