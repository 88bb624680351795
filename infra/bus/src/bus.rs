use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    client::Log,
    error::{Error, Result, code_of, is_connectivity, is_denial, is_refusal, reason_of},
    gate::Gate,
    mock::Mock,
    openssl,
    readers::Readers,
    settings::Settings,
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};

/// Default limit on a request's duration; [`Bus::with_timeout`] changes it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Handle to one Kafka cluster: address, settings and timeout. Opens no connection until one is
/// needed; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    timeout: Duration,
    mock: Option<Mock>,
    readers: Arc<Readers>,
    probe: Mutex<Option<Arc<Probe>>>,
}

/// Client for metadata and offset requests.
pub(crate) type Probe = BaseConsumer<ProbeContext>;

pub(crate) struct ProbeContext(pub(crate) Log);

impl rdkafka::ClientContext for ProbeContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.log(level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        // The failed request itself reports that no broker answered, but not the reason for a
        // refusal.
        match error.rdkafka_error_code() {
            Some(code) if is_refusal(code) => self.0.error(error, reason),
            _ => tracing::debug!("{error}: {reason}"),
        }
    }
}

impl rdkafka::consumer::ConsumerContext for ProbeContext {}

impl Drop for Inner {
    fn drop(&mut self) {
        let probe = self
            .probe
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(probe) = probe {
            // Dropping joins librdkafka's threads, which must not block an async runtime's thread.
            std::thread::spawn(move || drop(probe));
        }
    }
}

impl Bus {
    /// Describes the cluster at `bootstrap` (`host:port,host:port`), with librdkafka settings that
    /// override the defaults. Does no network IO: see [`Bus::health`].
    pub fn connect(bootstrap: &str, overrides: &BTreeMap<String, String>) -> Result<Self> {
        let settings = Settings::new(bootstrap, overrides, false)?;
        Ok(Self::assembled(settings, TIMEOUT, None, Arc::default()))
    }

    pub(crate) fn assembled(
        settings: Settings,
        timeout: Duration,
        mock: Option<Mock>,
        readers: Arc<Readers>,
    ) -> Self {
        openssl::keep_tables();
        Self {
            inner: Arc::new(Inner {
                settings,
                timeout,
                mock,
                readers,
                probe: Mutex::new(None),
            }),
        }
    }

    /// Returns a handle to the same cluster with another limit on a request's duration (default 10
    /// s).
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self::assembled(
            self.inner.settings.clone(),
            timeout,
            self.inner.mock.clone(),
            Arc::clone(&self.inner.readers),
        )
    }

    /// Addresses of the brokers, as given to [`Bus::connect`].
    pub fn bootstrap(&self) -> &str {
        &self.inner.settings.bootstrap
    }

    /// Returns true for the embedded broker, whose log is lost when the process ends.
    pub fn is_embedded(&self) -> bool {
        self.inner.mock.is_some()
    }

    /// Blocks publishing to `topic` through this bus until `readers` consumers were created for it,
    /// so that the embedded broker trims no unread record. Has no effect with other brokers, which
    /// keep records anyway.
    pub fn expect_consumers(&self, topic: &str, readers: usize) {
        if let Some(mock) = &self.inner.mock {
            mock.gate().expect(topic, readers);
        }
    }

    /// Returns what the statistics of this bus's consumers say, now and later. Keeps no connection
    /// open.
    pub fn readers(&self) -> &Arc<Readers> {
        &self.inner.readers
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn mock(&self) -> Option<&Mock> {
        self.inner.mock.as_ref()
    }

    pub(crate) fn gate(&self) -> Option<Arc<Gate>> {
        self.inner.mock.as_ref().map(|mock| Arc::clone(mock.gate()))
    }

    /// Runs a request to the brokers on a thread that may block.
    pub(crate) async fn probe<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Probe) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<Result<T, KafkaError>> {
        let probe = self.shared_probe()?;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask(&probe);
            // Nothing else drains the queue of log lines.
            while probe.poll(Duration::ZERO).is_some() {}
            answer
        });
        asked.await.map_err(|_| Error::Stopped {
            what: "a question to the brokers",
        })
    }

    fn shared_probe(&self) -> Result<Arc<Probe>> {
        let mut probe = self
            .inner
            .probe
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(probe) = &*probe {
            return Ok(Arc::clone(probe));
        }
        let client = "vintage-probe";
        let made = self
            .inner
            .settings
            .probe()
            .create_with_context(ProbeContext(Log::new(client, self.is_embedded())))
            .map_err(|error| Error::Client {
                client: client.into(),
                reason: error.to_string(),
            })?;
        Ok(Arc::clone(probe.insert(Arc::new(made))))
    }

    /// Takes the reason for which a broker last refused the probe's connection, if one did.
    pub(crate) fn take_refusal(&self) -> Option<String> {
        let probe = self.inner.probe.lock();
        let probe = probe.unwrap_or_else(PoisonError::into_inner);
        probe.as_ref()?.context().0.take_refusal()
    }

    /// Builds the error for an action that the connection's user is not authorised for.
    pub(crate) fn denied(&self, action: String, code: RDKafkaErrorCode) -> Error {
        Error::Denied {
            action,
            bootstrap: self.bootstrap().to_owned(),
            reason: code.to_string(),
        }
    }

    pub(crate) fn refused(&self, action: &str, error: &KafkaError, waited: Duration) -> Error {
        let bootstrap = self.bootstrap().to_owned();
        let reason = reason_of(error);
        match code_of(error) {
            Some(code) if is_connectivity(code) => match self.take_refusal() {
                Some(reason) => Error::Login { bootstrap, reason },
                None => Error::Unreachable {
                    bootstrap,
                    waited,
                    reason,
                },
            },
            Some(code) if is_denial(code) => self.denied(action.to_owned(), code),
            _ => Error::Request {
                action: action.to_owned(),
                bootstrap,
                reason,
                retryable: false,
            },
        }
    }
}

pub(crate) fn owned(config: &ClientConfig) -> BTreeMap<String, String> {
    let options = config.config_map().into_iter();
    options
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("bootstrap", &self.bootstrap())
            .field("embedded", &self.is_embedded())
            .finish_non_exhaustive()
    }
}
