//! Outcome of creating an object.

/// Outcome of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Created {
    /// Created now, durably; no such object existed.
    New,
    /// Already existed and was left unchanged.
    Exists,
}
