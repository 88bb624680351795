use serde_json::{Value, json};

use super::*;

fn published() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 100,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0, "max_position_embeddings": 4096, "hidden_act": "silu",
        "eos_token_id": [7, 8], "torch_dtype": "bfloat16", "bos_token_id": 3,
    })
}

fn with(changes: &Value) -> Value {
    let mut config = published();
    config
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    config
}

fn parse(config: &Value) -> crate::Result<DecoderConfig> {
    DecoderConfig::from_json(config.to_string())
}

#[test]
fn published_configs_are_read() {
    let config = parse(&published()).unwrap();
    assert_eq!(
        (config.head_dim, config.query_width(), config.key_width()),
        (8, 64, 16)
    );
    assert_eq!(config.eos_token_id, [7, 8]);
    assert!(!config.attention_bias && !config.qk_norm && !config.tie_word_embeddings);
    let mut sparse = with(&json!({"architectures": ["LlamaForCausalLM"]}));
    for key in ["rms_norm_eps", "max_position_embeddings", "rope_theta"] {
        sparse.as_object_mut().unwrap().remove(key);
    }
    let sparse = parse(&sparse).unwrap();
    assert_eq!(
        (
            sparse.rms_norm_eps,
            sparse.max_position_embeddings,
            sparse.rope_theta
        ),
        (1e-6, 2048, 10_000.0),
        "transformers' defaults"
    );
    let qwen2 = parse(&with(
        &json!({"model_type": "qwen2", "sliding_window": 128}),
    ))
    .unwrap();
    assert!(qwen2.attention_bias && !qwen2.attention_output_bias);
    let qwen3 = parse(&with(&json!({"model_type": "qwen3", "head_dim": 32}))).unwrap();
    assert!(qwen3.qk_norm && qwen3.query_width() == 256);
}

#[test]
fn both_spellings_of_the_rotation_mean_the_same() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 512});
    let old = parse(&with(&json!({"rope_scaling": scaling}))).unwrap();
    let mut parameters = scaling;
    parameters["rope_theta"] = json!(500_000.0);
    let mut newer = with(&json!({"rope_parameters": parameters}));
    newer.as_object_mut().unwrap().remove("rope_theta");
    let newer = parse(&newer).unwrap();
    assert_eq!(old.rope_scaling, newer.rope_scaling);
    assert_eq!(old.rope_theta, newer.rope_theta);
    assert_eq!(
        old.rope_scaling.unwrap().original_max_position_embeddings,
        512
    );
}

#[test]
fn a_rotation_written_for_each_kind_of_layer_is_read() {
    let of_layers = |kind: &str| {
        let rotation = json!({"rope_type": "default", "rope_theta": 77.0});
        parse(&with(&json!({"rope_parameters": {kind: rotation}})))
    };
    assert_eq!(of_layers("full_attention").unwrap().rope_theta, 77.0);
    let message = of_layers("sliding_attention").unwrap_err().to_string();
    assert!(
        message.contains("rope_parameters.sliding_attention"),
        "{message}"
    );
}

#[test]
fn saving_keeps_foreign_keys_and_says_f32() {
    let json: Value = serde_json::from_str(&parse(&published()).unwrap().to_json()).unwrap();
    assert_eq!(json["bos_token_id"], 3);
    assert_eq!(json["torch_dtype"], "float32");
    assert_eq!(json["head_dim"], 8);
    let tiny = DecoderConfig::tiny(13);
    let again = DecoderConfig::from_json(tiny.to_json()).unwrap();
    assert_eq!(
        DecoderConfig {
            source: Map::new(),
            ..again
        },
        tiny
    );
}

#[test]
fn errors_name_the_key() {
    let cases = [
        ("model_type", json!({"model_type": "gpt2"}), "gpt2"),
        (
            "architectures",
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            "LlamaForCausalLM",
        ),
        ("hidden_size", json!({"hidden_size": "64"}), "no count"),
        ("hidden_size", json!({"hidden_size": null}), "missing"),
        (
            "num_hidden_layers",
            json!({"num_hidden_layers": 0}),
            "no count",
        ),
        (
            "num_key_value_heads",
            json!({"num_key_value_heads": 3}),
            "divide",
        ),
        ("head_dim", json!({"head_dim": 7}), "even"),
        ("hidden_act", json!({"hidden_act": "gelu"}), "gelu"),
        ("mlp_bias", json!({"mlp_bias": true}), "not supported"),
        (
            "tie_word_embeddings",
            json!({"tie_word_embeddings": 1}),
            "boolean",
        ),
        ("rms_norm_eps", json!({"rms_norm_eps": -1.0}), "above 0"),
        (
            "rope_scaling.rope_type",
            json!({"rope_scaling": {"rope_type": "yarn"}}),
            "yarn",
        ),
        (
            "rope_scaling.rope_type",
            json!({"rope_scaling": {"type": "linear"}}),
            "linear",
        ),
        (
            "rope_scaling.factor",
            json!({"rope_scaling": {"rope_type": "llama3"}}),
            "missing",
        ),
        (
            "sliding_window",
            json!({"model_type": "mistral", "sliding_window": 64}),
            "64",
        ),
        (
            "use_sliding_window",
            json!({"use_sliding_window": true}),
            "not supported",
        ),
        (
            "layer_types",
            json!({"layer_types": ["sliding_attention"]}),
            "sliding_attention",
        ),
        (
            "quantization_config",
            json!({"quantization_config": {"bits": 4}}),
            "quantised",
        ),
        ("eos_token_id", json!({"eos_token_id": "x"}), "token id"),
    ];
    for (key, change, problem) in cases {
        let message = parse(&with(&change)).unwrap_err().to_string();
        assert!(message.contains(&format!("key {key}:")), "{message}");
        assert!(message.contains(problem), "{message}");
    }
    assert!(
        DecoderConfig::from_json("[]")
            .unwrap_err()
            .to_string()
            .contains("object")
    );
    assert!(
        DecoderConfig::from_json("{")
            .unwrap_err()
            .to_string()
            .contains("JSON")
    );
}
