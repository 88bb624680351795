use std::{fmt, path::PathBuf};

/// Where the final value of a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The value in code, which `presets/default.toml` documents.
    Default,
    /// A value in code for what is trained, in words.
    Derived(&'static str),
    /// A preset that ships with the program.
    Preset {
        /// Its name.
        name: String,
        /// Line within it, from 1.
        line: usize,
    },
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line within it, from 1.
        line: usize,
    },
    /// The settings a run was started with, which say themselves where each came from.
    Recorded(String),
    /// An environment variable.
    Env(String),
    /// `--set key=value`.
    Set,
    /// A command-line flag of its own, such as `--steps`.
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
