use std::fmt;

/// Prefix of the environment variables that are settings.
pub const ENV_PREFIX: &str = "VINTAGE__";

/// Dotted name of a setting, such as `learner.optimizer.lr`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<String>);

impl Key {
    /// Parses `a.b."c.d"` as TOML parses a dotted key; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let keys = toml_edit::Key::parse(text.trim()).ok()?;
        (!keys.is_empty()).then(|| Self(keys.iter().map(|key| key.get().to_owned()).collect()))
    }

    /// Creates a key from its parts.
    pub fn new<S: Into<String>>(parts: impl IntoIterator<Item = S>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// Returns the empty key, which names the root.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Returns this key with one more part.
    #[must_use]
    pub fn child(&self, part: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_owned());
        Self(parts)
    }

    /// Parts of the key, in order.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// Returns the key of the first `n` parts.
    #[must_use]
    pub fn prefix(&self, n: usize) -> Self {
        Self(self.0[..n.min(self.0.len())].to_vec())
    }

    /// Returns the last part; empty for the root.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// Returns the key without its last part.
    #[must_use]
    pub fn parent(&self) -> Self {
        self.prefix(self.0.len().saturating_sub(1))
    }
}

/// A part as TOML writes it: quoted unless it is a bare key.
pub(crate) fn quoted(part: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !part.is_empty() && part.chars().all(bare) {
        part.to_owned()
    } else {
        toml::Value::String(part.to_owned()).to_string()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            f.write_str(&quoted(part))?;
        }
        Ok(())
    }
}
