//! Choice of a learner of a run, for verbs that read what one did.

use std::path::{Path, PathBuf};

use vintage_control::Name;
use vintage_store::Store;

use crate::{
    error::{Error, Result},
    folder::{followers, learner_config},
    replay::{lead, listed},
};

/// Learner of a run.
pub(crate) struct LearnerOf {
    pub(crate) name: Name,
    /// File of its settings.
    pub(crate) config: PathBuf,
}

/// Finds a learner of the run in `folder`; without `name`, the lead.
///
/// # Errors
/// [`Error::Folder`] with the learners that there are, if that one is none of them.
pub(crate) async fn learner_of(
    folder: &Path,
    store: &Store,
    name: Option<&Name>,
) -> Result<LearnerOf> {
    let name = match name {
        Some(name) => name.clone(),
        None => lead(folder, store).await?,
    };
    if let Some(config) = learner_config(folder, &name)? {
        return Ok(LearnerOf { name, config });
    }
    let mut known = vec![lead(folder, store).await?.to_string()];
    for file in followers(folder)? {
        known.push(vintage_config::read(&file)?.learner.name.to_string());
    }
    Err(Error::Folder {
        path: folder.to_owned(),
        reason: format!("has no learner {name}: there are {}", listed(&known)),
    })
}
