//! Tests of the forward pass against the models of candle-transformers, an independent
//! implementation.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, qwen2, qwen3};
use serde_json::json;
use vintage_model::{Decoder, DecoderConfig, Packed};

use crate::models::{config, decoder, tokens};

/// Sequence lengths, short and long enough for both attention kernels.
const LENS: [usize; 4] = [1, 9, 64, 100];

fn vars(decoder: &Decoder) -> VarBuilder<'static> {
    let tensors: HashMap<String, Tensor> = decoder
        .params()
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
        .collect();
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// Compares the logits after the last token of sequences of several lengths.
fn compare(decoder: &Decoder, mut theirs: impl FnMut(&Tensor) -> Tensor) {
    for len in LENS {
        let tokens = tokens(len, decoder.config().vocab_size, len as u64);
        let packed = Packed::new([&tokens]);
        let ours = decoder.logits(&packed, &[len as u32 - 1]).unwrap();
        let input = Tensor::new(tokens, &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let theirs: Vec<f32> = theirs(&input).flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!(
                (ours - theirs).abs() < 5e-5,
                "{len} tokens: {ours} {theirs}"
            );
        }
    }
}

fn sizes() -> serde_json::Value {
    json!({"hidden_size": 32, "intermediate_size": 48, "head_dim": 8, "vocab_size": 40,
        "rope_theta": 10_000.0})
}

fn sized(model_type: &str, changes: &serde_json::Value) -> DecoderConfig {
    let mut all = sizes();
    all.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    config(model_type, all)
}

#[test]
fn qwen2_agrees() {
    let config = sized("qwen2", &json!({}));
    let decoder = decoder(&config, 0.25, 1);
    let theirs = qwen2::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        max_position_embeddings: config.max_position_embeddings,
        sliding_window: config.max_position_embeddings,
        max_window_layers: config.num_hidden_layers,
        tie_word_embeddings: false,
        rope_theta: config.rope_theta,
        rms_norm_eps: config.rms_norm_eps,
        use_sliding_window: false,
        hidden_act: candle_nn::Activation::Silu,
    };
    let mut model = qwen2::ModelForCausalLM::new(&theirs, vars(&decoder)).unwrap();
    compare(&decoder, |input| {
        model.clear_kv_cache();
        model.forward(input, 0).unwrap()
    });
}

#[test]
fn qwen3_agrees() {
    let config = sized("qwen3", &json!({"tie_word_embeddings": true}));
    let decoder = decoder(&config, 0.25, 2);
    let theirs = qwen3::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        head_dim: config.head_dim,
        attention_bias: false,
        num_key_value_heads: config.num_key_value_heads,
        max_position_embeddings: config.max_position_embeddings,
        sliding_window: None,
        max_window_layers: config.num_hidden_layers,
        tie_word_embeddings: true,
        rope_theta: config.rope_theta,
        rms_norm_eps: config.rms_norm_eps,
        use_sliding_window: false,
        hidden_act: candle_nn::Activation::Silu,
    };
    let mut model = qwen3::ModelForCausalLM::new(&theirs, vars(&decoder)).unwrap();
    compare(&decoder, |input| {
        model.clear_kv_cache();
        model.forward(input, 0).unwrap()
    });
}

#[test]
fn llama_agrees_with_and_without_scaled_rotation() {
    let scaling = json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}});
    for changes in [json!({}), scaling] {
        let config = sized("llama", &changes);
        let decoder = decoder(&config, 0.25, 3);
        let theirs = llama::Config {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            vocab_size: config.vocab_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            use_flash_attn: false,
            rms_norm_eps: config.rms_norm_eps,
            rope_theta: config.rope_theta as f32,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling: config.rope_scaling.map(|scaling| llama::Llama3RopeConfig {
                factor: scaling.factor as f32,
                low_freq_factor: scaling.low_freq_factor as f32,
                high_freq_factor: scaling.high_freq_factor as f32,
                original_max_position_embeddings: scaling.original_max_position_embeddings,
                rope_type: llama::Llama3RopeType::Llama3,
            }),
            max_position_embeddings: config.max_position_embeddings,
            tie_word_embeddings: false,
        };
        let model = llama::Llama::load(vars(&decoder), &theirs).unwrap();
        compare(&decoder, |input| {
            let mut cache = llama::Cache::new(false, DType::F32, &theirs, &Device::Cpu).unwrap();
            model.forward(input, 0, &mut cache).unwrap()
        });
    }
}
