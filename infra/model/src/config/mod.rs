//! Model configuration: `config.json` of the supported decoder families.

mod parse;
pub(crate) use parse::token_ids_in;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

/// Architecture family, which is Hugging Face's `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    /// Llama 2, 3, 3.1 and 3.2.
    Llama,
    /// Mistral without a sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: RMS norm of every query and key head.
    Qwen3,
}

impl ModelType {
    /// Returns the value of `model_type` in `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// Frequency scaling of Llama 3.1 and later (`rope_type = "llama3"`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Scaling {
    /// Divisor of the frequencies whose wavelength exceeds `original / low_freq_factor`.
    pub factor: f64,
    /// Factor that bounds the long wavelengths: those over `original / low_freq_factor` are scaled
    /// in full.
    pub low_freq_factor: f64,
    /// Factor that bounds the short wavelengths: those under `original / high_freq_factor` are
    /// kept.
    pub high_freq_factor: f64,
    /// Context length of the pretraining, in tokens.
    pub original_max_position_embeddings: usize,
}

/// Shape and constants of a decoder. Fields are named as in `config.json`.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the keys of config.json are what they are"
)]
pub struct DecoderConfig {
    /// Architecture family.
    pub model_type: ModelType,
    /// Number of rows of the embedding; at least the tokenizer's size.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU's inner layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; an even number.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Frequency scaling, if the model has any.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Constant ε added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// True if the head shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// True if the q, k and v projections have biases.
    pub attention_bias: bool,
    /// True if the attention's output projection has a bias.
    pub attention_output_bias: bool,
    /// True if every query and key head is RMS-normalized before the rotation.
    pub qk_norm: bool,
    /// Maximum context length in tokens.
    pub max_position_embeddings: usize,
    /// Token ids that end a completion.
    pub eos_token_id: Vec<u32>,
    /// Every key as it was read, so that saving preserves keys that this crate does not use.
    source: Map<String, Value>,
}

impl DecoderConfig {
    /// Returns the shape of the project's tiny policy: Llama-style, width 64, two layers of four
    /// heads, an untied head, about 0.1 M parameters.
    pub fn tiny(vocab_size: usize) -> Self {
        Self {
            model_type: ModelType::Llama,
            vocab_size,
            hidden_size: 64,
            intermediate_size: 176,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 16,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            attention_bias: false,
            attention_output_bias: false,
            qk_norm: false,
            max_position_embeddings: 512,
            eos_token_id: Vec::new(),
            source: Map::new(),
        }
    }

    /// Returns the width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Returns the width of all key heads together.
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Serializes to `config.json` as Hugging Face transformers and vLLM read it, keys sorted.
    pub fn to_json(&self) -> String {
        let mut map = self.source.clone();
        let mut set = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        set("model_type", json!(self.model_type.as_str()));
        set("architectures", json!([self.model_type.architecture()]));
        set("vocab_size", json!(self.vocab_size));
        set("hidden_size", json!(self.hidden_size));
        set("intermediate_size", json!(self.intermediate_size));
        set("num_hidden_layers", json!(self.num_hidden_layers));
        set("num_attention_heads", json!(self.num_attention_heads));
        set("num_key_value_heads", json!(self.num_key_value_heads));
        // Published configs of Qwen2 have no `head_dim`.
        if self.model_type != ModelType::Qwen2 || self.query_width() != self.hidden_size {
            set("head_dim", json!(self.head_dim));
        }
        set("hidden_act", json!("silu"));
        set("rms_norm_eps", json!(self.rms_norm_eps));
        set("tie_word_embeddings", json!(self.tie_word_embeddings));
        set(
            "max_position_embeddings",
            json!(self.max_position_embeddings),
        );
        // Weights are always saved as f32; both spellings of the key are in use.
        set("torch_dtype", json!("float32"));
        set("dtype", json!("float32"));
        if self.model_type != ModelType::Qwen2 {
            set("attention_bias", json!(self.attention_bias));
        }
        match self.eos_token_id.as_slice() {
            [] => {}
            [one] => set("eos_token_id", json!(one)),
            many => set("eos_token_id", json!(many)),
        }
        // The published spelling; transformers 5 reads it as well as `rope_parameters`.
        map.remove("rope_parameters");
        map.insert("rope_theta".to_owned(), json!(self.rope_theta));
        let scaling = self.rope_scaling.map(|scaling| {
            json!({
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_max_position_embeddings,
            })
        });
        map.insert("rope_scaling".to_owned(), json!(scaling));
        let mut text = format!("{:#}", Value::Object(map));
        text.push('\n');
        text
    }
}
