use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt as _;
use vintage_control::PolicyVersion;
use vintage_model::{Decoder, DecoderConfig, ModelFolder, Packed, ParamSet, Targets, Tokenizer};
use vintage_rollout::{
    Engine, EngineError, Form, Overlap, Prompt, Sample, SampleRequest, Sampling, Turn, all_groups,
    group_seed, turn_seed,
};
use vintage_store::{Store, Weights};
use vintage_trajectory::GroupId;

use super::LocalEngine;

const SAMPLING: Sampling = Sampling {
    max_tokens: 12,
    temperature: 1.0,
    top_p: 1.0,
    top_k: 0,
};

/// A store with versions 0 and 1 of a tiny policy over digits.
async fn policy(folder: &std::path::Path) -> (Weights, DecoderConfig) {
    let tokenizer =
        Tokenizer::characters(&"0123456789+=".chars().collect::<BTreeSet<_>>()).unwrap();
    let config = DecoderConfig::tiny(tokenizer.vocab_size());
    let params = ParamSet::init(&config, 0).unwrap();
    let base = ModelFolder::new(config, tokenizer, params).unwrap();
    let weights = Weights::new(Store::open(folder.to_str().unwrap()).unwrap(), name());
    let files = base.files().unwrap();
    let files = files
        .into_iter()
        .map(|(name, bytes)| (name, Bytes::from(bytes)))
        .collect();
    let _ = weights.publish(PolicyVersion(0), files).await.unwrap();
    let next = ParamSet::init(&base.config, 1)
        .unwrap()
        .to_safetensors()
        .unwrap();
    let files = vec![("model.safetensors", Bytes::from(next))];
    let _ = weights.publish(PolicyVersion(1), files).await.unwrap();
    (weights, base.config)
}

fn name() -> vintage_control::Name {
    "main".parse().unwrap()
}

/// Plain prompt without an answer.
fn plain(text: &str) -> Prompt {
    Prompt {
        id: text.to_owned(),
        text: text.to_owned(),
        form: Form::Plain,
        chat: None,
        extras: None,
        answer: None,
        metadata: BTreeMap::new(),
        file: 0,
        line: 1,
    }
}

fn request(prompt: &str, slot: u64, samples: u16) -> SampleRequest {
    SampleRequest {
        prompt: Arc::new(plain(prompt)),
        turn: None,
        group: GroupId([slot as u8; 16]),
        samples,
        seed: group_seed(3, slot),
        sampling: SAMPLING,
    }
}

async fn sample(
    engine: &mut LocalEngine,
    requests: Vec<SampleRequest>,
) -> Result<Vec<Vec<Sample>>, EngineError> {
    let count = requests.len();
    all_groups(engine.sample(requests), count).await
}

fn tokens(group: &[Sample]) -> Vec<Vec<i32>> {
    group
        .iter()
        .map(|sample| sample.completion_tokens.clone())
        .collect()
}

#[tokio::test]
async fn a_slot_gives_the_same_samples_whatever_runs_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, config) = policy(folder.path()).await;
    let mut engine = LocalEngine::open(weights, name(), PolicyVersion(0))
        .await
        .unwrap();
    assert_eq!(engine.context_len(), config.max_position_embeddings);
    let asked = vec![request("12+3=", 0, 4), request("7=", 1, 2)];
    let together = sample(&mut engine, asked).await.unwrap();
    assert_eq!((together[0].len(), together[1].len()), (4, 2));
    let alone = sample(&mut engine, vec![request("7=", 1, 2)])
        .await
        .unwrap();
    assert_eq!(tokens(&together[1]), tokens(&alone[0]));
    // Samples of one group differ, and so do samples of one prompt at different slots.
    assert_ne!(alone[0][0].completion_tokens, alone[0][1].completion_tokens);
    let other = sample(&mut engine, vec![request("7=", 2, 2)])
        .await
        .unwrap();
    assert_ne!(tokens(&other[0]), tokens(&alone[0]));
    assert!(sample(&mut engine, Vec::new()).await.unwrap().is_empty());
}

