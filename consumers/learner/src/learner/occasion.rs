//! Occasions on which a plan runs.

/// Occasion on which a plan runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Occasion {
    /// First run, by the process that wrote the plan. `wait` is the time spent waiting for the
    /// groups, and `record` the time spent making the plan durable, in seconds.
    First { wait: f64, record: f64 },
    /// Repeated run, by a later process. Versions on the way are not announced, because producers
    /// know them.
    Again,
}
