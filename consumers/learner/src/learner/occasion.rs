//! Occasions on which a plan runs.

/// Occasion on which a plan runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Occasion {
    /// First run, by the process that writes the plan. `wait` is the time spent waiting for the
    /// groups, in seconds.
    First { wait: f64 },
    /// Repeated run, by a later process. Versions on the way are not announced, because producers
    /// know them.
    Again,
}
