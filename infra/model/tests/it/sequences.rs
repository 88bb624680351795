//! Tests that neither packing nor sampling changes the results of a sequence.

use serde_json::json;
use vintage_model::{FinishReason, Packed, SamplingParams, Targets};

use crate::models::{config, decoder, targets, tokens, variants};

#[test]
fn packed_sequences_equal_each_alone() {
    for (name, config) in variants() {
        let decoder = decoder(&config, 0.35, 5);
        // The sequence of 90 tokens uses the kernel for long sequences.
        let rows: Vec<_> = [3, 90, 1, 17, 64]
            .iter()
            .map(|&len| tokens(len, config.vocab_size, len as u64))
            .collect();
        let packed = Packed::new(&rows);
        let all: Vec<u32> = (0..packed.tokens.len() as u32).collect();
        let targets = targets(&all, config.vocab_size, 3);
        let together = decoder.score(&packed, &targets).unwrap();
        for (row, bounds) in rows.iter().zip(packed.starts.windows(2)) {
            let range = bounds[0]..bounds[1];
            let own = Targets {
                position: (0..row.len() as u32).collect(),
                token: targets.token[range.clone()].to_vec(),
                temperature: targets.temperature[range.clone()].to_vec(),
            };
            let alone = decoder.score(&Packed::new([row]), &own).unwrap();
            for (a, b) in together.logprob[range].iter().zip(&alone.logprob) {
                assert!((a - b).abs() < 5e-6, "{name}: {a} {b}");
            }
        }
    }
}

