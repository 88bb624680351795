//! One prompt, and the form of its text.

use std::collections::BTreeMap;

/// Key of a rollout's metadata that holds the slot it was sampled for.
pub(crate) const SLOT: &str = "slot";

/// Key of an episode's metadata that holds its number of completions.
pub(crate) const TURNS: &str = "turns";
/// Key of an episode's metadata that holds the number of tokens that its environment gave.
pub(crate) const ENVIRONMENT_TOKENS: &str = "environment_tokens";

/// One task for the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Stable name: the row's `id`, or else 16 hexadecimal digits of a digest over text, template
    /// inputs and answer, so that reordering or extending the file renames no prompt.
    pub id: String,
    /// Text that the policy completes, in the form that [`Prompt::form`] says.
    pub text: String,
    /// Form of the text.
    pub form: Form,
    /// Chat that the text was rendered from: a JSON list of messages, or an object as in
    /// [`Form::Messages`]; `None` unless the form is [`Form::Rendered`].
    pub chat: Option<String>,
    /// Further inputs for a chat template, as members of a JSON object, where the prompt is plain
    /// text that may become a chat; see [`crate::PromptSet::as_chats`].
    pub extras: Option<String>,
    /// Known answer, which the reward compares with.
    pub answer: Option<String>,
    /// Metadata that is stored in every trajectory and sent to the reward command.
    pub metadata: BTreeMap<String, String>,
    /// Number of its file among those of the set, from 0.
    pub file: usize,
    /// Line of the file, from 1; of a Parquet file the row.
    pub line: usize,
}

impl Prompt {
    /// Returns true if the text is a rendered chat.
    pub fn is_rendered(&self) -> bool {
        self.form == Form::Rendered
    }
}

/// Form of a prompt's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Plain text, completed as it is.
    Plain,
    /// Chat that the model's template turns into text: a JSON list of messages, or an object with
    /// that list as `messages` and further inputs of the template.
    Messages,
    /// Text rendered from a chat, which holds every special token it needs.
    Rendered,
}
