use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

use crate::error::{is_connectivity, is_refusal};

/// Interval within which a client warns of lost connections only once.
const QUIET: Duration = Duration::from_secs(30);

/// Forwards librdkafka's log lines and errors to `tracing`.
#[derive(Debug)]
pub(crate) struct Log {
    client: String,
    /// True for the embedded broker: it disappears only when its process ends, so lost connections
    /// are not warned about.
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

    /// Text of the last error; its code alone often says too little.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last_error
            .clone()
    }

    /// Takes the reason for which a broker refused this client since the last call. The failed
    /// request itself reports only a timeout.
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
            // Producers and consumers share one set of overrides, and each warns about the other's
            // settings.
            (_, "CONFWARN") => tracing::debug!(client, facility, "{text}"),
            // Each of these is reported again as an error or in a delivery report.
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
