//! Replacing the weights of a running server, in the order that its kind needs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    fault::{Reason, ServerFault},
    server::{Kind, LOAD_ADAPTER, Server},
    transport::Transport,
};

/// Weights to be loaded into servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) version: vintage_control::PolicyVersion,
    /// Whole weights: the version's, or those that its adapters were trained on.
    pub(crate) weights: Place,
    /// Adapters of the version, if they are loaded as such.
    pub(crate) adapter: Option<Place>,
}

/// Files of a version that a server loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Label that the server gives to tokens of the version.
    pub(crate) label: String,
    /// Folder as the server sees it.
    pub(crate) folder: String,
}

/// Returns the label of the weights that a server holds, if it has one.
pub(crate) async fn held(
    http: &Transport,
    server: &Server,
    patience: Duration,
) -> Result<Option<String>, ServerFault> {
    let path = match server.kind {
        Kind::Vllm => "/weight_info",
        Kind::Sglang => "/model_info",
        Kind::Llama | Kind::Openai => return Ok(None),
    };
    let info = http.look(path, patience).await?;
    let label = info
        .as_ref()
        .and_then(|info| info.get("weight_version")?.as_str());
    Ok(label.map(str::to_owned))
}

/// Loads the target into a server that takes no requests meanwhile, and proves it by the server's
/// own answer. What the server holds already is not loaded again. Returns the server as it is to be
/// asked from then on.
///
/// # Errors
/// A step failed, or the server says afterwards that it holds something else. Its weights are then
/// unknown.
pub(crate) async fn swap(
    http: &Transport,
    server: &Server,
    target: &Target,
    patience: Duration,
) -> Result<Server, ServerFault> {
    replace(http, server, &target.weights, patience).await?;
    if let Some(adapter) = &target.adapter {
        add(http, adapter, patience).await?;
    }
    let adapter = target.adapter.as_ref().map(|adapter| adapter.label.clone());
    Ok(server.with_adapter(adapter))
}

/// Loads adapters beside those that are there: no request is cut off, and each is sampled with the
/// adapters that it names.
async fn add(http: &Transport, adapter: &Place, patience: Duration) -> Result<(), ServerFault> {
    let load = json!({"lora_name": adapter.label, "lora_path": adapter.folder});
    let loaded = http.post(LOAD_ADAPTER, &load, patience).await;
    let models = http.look("/v1/models", patience).await?;
    let listed = models.as_ref().and_then(|models| models["data"].as_array());
    let is_there = |list: &Vec<Value>| list.iter().any(|model| model["id"] == adapter.label);
    // Another producer may have loaded them, or this one before it was restarted.
    if listed.is_some_and(is_there) {
        return Ok(());
    }
    loaded?;
    Err(ServerFault::new(
        Reason::StaleVersion,
        format!(
            "{} was given the adapters {:?} and does not list them",
            http.url(),
            adapter.label
        ),
    ))
}

/// Forgets adapters that nobody asks for any more. A failure leaves them listed, which costs nothing
/// else: a server keeps the weights of few.
pub(crate) async fn forget(http: &Transport, label: &str, patience: Duration) {
    let unload = json!({"lora_name": label});
    if let Err(fault) = http
        .post("/v1/unload_lora_adapter", &unload, patience)
        .await
    {
        tracing::debug!("{fault}");
    }
}

/// Replaces the whole weights of a server.
async fn replace(
    http: &Transport,
    server: &Server,
    target: &Place,
    patience: Duration,
) -> Result<(), ServerFault> {
    let holds = |label: &Option<String>| label.as_deref() == Some(target.label.as_str());
    if holds(&held(http, server, patience).await?) {
        // A producer that died in the middle of a swap may have left the server paused.
        return resume(http, server, patience).await;
    }
    let step = async |path: &str, body: Value| http.post(path, &body, patience).await;
    match server.kind {
        Kind::Vllm => {
            // What runs ends with what it has sampled, and is continued from there: cached keys and
            // values of the old weights must not enter tokens of the new ones.
            step("/pause?mode=abort", json!({})).await?;
            let kwargs = json!({"weights_path": target.folder});
            let reload = json!({"method": "reload_weights", "kwargs": kwargs});
            step("/collective_rpc", reload).await?;
            step(
                "/update_weight_version",
                json!({"new_version": target.label}),
            )
            .await?;
            step("/reset_prefix_cache", json!({})).await?;
        }
        Kind::Sglang => {
            // What runs is computed again under the new weights before it goes on.
            step("/pause_generation", json!({"mode": "retract"})).await?;
            let update = json!({
                "model_path": target.folder,
                "weight_version": target.label,
                "flush_cache": true,
            });
            let updated = step("/update_weights_from_disk", update).await;
            if let Err(fault) = &updated
                && fault.detail.contains("cache was not flushed")
            {
                // The weights are new all the same.
                step("/flush_cache", json!({})).await?;
            } else if updated.is_err() {
                resume(http, server, patience).await?;
                return updated.map(|_reply| ());
            }
        }
        Kind::Llama | Kind::Openai => {
            let detail = format!("{} cannot change its weights", server.kind.as_str());
            return Err(ServerFault::new(Reason::Refused, detail));
        }
    }
    resume(http, server, patience).await?;
    let found = held(http, server, patience).await?;
    if holds(&found) {
        return Ok(());
    }
    Err(ServerFault::new(
        Reason::StaleVersion,
        format!(
            "{} was given weights {:?} and says that it holds {found:?}",
            http.url(),
            target.label
        ),
    ))
}

/// Ends the pause of a server, if there is one.
async fn resume(http: &Transport, server: &Server, patience: Duration) -> Result<(), ServerFault> {
    let path = match server.kind {
        Kind::Vllm => "/resume",
        Kind::Sglang => "/continue_generation",
        Kind::Llama | Kind::Openai => return Ok(()),
    };
    http.post(path, &json!({}), patience).await.map(|_reply| ())
}