/// Calls join the batch that is being sampled, with settings of their own, beside one that nobody
/// waits for any more and one that cannot be sampled.
#[tokio::test]
async fn calls_share_a_batch_and_give_what_they_give_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, _) = policy(folder.path()).await;
    let engine = LocalEngine::open(weights, name(), PolicyVersion(0)).await;
    let mut engine = engine.unwrap();
    assert_eq!(engine.overlap(), Overlap::SameVersion);
    let with = |slot: u64, max_tokens: usize, temperature: f32| SampleRequest {
        sampling: Sampling {
            max_tokens,
            temperature,
            ..SAMPLING
        },
        ..request("12+3=", slot, 3)
    };
    let asked = [with(0, 40, 1.0), with(1, 2, 0.5), with(2, 12, 1.0)];
    let mut alone = Vec::new();
    for request in &asked {
        let groups = sample(&mut engine, vec![request.clone()]).await.unwrap();
        alone.push(tokens(&groups[0]));
    }
    for _ in 0..10 {
        let dropped = engine.sample(vec![with(7, 400, 1.0)]);
        let refused = engine.sample(vec![request("1+é=", 8, 1), asked[0].clone()]);
        let calls = asked.clone().map(|request| engine.sample(vec![request]));
        drop(dropped);
        let calls = futures::future::join_all(calls.into_iter().map(|call| all_groups(call, 1)));
        for (groups, alone) in calls.await.into_iter().zip(&alone) {
            assert_eq!(tokens(&groups.unwrap()[0]), *alone);
        }
        let cold = sample(&mut engine, vec![with(9, 4, -1.0)]).await;
        assert!(
            matches!(cold, Err(EngineError::BadRequest(_))),
            "refused as it joins"
        );
        let mut both: Vec<_> = refused.collect().await;
        both.sort_by_key(|(place, _)| *place);
        assert!(matches!(both[0].1, Err(EngineError::BadRequest(_))));
        let rows = both[1].1.as_ref().unwrap();
        assert_eq!(tokens(rows), alone[0]);
        assert!(rows.iter().all(|row| row.seconds > 0.0));
    }
}

#[tokio::test]
async fn log_probs_are_those_of_the_decoder() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, config) = policy(folder.path()).await;
    let mut engine = LocalEngine::open(weights.clone(), name(), PolicyVersion(0))
        .await
        .unwrap();
    engine.load(PolicyVersion(1)).await.unwrap();
    assert_eq!(engine.version(), PolicyVersion(1));
    let params =
        ParamSet::from_safetensors(&weights.fetch(PolicyVersion(1)).await.unwrap(), &config);
    let decoder = Decoder::new(config, params.unwrap()).unwrap();
    for sample in sample(&mut engine, vec![request("12+3=", 0, 8)])
        .await
        .unwrap()
        .remove(0)
    {
        assert_eq!(sample.spans[0].version, PolicyVersion(1));
        assert_eq!(sample.prompt_tokens, engine.encode("12+3=", false).unwrap());
        let all = sample.prompt_tokens.iter().chain(&sample.completion_tokens);
        let batch = Packed::new([all.map(|&token| token as u32).collect::<Vec<_>>()]);
        let count = sample.completion_tokens.len();
        let targets = Targets {
            position: (0..count)
                .map(|i| (sample.prompt_tokens.len() + i - 1) as u32)
                .collect(),
            token: sample
                .completion_tokens
                .iter()
                .map(|&token| token as u32)
                .collect(),
            temperature: vec![1.0; count],
        };
        let scored = decoder.score(&batch, &targets).unwrap();
        for (sampled, scored) in sample.logprobs.iter().zip(&scored.logprob) {
            assert!((sampled - scored).abs() < 1e-4, "{sampled} {scored}");
        }
    }
}

#[tokio::test]
async fn completions_end_at_the_stop_token_or_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, _) = policy(folder.path()).await;
    let mut engine = LocalEngine::open(weights, name(), PolicyVersion(0))
        .await
        .unwrap();
    let eos = engine.tokenizer().eos_ids()[0] as i32;
    let samples = sample(&mut engine, vec![request("1=", 0, 64)])
        .await
        .unwrap()
        .remove(0);
    let (mut stopped, mut cut) = (0, 0);
    for sample in samples {
        let (last, before) = sample.completion_tokens.split_last().unwrap();
        assert!(!before.contains(&eos));
        assert_eq!(sample.logprobs.len(), sample.completion_tokens.len());
        assert!(
            !sample.completion_text.contains('<'),
            "{}",
            sample.completion_text
        );
        if *last == eos {
            assert_eq!(sample.finish_reason, "stop");
            stopped += 1;
        } else {
            assert_eq!(sample.finish_reason, "length");
            assert_eq!(sample.completion_tokens.len(), SAMPLING.max_tokens);
            cut += 1;
        }
    }
    // One token of 14 is the stop token: 64 completions of up to 12 tokens include both kinds.
    assert!(stopped > 0 && cut > 0, "{stopped} {cut}");
}

