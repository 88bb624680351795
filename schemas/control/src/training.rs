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
    /// Precision of the weights that the update published, and of which its digest is; f32 is what
    /// is trained.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub publish: Precision,
}

impl Training {
    /// Returns true for the settings that a plan without `training` has: every parameter in f32,
    /// activations kept, f32 published.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Type to which the factors of matrix products, published weights, or log-probs of rollouts are
/// rounded; parameters and moments stay f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Values stay in f32.
    #[default]
    F32,
    /// Values are rounded to bf16, to the nearest and ties to even; sums are f32.
    Bf16,
}

impl Precision {
    /// Returns true for f32, which records leave out where it was once the only one.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
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

/// Linear layers that can have an adapter, as PEFT's `target_modules` names them.
const MODULES: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

impl LoraSettings {
    /// Every linear layer that can have an adapter.
    pub fn all_modules() -> Vec<String> {
        MODULES.map(str::to_owned).to_vec()
    }

    /// Finds the field that no decoder can have adapters with, and says what is wrong with it.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let unknown = self
            .target_modules
            .iter()
            .find(|module| !MODULES.contains(&module.as_str()));
        if self.rank == 0 {
            let problem = "a rank of 0 adds nothing; give at least 1";
            Some(("rank", problem.to_owned()))
        } else if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            Some(("alpha", format!("{} is not above 0", self.alpha)))
        } else if self.target_modules.is_empty() {
            let problem = format!("no target module; name some of {MODULES:?}");
            Some(("target_modules", problem))
        } else {
            unknown.map(|module| {
                let problem =
                    format!("there is no target module {module:?}; name some of {MODULES:?}");
                ("target_modules", problem)
            })
        }
    }
}
