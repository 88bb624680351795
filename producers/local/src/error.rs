use vintage_control::PolicyVersion;
use vintage_rollout::EngineError;

use crate::texts::NO_CHAT_TEMPLATE;

/// Failure of the local engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Weights that could not be fetched, or whose hash is wrong.
    #[error("cannot fetch version {version} of policy {policy}: {source}")]
    Fetch {
        /// Name of the policy.
        policy: String,
        /// Version whose files were requested.
        version: PolicyVersion,
        /// Reason for the failure, from the store.
        source: Box<vintage_store::Error>,
    },
    /// Version 0 lacks a file that every policy needs: `config.json` or `tokenizer.json`.
    #[error(
        "cannot open policy {policy}: its version 0 has no {file} in the store; publish version 0 \
         with it"
    )]
    MissingFile {
        /// Name of the policy.
        policy: String,
        /// Name of the missing file.
        file: &'static str,
    },
    /// Model files or inputs that cannot be used.
    #[error("cannot {attempted}: {source}")]
    Model {
        /// Attempted action and its object, such as "encode a prompt".
        attempted: String,
        /// Reason for the failure, from the model crate.
        source: Box<vintage_model::Error>,
    },
    /// Chat for a model that has no chat template.
    #[error("policy {policy}: {NO_CHAT_TEMPLATE}")]
    NoChatTemplate {
        /// Name of the policy.
        policy: String,
    },
    /// Folder of a model whose weights do not fit this one.
    #[error(
        "cannot load the weights in {folder}: its config.json is of another model than the one that \
         is loaded; load weights of that model only"
    )]
    OtherShape {
        /// Folder that was to be loaded.
        folder: String,
    },
    /// Token id that is negative, which no vocabulary has.
    #[error("token id {0} is negative; this is a bug, please report it")]
    NegativeToken(i32),
    /// Batch that broke off, with the reason; none of its completions is sampled.
    #[error("cannot sample: {0}")]
    Batch(String),
    /// Panic on the thread that samples.
    #[error("the sampler panicked: {0}; this is a bug, please report it")]
    Panicked(#[from] tokio::task::JoinError),
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        use vintage_model::Error as Model;
        use vintage_store::Error as Store;
        match error {
            Error::Fetch {
                version, source, ..
            } if matches!(*source, Store::NoSuchVersion { .. }) => Self::VersionGone { version },
            // Errors caused by the prompt or the request.
            Error::Model { source, .. }
                if matches!(
                    *source,
                    Model::Tokenizer { .. } | Model::ChatTemplate { .. } | Model::Input(_)
                ) =>
            {
                Self::BadRequest(source.to_string())
            }
            Error::NegativeToken(_) | Error::NoChatTemplate { .. } => {
                Self::BadRequest(error.to_string())
            }
            other => Self::Failed(Box::new(other)),
        }
    }
}
