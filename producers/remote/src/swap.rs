//! Replacing the weights of a running server, in the order that its kind needs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    fault::{Reason, ServerFault},
    server::{Kind, Server},
    transport::Transport,
};

/// Weights to be loaded into servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) version: vintage_control::PolicyVersion,
    /// Label that the server gives to the tokens of this version.
    pub(crate) label: String,
    /// Folder of the version as the server sees it.
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
/// own answer. Nothing is loaded if the server holds the target already.
///
/// # Errors
/// A step failed, or the server says afterwards that it holds something else. Its weights are then
/// unknown.
pub(crate) async fn swap(
    http: &Transport,
    server: &Server,
    target: &Target,
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
