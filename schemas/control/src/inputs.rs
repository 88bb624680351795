use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// Contents of `inputs/<N>.json`: digests of the user's files that a run works with.
///
/// The run's learner writes record 0 at its first start, and one more each time it is asked to
/// continue with changed files (`--accept`). The last record is the valid one. A role that finds
/// other bytes under a setting does not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInputs {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Digests by setting, then by file name; of several files of prompts by place and name, as in
    /// `1 of 2: a.parquet`; files of a reward command by their path from its directory, or in older
    /// records by their names without folder.
    pub inputs: BTreeMap<String, BTreeMap<String, Sha256>>,
    /// Settings whose files differ from those of the previous record.
    pub accepted: Vec<String>,
    /// Settings that decide what is sampled at a slot and how it is rewarded, with their values in
    /// TOML. A producer in a folder of its own must have the same. Empty in records of older builds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sampling: BTreeMap<String, String>,
}
