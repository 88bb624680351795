//! Errors of finding a model by its name and of fetching it.

use std::path::{Path, PathBuf};

/// Failure to find a model by its name or to fetch it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Name that no model can have.
    #[error(
        "looking for the model {name:?} in the Hugging Face cache: it is no name of a model: write \
         hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
    )]
    BadName {
        /// Name as it was given.
        name: String,
    },
    /// Environment that names no cache folder.
    #[error(
        "looking for the model {name:?} in the Hugging Face cache: there is no cache folder: set \
         HF_HOME"
    )]
    NoCache {
        /// Name of the model, with its revision if one was given.
        name: String,
    },
    /// Model that the local cache does not have.
    #[error("looking for the model {name:?} in the Hugging Face cache: {reason}")]
    NotCached {
        /// Name of the model, with its revision if one was given.
        name: String,
        /// Folder and revision that were looked for, and the command that fetches them.
        reason: String,
    },
    /// `HF_ENDPOINT` that is no address of a hub.
    #[error("HF_ENDPOINT = {endpoint:?} is no address of a hub: write it as {example}")]
    BadEndpoint {
        /// Value of the variable.
        endpoint: String,
        /// Address of the public hub.
        example: &'static str,
    },
    /// Token of the user that has characters which no token has.
    #[error(
        "HF_TOKEN, or the file of hf auth login, holds more than a token: look for spaces and ends \
         of lines in it"
    )]
    BadToken,
    /// Model that the hub does not have, or that the user may not read.
    #[error(
        "model.path: {endpoint} has no {name:?} of revision {revision:?}, or you no right to it: \
         look at the name, and set HF_TOKEN or use hf auth login for a model that is not public"
    )]
    NotOnHub {
        /// Address of the hub.
        endpoint: String,
        /// Name of the model.
        name: String,
        /// Revision that was asked for.
        revision: String,
    },
    /// Repository without a file that a model needs.
    #[error("model.path: {name} has no {file} at revision {revision}: {advice}")]
    NoModel {
        /// Name of the repository.
        name: String,
        /// Missing file.
        file: String,
        /// Revision that was asked for.
        revision: String,
        /// Files that are there instead, or another model to name.
        advice: String,
    },
    /// Hub that did not deliver the model.
    #[error("fetching {name:?} from the Hugging Face hub: {reason}")]
    Fetch {
        /// Name of the model.
        name: String,
        /// Reason for the failure and the remedy.
        reason: String,
    },
    /// File of the cache that could not be read or written.
    #[error("cannot {attempted} {}: {source}", path.display())]
    Io {
        /// Verb: `read`, `write`, `create`…
        attempted: &'static str,
        /// File or folder concerned.
        path: PathBuf,
        /// Answer of the operating system.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns a function that makes the error of an operation on a file or folder.
    pub(crate) fn io(attempted: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            attempted,
            path,
            source,
        }
    }
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
