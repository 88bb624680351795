//! Results of the other implementation for the M2PO loss and AdamW's steps.

use serde::Deserialize;
use vintage_control::OptimizerSettings;
use vintage_losses::Stats;

use crate::difference::Mismatches;

/// Results that the oracle has for a batch: `m2po.json`.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) tau: f64,
    pub(crate) adamw: Optimizer,
    pub(crate) loss: f64,
    pub(crate) grad_norm: f64,
    pub(crate) m2po: Counts,
    #[serde(default)]
    pub(crate) steps_decay_2d: Vec<Step>,
    #[serde(default)]
    pub(crate) steps_decay_all: Vec<Step>,
}

/// Settings of AdamW, as the oracle names them.
#[derive(Deserialize)]
pub(crate) struct Optimizer {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    clip: f64,
}

/// Counts of tokens that the rule makes of a batch.
#[derive(Deserialize)]
pub(crate) struct Counts {
    #[serde(rename = "n_valid")]
    valid: usize,
    #[serde(rename = "n_trust")]
    trust: usize,
    #[serde(rename = "n_masked")]
    masked: usize,
}

/// Results of one step of AdamW.
#[derive(Deserialize)]
pub(crate) struct Step {
    #[serde(rename = "step")]
    pub(crate) number: u64,
    pub(crate) loss: f64,
    pub(crate) grad_norm: f64,
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

impl Optimizer {
    /// Returns the settings with vectors that decay, or do not.
    pub(crate) fn settings(&self, decay_vectors: bool) -> OptimizerSettings {
        OptimizerSettings {
            lr: self.lr,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            decay_vectors,
            grad_clip: self.clip,
        }
    }
}

impl Counts {
    pub(crate) fn compare(&self, stats: &Stats, place: &str, seen: &mut Mismatches) {
        for (name, found, expected) in [
            ("n_valid", stats.n_valid, self.valid),
            ("n_trust", stats.n_trust, self.trust),
            ("n_masked", stats.n_masked, self.masked),
        ] {
            seen.see(&(found as usize), &expected, &format!("{place}, {name}"));
        }
    }
}
