use serde::{Deserialize, Serialize};
use vintage_control::Ages;

/// Section `[gate]`: limits on how far producers run ahead of the learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Maximum staleness of a token when it is trained, in updates, over all producers of the run.
    /// They wait rather than exceed it, and a granted group that comes later is refused. Not used if
    /// `exact` is set.
    pub max_staleness: u64,
    /// Exact staleness of every batch, in updates: version max(0, b − exact) samples the batch of
    /// update b, or with `ages` its groups are at most that old. Unset = `max_staleness` applies.
    pub exact: Option<u64>,
    /// Ages of the groups of a batch, if `exact` is set, which bounds them.
    pub ages: Ages,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            max_staleness: 16,
            exact: None,
            ages: Ages::Same,
        }
    }
}
