use std::fmt;

use serde::{Deserialize, Serialize};

/// Way in which completions are compared with the known answer; `producers/verify` compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// Text comparison: the answer is all text after the reasoning, without white space at both
    /// ends.
    Exact,
    /// Numeric comparison: the answer is the number in `\boxed{…}`, after `####`, after “the answer
    /// is”, or else the last one.
    Number,
    /// Mathematical comparison: the answer is in `\boxed{…}`, after `####`, after “the answer is”,
    /// or else the last formula or number. Fractions, roots, sets, intervals, equations, units and
    /// the like are compared by value, however they are written.
    Math,
}

impl AnswerKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Number, Self::Math];

    /// Name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Number => "number",
            Self::Math => "math",
        }
    }
}

impl fmt::Display for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
