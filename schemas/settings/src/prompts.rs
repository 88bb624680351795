use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Section `[prompts]`: JSONL files of prompts. A row has `prompt` or `messages` and an `answer`,
/// or GSM8K's `question` and `answer`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// File of prompts to train on; unset = the built-in running sums.
    pub train: Option<PathBuf>,
    /// File of prompts to evaluate on, which are never trained on; unset = the built-in ones, or no
    /// evaluation if `train` is set.
    pub heldout: Option<PathBuf>,
    /// True to turn plain prompts into the user's message of a chat, rendered by the model's chat
    /// template. Rows with `messages` are always rendered by it.
    pub chat: bool,
}
