//! A model, or a version of a run's policy, served over vLLM's HTTP.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vintage_control::{Name, PolicyVersion};
use vintage_local::LocalModel;
use vintage_serve::{ServeSetup, Server};
use vintage_store::label;

use crate::{
    error::{Error, Result},
    event::Events,
    opened::{Opened, open},
    published::PublishedVersion,
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
        opened = open_served(options, events) => opened?,
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

type Served = (LocalModel, Option<Name>, Option<PolicyVersion>, String);

async fn open_served(options: &ServeOptions, events: &Events) -> Result<Served> {
    let (learner, version) = (options.learner.as_ref(), options.version);
    let Opened { engine, of_run } = open(&options.what, learner, version, events).await?;
    let Some(PublishedVersion {
        weights,
        policy,
        version,
    }) = of_run
    else {
        return Ok((engine.model(), None, None, DEFAULT.to_owned()));
    };
    let gone = || Error::Vanished {
        policy: policy.clone(),
        version,
    };
    let manifest = weights.manifest(version).await?.ok_or_else(gone)?;
    let label = label(&policy, version, manifest.weights_sha256);
    Ok((engine.model(), Some(policy), Some(version), label))
}

/// Returns the last part of a path, by which requests name the model.
fn name_of(what: &Path) -> String {
    let absolute = std::path::absolute(what).unwrap_or_else(|_| what.to_owned());
    let name = absolute.file_name().unwrap_or(absolute.as_os_str());
    name.to_string_lossy().into_owned()
}
