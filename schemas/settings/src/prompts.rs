use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[prompts]`: JSONL files with `prompt` or `messages` and `answer`, or GSM8K's `question` and
/// `answer`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// Prompts to train on; unset = the built-in running sums.
    pub train: Option<PathBuf>,
    /// Prompts to evaluate on, none of which is trained on; unset = the built-in ones, or, with
    /// a `train` file of your own, no evaluation.
    pub heldout: Option<PathBuf>,
    /// Whether plain prompts are asked as what the user of a chat says, through the model's chat
    /// template; rows with `messages` always are.
    pub chat: bool,
}
