//! One server over HTTP: every failure is a [`ServerFault`] with its reason.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, header::RETRY_AFTER};
use serde_json::Value;

use crate::fault::{Reason, ServerFault};

/// Largest reply that is read, in bytes: some million tokens with their log-probs.
const LARGEST: usize = 128 << 20;

/// Server at an address.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    url: String,
    client: Client,
    key: Option<String>,
}

impl Transport {
    pub(crate) fn new(url: &str, client: Client, key: Option<String>) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            client,
            key,
        }
    }

    /// Address of the server.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn get(&self, path: &str, patience: Duration) -> Result<Vec<u8>, ServerFault> {
        let request = self.client.get(format!("{}{path}", self.url));
        self.send(request, path, patience).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> Result<Vec<u8>, ServerFault> {
        let request = self
            .client
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .body(body.to_string());
        self.send(request, path, patience).await
    }

    /// Gets an object, or `None` if the server has no such path.
    pub(crate) async fn look(
        &self,
        path: &str,
        patience: Duration,
    ) -> Result<Option<Value>, ServerFault> {
        match self.get(path, patience).await {
            Ok(reply) => Ok(serde_json::from_slice(&reply).ok()),
            Err(fault) if fault.reason == Reason::Refused => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn send(
        &self,
        mut request: RequestBuilder,
        path: &str,
        patience: Duration,
    ) -> Result<Vec<u8>, ServerFault> {
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let failed = |error: reqwest::Error| self.broken(path, &error);
        let mut response = request.timeout(patience).send().await.map_err(failed)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST {
                let detail = format!("{}{path} answers with more than {LARGEST} bytes", self.url);
                return Err(ServerFault::new(Reason::Malformed, detail));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body);
        }
        let reason = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Reason::Busy,
            status if status.is_server_error() => Reason::ServerError,
            _ => Reason::Refused,
        };
        Err(ServerFault {
            reason,
            detail: format!(
                "{}{path} answers with status {}: {}",
                self.url,
                status.as_u16(),
                message(&body)
            ),
            status: Some(status.as_u16()),
            retry_after,
        })
    }

    fn broken(&self, path: &str, error: &reqwest::Error) -> ServerFault {
        let reason = if error.is_timeout() {
            Reason::Timeout
        } else {
            Reason::Unreachable
        };
        // The cause says what happened; the error itself only what was attempted.
        let mut cause: &dyn std::error::Error = error;
        while let Some(below) = cause.source() {
            cause = below;
        }
        ServerFault::new(
            reason,
            format!("{}{path} gives no reply: {cause}", self.url),
        )
    }
}

/// Returns the message of an error reply, in whichever of the usual shapes it has.
fn message(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let places = ["/error/message", "/message", "/error", "/detail"];
    let found = places
        .iter()
        .find_map(|place| value.pointer(place)?.as_str());
    let text = found.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().take(300).collect()
}