/// A turn is given as tokens, which nobody tokenizes again, and its completion is drawn from its own
/// seed; rows near their longest length are sampled beside others.
#[tokio::test]
async fn a_turn_completes_the_tokens_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, _) = policy(folder.path()).await;
    let engine = LocalEngine::open(weights, name(), PolicyVersion(0)).await;
    let mut engine = engine.unwrap();
    let first = sample(&mut engine, vec![request("12+3=", 0, 2)]).await;
    let first = first.unwrap().remove(0);
    let whole = request("12+3=", 0, 2);
    let turn = |row: u16, turn: u32, tokens: Vec<i32>, most: usize| SampleRequest {
        turn: Some(Turn {
            tokens,
            seed: turn_seed(whole.row_seed(row), turn),
            at_least: PolicyVersion(0),
        }),
        samples: 1,
        sampling: Sampling {
            max_tokens: most,
            ..SAMPLING
        },
        ..whole.clone()
    };
    let prompt = engine.encode("12+3=", false).unwrap();
    let row = sample(&mut engine, vec![turn(1, 0, prompt.clone(), 12)]).await;
    assert_eq!(
        row.unwrap()[0][0].completion_tokens,
        first[1].completion_tokens
    );

    let before = [&prompt[..], &first[0].completion_tokens, &prompt].concat();
    let turns = vec![
        turn(0, 1, before.clone(), 12),
        turn(0, 2, before.clone(), 3),
        turn(0, 1, before.clone(), 12),
    ];
    let sampled = sample(&mut engine, turns).await.unwrap();
    assert!(sampled.iter().all(|rows| rows[0].prompt_tokens == before));
    assert_eq!(tokens(&sampled[0]), tokens(&sampled[2]));
    let (long, short) = (&tokens(&sampled[0])[0], &tokens(&sampled[1])[0]);
    let both = short.len().min(long.len());
    assert!(short.len() <= 3 && short[..both] != long[..both]);
}

#[tokio::test]
async fn evaluations_may_be_greedy() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, _) = policy(folder.path()).await;
    let engine = LocalEngine::open(weights, name(), PolicyVersion(0))
        .await
        .unwrap();
    let greedy = Sampling {
        temperature: 0.0,
        ..SAMPLING
    };
    let prompts = vec!["1+2=".to_owned(); 2];
    let answers = engine.generate(&prompts, greedy, vec![1, 2]).await.unwrap();
    assert_eq!(answers[0].tokens, answers[1].tokens);
    assert_eq!(answers[0].prompt_tokens.len(), 4);
}

#[tokio::test]
async fn a_character_outside_the_vocabulary_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, _) = policy(folder.path()).await;
    let mut engine = LocalEngine::open(weights, name(), PolicyVersion(0))
        .await
        .unwrap();
    let error = engine.encode("1+x=", false).unwrap_err();
    assert!(
        matches!(&error, EngineError::BadRequest(why) if why.contains("'x'")),
        "{error}"
    );
    let error = sample(&mut engine, vec![request("1+é=", 0, 1)])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("'é'"), "{error}");
}

#[tokio::test]
async fn weights_that_are_gone_or_damaged_leave_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, _) = policy(folder.path()).await;
    let mut engine = LocalEngine::open(weights.clone(), name(), PolicyVersion(0))
        .await
        .unwrap();
    let before = tokens(
        &sample(&mut engine, vec![request("1=", 0, 4)])
            .await
            .unwrap()[0],
    );

    let error = engine.load(PolicyVersion(7)).await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::VersionGone {
                version: PolicyVersion(7)
            }
        ),
        "{error}"
    );

    let file = folder.path().join("weights/main/1/model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = engine.load(PolicyVersion(1)).await.unwrap_err();
    assert!(matches!(error, EngineError::Failed(_)), "{error}");
    assert!(error.to_string().contains("version 1"), "{error}");

    assert_eq!(engine.version(), PolicyVersion(0));
    assert_eq!(
        tokens(
            &sample(&mut engine, vec![request("1=", 0, 4)])
                .await
                .unwrap()[0]
        ),
        before
    );
}

#[tokio::test]
async fn a_policy_without_its_tokenizer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::new(
        Store::open(folder.path().to_str().unwrap()).unwrap(),
        name(),
    );
    let files = vec![
        ("model.safetensors", Bytes::from_static(b"x")),
        ("config.json", Bytes::from_static(b"{}")),
    ];
    let _ = weights.publish(PolicyVersion(0), files).await.unwrap();
    let error = LocalEngine::open(weights, name(), PolicyVersion(0))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}
