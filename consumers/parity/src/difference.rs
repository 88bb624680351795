//! Differences between computed and expected values.

/// Largest difference between computed and expected values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Difference {
    pub(crate) absolute: f64,
    /// Largest magnitude among the expected values.
    pub(crate) magnitude: f64,
    pub(crate) compared: u64,
    pub(crate) worst: Option<String>,
}

impl Difference {
    pub(crate) fn see(&mut self, found: f64, expected: f64, place: impl FnOnce() -> String) {
        self.compared += 1;
        self.magnitude = self.magnitude.max(expected.abs());
        let error = (found - expected).abs();
        // The first NaN is kept.
        if error > self.absolute || (error.is_nan() && !self.absolute.is_nan()) {
            self.absolute = error;
            self.worst = Some(place());
        }
    }

    pub(crate) fn relative(&self) -> f64 {
        if self.absolute == 0.0 {
            0.0
        } else {
            self.absolute / self.magnitude
        }
    }
}

/// Count of values that should be equal and are not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mismatches {
    pub(crate) compared: u64,
    pub(crate) different: u64,
    pub(crate) first: Option<String>,
}

impl Mismatches {
    pub(crate) fn see<T: PartialEq + std::fmt::Debug>(
        &mut self,
        found: &T,
        expected: &T,
        place: &str,
    ) {
        self.compared += 1;
        if found == expected {
            return;
        }
        self.different += 1;
        if self.first.is_none() {
            self.first = Some(format!("{place}: {found:?}, expected {expected:?}"));
        }
    }
}
