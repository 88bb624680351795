//! Error type of this crate.

use vintage_settings::Device;

/// Errors of a model's files, inputs or arithmetic.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{action} {path}: {source}; check that the path is a Hugging Face model folder")]
    Io {
        /// Action that was attempted, as a present participle.
        action: &'static str,
        /// Path of the file or folder.
        path: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A model called by its name on the hub could not be located.
    #[error(transparent)]
    Hub(#[from] vintage_hub::Error),
    /// `config.json` is unusable.
    #[error("reading config.json: key {key}: {problem}")]
    Config {
        /// Key at fault.
        key: String,
        /// Description of the fault and of a valid value.
        problem: String,
    },
    /// A file beside `config.json` is unusable.
    #[error("reading {file}: {problem}")]
    File {
        /// Name of the file, or its path if that is known.
        file: String,
        /// Description of the fault, and the remedy.
        problem: String,
    },
    /// A folder is not a model that can be loaded as it is.
    #[error("opening {path}: {problem}")]
    Folder {
        /// Path of the folder.
        path: String,
        /// Kind of folder found instead, and the command that makes a model of it.
        problem: String,
    },
    /// `tokenizer.json` is unusable, or text cannot be encoded with it.
    #[error("{action}: {problem}")]
    Tokenizer {
        /// Action that was attempted.
        action: String,
        /// Reason for the failure, and the remedy.
        problem: String,
    },
    /// The chat template is not valid Jinja, or refuses the messages.
    #[error("{action}: {problem}; mend chat_template of the model folder, or the messages")]
    ChatTemplate {
        /// Action that was attempted.
        action: String,
        /// Reason for the failure, in the words of the Jinja engine or of the template.
        problem: String,
    },
    /// A weights file is damaged or is not a safetensors file.
    #[error("reading weights from {file}: {problem}; fetch or export the file again")]
    Weights {
        /// Path of the file, or `model.safetensors` if only bytes were given.
        file: String,
        /// Reason for the failure.
        problem: String,
    },
    /// A tensor of the weights does not fit `config.json`.
    #[error("loading weights: tensor {name}: {problem}")]
    Parameter {
        /// Name of the tensor, as in Hugging Face checkpoints.
        name: String,
        /// Description of the fault and of a valid tensor.
        problem: String,
    },
    /// The model cannot take the batch, target or prompt.
    #[error("{0}")]
    Input(String),
    /// A device on which updates were to be computed is not available.
    #[error("opening {place}: {problem}")]
    Device {
        /// Name of the device, as in the settings.
        place: String,
        /// Description of what is missing, and the remedy.
        problem: String,
    },
    /// A tensor operation failed.
    #[error("running {op} on tensors: {source}")]
    Tensor {
        /// Name of the operation.
        op: &'static str,
        /// Error of candle.
        source: candle_core::Error,
    },
}

/// Result with this crate's error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the refusal of a GPU by a program that was built without CUDA.
    pub fn without_cuda(device: Device) -> Self {
        Self::Device {
            place: device.to_string(),
            problem: "this program was built without CUDA; build it with infra/cuda/build.sh, or \
                      with `cargo build --release --features vintage-cli/cuda` where a CUDA toolkit \
                      is installed, or train on the CPU with learner.device = \"cpu\""
                .to_owned(),
        }
    }

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

    /// Returns the conversion of candle's error in operation `op`.
    pub fn tensor(op: &'static str) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Tensor { op, source }
    }
}
