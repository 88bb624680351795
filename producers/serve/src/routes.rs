//! Endpoints: which path and method does what.

use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ask::{Endpoint, Facts, read},
    engine::Engine,
    fields::Fields,
    queue::Outcome,
    refusal::Refusal,
    reply,
};

/// Program and version that `/version` names.
const VERSION: &str = concat!("vintage-serve-", env!("CARGO_PKG_VERSION"));

/// Paths of POST that change what is sampled with.
const CONTROL: [&str; 6] = [
    "/pause",
    "/resume",
    "/collective_rpc",
    "/update_weight_version",
    "/reset_prefix_cache",
    "/abort_requests",
];

/// Everything that requests are answered from.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    /// Name of the model in requests.
    pub(crate) model: String,
    /// True if pauses and changes of weights are allowed.
    pub(crate) control: bool,
}

/// Reply with a status of 200: an object, or nothing.
pub(crate) type Answer = Result<Option<Value>, Refusal>;

impl Site {
    /// Returns the method of a path.
    ///
    /// # Errors
    /// There is no such path.
    pub(crate) fn method(&self, path: &str) -> Result<&'static str, Refusal> {
        let of_control = CONTROL.contains(&path) || matches!(path, "/weight_info" | "/is_paused");
        if of_control && !self.control {
            let message = format!(
                "{path} is off, because this server listens beyond loopback; start it with --control \
                 to let everybody who reaches it change its weights"
            );
            return Err(Refusal::new(403, message));
        }
        match path {
            "/health" | "/version" | "/v1/models" | "/weight_info" | "/is_paused" => Ok("GET"),
            "/v1/completions" | "/v1/chat/completions" | "/inference/v1/generate" => Ok("POST"),
            _ if of_control => Ok("POST"),
            path => Err(Refusal::new(404, format!("there is no {path} here"))),
        }
    }

    /// Answers a request whose path and method are known.
    pub(crate) async fn answer(&self, path: &str, query: &str, body: &[u8]) -> Answer {
        let engine = &self.engine;
        let reply = match path {
            "/health" => return Ok(None),
            "/version" => json!({"version": VERSION}),
            "/v1/models" => self.models(),
            "/weight_info" => json!({"weight_version": engine.label()}),
            "/is_paused" => json!({"is_paused": engine.is_paused()}),
            "/v1/completions" => return self.complete(Endpoint::Completions, body).await,
            "/v1/chat/completions" => return self.complete(Endpoint::Chat, body).await,
            "/inference/v1/generate" => return self.complete(Endpoint::Generate, body).await,
            "/pause" => {
                check_pause(query)?;
                Fields::parse(body)?.finish()?;
                engine.pause().await;
                json!({"status": "paused"})
            }
            "/resume" => {
                engine.resume();
                json!({"status": "resumed"})
            }
            "/collective_rpc" => self.reload(body).await?,
            "/update_weight_version" => {
                let mut fields = Fields::parse(body)?;
                let label = fields.text("new_version")?;
                let label = label.filter(|label| (1..=200).contains(&label.len()));
                let missing = || fields.refuse("new_version", "must be a text of 1 to 200 bytes");
                let label = label.ok_or_else(missing)?;
                fields.finish()?;
                engine.set_label(label.clone());
                json!({"success": true, "new_version": label})
            }
            // There is none: the prompts of every request are computed.
            "/reset_prefix_cache" => json!({"success": true}),
            _ => self.abort(body)?,
        };
        Ok(Some(reply))
    }

    fn models(&self) -> Value {
        let model = json!({
            "id": self.model,
            "object": "model",
            "owned_by": "vintage",
            "root": self.model,
            "parent": null,
            "max_model_len": self.engine.texts().config().max_position_embeddings,
        });
        json!({"object": "list", "data": [model]})
    }

    async fn complete(&self, endpoint: Endpoint, body: &[u8]) -> Answer {
        let texts = self.engine.texts();
        let facts = Facts {
            model: &self.model,
            texts,
        };
        let ask = read(endpoint, body, &facts)?;
        let prefix = match endpoint {
            Endpoint::Completions => "cmpl",
            Endpoint::Chat => "chatcmpl",
            Endpoint::Generate => "generate-tokens",
        };
        let own = || Uuid::now_v7().simple().to_string();
        let id = format!("{prefix}-{}", ask.id.clone().unwrap_or_else(own));
        let mut choices = Vec::new();
        // Dropping these, because the client is gone, takes its rows out of the queue.
        for outcome in self.engine.ask(&ask, &id)? {
            choices.push(match outcome.await {
                Ok(Outcome::Sampled(sampled)) => Some(sampled),
                Ok(Outcome::Aborted) => None,
                Ok(Outcome::Failed(why)) => return Err(Refusal::new(500, why)),
                Err(_) => return Err(Refusal::new(503, "the server is ending")),
            });
        }
        let body = reply::body(&ask, &id, &self.model, texts, &choices);
        body.map(Some)
            .map_err(|error| Refusal::new(500, error.to_string()))
    }

    async fn reload(&self, body: &[u8]) -> Result<Value, Refusal> {
        let mut fields = Fields::parse(body)?;
        if fields.text("method")?.as_deref() != Some("reload_weights") {
            return Err(fields.refuse("method", "must be \"reload_weights\" here"));
        }
        fields.only(&[("args", json!([]))])?;
        fields.ignore(&["timeout"]);
        let mut kwargs = fields.object("kwargs")?;
        let Some(path) = kwargs.text("weights_path")? else {
            return Err(kwargs.refuse("weights_path", "is missing"));
        };
        kwargs.finish()?;
        fields.finish()?;
        let loaded = self.engine.load(PathBuf::from(&path)).await;
        loaded.map_err(|error| {
            Refusal::field(
                "kwargs.weights_path",
                format!("{error}; the weights are still those of before"),
            )
        })?;
        tracing::info!("loaded the weights in {path}");
        Ok(json!({"results": [null]}))
    }

    fn abort(&self, body: &[u8]) -> Result<Value, Refusal> {
        let mut fields = Fields::parse(body)?;
        let ids = fields.list("request_ids")?;
        let ids: Option<Vec<&str>> = ids.as_deref().map_or(Some(Vec::new()), |ids| {
            ids.iter().map(Value::as_str).collect()
        });
        let Some(ids) = ids else {
            return Err(fields.refuse("request_ids", "must be a list of texts"));
        };
        fields.finish()?;
        // vLLM's own ids have the prompt's index behind them.
        let is_meant = |request: &str| {
            let of = |id: &str| {
                let is_index = |rest: &str| {
                    let index = rest.strip_prefix('-');
                    index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
                };
                let rest = id.strip_prefix(request);
                rest.is_some_and(|rest| rest.is_empty() || is_index(rest))
            };
            ids.is_empty() || ids.iter().copied().any(of)
        };
        let aborted = self.engine.abort(is_meant);
        Ok(json!({"status": "aborted", "aborted": aborted}))
    }
}

/// Checks the mode of a pause. All modes do the same here: what is being sampled is finished, and what
/// waits goes on after the pause.
fn check_pause(query: &str) -> Result<(), Refusal> {
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let known = match name {
            "mode" => matches!(value, "abort" | "wait" | "keep"),
            "clear_cache" => true,
            _ => false,
        };
        if !known {
            let message = format!("{name}={value}: mode must be abort, wait or keep");
            return Err(Refusal::field(format!("query.{name}"), message));
        }
    }
    Ok(())
}
