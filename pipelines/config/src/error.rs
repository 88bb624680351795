use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{key::Key, layers::ENV_PREFIX, origin::Origin};

/// Why the configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or preset is not TOML.
    #[error("cannot parse the configuration in {place}")]
    Syntax {
        /// File or preset.
        place: String,
        /// Line, column and the offending line.
        source: Box<toml_edit::TomlError>,
    },
    /// No preset of that name ships with the program.
    #[error("unknown preset: {name}")]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// `--set` without `=`, or with something before it that is no key.
    #[error("cannot read --set {text:?}: expected section.key=value")]
    Assignment {
        /// What was typed.
        text: String,
    },
    /// Settings that do not exist or whose value cannot be used; never empty.
    #[error("{}", list(.0))]
    Settings(Vec<Problem>),
    /// Settings that a run may not change when it is resumed; never empty.
    #[error("{}", changed("go on with", folder, changes))]
    NotResumable {
        /// The run's folder.
        folder: PathBuf,
        /// What differs.
        changes: Vec<Change>,
    },
    /// Settings in which a learner may not differ from the run it joins; never empty.
    #[error("{}", changed("join", folder, changes))]
    OtherRun {
        /// The run's folder.
        folder: PathBuf,
        /// What differs.
        changes: Vec<Change>,
    },
}

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Its name as it was written.
    pub key: Key,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong with it.
    pub fault: SettingFault,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum SettingFault {
    /// No setting has this name.
    Unknown {
        /// The nearest names there are.
        near: Vec<Key>,
    },
    /// The name is that of an environment variable that is not spelt as a setting is.
    Variable {
        /// The settings that may be meant.
        near: Vec<Key>,
    },
    /// The name is that of a section.
    IsSection {
        /// A setting of that section.
        example: Key,
    },
    /// The value has another type, or a text that is not one of the allowed ones.
    Type {
        /// The value as TOML.
        value: String,
        /// What would have done.
        expected: String,
        /// The nearest allowed text, if one is near.
        suggestion: Option<String>,
    },
    /// The value has the right type and still cannot be used.
    Value {
        /// The value as TOML.
        value: String,
        /// Why not.
        why: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, fault } = self;
        match fault {
            SettingFault::Unknown { .. } => write!(f, "unknown setting: {key} ({origin})"),
            SettingFault::Variable { .. } => write!(
                f,
                "the variable {origin} sets nothing: settings begin with {ENV_PREFIX}, and have two \
                 underscores between section and key"
            ),
            SettingFault::IsSection { .. } => {
                write!(f, "{key} is a section, not a setting ({origin})")
            }
            SettingFault::Type {
                value, expected, ..
            } => {
                write!(
                    f,
                    "wrong type: {key} = {value} ({origin}): expected {expected}"
                )
            }
            SettingFault::Value { value, why } => {
                write!(f, "bad value: {key} = {value} ({origin}): {why}")
            }
        }
    }
}

impl Problem {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match &self.fault {
            SettingFault::Unknown { near } if near.is_empty() => {
                Some("`vintage config show` lists every setting".to_owned())
            }
            SettingFault::Unknown { near } => {
                let near: Vec<_> = near.iter().map(ToString::to_string).collect();
                Some(format!("did you mean {}?", near.join(" or ")))
            }
            SettingFault::Variable { near } => {
                let spelt =
                    |key: &Key| format!("{ENV_PREFIX}{}", key.parts().join("__").to_uppercase());
                let near: Vec<_> = near.iter().map(spelt).collect();
                Some(if near.is_empty() {
                    format!("for example {ENV_PREFIX}LEARNER__STEPS=100, or unset it")
                } else {
                    format!("did you mean {}?", near.join(" or "))
                })
            }
            SettingFault::IsSection { example } => {
                Some(format!("name a setting of it, such as {example}"))
            }
            SettingFault::Type { suggestion, .. } => suggestion
                .as_ref()
                .map(|text| format!("did you mean {text:?}?")),
            SettingFault::Value { .. } => None,
        }
    }
}

/// A setting that differs from the one a run was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The setting.
    pub key: Key,
    /// Its value in the run, as TOML; `none` if it was not set.
    pub old: String,
    /// Its value now.
    pub new: String,
}

impl ConfigError {
    /// What to do about it, for a `hint:` line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("check the path given with -c".to_owned()),
            Self::Syntax { .. } => None,
            Self::UnknownPreset { name, known } => {
                let near = crate::suggest::nearest(name, known.iter().copied());
                Some(match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("there are: {}", known.join(", ")),
                })
            }
            Self::Assignment { .. } => Some("for example --set learner.steps=100".to_owned()),
            Self::Settings(problems) => {
                let mut hints: Vec<_> = problems.iter().filter_map(Problem::hint).collect();
                hints.dedup();
                (!hints.is_empty()).then(|| hints.join("; "))
            }
            Self::OtherRun { .. } => Some(
                "a follower may have its own seed, algorithm and [learner] settings; leave the \
                 others as the run has them"
                    .to_owned(),
            ),
            Self::NotResumable { .. } => Some(
                "start again with the run's own settings, or give another --out to start a new run"
                    .to_owned(),
            ),
        }
    }
}

fn list(problems: &[Problem]) -> String {
    match problems {
        [only] => only.to_string(),
        many => lines(&format!("{} settings cannot be used", many.len()), many),
    }
}

fn changed(what: &str, folder: &Path, changes: &[Change]) -> String {
    let changes: Vec<_> = changes
        .iter()
        .map(|Change { key, old, new }| format!("{key}: the run has {old}, now {new}"))
        .collect();
    let head = format!(
        "cannot {what} the run in {} under other settings",
        folder.display()
    );
    match &changes[..] {
        [only] => format!("{head}: {only}"),
        many => lines(&head, many),
    }
}

fn lines(head: &str, items: &[impl fmt::Display]) -> String {
    items
        .iter()
        .fold(format!("{head}:"), |text, item| format!("{text}\n  {item}"))
}
