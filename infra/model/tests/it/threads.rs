//! Tests of invariant 6: the weights are the same bit for bit at any number of threads.

use serde_json::json;
use vintage_control::Precision;
use vintage_model::{Decoder, DecoderConfig, Gradients, Packed, SamplingParams};

use crate::models::{adapted, compute, config, decoder, targets, tokens, weights};

/// Returns a model and rows large enough that every kernel splits its work for the thread pool:
/// 6000 tokens, with a sequence of 700 for the blocked attention and 900 short ones for the other.
fn large() -> (DecoderConfig, Vec<Vec<u32>>) {
    let config = config(
        "qwen3",
        json!({"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 8,
            "num_key_value_heads": 2, "head_dim": 24, "vocab_size": 5000, "attention_bias": true}),
    );
    let lens = [700]
        .into_iter()
        .chain((0..900).map(|i| 1 + i % 12))
        .chain([65]);
    let rows = lens
        .enumerate()
        .map(|(i, len)| tokens(len, 5000, i as u64))
        .collect();
    (config, rows)
}

/// Returns a model and rows below every threshold, whose results must not depend on the pool
/// either.
fn small() -> (DecoderConfig, Vec<Vec<u32>>) {
    (
        DecoderConfig::tiny(13),
        (0..16).map(|i| tokens(12, 13, i)).collect(),
    )
}

/// Returns the bits of everything a step computes: scores, sampled tokens, and the weights after
/// it.
fn step(mut decoder: Decoder, rows: &[Vec<u32>]) -> Vec<u32> {
    let packed = Packed::new(rows);
    let vocab = decoder.config().vocab_size;
    let read: Vec<u32> = (0..packed.tokens.len() as u32)
        .filter(|i| i % 3 != 0)
        .collect();
    let targets = targets(&read, vocab, 1);
    let (scored, tape) = decoder.forward(&packed, &targets).unwrap();
    let mut grads = Gradients::zeros_like(decoder.trainable()).unwrap();
    decoder
        .backward(tape, &weights(read.len()), &mut grads)
        .unwrap();
    let mut bits: Vec<u32> = [scored.logprob, scored.entropy]
        .concat()
        .iter()
        .map(|x| x.to_bits())
        .collect();
    decoder
        .trainable_mut()
        .update(|name, _, values| {
            let grad = grads.get(name).unwrap();
            values
                .iter_mut()
                .zip(grad.iter())
                .for_each(|(value, grad)| *value -= 1e-4 * grad);
        })
        .unwrap();
    // The bytes have adapters merged in, like those an engine loads.
    let bytes = decoder.to_safetensors().unwrap();
    let words = bytes.as_chunks::<4>().0.iter();
    bits.extend(words.map(|word| u32::from_le_bytes(*word)));
    let sampling = SamplingParams {
        max_tokens: 3,
        ..SamplingParams::default()
    };
    let prompts: Vec<_> = rows.iter().take(200).cloned().collect();
    let seeds: Vec<u64> = (0..prompts.len() as u64).collect();
    for completion in decoder.generate(&prompts, &sampling, &seeds).unwrap() {
        bits.extend(&completion.tokens);
        bits.extend(completion.logprobs.iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn one_two_and_eight_threads_give_the_same_bits() {
    use Precision::{Bf16, F32};
    for (config, rows) in [large(), small()] {
        for (precision, recompute, lora) in
            [(F32, false, false), (F32, true, true), (Bf16, true, false)]
        {
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| {
                    let mut decoder = decoder(&config, 0.1, 3);
                    if lora {
                        decoder = adapted(decoder, 1);
                    }
                    decoder.set_compute(compute(precision, recompute));
                    step(decoder, &rows)
                })
            };
            let mode = format!("{precision:?}, recompute {recompute}, adapters {lora}");
            let one = with(1);
            assert!(one == with(2), "{mode}: 2 threads differ from 1");
            assert!(one == with(8), "{mode}: 8 threads differ from 1");
        }
    }
}
