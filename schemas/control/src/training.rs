use serde::{Deserialize, Serialize};

/// What of the model an update trains, and how it computes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Precision of the matrix products.
    pub compute: Precision,
    /// Whether activations were computed again in the backward pass instead of kept: the same
    /// bits, noted so that a replay needs no more memory.
    pub recompute: bool,
    /// The adapters that are trained; `None` trains every parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSettings>,
}

impl Training {
    /// Whether it is what plans without it mean: every parameter in f32, activations kept.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the factors of matrix products are rounded to; parameters and moments stay f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not rounded.
    #[default]
    F32,
    /// bf16, products summed in f32.
    Bf16,
}

/// Low-rank adapters on a frozen model. A is drawn from the plan's seed, B begins as 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// Rank of the two factors.
    pub rank: usize,
    /// Their product is scaled by alpha / rank.
    pub alpha: f64,
    /// Linear layers that have adapters.
    pub target_modules: Vec<String>,
}
