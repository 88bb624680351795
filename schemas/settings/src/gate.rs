use serde::{Deserialize, Serialize};

/// `[gate]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Updates' worth of staleness to admit, paced by waiting.
    pub max_staleness: u64,
    /// If set, the batch of update b is sampled by version max(0, b − exact) instead.
    pub exact: Option<u64>,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            max_staleness: 16,
            exact: None,
        }
    }
}
