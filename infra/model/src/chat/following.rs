//! Text that a chat template writes after a completion, which continues a conversation whose
//! tokens are kept as they were sampled.

use std::fmt;

use minijinja::value::Value;

use super::{ChatTemplate, Messages, python, refuse};
use crate::error::Result;

/// Stand-in for a completion, by which its end is found in the rendered text. It has no white
/// space at its ends, which templates trim.
const STAND_IN: &str = "COMPLETION_STANDS_HERE";

/// Text of a chat template that follows a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// Text from the end of the completion to where the model is to answer again.
    pub text: String,
    /// Way in which the template renders anew what came before; `None` if it leaves it as it was.
    pub rewriting: Option<Rewriting>,
}

/// Part of a conversation that a chat template renders otherwise once messages follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewriting {
    /// Text before the completion: the prompt, or earlier turns.
    Before,
    /// The completion itself, such as its reasoning, which many templates leave out.
    Completion,
}

impl fmt::Display for Rewriting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Before => {
                "the chat template renders the text before the completion anew once messages \
                 follow (templates do so that drop the reasoning of earlier turns, or move their \
                 instructions)"
            }
            Self::Completion => {
                "the chat template renders the completion otherwise than it was sampled once \
                 messages follow (templates do so that drop reasoning)"
            }
        })
    }
}

impl ChatTemplate {
    /// Returns the text that follows the completion which is message number `completion` of a
    /// chat, from 0, and whether the template leaves the text before as it was. White space around
    /// and inside the completion is not compared, because templates trim it.
    ///
    /// # Errors
    /// The template raises an error, or leaves out or repeats completions, so that their end cannot
    /// be found.
    pub fn following(&self, chat: &Messages, completion: usize) -> Result<Following> {
        let asked = Messages {
            turns: chat.turns[..completion.min(chat.turns.len())].to_vec(),
            ..chat.clone()
        };
        let before = self.render(&asked, true)?;
        let with_stand_in = self.render(&chat.with_content(completion, STAND_IN), true)?;
        let mut pieces = with_stand_in.split(STAND_IN);
        let (Some(_), Some(text), None) = (pieces.next(), pieces.next(), pieces.next()) else {
            return Err(refuse(
                "continuing a chat",
                &"its template does not write the assistant's message once, so that its end cannot \
                  be found",
            ));
        };
        let sampled = chat.content(completion);
        let whole = self.render(chat, true)?;
        let rewriting = match whole.strip_prefix(&before) {
            None => Some(Rewriting::Before),
            Some(rest) => match rest.strip_suffix(text) {
                Some(rendered) if is_same(rendered, &sampled) => None,
                _ => Some(Rewriting::Completion),
            },
        };
        Ok(Following {
            text: text.to_owned(),
            rewriting,
        })
    }
}

impl Messages {
    /// Returns the text of a message; empty if it has none.
    fn content(&self, message: usize) -> String {
        let content = self.turns.get(message);
        let content = content.and_then(|turn| turn.get_attr("content").ok());
        let content = content.and_then(|content| content.as_str().map(str::to_owned));
        content.unwrap_or_default()
    }

    /// Returns the chat with another text as the content of one message.
    fn with_content(&self, message: usize, text: &str) -> Self {
        let mut chat = self.clone();
        if let Some(turn) = chat.turns.get_mut(message) {
            let entries = python::pairs(turn).into_iter();
            *turn = Value::from_pairs(entries.map(|(name, old)| {
                let is_content = name.as_str() == Some("content");
                (name, if is_content { Value::from(text) } else { old })
            }));
        }
        chat
    }
}

/// Compares two texts without their white space.
fn is_same(a: &str, b: &str) -> bool {
    let inked = |text: &str| -> Vec<char> {
        let ink = text.chars().filter(|c| !python::is_space(*c));
        ink.collect()
    };
    inked(a) == inked(b)
}
