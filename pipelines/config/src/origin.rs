use std::{fmt, path::PathBuf};

/// Origin of the final value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Default in code, documented by `presets/default.toml`.
    Default,
    /// Default in code that depends on other settings, with a description.
    Derived(&'static str),
    /// Preset that ships with the program.
    Preset {
        /// Name of the preset.
        name: String,
        /// Line within the preset, from 1.
        line: usize,
    },
    /// Configuration file.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Line within the file, from 1.
        line: usize,
    },
    /// Recorded settings of a run, with the origin that they give.
    Recorded(String),
    /// Environment variable, by name.
    Env(String),
    /// Argument `--set key=value`.
    Set,
    /// Command-line flag, such as `--steps`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(why) => f.write_str(why),
            Self::Preset { name, line } => write!(f, "preset {name}:{line}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Recorded(text) | Self::Env(text) => f.write_str(text),
            Self::Set => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}
