//! Model that samples in this process: a folder, a model of the hub, or a version of a run's policy.

use std::path::Path;

use vintage_control::{Name, PolicyVersion};
use vintage_hub::HubModel;
use vintage_local::{LocalEngine, LocalModel};
use vintage_model::ModelFolder;

use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::config_file,
    published::{PublishedVersion, published},
};

/// Engine with its weights.
pub(crate) struct Opened {
    pub(crate) engine: LocalEngine,
    /// Version that it holds; `None` of a model that no run has published.
    pub(crate) of_run: Option<PublishedVersion>,
}

/// Opens a model's folder, `hf://NAME`, or a version of a learner's policy in a run's folder: the newest
/// of the lead's, if neither is given.
///
/// # Errors
/// There is no such model, run, learner or version.
pub(crate) async fn open(
    what: &Path,
    learner: Option<&Name>,
    version: Option<PolicyVersion>,
    events: &Events,
) -> Result<Opened> {
    let refuse = |reason: &str| Error::Folder {
        path: what.to_owned(),
        reason: reason.to_owned(),
    };
    let hub = HubModel::of(what)?;
    if hub.is_none() && is_run(what) {
        let found = published(what, learner, version).await?;
        let (weights, policy) = (found.weights.clone(), found.policy.clone());
        let engine = LocalEngine::open(weights, policy, found.version).await?;
        return Ok(Opened {
            engine,
            of_run: Some(found),
        });
    }
    if hub.is_none() && !what.join("config.json").is_file() {
        return Err(refuse(
            "is neither a run's folder (config.toml) nor a model's (config.json)",
        ));
    }
    if learner.is_some() || version.is_some() {
        return Err(refuse(
            "is a model and no run, so it has no learners and versions: name neither, or a run",
        ));
    }
    if let Some(hub) = hub {
        let progress = |phase| {
            let _nobody_listens = events.send(RunEvent::Phase(phase));
        };
        vintage_hub::fetch_missing(&hub, ModelFolder::WANTED, &progress).await?;
    }
    // The name is for errors only.
    let policy: Name = "model"
        .parse()
        .map_err(|error| Error::Bug(format!("{error}")))?;
    let model = LocalModel::open(what.to_owned(), policy.clone()).await?;
    Ok(Opened {
        engine: LocalEngine::of_model(model, policy),
        of_run: None,
    })
}

/// Returns true if `folder` is a run's, or a copy of one without its settings.
pub(crate) fn is_run(folder: &Path) -> bool {
    config_file(folder).is_file() || folder.join("plans").is_dir()
}
