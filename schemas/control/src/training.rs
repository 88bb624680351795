use serde::{Deserialize, Serialize};

/// Part of the model that an update trains, and the way it computes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Precision of the matrix products.
    pub compute: Precision,
    /// True if activations were computed again in the backward pass instead of kept. The bits are
    /// the same; the flag is recorded so that a replay needs no more memory.
    pub recompute: bool,
    /// Adapters that are trained; `None` trains every parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSettings>,
}

impl Training {
    /// Returns true for the settings that a plan without `training` has: every parameter in f32,
    /// activations kept.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Type to which the factors of matrix products are rounded; parameters and moments stay f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Factors stay in f32.
    #[default]
    F32,
    /// Factors are rounded to bf16, and products are summed in f32.
    Bf16,
}

/// Low-rank adapters on a frozen model. A is drawn from the plan's seed, B begins as 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// Rank of the two factors.
    pub rank: usize,
    /// Scale α: the product of the two factors is multiplied by alpha / rank.
    pub alpha: f64,
    /// Names of the linear layers that have adapters.
    pub target_modules: Vec<String>,
}
