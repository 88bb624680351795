//! One completion as people read it.

use crate::{
    rows::Rows,
    trajectory::{PolicySpan, REFERENCE_ANSWER, Trajectory},
};

/// Longest text of an excerpt, in characters.
const LONGEST: usize = 4000;

/// Completion with its prompt as text, for displays. Long texts are cut at their ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Excerpt {
    /// Text of the prompt.
    pub prompt: String,
    /// Known answer of the prompt, if it has one.
    pub answer: Option<String>,
    /// Text of the completion.
    pub completion: String,
    /// Reward of the completion.
    pub reward: f32,
    /// Number of completion tokens.
    pub tokens: u64,
    /// Versions that sampled the tokens.
    pub spans: Vec<PolicySpan>,
}

impl Excerpt {
    /// Returns the excerpt of a trajectory; `None` if it has no texts.
    pub fn of(row: &Trajectory) -> Option<Self> {
        Some(Self {
            prompt: cut(row.prompt_text.as_deref()?),
            answer: row
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.get(REFERENCE_ANSWER))
                .map(|answer| cut(answer)),
            completion: cut(row.completion_text.as_deref()?),
            reward: row.reward,
            tokens: row.completion_tokens.len() as u64,
            spans: row.policy_spans.clone(),
        })
    }

    /// Returns the excerpt of a decoded row; `None` if it has no texts.
    pub fn of_row(rows: &Rows, row: usize) -> Option<Self> {
        Some(Self {
            prompt: cut(rows.prompt_text(row)?),
            answer: rows.reference_answer(row).map(cut),
            completion: cut(rows.completion_text(row)?),
            reward: rows.reward(row),
            tokens: rows.completion_tokens(row).len() as u64,
            spans: rows.policy_spans(row).collect(),
        })
    }
}

/// Cuts a text after [`LONGEST`] characters, and marks the cut.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("1+1="), "1+1=");
        let long = "é".repeat(LONGEST + 1);
        let short = cut(&long);
        assert_eq!(short.chars().count(), LONGEST + 1);
        assert!(short.ends_with("é…"));
        assert_eq!(
            cut(&short[..short.len() - '…'.len_utf8()]).chars().count(),
            LONGEST
        );
    }
}
