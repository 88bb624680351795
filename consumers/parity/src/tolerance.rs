//! Tolerances of the comparison.
//!
//! The constants are bounds of f32 arithmetic against f64 results, for models of about 30 k
//! parameters. They are about five times the error of transformers in float32, and a tenth of the
//! effect of the smallest of the usual mistakes (an epsilon of the RMS norm ten times too large
//! moves logits by 4.7e-4).

use std::collections::BTreeMap;

use serde_json::Value;

/// Bound on the absolute error of logits.
pub(super) const LOGITS: f64 = 5e-5;
/// Bound on the absolute error of log-probs at temperature 1.
pub(super) const LOGPROBS: f64 = 3e-5;
/// Bound on the absolute error of log-probs at other temperatures, where they may be steeper in the
/// logits.
pub(super) const TEMPERED_LOGPROBS: f64 = 5e-5;
/// Bound on the absolute error of the loss.
pub(super) const LOSS: f64 = 2e-6;
/// Bound on the relative error of the gradient, tensor by tensor.
pub(super) const GRADIENT: f64 = 2e-5;
/// Bound on the relative error of the first gradient's norm.
pub(super) const NORM: f64 = 1e-5;
/// Bound on the relative error of the gradient norm at later steps.
pub(super) const LATER_NORM: f64 = 5e-5;
/// Bound on the 99.9th percentile of the absolute errors of parameters after steps.
pub(super) const STEP_P999: f64 = 2e-6;
/// Bound on the fraction of parameters that are off by more than 1e-6 after steps.
pub(super) const STEP_SHARE: f64 = 2e-3;
/// Bound on the absolute error of AdamW's first step from a given gradient.
pub(super) const ADAMW: f64 = 5e-7;

/// Factor by which our error may exceed the measured float32 error of transformers.
const ROOM: f64 = 5.0;

/// Errors of transformers in float32 against the oracle of one model, by dotted key; each is the
/// worst of its attention implementations. Empty if nobody measured them.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    errors: BTreeMap<String, f64>,
}

impl Measured {
    /// Reads the errors from a model's entry of `tolerances.json`.
    pub(super) fn of_model(entry: &Value) -> Self {
        let mut errors = BTreeMap::new();
        let ways = entry["float32_transformers"].as_object();
        for way in ways.into_iter().flat_map(|ways| ways.values()) {
            note(way, "", &mut errors);
        }
        Self { errors }
    }

    /// Returns the bound `ours`, or five times the error measured under `key` if that is larger.
    pub(super) fn or(&self, key: &str, ours: f64) -> f64 {
        let theirs = self.errors.get(key).copied().unwrap_or(0.0);
        ours.max(ROOM * theirs)
    }
}

/// Collects the numbers under `value` by dotted key; of a pair `[number, name]` it takes the
/// number. The largest number of a key is kept.
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
