//! M2PO's rules on arrays: the native part of `vintage.weigh`.

use std::collections::BTreeMap;

use pyo3::{prelude::*, types::PyDict};
use vintage_control::{Algorithm, AlgorithmName, M2Scope, UpdateNumber};
use vintage_learner::engine::rule;
use vintage_losses::{Real, Tokens};

use crate::{
    array::{Number, flags, incoming, outgoing},
    fault::usage,
};

/// Weighs one batch: mask, weight of every token, loss and statistics.
///
/// `new`, `behavior`, `advantage` (and `proximal`, for `m2po_areal`) are arrays `[N]` of float32, or
/// all of float64 if `wide`; `valid` is one of bytes, 0 or 1. `algorithm` is a dictionary as a plan
/// has it.
#[pyfunction]
#[pyo3(signature = (new, behavior, advantage, valid, *, algorithm, wide, proximal=None))]
pub(crate) fn weigh<'py>(
    new: &Bound<'py, PyAny>,
    behavior: &Bound<'py, PyAny>,
    advantage: &Bound<'py, PyAny>,
    valid: &Bound<'py, PyAny>,
    algorithm: AlgorithmSettings,
    wide: bool,
    proximal: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let arrays = Arrays {
        new,
        behavior,
        advantage,
        valid,
        proximal,
    };
    let algorithm = algorithm.parsed()?;
    if wide {
        arrays.weighed::<f64>(&algorithm)
    } else {
        arrays.weighed::<f32>(&algorithm)
    }
}

/// Algorithm of a plan.
#[derive(FromPyObject)]
pub(crate) struct AlgorithmSettings {
    #[pyo3(item)]
    name: String,
    #[pyo3(item)]
    m2_threshold: f64,
    #[pyo3(item)]
    clip_eps: f64,
    #[pyo3(item)]
    log_ratio_clamp: f64,
}

impl AlgorithmSettings {
    fn parsed(self) -> PyResult<Algorithm> {
        let name: AlgorithmName = serde_json::from_value(self.name.clone().into())
            .map_err(|error| usage(format!("rule {:?}: {error}", self.name)))?;
        Ok(Algorithm {
            name,
            m2_threshold: self.m2_threshold,
            clip_eps: self.clip_eps,
            log_ratio_clamp: self.log_ratio_clamp,
            loss: BTreeMap::new(),
            m2_scope: M2Scope::default(),
        })
    }
}

struct Arrays<'a, 'py> {
    new: &'a Bound<'py, PyAny>,
    behavior: &'a Bound<'py, PyAny>,
    advantage: &'a Bound<'py, PyAny>,
    valid: &'a Bound<'py, PyAny>,
    proximal: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Arrays<'_, 'py> {
    fn weighed<F: Real + Number>(&self, algorithm: &Algorithm) -> PyResult<Bound<'py, PyDict>> {
        let py = self.new.py();
        let new = column::<F>("new", self.new)?;
        let behavior = column::<F>("behavior", self.behavior)?;
        let advantage = column::<F>("advantage", self.advantage)?;
        let valid = column::<u8>("valid", self.valid)?;
        let valid: Vec<bool> = valid.into_iter().map(|flag| flag != 0).collect();
        let proximal = self.proximal.map(|array| column::<F>("proximal", array));
        let proximal = proximal.transpose()?;
        let is_areal = algorithm.name == AlgorithmName::M2poAreal;
        // Without settings of its own, no rule depends on the update.
        let rule = rule(algorithm, UpdateNumber(0));
        let clamp = algorithm.log_ratio_clamp;
        let weighed = py.detach(|| {
            let tokens = Tokens {
                new: &new,
                behavior: &behavior,
                advantage: &advantage,
                valid: &valid,
                prox: proximal.as_deref().or(is_areal.then_some(&new)),
                row_ends: None,
                scope: None,
                clamp,
            };
            vintage_losses::weigh(&rule, &tokens)
        });
        let weighed = weighed.map_err(|error| usage(error.to_string()))?;
        let stats = weighed.stats;
        let dict = PyDict::new(py);
        dict.set_item("mask", flags(py, &weighed.mask)?)?;
        dict.set_item("weights", outgoing(py, &weighed.weight)?)?;
        dict.set_item("loss", weighed.loss)?;
        dict.set_item("n_valid", stats.n_valid)?;
        dict.set_item("n_trust", stats.n_trust)?;
        dict.set_item("n_masked", stats.n_masked)?;
        dict.set_item("n_clipped", stats.n_clipped)?;
        dict.set_item("n_clamped", stats.n_clamped)?;
        dict.set_item("clip_frac", stats.clip_frac)?;
        dict.set_item("m2_trust_before", stats.m2_trust_before)?;
        dict.set_item("m2_trust_after", stats.m2_trust_after)?;
        dict.set_item("m2_all_before", stats.m2_all_before)?;
        dict.set_item("m2_all_after", stats.m2_all_after)?;
        dict.set_item("m2_rule_before", stats.m2_rule_before)?;
        dict.set_item("m2_rule_after", stats.m2_rule_after)?;
        dict.set_item("kl_k1", stats.kl_k1)?;
        dict.set_item("max_kept_log_ratio", stats.max_kept_log_ratio)?;
        Ok(dict)
    }
}

fn column<T: Number>(name: &str, array: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    let (shape, values) = incoming::<T>(array, || format!("`{name}`"))?;
    if shape.len() == 1 {
        Ok(values)
    } else {
        Err(usage(format!(
            "`{name}` has shape {shape:?}: it is to be [N]"
        )))
    }
}
