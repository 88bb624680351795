//! Indices of a decoder's parameters in the sorted parameter set.

use crate::config::DecoderConfig;
use crate::error::Result;
use crate::lora::{Adapter, Adapters};
use crate::params::ParamSet;

/// Indices of a decoder's parameters in the sorted parameter set.
#[derive(Debug, Clone)]
pub struct DecoderIndex {
    /// Parameters of each layer.
    pub layers: Vec<LayerIndex>,
    /// Embedding of the tokens.
    pub embedding: usize,
    /// Norm after the last layer.
    pub final_norm: usize,
    /// Weight of the head, which is the embedding if the two are tied.
    pub head: usize,
}

impl DecoderIndex {
    /// Finds the parameters of a decoder of this `config`.
    pub(crate) fn new(config: &DecoderConfig, params: &ParamSet) -> Result<Self> {
        let layers = (0..config.num_hidden_layers)
            .map(|layer| LayerIndex::new(params, None, layer))
            .collect::<Result<_>>()?;
        let embedding = params.require("model.embed_tokens.weight")?;
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            params.require("lm_head.weight")?
        };
        Ok(Self {
            layers,
            embedding,
            final_norm: params.require("model.norm.weight")?,
            head,
        })
    }
}

/// Indices of one layer's parameters in the sorted parameter set.
#[derive(Debug, Clone)]
pub struct LayerIndex {
    /// Norm before attention.
    pub input_norm: usize,
    /// Projection to queries.
    pub q: Projection,
    /// Projection to keys.
    pub k: Projection,
    /// Projection to values.
    pub v: Projection,
    /// Projection of what attention gives.
    pub o: Projection,
    /// Norm of each head's queries, if the model has one.
    pub q_norm: Option<usize>,
    /// Norm of each head's keys, if the model has one.
    pub k_norm: Option<usize>,
    /// Norm before the feed-forward part.
    pub post_norm: usize,
    /// Projection to the gate of SwiGLU.
    pub gate: Projection,
    /// Projection that the gate scales.
    pub up: Projection,
    /// Projection back to the residual stream.
    pub down: Projection,
}

/// Indices of one linear layer's parameters.
#[derive(Debug, Clone, Copy)]
pub struct Projection {
    /// Weight `[out, in]`.
    pub weight: usize,
    /// Bias `[out]`, if the layer has one.
    pub bias: Option<usize>,
    /// Low-rank adapter, if the layer has one; its indices are those of the adapters' set.
    pub adapter: Option<Adapter>,
}

impl LayerIndex {
    pub(crate) fn new(
        params: &ParamSet,
        adapters: Option<&Adapters>,
        layer: usize,
    ) -> Result<Self> {
        let at = |name: &str| params.require(&format!("model.layers.{layer}.{name}"));
        let optional = |name: &str| params.index(&format!("model.layers.{layer}.{name}"));
        let projection = |name: &str| -> Result<Projection> {
            let module = format!("model.layers.{layer}.{name}");
            Ok(Projection {
                weight: at(&format!("{name}.weight"))?,
                bias: optional(&format!("{name}.bias")),
                adapter: adapters.and_then(|adapters| adapters.of(&module)),
            })
        };
        Ok(Self {
            input_norm: at("input_layernorm.weight")?,
            q: projection("self_attn.q_proj")?,
            k: projection("self_attn.k_proj")?,
            v: projection("self_attn.v_proj")?,
            o: projection("self_attn.o_proj")?,
            q_norm: optional("self_attn.q_norm.weight"),
            k_norm: optional("self_attn.k_norm.weight"),
            post_norm: at("post_attention_layernorm.weight")?,
            gate: projection("mlp.gate_proj")?,
            up: projection("mlp.up_proj")?,
            down: projection("mlp.down_proj")?,
        })
    }
}
