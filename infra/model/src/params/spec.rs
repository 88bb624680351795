use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::config::DecoderConfig;

/// Name and shape of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    name: String,
    shape: Vec<usize>,
}

impl ParamSpec {
    pub(crate) fn new(name: String, shape: Vec<usize>) -> Self {
        Self { name, shape }
    }

    /// Returns the name, as in Hugging Face checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the shape, outer dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns true if the parameter has no values, which never holds for a model that was loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns every parameter that `config` requires, sorted by name. A tied head has no parameter.
pub(super) fn of(config: &DecoderConfig) -> Vec<ParamSpec> {
    let mut specs = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        specs.push(ParamSpec {
            name,
            shape: shape.to_vec(),
        });
    };
    let (width, hidden) = (config.hidden_size, config.intermediate_size);
    let (queries, keys) = (config.query_width(), config.key_width());
    add(
        "model.embed_tokens.weight".to_owned(),
        &[config.vocab_size, width],
    );
    add("model.norm.weight".to_owned(), &[width]);
    if !config.tie_word_embeddings {
        add("lm_head.weight".to_owned(), &[config.vocab_size, width]);
    }
    for layer in 0..config.num_hidden_layers {
        let mut add =
            |name: &str, shape: &[usize]| add(format!("model.layers.{layer}.{name}"), shape);
        add("input_layernorm.weight", &[width]);
        add("post_attention_layernorm.weight", &[width]);
        add("self_attn.q_proj.weight", &[queries, width]);
        add("self_attn.k_proj.weight", &[keys, width]);
        add("self_attn.v_proj.weight", &[keys, width]);
        add("self_attn.o_proj.weight", &[width, queries]);
        if config.attention_bias {
            add("self_attn.q_proj.bias", &[queries]);
            add("self_attn.k_proj.bias", &[keys]);
            add("self_attn.v_proj.bias", &[keys]);
        }
        if config.attention_output_bias {
            add("self_attn.o_proj.bias", &[width]);
        }
        if config.qk_norm {
            add("self_attn.q_norm.weight", &[config.head_dim]);
            add("self_attn.k_norm.weight", &[config.head_dim]);
        }
        add("mlp.gate_proj.weight", &[hidden, width]);
        add("mlp.up_proj.weight", &[hidden, width]);
        add("mlp.down_proj.weight", &[width, hidden]);
    }
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    specs
}

/// Draws `len` values of a normal distribution of mean 0, by the Box–Muller transform.
pub(super) fn normals(rng: &mut ChaCha8Rng, deviation: f64, len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len + 1);
    while values.len() < len {
        // 1 − u is in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * deviation;
        let (sin, cos) = (rng.random::<f64>() * std::f64::consts::TAU).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(len);
    values
}
