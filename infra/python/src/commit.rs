//! Outcome of an update as Python gives it, checked before anything of it is used.

use std::collections::BTreeMap;

use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};
use vintage_learner::Moments;
use vintage_losses::Stats;
use vintage_model::ParamSpec;

use crate::{array::incoming, engine::Committed, fault::usage};

/// Numbers of an update besides its parameters.
#[derive(Clone, Copy, FromPyObject)]
pub(crate) struct Numbers {
    /// Number of steps that the optimizer has taken.
    #[pyo3(item)]
    steps: u64,
    #[pyo3(item)]
    loss: f64,
    #[pyo3(item)]
    grad_norm: f64,
    #[pyo3(item)]
    entropy: f64,
    #[pyo3(item)]
    weigh_seconds: f64,
    #[pyo3(item)]
    n_valid: u64,
    #[pyo3(item)]
    n_trust: u64,
    #[pyo3(item)]
    n_masked: u64,
    #[pyo3(item)]
    n_clamped: u64,
    #[pyo3(item)]
    clip_frac: f64,
    #[pyo3(item)]
    m2_all_before: f64,
    #[pyo3(item)]
    m2_rule_before: f64,
    #[pyo3(item)]
    m2_rule_after: f64,
    #[pyo3(item)]
    kl_k1: f64,
    #[pyo3(item)]
    max_kept_log_ratio: f64,
}

/// Update as it was handed out, against which its outcome is checked.
pub(crate) struct Expected<'a> {
    pub(crate) update: u64,
    pub(crate) specs: &'a [ParamSpec],
    /// Number of steps of the optimizer before the update.
    pub(crate) steps: u64,
    /// Number of tokens that are trained on.
    pub(crate) n_valid: u64,
}

/// Checks what Python committed: parameters and both moments by name, and the numbers.
///
/// # Errors
/// A parameter that is missing, unknown, of another shape or dtype, or not finite, each by name; a
/// number that is not finite; no step of the optimizer.
pub(crate) fn checked(
    expected: &Expected<'_>,
    parameters: &Bound<'_, PyDict>,
    first: &Bound<'_, PyDict>,
    second: &Bound<'_, PyDict>,
    numbers: &Numbers,
) -> PyResult<Committed> {
    let update = expected.update;
    let numbered = [
        ("loss", numbers.loss),
        ("grad_norm", numbers.grad_norm),
        ("entropy", numbers.entropy),
        ("weigh_seconds", numbers.weigh_seconds),
        ("clip_frac", numbers.clip_frac),
        ("m2_all_before", numbers.m2_all_before),
        ("m2_rule_before", numbers.m2_rule_before),
        ("m2_rule_after", numbers.m2_rule_after),
        ("kl_k1", numbers.kl_k1),
        ("max_kept_log_ratio", numbers.max_kept_log_ratio),
    ];
    for (name, value) in numbered {
        if !value.is_finite() {
            return Err(usage(format!(
                "update {update} gave a {name} of {value}: nothing was committed; lower the \
                 learning rate, or look at the rewards and log-probs of its groups"
            )));
        }
    }
    if numbers.steps <= expected.steps {
        return Err(usage(format!(
            "update {update} ends after {} steps of the optimizer, and it began after {}: call \
             optimizer.step() before commit()",
            numbers.steps, expected.steps
        )));
    }
    if numbers.n_valid != expected.n_valid {
        return Err(usage(format!(
            "update {update} was weighed over {} tokens, and its plan trains {}: weigh the whole \
             batch",
            numbers.n_valid, expected.n_valid
        )));
    }
    let parameters = arrays(expected, "parameter", parameters)?;
    let first = arrays(expected, "exp_avg", first)?;
    let mut second = arrays(expected, "exp_avg_sq", second)?;
    if let Some((name, value)) = second
        .iter()
        .find_map(|(name, values)| Some((name, values.iter().find(|value| **value < 0.0)?)))
    {
        return Err(usage(format!(
            "update {update}: exp_avg_sq of {name} has a value of {value}, and it is a mean of \
             squares"
        )));
    }
    let moments = first.into_iter().filter_map(|(name, first)| {
        let second = second.remove(&name)?;
        Some((name, Moments { first, second }))
    });
    Ok(Committed {
        parameters,
        moments: moments.collect(),
        steps: numbers.steps,
        loss: numbers.loss,
        grad_norm: numbers.grad_norm,
        entropy: numbers.entropy,
        weigh_seconds: numbers.weigh_seconds,
        stats: Stats {
            n_valid: numbers.n_valid,
            n_trust: numbers.n_trust,
            n_masked: numbers.n_masked,
            n_clamped: numbers.n_clamped,
            clip_frac: numbers.clip_frac,
            m2_all_before: numbers.m2_all_before,
            m2_rule_before: numbers.m2_rule_before,
            m2_rule_after: numbers.m2_rule_after,
            kl_k1: numbers.kl_k1,
            max_kept_log_ratio: numbers.max_kept_log_ratio,
            ..Stats::default()
        },
    })
}

/// Copies one array for each parameter of the model.
fn arrays(
    expected: &Expected<'_>,
    what: &str,
    given: &Bound<'_, PyDict>,
) -> PyResult<BTreeMap<String, Vec<f32>>> {
    let update = expected.update;
    let mut copied = BTreeMap::new();
    for spec in expected.specs {
        let name = spec.name();
        let found = given.get_item(name)?.ok_or_else(|| {
            usage(format!(
                "update {update} has no {what} {name}, and the run's model has one of shape {:?}",
                spec.shape()
            ))
        })?;
        let (shape, values) =
            incoming::<f32>(&found, || format!("{what} {name} of update {update}"))?;
        if shape != spec.shape() {
            return Err(usage(format!(
                "{what} {name} of update {update} has shape {shape:?}, and the run's model has \
                 {:?}",
                spec.shape()
            )));
        }
        if let Some((at, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(usage(format!(
                "{what} {name} of update {update} has a value of {value} at {at}: nothing was \
                 committed"
            )));
        }
        copied.insert(name.to_owned(), values);
    }
    for name in given.keys() {
        let name = name.cast_into::<PyString>()?.to_string();
        if !copied.contains_key(&name) {
            return Err(usage(format!(
                "update {update} has a {what} {name}, and the run's model has none of that name"
            )));
        }
    }
    Ok(copied)
}
