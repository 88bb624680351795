//! A model, or a version of a run's policy, served over vLLM's HTTP.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vintage_control::{Name, PolicyVersion};
use vintage_hub::HubModel;
use vintage_local::{LocalEngine, LocalModel};
use vintage_model::ModelFolder;
use vintage_serve::{ServeSetup, Server};
use vintage_store::label;

use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::config_file,
    published::{PublishedVersion, published},
};

/// Label of weights that no run has published, as vLLM has it.
const DEFAULT: &str = "default";

/// Model to be served, and how.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Folder of a run or of a model, or `hf://NAME`.
    pub what: PathBuf,
    /// Learner whose policy is served, of a run; the lead if not given.
    pub learner: Option<Name>,
    /// Version that is served, of a run; the newest if not given.
    pub version: Option<PolicyVersion>,
    /// Name of the model in requests; the folder's own if not given.
    pub model_name: Option<String>,
    /// Address to listen at.
    pub listen: SocketAddr,
    /// True if clients beyond loopback may change the weights too.
    pub control: bool,
    /// Largest number of tokens that are sampled together.
    pub batch_tokens: usize,
}

/// Server that listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listening {
    /// Address of the endpoints.
    pub url: String,
    /// Name of the model in requests.
    pub model: String,
    /// Policy of the weights, of a run.
    pub policy: Option<Name>,
    /// Version of the weights, of a run.
    pub version: Option<PolicyVersion>,
    /// Label of the weights.
    pub weight_version: String,
    /// True if clients may pause the engine and change its weights.
    pub control: bool,
}

/// Opens a model and listens, then says so to `listening` and answers until `stop`. Returns the
/// number of completions sampled.
///
/// # Errors
/// There is no such model or version, or the address cannot be had.
pub async fn serve(
    options: &ServeOptions,
    stop: &CancellationToken,
    events: &Events,
    listening: impl FnOnce(&Listening) + Send,
) -> Result<u64> {
    let opened = tokio::select! {
        opened = open(options, events) => opened?,
        () = stop.cancelled() => return Err(Error::Interrupted),
    };
    let (model, policy, version, label) = opened;
    let name = options.model_name.clone();
    let name = name.unwrap_or_else(|| name_of(&options.what));
    let control = options.control || options.listen.ip().is_loopback();
    let server = Server::bind(ServeSetup {
        model,
        name: name.clone(),
        label: label.clone(),
        listen: options.listen,
        control,
        batch_tokens: options.batch_tokens,
    });
    let server = server.await?;
    listening(&Listening {
        url: format!("http://{}", server.address()),
        model: name,
        policy,
        version,
        weight_version: label,
        control,
    });
    Ok(server.run(stop.clone()).await)
}

type Opened = (LocalModel, Option<Name>, Option<PolicyVersion>, String);

async fn open(options: &ServeOptions, events: &Events) -> Result<Opened> {
    let what = &options.what;
    let hub = HubModel::of(what)?;
    let is_model = hub.is_some() || (what.join("config.json").is_file() && !is_run(what));
    if !is_model && !is_run(what) {
        return Err(Error::Folder {
            path: what.clone(),
            reason: "is neither a run's folder (config.toml) nor a model's (config.json)"
                .to_owned(),
        });
    }
    if !is_model {
        let (learner, version) = (options.learner.as_ref(), options.version);
        let PublishedVersion {
            weights,
            policy,
            version,
        } = published(what, learner, version).await?;
        let gone = || Error::Vanished {
            policy: policy.clone(),
            version,
        };
        let manifest = weights.manifest(version).await?.ok_or_else(gone)?;
        let label = label(&policy, version, manifest.weights_sha256);
        let engine = LocalEngine::open(weights, policy.clone(), version).await?;
        return Ok((engine.model(), Some(policy), Some(version), label));
    }
    if options.learner.is_some() || options.version.is_some() {
        return Err(Error::Folder {
            path: what.clone(),
            reason:
                "is a model and no run, so it has no learners and versions: leave --learner and \
                     --policy-version out"
                    .to_owned(),
        });
    }
    if let Some(hub) = hub {
        let progress = |phase| {
            let _nobody_listens = events.send(RunEvent::Phase(phase));
        };
        vintage_hub::fetch_missing(&hub, ModelFolder::WANTED, &progress).await?;
    }
    // The name is for errors only.
    let policy = "model"
        .parse()
        .map_err(|error| Error::Bug(format!("{error}")))?;
    let model = LocalModel::open(what.clone(), policy).await?;
    Ok((model, None, None, DEFAULT.to_owned()))
}

fn is_run(folder: &Path) -> bool {
    config_file(folder).is_file() || folder.join("plans").is_dir()
}

/// Returns the last part of a path, by which requests name the model.
fn name_of(what: &Path) -> String {
    let absolute = std::path::absolute(what).unwrap_or_else(|_| what.to_owned());
    let name = absolute.file_name().unwrap_or(absolute.as_os_str());
    name.to_string_lossy().into_owned()
}
