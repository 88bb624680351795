use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Name that is part of topic names and paths: of a run, namespace, learner, policy or producer.
///
/// Has 1 to 64 characters of `a-z`, `0-9` and `-`, and begins and ends with a letter or digit.
/// Underscores and dots are not allowed, because Kafka folds both to one character in its metric
/// names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Error for a text that is not a valid [`Name`].
#[derive(Debug, thiserror::Error)]
#[error("bad name {0:?}: use 1 to 64 of a-z, 0-9 and '-', with a letter or digit at both ends")]
pub struct BadName(String);

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let bytes = text.as_bytes();
        let good = (1..=64).contains(&bytes.len())
            && bytes.iter().all(|&c| allowed(c))
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-';
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
