//! Violations of ranges.

use std::time::Duration;

/// Value of a setting that has the right type but cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Dotted name of the setting.
    pub key: &'static str,
    /// Reason it cannot be used, and a value that could.
    pub why: String,
}

/// Violations found so far; each section adds those of its own settings.
#[derive(Debug, Default)]
pub struct Problems(Vec<Violation>);

impl Problems {
    /// Records a violation of `key` unless `ok`.
    pub fn require(&mut self, ok: bool, key: &'static str, why: &str) {
        if !ok {
            self.refuse(key, why.to_owned());
        }
    }

    /// Returns the violations in the order in which they were found.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }

    /// Records a violation of `key`.
    pub fn refuse(&mut self, key: &'static str, why: String) {
        self.0.push(Violation { key, why });
    }
}

/// Returns true for a number of seconds, 0 or more, that [`Duration`] can hold.
pub(crate) fn seconds(value: f64) -> bool {
    Duration::try_from_secs_f64(value).is_ok()
}

/// Returns true for a finite number above 0.
pub(crate) fn positive(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

/// Returns true for a number from 0 to 1.
pub(crate) fn share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}
