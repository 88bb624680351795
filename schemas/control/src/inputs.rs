use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Sha256;

/// `inputs/<N>.json`: the files of its user that a run works with.
///
/// Record 0 is written by the run's learner at its first start, and one more each time it is told
/// to go on with files that have changed; the last one holds. A role that finds other bytes than
/// these under a setting does not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInputs {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Digests by setting, then by file as the setting names it.
    pub inputs: BTreeMap<String, BTreeMap<String, Sha256>>,
    /// Settings whose files differ from those of the record before.
    pub accepted: Vec<String>,
}
