//! Tests of completions that join a batch and leave it while others are being sampled.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use vintage_model::{Ask, Batch, Completion, Decoder, FinishReason, SamplingParams};

use crate::models::{config, decoder, tokens, variants};

/// Asks for completions of different prompts, lengths and temperatures; some share a prompt.
fn asks(vocabulary: usize) -> Vec<Ask> {
    let ask = |row: usize| {
        let prompt = [3, 70, 3, 16, 33, 16][row % 6];
        let params = SamplingParams {
            max_tokens: [9, 1, 14, 4, 20, 7, 2][row % 7],
            temperature: [1.0, 0.7, 0.0][row % 3],
            top_k: [0, 4][row % 2],
            stop: vec![2],
            ..SamplingParams::default()
        };
        Ask {
            prompt: tokens(prompt, vocabulary, prompt as u64),
            params: Arc::new(params),
            seed: row as u64,
        }
    };
    (0..17).map(ask).collect()
}

fn alone(decoder: &Decoder, ask: &Ask) -> Completion {
    let prompts = std::slice::from_ref(&ask.prompt);
    let mut sampled = decoder.generate(prompts, &ask.params, &[ask.seed]).unwrap();
    sampled.remove(0)
}

/// A completion is the one that is sampled alone, to the bit, whenever it joins and whatever has
/// left: in batches that hold few or many, on one thread and on two.
#[test]
fn who_joins_late_is_sampled_as_alone() {
    // Wide enough that products and draws are shared by threads.
    let wide = json!({"hidden_size": 96, "intermediate_size": 272, "vocab_size": 5003});
    let mut models = variants();
    models.push(("wide", config("llama", wide)));
    for (name, config) in models {
        let decoder = decoder(&config, 0.35, 13);
        let asks = asks(config.vocab_size);
        let expected: Vec<_> = asks.iter().map(|ask| alone(&decoder, ask)).collect();
        for (places, threads) in [(1, 1), (3, 2), (8, 2), (17, 1)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let sampled = pool.unwrap().install(|| {
                let mut batch = Batch::new(&decoder).unwrap();
                let mut waiting = asks.iter().cloned().enumerate();
                let mut sampled = BTreeMap::new();
                loop {
                    let room = places - batch.len();
                    let next: Vec<_> = waiting.by_ref().take(room).collect();
                    assert!(next.len() <= places);
                    batch.admit(next).unwrap();
                    sampled.extend(batch.finished());
                    if batch.is_empty() && sampled.len() == asks.len() {
                        return sampled;
                    }
                    batch.step().unwrap();
                    assert!(batch.len() <= places);
                    sampled.extend(batch.finished());
                }
            });
            let sampled: Vec<_> = sampled.into_values().collect();
            assert!(sampled == expected, "{name}, {places} places");
        }
    }
}

#[test]
fn what_nobody_wants_leaves_and_the_rest_goes_on() {
    let config = config("llama", json!({"max_position_embeddings": 64}));
    let decoder = decoder(&config, 0.35, 14);
    let params = Arc::new(SamplingParams {
        max_tokens: 12,
        ..SamplingParams::default()
    });
    let ask = |seed: u64| Ask {
        prompt: tokens(5, 11, seed),
        params: Arc::clone(&params),
        seed,
    };
    let mut batch = Batch::new(&decoder).unwrap();
    batch
        .admit((0..4).map(|key| (key, ask(key))).collect())
        .unwrap();
    batch.step().unwrap();
    batch.retain(|key| key % 2 == 1);
    assert_eq!((batch.len(), batch.finished().len()), (2, 0));
    // A place is used again; what is refused adds nothing.
    batch.admit(vec![(4, ask(4))]).unwrap();
    let long = Ask {
        prompt: vec![1; 64],
        ..ask(6)
    };
    let refused = batch.admit(vec![(5, ask(5)), (6, long)]).unwrap_err();
    assert!(
        refused.to_string().contains("prompt 1 has 64 tokens"),
        "{refused}"
    );
    let nothing = SamplingParams {
        max_tokens: 0,
        ..SamplingParams::default()
    };
    let none = Ask {
        params: Arc::new(nothing),
        ..ask(7)
    };
    batch.admit(vec![(7, none)]).unwrap();
    let mut sampled = BTreeMap::new();
    while !batch.is_empty() {
        batch.step().unwrap();
        sampled.extend(batch.finished());
    }
    let empty = sampled.remove(&7).unwrap();
    assert_eq!(
        (empty.tokens.len(), empty.finish_reason),
        (0, FinishReason::Length)
    );
    assert_eq!(sampled.keys().collect::<Vec<_>>(), [&1, &3, &4]);
    for (key, completion) in sampled {
        assert_eq!(completion, alone(&decoder, &ask(key)));
    }
}
