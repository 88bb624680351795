use vintage_control::PolicyVersion;
use vintage_rollout::EngineError;

/// Why the local engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The weights could not be fetched, or their hash is wrong.
    #[error("cannot fetch version {version} of policy {policy}: {source}")]
    Fetch {
        /// The lineage.
        policy: String,
        /// Which version.
        version: PolicyVersion,
        /// Why.
        source: Box<vintage_store::Error>,
    },
    /// Version 0 has no `config.json` or `tokenizer.json`.
    #[error(
        "cannot open policy {policy}: its version 0 has no {file} in the store; publish version 0 \
         with it"
    )]
    MissingFile {
        /// The lineage.
        policy: String,
        /// Which file.
        file: &'static str,
    },
    /// The model's files or inputs are unusable.
    #[error("cannot {attempted}: {source}")]
    Model {
        /// What was attempted, on what.
        attempted: String,
        /// Why.
        source: Box<vintage_model::Error>,
    },
    /// The requests of one call are to be sampled in different ways.
    #[error("one call samples all its groups alike; send groups with other settings apart")]
    MixedSettings,
    /// The sampler panicked.
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
            // What a prompt or a request is to blame for.
            Error::Model { source, .. }
                if matches!(
                    *source,
                    Model::Tokenizer { .. } | Model::ChatTemplate { .. } | Model::Input(_)
                ) =>
            {
                Self::BadRequest(source.to_string())
            }
            Error::MixedSettings => Self::BadRequest(error.to_string()),
            other => Self::Failed(Box::new(other)),
        }
    }
}
