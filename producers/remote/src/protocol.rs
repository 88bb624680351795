//! Protocols of inference servers: request bodies and replies, without IO.

pub(crate) mod completions;
pub(crate) mod generate;
pub(crate) mod llama;
pub(crate) mod sglang;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    fault::{Reason, ServerFault},
    reply::{Ask, Limits, Reply, check},
};

/// Way to ask a server for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// vLLM's `/inference/v1/generate`: token ids with versions.
    Generate,
    /// OpenAI's `/v1/completions` with token ids, as vLLM extends it.
    Completions,
    /// SGLang's `/generate`.
    Sglang,
    /// llama-server's `/completion`.
    Llama,
}

impl Protocol {
    /// Path of the requests.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Generate => "/inference/v1/generate",
            Self::Completions => "/v1/completions",
            Self::Sglang => "/generate",
            Self::Llama => "/completion",
        }
    }

    /// Body of a request for one completion by `model`.
    pub(crate) fn body(self, ask: &Ask, model: &str, stop: &[u32]) -> Value {
        match self {
            Self::Generate => generate::body(ask, model, stop),
            Self::Completions => completions::body(ask, model, stop),
            Self::Sglang => sglang::body(ask, stop),
            Self::Llama => llama::body(ask),
        }
    }

    /// Reads and checks a reply.
    ///
    /// # Errors
    /// The reply is not what the protocol promises, or fails a check of [`check`].
    pub(crate) fn read(
        self,
        reply: &[u8],
        ask: &Ask,
        limits: &Limits,
    ) -> Result<Reply, ServerFault> {
        let raw = match self {
            Self::Generate => generate::read(reply),
            Self::Completions => completions::read(reply),
            Self::Sglang => sglang::read(reply),
            Self::Llama => llama::read(reply),
        };
        check(raw?, ask, limits)
    }
}

/// Parses a reply as the struct of its protocol.
fn parse<T: DeserializeOwned>(reply: &[u8]) -> Result<T, ServerFault> {
    serde_json::from_slice(reply).map_err(|error| {
        let text = String::from_utf8_lossy(reply);
        let start: String = text.chars().take(200).collect();
        ServerFault::new(
            Reason::Malformed,
            format!("the reply cannot be read ({error}): {start}"),
        )
    })
}

/// Takes the only element of a list.
fn only<T>(mut list: Vec<T>, what: &str) -> Result<T, ServerFault> {
    match (list.pop(), list.len()) {
        (Some(one), 0) => Ok(one),
        (_, more) => Err(ServerFault::new(
            Reason::Malformed,
            format!("the reply has {} {what} where 1 was asked for", more + 1),
        )),
    }
}

/// Refuses a reply without `what`.
fn missing(what: &str) -> ServerFault {
    ServerFault::new(Reason::Malformed, format!("the reply has no {what}"))
}

/// Top-k as vLLM and SGLang write it: −1 is off.
fn top_k(ask: &Ask) -> i32 {
    if ask.top_k == 0 { -1 } else { ask.top_k }
}

#[cfg(test)]
mod tests;
