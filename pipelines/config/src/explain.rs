//! Meanings of settings: the comments of the default preset, which mentions every setting.

use crate::{key::Key, presets};

/// Setting or section as the default preset explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Name of the setting or section.
    pub key: Key,
    /// Default, or an example if the setting has none, as TOML; `None` for a section.
    pub value: Option<String>,
    /// True if the value is an example: the setting is unset by default.
    pub is_example: bool,
    /// Meaning, in one line; empty if the name says it.
    pub text: String,
}

/// Returns all settings and sections in the order of the default preset.
pub fn explained() -> Vec<Explained> {
    let mut found: Vec<Explained> = Vec::new();
    let mut section = Key::root();
    let mut begun = false;
    for line in presets::find("default").unwrap_or_default().lines() {
        if let Some(header) = line.strip_prefix('[') {
            let (name, rest) = header.split_once(']').unwrap_or((header, ""));
            section = Key::new(name.split('.'));
            begun = true;
            found.push(Explained {
                key: section.clone(),
                value: None,
                is_example: false,
                text: comment(rest),
            });
        } else if let Some((name, value, is_example)) = setting(line) {
            begun = true;
            let (value, text) = split(value);
            found.push(Explained {
                key: section.child(name),
                value: Some(value),
                is_example,
                text,
            });
        } else if let Some(last) = found.last_mut().filter(|_| begun)
            && line.starts_with(' ')
            && let Some(more) = line.trim_start().strip_prefix('#')
        {
            // A comment that is indented continues the one above it.
            last.text = format!("{} {}", last.text, more.trim());
        }
    }
    found
}

/// Returns the default preset with every setting as a comment, for a file of one's own.
pub fn template() -> String {
    let text = presets::find("default").unwrap_or_default();
    let line = |line: &str| match setting(line) {
        Some((_, _, false)) => format!("# {line}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Splits `name = value…`, and says whether the line is a comment.
fn setting(line: &str) -> Option<(&str, &str, bool)> {
    let (line, is_example) = match line.strip_prefix("# ") {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let (name, value) = line.split_once(" = ")?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some((name, value, is_example))
}

/// Splits a value from the comment after it; `#` within quotes belongs to the value.
fn split(value: &str) -> (String, String) {
    let mut quoted = false;
    let end = value.char_indices().find(|&(_, c)| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    let (value, rest) = value.split_at(end.map_or(value.len(), |(at, _)| at));
    (value.trim_end().to_owned(), comment(rest))
}

fn comment(text: &str) -> String {
    text.trim().trim_start_matches('#').trim().to_owned()
}

#[cfg(test)]
mod tests {
    use vintage_settings::RunConfig;

    use super::*;
    use crate::{layers::Layers, resolve::Resolved};

    fn of(key: &str) -> Explained {
        let key = Key::parse(key).expect("a key");
        let mut found = explained().into_iter().filter(|found| found.key == key);
        found.next().expect("explained")
    }

    #[test]
    fn every_setting_is_explained() {
        let resolved: Resolved<RunConfig> = Layers::new().resolve().expect("defaults");
        let all = explained();
        for key in resolved.schema.settings() {
            assert!(
                all.iter().any(|found| found.key == *key),
                "{key} is not explained"
            );
        }
        for found in &all {
            assert!(
                resolved.has(&found.key),
                "{} is explained, and no setting",
                found.key
            );
        }
    }

    #[test]
    fn comments_are_joined_and_examples_marked() {
        let source = of("learner.source");
        assert_eq!(source.value.as_deref(), Some("\"log\""));
        assert!(source.text.ends_with("that the seed draws"), "{source:?}");
        let age = of("learner.max_age");
        assert!(
            age.is_example && age.text.starts_with("refuse groups"),
            "{age:?}"
        );
        assert_eq!(of("learner.optimizer").text, "AdamW");
    }

    #[test]
    fn the_template_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, template()).expect("written");
        let layers = Layers::new().file(&file).expect("read");
        let resolved: Resolved<RunConfig> = layers.resolve().expect("valid");
        assert_eq!(resolved.config, RunConfig::default());
    }
}
