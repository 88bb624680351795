use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

use crate::error::{is_connectivity, is_refusal};

/// A lost connection is said once per this time, not on every attempt.
const QUIET: Duration = Duration::from_secs(30);

/// Takes librdkafka's log and errors to `tracing`.
#[derive(Debug)]
pub(crate) struct Log {
    client: String,
    /// The embedded broker is lost only by ending with its process: nobody needs to hear of it.
    embedded: bool,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    connectivity: Option<Instant>,
    last_error: Option<String>,
    refusal: Option<String>,
}

impl Log {
    pub(crate) fn new(client: &str, embedded: bool) -> Self {
        Self {
            client: client.to_owned(),
            embedded,
            said: Mutex::default(),
        }
    }

    /// The words that came with the last error: its code alone is often too little.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last_error
            .clone()
    }

    /// Why a broker would not talk to this client since this was last asked: the request itself
    /// only runs out of time.
    pub(crate) fn take_refusal(&self) -> Option<String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.refusal.take()
    }

    fn connectivity(&self, text: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let client = &self.client;
        let long_ago = said.connectivity.is_none_or(|at| at.elapsed() > QUIET);
        if long_ago && !self.embedded {
            said.connectivity = Some(Instant::now());
            tracing::warn!(client, "{text}; trying on");
        } else {
            tracing::debug!(client, "{text}");
        }
    }
}

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let client = &self.client;
        match (level, facility) {
            // One set of overrides serves producers and consumers, each warns of the other's.
            (_, "CONFWARN") => tracing::debug!(client, facility, "{text}"),
            // Each of these comes again as an error, or as a delivery report.
            (_, "FAIL" | "ERROR" | "REQTMOUT" | "MAXPOLL") => {
                tracing::debug!(client, facility, "{text}");
            }
            (
                RDKafkaLogLevel::Emerg
                | RDKafkaLogLevel::Alert
                | RDKafkaLogLevel::Critical
                | RDKafkaLogLevel::Error,
                _,
            ) => tracing::error!(client, facility, "{text}"),
            (RDKafkaLogLevel::Warning, _) => tracing::warn!(client, facility, "{text}"),
            _ => tracing::debug!(client, facility, "{text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(code) if is_connectivity(code) => self.connectivity(reason),
            Some(code) if is_refusal(code) => {
                self.connectivity(reason);
                let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                said.last_error = Some(reason.to_owned());
                said.refusal = Some(reason.to_owned());
            }
            _ => {
                let client = &self.client;
                tracing::debug!(client, "{error}: {reason}");
                let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                said.last_error = Some(reason.to_owned());
            }
        }
    }
}
