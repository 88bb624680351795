use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    key::{ENV_PREFIX, Key},
    origin::Origin,
};

/// Error of a configuration that cannot be built or used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Unreadable configuration file.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// File or preset that is not TOML.
    #[error("cannot parse the configuration in {place}")]
    Syntax {
        /// Name of the file or preset.
        place: String,
        /// Parser error, with line, column and the offending line.
        source: Box<toml_edit::TomlError>,
    },
    /// Unknown preset.
    #[error("unknown preset: {name}")]
    UnknownPreset {
        /// Name that was given.
        name: String,
        /// Names of the presets that ship with the program.
        known: Vec<&'static str>,
    },
    /// `--set` argument without `=`, or with an invalid key before it.
    #[error("cannot read --set {text:?}: expected section.key=value")]
    Assignment {
        /// Argument as it was typed.
        text: String,
    },
    /// Settings that do not exist or whose value cannot be used; never empty.
    #[error("{}", list(.0))]
    Settings(Vec<Problem>),
    /// Settings that may not change when a run is resumed; never empty.
    #[error("{}", changed("go on with", folder, changes))]
    NotResumable {
        /// Folder of the run.
        folder: PathBuf,
        /// Settings that differ, with both values.
        changes: Vec<Change>,
    },
    /// Settings in which a follower may not differ from the run it joins; never empty.
    #[error("{}", changed("join", folder, changes))]
    OtherRun {
        /// Folder of the run.
        folder: PathBuf,
        /// Settings that differ, with both values.
        changes: Vec<Change>,
    },
}

/// Setting that cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Name of the setting, as it was written.
    pub key: Key,
    /// Place where the setting was written.
    pub origin: Origin,
    /// Fault of the setting.
    pub fault: SettingFault,
}

/// Fault of a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum SettingFault {
    /// Unknown name.
    Unknown {
        /// Nearest existing names.
        near: Vec<Key>,
    },
    /// Name of an environment variable that is not spelt as a setting is.
    Variable {
        /// Settings that may be meant.
        near: Vec<Key>,
    },
    /// Name of a section, where a setting is needed.
    IsSection {
        /// Setting of that section, as an example.
        example: Key,
    },
    /// Value of another type, or a text that is not one of the allowed ones.
    Type {
        /// Value as TOML.
        value: String,
        /// Description of a valid value.
        expected: String,
        /// Nearest allowed text, if one is similar enough.
        suggestion: Option<String>,
    },
    /// Value of the right type that cannot be used.
    Value {
        /// Value as TOML.
        value: String,
        /// Reason why the value cannot be used.
        reason: String,
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
            SettingFault::Value { value, reason } => {
                write!(f, "bad value: {key} = {value} ({origin}): {reason}")
            }
        }
    }
}

impl Problem {
    /// Returns advice on how to correct the setting, if there is any.
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

/// Setting that differs from the one a run was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Name of the setting.
    pub key: Key,
    /// Value in the run, as TOML; `none` if it was not set.
    pub old: String,
    /// Value now, as TOML; `none` if it is not set.
    pub new: String,
}

impl ConfigError {
    /// Returns advice for a `hint:` line, if there is any.
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
