//! Kinds of servers: how each is recognized, and what it can do.

use std::time::Duration;

use serde_json::{Value, json};
use vintage_settings::EngineKind;

use crate::{
    error::Error,
    fault::{Reason, ServerFault},
    protocol::Protocol,
    transport::Transport,
};

/// Programs that speak vLLM's protocol, as their lists of models name them; the second is `vintage
/// serve`.
const OWNERS: [&str; 2] = ["vllm", "vintage"];

/// Path that loads adapters into vLLM.
pub(crate) const LOAD_ADAPTER: &str = "/v1/load_lora_adapter";

/// Kind of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Vllm,
    Sglang,
    Llama,
    Openai,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Llama => "llama-server",
            Self::Openai => "an OpenAI-compatible server",
        }
    }
}

/// Server with what was found out about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// Version of the server's program, if it says it.
    pub(crate) release: String,
    /// Name of the model, without adapters.
    pub(crate) model: String,
    /// Label of the version whose adapters requests ask for, which is their name at the server.
    pub(crate) adapter: Option<String>,
    /// Longest sequence, if the server says it.
    pub(crate) context: Option<usize>,
    /// Number of tokens of the model, if the server says it.
    pub(crate) vocabulary: Option<usize>,
    pub(crate) protocol: Protocol,
    /// True if its weights can be replaced while it runs.
    pub(crate) swaps: bool,
    /// True if adapters can be loaded while it runs.
    pub(crate) adapts: bool,
}

impl Server {
    /// Finds out what a server is and can do. `wanted` is the kind that the settings name.
    ///
    /// # Errors
    /// The server is of another kind, or lacks what a run needs.
    pub(crate) async fn detect(
        http: &Transport,
        wanted: EngineKind,
        model: Option<&str>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let failed = |fault| Error::Server {
            attempted: format!("reach the inference server at {}", http.url()),
            fault,
        };
        let models = http.look("/v1/models", patience).await.map_err(failed)?;
        let sglang = http.look("/model_info", patience).await.map_err(failed)?;
        let props = http.look("/props", patience).await.map_err(failed)?;
        let vllm = http.look("/version", patience).await.map_err(failed)?;
        let listed = models
            .as_ref()
            .and_then(|models| first_model(models, model));
        let has = |value: &Option<Value>, key: &str| {
            value.as_ref().is_some_and(|value| value.get(key).is_some())
        };
        let kind = if has(&sglang, "weight_version") {
            Kind::Sglang
        } else if has(&props, "default_generation_settings") {
            Kind::Llama
        } else if has(&vllm, "version")
            && listed.is_some_and(|model| OWNERS.iter().any(|owner| model["owned_by"] == *owner))
        {
            Kind::Vllm
        } else {
            Kind::Openai
        };
        let fits = match wanted {
            EngineKind::Auto | EngineKind::Openai => true,
            EngineKind::Vllm => kind == Kind::Vllm,
            EngineKind::Sglang => kind == Kind::Sglang,
            EngineKind::Llama => kind == Kind::Llama,
            EngineKind::Local => false,
        };
        if !fits {
            return Err(Error::Unfit {
                url: http.url().to_owned(),
                what: format!("it is {}, not {}", kind.as_str(), wanted.as_str()),
                remedy: "set rollout.engine = \"auto\", or correct rollout.endpoints".to_owned(),
            });
        }
        let kind = if wanted == EngineKind::Openai {
            Kind::Openai
        } else {
            kind
        };
        let text = |value: &Option<Value>, key: &str| {
            let text = value.as_ref().and_then(|value| value.get(key)?.as_str());
            text.unwrap_or("unknown").to_owned()
        };
        let number = |key: &str| listed?.pointer(key)?.as_u64().map(|count| count as usize);
        let name = model.map(str::to_owned);
        let name = name.or_else(|| Some(listed?.get("id")?.as_str()?.to_owned()));
        let mut server = Self {
            kind,
            release: match kind {
                Kind::Vllm => text(&vllm, "version"),
                Kind::Sglang => {
                    let info = http.look("/server_info", patience).await.map_err(failed)?;
                    text(&info, "version")
                }
                Kind::Llama => text(&props, "build_info"),
                Kind::Openai => "unknown".to_owned(),
            },
            model: name.unwrap_or_else(|| "default".to_owned()),
            adapter: None,
            context: number("/max_model_len").or_else(|| number("/meta/n_ctx")),
            vocabulary: number("/meta/n_vocab"),
            protocol: match kind {
                Kind::Vllm | Kind::Openai => Protocol::Completions,
                Kind::Sglang => Protocol::Sglang,
                Kind::Llama => Protocol::Llama,
            },
            swaps: kind == Kind::Sglang,
            adapts: false,
        };
        if kind == Kind::Vllm {
            server.detect_vllm(http, patience).await.map_err(failed)?;
        }
        Ok(server)
    }

    /// Asks a vLLM server for its optional parts.
    async fn detect_vllm(
        &mut self,
        http: &Transport,
        patience: Duration,
    ) -> Result<(), ServerFault> {
        let weights = http.look("/weight_info", patience).await?;
        let pause = http.look("/is_paused", patience).await?;
        self.swaps = weights.is_some() && pause.is_some();
        // A request without tokens is refused for its content where the path is served, and with
        // status 403 or 404 where it is not.
        let empty = json!({"model": self.model, "token_ids": [], "sampling_params": {}});
        let path = Protocol::Generate.path();
        let served = match http.post(path, &empty, patience).await {
            Ok(_) => true,
            Err(fault) if fault.reason == Reason::Refused => {
                !matches!(fault.status, Some(403..=405))
            }
            Err(fault) if fault.reason == Reason::ServerError => true,
            Err(fault) => return Err(fault),
        };
        if served {
            self.protocol = Protocol::Generate;
        }
        // The path is there only with VLLM_ALLOW_RUNTIME_LORA_UPDATING, and nothing has no name.
        let nothing = http.post(LOAD_ADAPTER, &json!({}), patience).await;
        self.adapts = match nothing {
            Ok(_) => true,
            Err(fault) if fault.reason == Reason::Refused => {
                !matches!(fault.status, Some(403..=405))
            }
            Err(fault) => return Err(fault),
        };
        Ok(())
    }

    /// Returns the name of the model in requests.
    pub(crate) fn asked(&self) -> &str {
        self.adapter.as_deref().unwrap_or(&self.model)
    }

    /// Returns the server with other adapters in use, or none.
    pub(crate) fn with_adapter(&self, adapter: Option<String>) -> Self {
        Self {
            adapter,
            ..self.clone()
        }
    }

    /// Returns true if replies of this server name the versions of their tokens.
    pub(crate) fn names_versions(&self) -> bool {
        matches!(self.protocol, Protocol::Generate | Protocol::Sglang)
    }
}

/// Returns the model's entry in the list of models, or the first one that is not an adapter.
fn first_model<'a>(models: &'a Value, name: Option<&str>) -> Option<&'a Value> {
    let list = models.get("data")?.as_array()?;
    list.iter().find(|model| match name {
        Some(name) => model["id"] == name,
        None => model["parent"].is_null(),
    })
}
