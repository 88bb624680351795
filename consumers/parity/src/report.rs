//! Report on one model: the quantities that were compared, with their tolerances.

use serde::Serialize;

use crate::{
    difference::{Difference, Mismatches},
    tolerance::Measured,
};

/// Error of one quantity, and its tolerance.
#[derive(Debug, Clone, Serialize)]
pub struct Quantity {
    /// Name of the quantity, such as `logits` or `gradient`.
    pub name: String,
    /// Measure of the error.
    pub measure: Measure,
    /// Largest error; not finite (`null` in JSON) if a value was not.
    pub error: f64,
    /// Largest error allowed.
    pub tolerance: f64,
    /// Largest absolute error.
    pub absolute: Option<f64>,
    /// Largest absolute error divided by the largest magnitude expected.
    pub relative: Option<f64>,
    /// Number of values compared.
    pub compared: u64,
    /// Position of the largest error, or of the first value that differs.
    pub worst: Option<String>,
    /// True if the error is within the tolerance.
    pub holds: bool,
}

/// Measure by which an error is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Largest absolute difference.
    Absolute,
    /// Difference divided by the expected value.
    Relative,
    /// Euclidean norm of a tensor's difference divided by that of the tensor, for the worst tensor.
    L2,
    /// Largest difference in a tensor divided by the tensor's largest magnitude, for the worst
    /// tensor.
    Maximum,
    /// 99.9th percentile of the absolute differences.
    P999,
    /// Fraction of the values that are off by more than 1e-6.
    Share,
    /// Number of values that differ at all.
    Different,
}

/// Report on one model, filled while it is compared.
pub(crate) struct ParityReport {
    measured: Measured,
    pub(crate) quantities: Vec<Quantity>,
    pub(crate) absent: Vec<String>,
}

impl ParityReport {
    pub(crate) fn new(measured: Measured) -> Self {
        Self {
            measured,
            quantities: Vec::new(),
            absent: Vec::new(),
        }
    }

    pub(crate) fn absent(&mut self, what: &str) {
        self.absent.push(what.to_owned());
    }

    /// Adds an error with its tolerance. `bound` is the key of transformers' own error and our
    /// bound; the larger of the two applies.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        measure: Measure,
        (key, ours): (&str, f64),
        error: f64,
        of: &Difference,
    ) {
        let (name, tolerance) = (name.into(), self.measured.or(key, ours));
        if of.compared == 0 {
            return self.absent(&format!("value to compare {name} with"));
        }
        self.quantities.push(Quantity {
            name,
            measure,
            // A NaN must not pass for a small error.
            error: if error.is_nan() { f64::INFINITY } else { error },
            tolerance,
            absolute: Some(of.absolute),
            relative: Some(of.relative()),
            compared: of.compared,
            worst: of.worst.clone(),
            holds: error <= tolerance,
        });
    }

    /// Adds the largest absolute difference.
    pub(crate) fn absolute(
        &mut self,
        name: impl Into<String>,
        bound: (&str, f64),
        of: &Difference,
    ) {
        self.add(name, Measure::Absolute, bound, of.absolute, of);
    }

    /// Adds the number of values that differ, which must be 0.
    pub(crate) fn equal(&mut self, name: impl Into<String>, seen: Mismatches) {
        let Mismatches {
            compared,
            different,
            first: worst,
        } = seen;
        let name = name.into();
        if compared == 0 {
            return self.absent(&format!("value to compare {name} with"));
        }
        self.quantities.push(Quantity {
            name,
            measure: Measure::Different,
            error: different as f64,
            tolerance: 0.0,
            absolute: None,
            relative: None,
            compared,
            worst,
            holds: different == 0,
        });
    }
}
