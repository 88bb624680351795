//! Lines that are written to an environment command.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{command::settings::CommandRole, error::Error};

/// Question after a completion. The messages so far are added as they are written.
#[derive(Serialize)]
pub(crate) struct Question<'a> {
    pub(crate) id: &'a str,
    pub(crate) episode: &'a str,
    /// Number of the completion in its episode, from 1.
    pub(crate) turn: u32,
    /// Number of further completions that the episode may have.
    pub(crate) turns_left: u32,
    /// Number of tokens that the episode may grow by, messages included.
    pub(crate) tokens_left: usize,
    pub(crate) finish_reason: &'a str,
    pub(crate) prompt_id: &'a str,
    pub(crate) completion: &'a str,
    pub(crate) answer: Option<&'a str>,
    pub(crate) metadata: &'a BTreeMap<String, String>,
}

impl Question<'_> {
    /// Returns the line of the question; `messages` is a JSON list.
    pub(crate) fn line(&self, messages: &str) -> Result<Vec<u8>, Error> {
        let mut line = serde_json::to_string(self).map_err(|source| Error::CommandQuestion {
            role: CommandRole::Environment,
            source,
        })?;
        // Reopens the object.
        line.pop();
        line.push_str(",\"messages\":");
        line.push_str(messages);
        line.push_str("}\n");
        Ok(line.into_bytes())
    }
}

/// Line that says that an episode is over.
#[derive(Serialize)]
pub(super) struct Abandoned<'a> {
    pub(super) id: &'a str,
    pub(super) episode: &'a str,
    /// Always true, by which the line is told from a question.
    #[serde(rename = "abandon")]
    pub(super) is_over: bool,
}

impl Abandoned<'_> {
    pub(super) fn line(&self) -> Result<Vec<u8>, Error> {
        let mut line = serde_json::to_vec(self).map_err(|source| Error::CommandQuestion {
            role: CommandRole::Environment,
            source,
        })?;
        line.push(b'\n');
        Ok(line)
    }
}
