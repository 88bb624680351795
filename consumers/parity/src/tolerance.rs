//! How far off a quantity may be.
//!
//! The constants are bounds of f32 arithmetic against f64 results, for models of some 30 k
//! parameters: about five times what transformers is off in float32, and a tenth of what the
//! smallest of the usual mistakes costs (an epsilon of the RMS norm ten times too large moves
//! logits by 4.7e-4).

use std::collections::BTreeMap;

use serde_json::Value;

/// Logits, absolute.
pub(super) const LOGITS: f64 = 5e-5;
/// Log-probs at temperature 1, absolute.
pub(super) const LOGPROBS: f64 = 3e-5;
/// Log-probs at other temperatures, where they may be steeper in the logits.
pub(super) const TEMPERED_LOGPROBS: f64 = 5e-5;
/// Loss, absolute.
pub(super) const LOSS: f64 = 2e-6;
/// Gradient, by tensor.
pub(super) const GRADIENT: f64 = 2e-5;
/// Norm of the first gradient, relative.
pub(super) const NORM: f64 = 1e-5;
/// Norm of the gradient at later steps, relative.
pub(super) const LATER_NORM: f64 = 5e-5;
/// Parameters after steps, 99.9th percentile.
pub(super) const STEP_P999: f64 = 2e-6;
/// Share of parameters off by more than 1e-6 after steps.
pub(super) const STEP_SHARE: f64 = 2e-3;
/// AdamW's first step from a given gradient, absolute.
pub(super) const ADAMW: f64 = 5e-7;

/// Times what transformers itself was off in float32 that we may be.
const ROOM: f64 = 5.0;

/// What transformers in float32 was off from the oracle of one model, by dotted key, the worst of
/// its attention implementations. Empty where nobody measured it.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    errors: BTreeMap<String, f64>,
}

impl Measured {
    /// From a model's entry of `tolerances.json`.
    pub(super) fn of_model(entry: &Value) -> Self {
        let mut errors = BTreeMap::new();
        let ways = entry["float32_transformers"].as_object();
        for way in ways.into_iter().flat_map(|ways| ways.values()) {
            note(way, "", &mut errors);
        }
        Self { errors }
    }

    /// The bound `ours`, or five times what was measured under `key` where that is more.
    pub(super) fn or(&self, key: &str, ours: f64) -> f64 {
        let theirs = self.errors.get(key).copied().unwrap_or(0.0);
        ours.max(ROOM * theirs)
    }
}

/// Numbers under `value` by dotted key; of `[number, name]` the number.
fn note(value: &Value, key: &str, errors: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let dot = if key.is_empty() { "" } else { "." };
                note(value, &format!("{key}{dot}{name}"), errors);
            }
        }
        Value::Array(pair) => note(pair.first().unwrap_or(&Value::Null), key, errors),
        _ => {
            if let Some(number) = value.as_f64() {
                let worst = errors.entry(key.to_owned()).or_insert(0.0);
                *worst = worst.max(number);
            }
        }
    }
}
