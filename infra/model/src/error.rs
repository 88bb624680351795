/// What can go wrong with a model: its files, its inputs, its arithmetic.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{action} {path}: {source}; check that the path is a Hugging Face model folder")]
    Io {
        /// What was attempted, as a present participle.
        action: &'static str,
        /// The file.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A model called by its name on the hub could not be located.
    #[error(transparent)]
    Hub(#[from] vintage_hub::Error),
    /// `config.json` is unusable.
    #[error("reading config.json: key {key}: {problem}")]
    Config {
        /// The key at fault.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A file beside `config.json` is unusable.
    #[error("reading {file}: {problem}")]
    File {
        /// Its name, or its path where that is known.
        file: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A folder is no model that can be loaded as it is.
    #[error("opening {path}: {problem}")]
    Folder {
        /// The folder.
        path: String,
        /// What it is instead, and the command that makes a model of it.
        problem: String,
    },
    /// `tokenizer.json` is unusable, or text cannot be encoded with it.
    #[error("{action}: {problem}")]
    Tokenizer {
        /// What was attempted.
        action: String,
        /// Why it failed and what to do.
        problem: String,
    },
    /// The chat template is no Jinja, or refuses the messages.
    #[error("{action}: {problem}; mend chat_template of the model folder, or the messages")]
    ChatTemplate {
        /// What was attempted.
        action: String,
        /// Why it failed, in the engine's or the template's own words.
        problem: String,
    },
    /// A weights file is damaged or is no safetensors file.
    #[error("reading weights from {file}: {problem}; fetch or export the file again")]
    Weights {
        /// The file, or `model.safetensors` where only bytes were given.
        file: String,
        /// Why it failed.
        problem: String,
    },
    /// A tensor of the weights does not fit `config.json`.
    #[error("loading weights: tensor {name}: {problem}")]
    Parameter {
        /// Name as in Hugging Face checkpoints.
        name: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A batch, a target or a prompt the model cannot take.
    #[error("{0}")]
    Input(String),
    /// A device that updates were to be computed on cannot be had.
    #[error("opening {place}: {problem}")]
    Device {
        /// As settings name it.
        place: String,
        /// What is missing and what to do.
        problem: String,
    },
    /// A tensor operation failed.
    #[error("running {op} on tensors: {source}")]
    Tensor {
        /// The operation.
        op: &'static str,
        /// Why it failed.
        source: candle_core::Error,
    },
}

/// Result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn parameter(name: &str, problem: impl Into<String>) -> Self {
        Self::Parameter {
            name: name.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn file(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::File {
            file: file.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn config(key: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn tensor(op: &'static str) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Tensor { op, source }
    }
}
