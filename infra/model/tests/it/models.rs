//! Small random models of every kind that the config can describe, and ways to train them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use vintage_control::{LoraSettings, Precision};
use vintage_model::{Compute, Decoder, DecoderConfig, ParamSet, Targets};

/// Returns a config of width 8, with two layers and four query and two key heads of width 4, with
/// `changes` applied.
pub(crate) fn config(model_type: &str, changes: Value) -> DecoderConfig {
    let mut config = json!({
        "model_type": model_type,
        "vocab_size": 11,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "rope_theta": 100.0,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 1024,
        "hidden_act": "silu",
    });
    let Value::Object(changes) = changes else {
        panic!("changes are an object")
    };
    config.as_object_mut().unwrap().extend(changes);
    DecoderConfig::from_json(config.to_string()).unwrap()
}

/// Returns one config per feature.
pub(crate) fn variants() -> Vec<(&'static str, DecoderConfig)> {
    let llama3 = json!({"rope_scaling": {"rope_type": "llama3", "factor": 4.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}});
    vec![
        ("grouped heads", config("llama", json!({}))),
        (
            "one head each",
            config("mistral", json!({"num_key_value_heads": 4})),
        ),
        (
            "tied",
            config("llama", json!({"tie_word_embeddings": true})),
        ),
        ("biases on q, k and v", config("qwen2", json!({}))),
        (
            "biases on q, k, v and o",
            config("llama", json!({"attention_bias": true})),
        ),
        (
            "norms on q and k",
            config("qwen3", json!({"tie_word_embeddings": true})),
        ),
        ("scaled rotation", config("llama", llama3)),
        (
            "one layer",
            config("qwen2", json!({"num_hidden_layers": 1})),
        ),
    ]
}

/// Returns a decoder with values far from the symmetric start of training, so that no gradient
/// vanishes by accident.
pub(crate) fn decoder(config: &DecoderConfig, deviation: f32, seed: u64) -> Decoder {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut params = ParamSet::zeros(config).unwrap();
    params
        .update(|name, _, values| {
            let centre = if name.ends_with("norm.weight") {
                1.0
            } else {
                0.0
            };
            for value in values {
                *value = centre + deviation * (rng.random::<f32>() - 0.5) * 3.5;
            }
        })
        .unwrap();
    Decoder::new(config.clone(), params).unwrap()
}

/// Returns `len` token ids below `vocab`.
pub(crate) fn tokens(len: usize, vocab: usize, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len)
        .map(|_| rng.random_range(0..vocab as u32))
        .collect()
}

/// Returns a target at each of `positions`, with temperatures from 0.6 to 1.4.
pub(crate) fn targets(positions: &[u32], vocab: usize, seed: u64) -> Targets {
    Targets {
        position: positions.to_vec(),
        token: tokens(positions.len(), vocab, seed),
        temperature: (0..positions.len())
            .map(|i| 0.6 + 0.2 * (i % 5) as f32)
            .collect(),
    }
}

/// Returns weights of the log-probs, of both signs.
pub(crate) fn weights(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 37 + 5) % 19) as f32 / 9.0 - 1.0)
        .collect()
}

/// Returns settings of adapters on the `modules`.
pub(crate) fn lora(rank: usize, modules: &[&str]) -> LoraSettings {
    LoraSettings {
        rank,
        alpha: 2.0 * rank as f64,
        target_modules: modules.iter().map(|&module| module.to_owned()).collect(),
    }
}

/// Returns settings of the arithmetic.
pub(crate) fn compute(precision: Precision, recompute: bool) -> Compute {
    Compute {
        precision,
        recompute,
    }
}

/// Adds adapters to every linear layer of a decoder, with a B that is not 0.
pub(crate) fn adapted(decoder: Decoder, seed: u64) -> Decoder {
    let all = LoraSettings {
        target_modules: LoraSettings::all_modules(),
        ..lora(3, &[])
    };
    let mut adapted = decoder.with_adapters(all, seed).unwrap();
    let mut draw = (0_u32..).map(|i| f32::from(i.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
    let trainable = adapted.trainable_mut();
    let changed = trainable.update(|name, _, values| {
        if name.ends_with("lora_B.weight") {
            values.fill_with(|| draw.next().unwrap_or_default() / 1024.0 - 0.125);
        }
    });
    changed.unwrap();
    adapted
}

/// Returns the L2 norm of the difference relative to that of the first.
pub(crate) fn off(expected: &[f32], found: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let norm: f64 = expected.iter().map(|&x| square(x)).sum();
    let error: f64 = expected.iter().zip(found).map(|(a, b)| square(a - b)).sum();
    assert!(norm > 0.0);
    (error / norm).sqrt()
}