#[test]
fn sampled_log_probs_equal_a_full_forward_pass() {
    for (name, config) in variants() {
        let decoder = decoder(&config, 0.35, 6);
        let prompts: Vec<_> = [4, 1, 20, 4, 70]
            .iter()
            .enumerate()
            .map(|(i, &len)| tokens(len, config.vocab_size, i as u64))
            .collect();
        for (temperature, top_p, top_k) in [(1.0, 1.0, 0), (0.7, 0.9, 0), (1.3, 1.0, 3)] {
            let params = SamplingParams {
                temperature,
                top_p,
                top_k,
                max_tokens: 40,
                stop: vec![2],
            };
            let completions = decoder
                .generate(&prompts, &params, &[1, 2, 3, 4, 5])
                .unwrap();
            let mut packed = Packed::new::<[u32; 0]>([]);
            let mut targets = Targets::default();
            let mut sampled: Vec<f32> = Vec::new();
            for (prompt, completion) in prompts.iter().zip(&completions) {
                let last = completion.tokens.last().copied();
                let ended = completion.finish_reason;
                assert_eq!(ended == FinishReason::Stop, last == Some(2), "{name}");
                assert!(
                    ended == FinishReason::Stop || completion.tokens.len() == 40,
                    "{name}"
                );
                assert_eq!(completion.tokens.len(), completion.logprobs.len());
                for (i, &token) in completion.tokens.iter().enumerate() {
                    let at = packed.tokens.len() + prompt.len() + i - 1;
                    targets.position.push(at as u32);
                    targets.token.push(token);
                    targets.temperature.push(temperature);
                }
                sampled.extend(&completion.logprobs);
                let tokens = prompt.iter().chain(&completion.tokens);
                packed.push(tokens.copied(), None);
            }
            let scored = decoder.score(&packed, &targets).unwrap();
            for (a, b) in sampled.iter().zip(&scored.logprob) {
                assert!((a - b).abs() < 2e-5, "{name}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_row_draws_from_its_own_seed() {
    let config = config("llama", json!({}));
    let decoder = decoder(&config, 0.35, 7);
    let prompt = tokens(5, 11, 1);
    let others: Vec<_> = (0..9).map(|i| tokens(3 + i, 11, i as u64)).collect();
    let params = SamplingParams {
        max_tokens: 12,
        ..SamplingParams::default()
    };
    let alone = decoder
        .generate(std::slice::from_ref(&prompt), &params, &[42])
        .unwrap();
    for place in [0, 4, 9] {
        let mut prompts = others.clone();
        prompts.insert(place, prompt.clone());
        let mut seeds: Vec<u64> = (100..109).collect();
        seeds.insert(place, 42);
        let together = decoder.generate(&prompts, &params, &seeds).unwrap();
        assert_eq!(together[place], alone[0]);
    }
    let group = vec![prompt; 3];
    let same = decoder.generate(&group, &params, &[42, 43, 42]).unwrap();
    assert_eq!(same[0], same[2]);
    assert_ne!(same[0].tokens, same[1].tokens);
    assert_eq!(same[0], alone[0]);
}

#[test]
fn greedy_is_top_1() {
    let config = config("qwen3", json!({}));
    let decoder = decoder(&config, 0.5, 8);
    let prompts = [tokens(5, 11, 1), tokens(9, 11, 2)];
    let greedy = SamplingParams {
        temperature: 0.0,
        max_tokens: 20,
        ..Default::default()
    };
    let top_1 = SamplingParams {
        top_k: 1,
        max_tokens: 20,
        ..Default::default()
    };
    let greedy = decoder.generate(&prompts, &greedy, &[0, 0]).unwrap();
    assert_eq!(greedy, decoder.generate(&prompts, &top_1, &[8, 9]).unwrap());
}

#[test]
fn a_completion_ends_with_the_context() {
    let config = config("llama", json!({"max_position_embeddings": 10}));
    let decoder = decoder(&config, 0.35, 9);
    let params = SamplingParams {
        max_tokens: 50,
        ..SamplingParams::default()
    };
    let completions = decoder
        .generate(&[tokens(4, 11, 1), tokens(9, 11, 2)], &params, &[1, 2])
        .unwrap();
    assert_eq!(
        [completions[0].tokens.len(), completions[1].tokens.len()],
        [6, 1]
    );
    assert!(
        completions
            .iter()
            .all(|c| c.finish_reason == FinishReason::Length)
    );
}

#[test]
fn unusable_inputs_are_refused_with_a_reason() {
    let config = config("llama", json!({"max_position_embeddings": 10}));
    let mut decoder = decoder(&config, 0.35, 10);
    let one = SamplingParams {
        max_tokens: 1,
        ..SamplingParams::default()
    };
    let refused = |prompts: &[Vec<u32>], params: &SamplingParams, seeds: &[u64]| {
        decoder
            .generate(prompts, params, seeds)
            .unwrap_err()
            .to_string()
    };
    let mut messages = vec![
        ("leaves no room", refused(&[vec![1; 10]], &one, &[1])),
        (
            "prompt 1 has no token",
            refused(&[vec![1], vec![]], &one, &[1, 2]),
        ),
        ("token 11", refused(&[vec![11]], &one, &[1])),
        ("one seed per prompt", refused(&[vec![1]], &one, &[])),
        (
            "top_p",
            refused(
                &[vec![1]],
                &SamplingParams {
                    top_p: 0.0,
                    ..one.clone()
                },
                &[1],
            ),
        ),
        (
            "top_k",
            refused(
                &[vec![1]],
                &SamplingParams {
                    top_k: -1,
                    ..one.clone()
                },
                &[1],
            ),
        ),
        (
            "temperature",
            refused(
                &[vec![1]],
                &SamplingParams {
                    temperature: f32::NAN,
                    ..one.clone()
                },
                &[1],
            ),
        ),
    ];
    let packed = Packed::new([[1, 2, 3]]);
    let scored = |packed: &Packed, position: u32, token: u32, temperature: f32| {
        let targets = Targets {
            position: vec![position],
            token: vec![token],
            temperature: vec![temperature],
        };
        decoder.score(packed, &targets).unwrap_err().to_string()
    };
    let gap = Packed {
        tokens: vec![1, 2],
        starts: vec![0, 0, 2],
        continues: vec![None; 2],
    };
    let short = Packed {
        tokens: vec![1, 2],
        starts: vec![0, 1],
        continues: vec![None],
    };
    messages.extend([
        ("position 3 of 3", scored(&packed, 3, 1, 1.0)),
        ("vocabulary of 11", scored(&packed, 0, 11, 1.0)),
        ("temperature 0", scored(&packed, 0, 1, 0.0)),
        (
            "vocabulary of 11",
            scored(&Packed::new([[1, 99]]), 0, 1, 1.0),
        ),
        ("context of 10", scored(&Packed::new([[1; 11]]), 0, 1, 1.0)),
        ("sequence 0 has no token", scored(&gap, 0, 1, 1.0)),
        ("starts must run", scored(&short, 0, 1, 1.0)),
    ]);
    decoder
        .params_mut()
        .update(|_, _, values| values.fill(f32::NAN))
        .unwrap();
    let message = decoder
        .generate(&[vec![1]], &one, &[1])
        .unwrap_err()
        .to_string();
    messages.push(("not finite", message));
    for (expected, message) in messages {
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn broken_weights_give_nan_and_no_panic() {
    let config = config("llama", json!({}));
    let mut decoder = decoder(&config, 0.35, 12);
    let update = |name: &str, _: &[usize], values: &mut [f32]| {
        if name == "model.layers.0.self_attn.v_proj.weight" {
            values[3] = f32::NAN;
        }
    };
    decoder.params_mut().update(update).unwrap();
    let scored = decoder
        .score(&Packed::new([[1, 2, 3]]), &targets(&[2], 11, 1))
        .unwrap();
    assert!(scored.logprob[0].is_nan());
}

/// Invariant of sampling: tokens and log-probs are a function of weights, prompt and seed. Each row
/// is sampled alone on one thread, then among others in several orders, with the prompt shared or
/// not, on 1, 2 and 4 threads.
#[test]
fn a_sample_has_the_same_bits_in_any_company_at_any_thread_count() {
    let wide = config(
        "qwen3",
        json!({"hidden_size": 96, "intermediate_size": 272, "num_attention_heads": 6,
            "num_key_value_heads": 2, "head_dim": 24, "vocab_size": 5003, "attention_bias": true}),
    );
    let mut models = variants();
    models.push(("wide", wide));
    for (name, config) in models {
        let decoder = decoder(&config, 0.35, 11);
        let lens = [3, 70, 1, 16, 33];
        let prompt = |which: usize| tokens(lens[which], config.vocab_size, which as u64);
        // Rows share prompts unevenly: 0 alone, 1 twice, and so on.
        let rows: Vec<(Vec<u32>, u64)> = (0..13)
            .map(|row| {
                (
                    prompt([0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4][row]),
                    row as u64,
                )
            })
            .collect();
        let params = SamplingParams {
            max_tokens: 9,
            stop: vec![2],
            ..SamplingParams::default()
        };
        let sampled = |threads: usize, rows: &[(Vec<u32>, u64)]| {
            let (prompts, seeds): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let completions = pool.install(|| decoder.generate(&prompts, &params, &seeds));
            let bits = completions.unwrap().into_iter().map(|row| {
                let logprobs: Vec<_> = row.logprobs.iter().map(|x| x.to_bits()).collect();
                (row.tokens, logprobs)
            });
            bits.collect::<Vec<_>>()
        };
        let alone: Vec<_> = rows
            .iter()
            .flat_map(|row| sampled(1, std::slice::from_ref(row)))
            .collect();
        for threads in [1, 2, 4] {
            for (step, count) in [(1, 13), (5, 13), (6, 7), (4, 2)] {
                let order: Vec<_> = (0..count).map(|i| (i * step) % 13).collect();
                let some: Vec<_> = order.iter().map(|&row| rows[row].clone()).collect();
                for (place, found) in order.iter().zip(sampled(threads, &some)) {
                    assert!(
                        alone[*place] == found,
                        "{name}: row {place} of {order:?}, {threads} threads"
                    );
                }
            }
        }
    }
}
