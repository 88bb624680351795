use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use vintage_control::{Offset, Partition};

use crate::{
    Consumer, ConsumerLimits, Error, Producer, Result, StartOffsets,
    client::Log,
    consumer::Reading,
    embedded::Mock,
    error::{code_of, detail_of, is_connectivity, is_denial, is_refusal},
    gate::Gate,
    settings::Settings,
};

/// How long a request may take unless [`Bus::with_timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a log. Holds no connection until one is needed; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    timeout: Duration,
    mock: Option<Mock>,
    probe: Mutex<Option<Arc<Probe>>>,
}

/// A client for questions about the cluster.
pub(crate) type Probe = BaseConsumer<ProbeContext>;

pub(crate) struct ProbeContext(pub(crate) Log);

impl rdkafka::ClientContext for ProbeContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.log(level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        // The question that failed says itself that nobody answered, but not why.
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
            // Joins librdkafka's threads: not on a runtime's thread.
            std::thread::spawn(move || drop(probe));
        }
    }
}

impl Bus {
    /// The cluster at `bootstrap` (`host:port,host:port`), with librdkafka settings on top of
    /// ours. Touches no network: see [`Bus::health`].
    pub fn connect(bootstrap: &str, overrides: &BTreeMap<String, String>) -> Result<Self> {
        let settings = Settings::new(bootstrap, overrides, false)?;
        Ok(Self::assembled(settings, TIMEOUT, None))
    }

    pub(crate) fn embedded(
        bootstrap: &str,
        overrides: &BTreeMap<String, String>,
        mock: Mock,
    ) -> Result<Self> {
        let settings = Settings::new(bootstrap, overrides, true)?;
        Ok(Self::assembled(settings, TIMEOUT, Some(mock)))
    }

    fn assembled(settings: Settings, timeout: Duration, mock: Option<Mock>) -> Self {
        // Before librdkafka does it: OpenSSL would free its tables when the process exits, and
        // clients are destroyed on threads of their own, which may be in the middle of a handshake
        // then. Seen as SIGSEGV after the last line of output. This leaves the tables alone.
        openssl_sys::init();
        Self {
            inner: Arc::new(Inner {
                settings,
                timeout,
                mock,
                probe: Mutex::new(None),
            }),
        }
    }

    /// The same log with another limit on how long a request may take (10 s).
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self::assembled(
            self.inner.settings.clone(),
            timeout,
            self.inner.mock.clone(),
        )
    }

    /// Addresses of the brokers, as given.
    pub fn bootstrap(&self) -> &str {
        &self.inner.settings.bootstrap
    }

    /// Whether this is the embedded broker, whose log dies with the process.
    pub fn is_embedded(&self) -> bool {
        self.inner.mock.is_some()
    }

    /// Holds back everything published to `topic` through this bus until `readers` consumers
    /// were made for it, so that the embedded broker trims nothing before they read. Other
    /// brokers keep records anyway: nothing is held back there.
    pub fn expect_consumers(&self, topic: &str, readers: usize) {
        if let Some(mock) = &self.inner.mock {
            mock.gate().expect(topic, readers);
        }
    }

    /// A producer. `client_id` names it in the brokers' logs and in errors.
    pub fn producer(&self, client_id: &str) -> Result<Producer> {
        let config = self.settings().producer(client_id);
        Producer::new(self.clone(), client_id, &config)
    }

    /// A producer that leaves no gap: where a record cannot be appended, none after it is. It waits
    /// for a broker that is gone for as long as it takes.
    pub fn gapless_producer(&self, client_id: &str) -> Result<Producer> {
        let config = self.settings().gapless_producer(client_id);
        Producer::new(self.clone(), client_id, &config)
    }

    /// What librdkafka is told for a producer, passwords included: for a client of another kind that
    /// is to behave alike.
    pub fn producer_options(&self, client_id: &str) -> BTreeMap<String, String> {
        owned(&self.settings().producer(client_id))
    }

    /// What librdkafka is told for a consumer, passwords included: for a client of another kind that
    /// is to behave alike.
    pub fn consumer_options(
        &self,
        client_id: &str,
        group: &str,
        limits: ConsumerLimits,
    ) -> BTreeMap<String, String> {
        owned(&self.settings().consumer(client_id, group, limits.max_bytes))
    }

    /// A consumer of the given partitions from the given offsets on. On the embedded broker it
    /// counts as a reader from now on: records are kept until it has taken them.
    pub fn consumer(
        &self,
        client_id: &str,
        topic: &str,
        start: Vec<(Partition, Offset)>,
        limits: ConsumerLimits,
    ) -> Result<Consumer> {
        Consumer::assigned(self.reading(client_id, topic, limits), start)
    }

    /// [`Bus::consumer`] of a whole topic. Partitions that are added to it later are read too, from
    /// their first record: [`crate::Event::Assigned`] says so before any of them comes.
    pub fn growing_consumer(
        &self,
        client_id: &str,
        topic: &str,
        start: Vec<(Partition, Offset)>,
        limits: ConsumerLimits,
    ) -> Result<Consumer> {
        let reading = Reading {
            grows: true,
            ..self.reading(client_id, topic, limits)
        };
        Consumer::assigned(reading, start)
    }

    /// A member of a consumer group: the brokers assign its partitions, `start` says for each
    /// where to go on (from the record of what is durable, not from the group's offsets). It is
    /// called on the poll thread inside the assignment, before any record of the partition.
    pub fn group_consumer(
        &self,
        client_id: &str,
        group: &str,
        topic: &str,
        start: StartOffsets,
        limits: ConsumerLimits,
    ) -> Result<Consumer> {
        Consumer::member(self.reading(client_id, topic, limits), group, start)
    }

    fn reading(&self, client_id: &str, topic: &str, limits: ConsumerLimits) -> Reading {
        Reading {
            settings: self.inner.settings.clone(),
            gate: self.gate(),
            client: client_id.to_owned(),
            topic: topic.to_owned(),
            limits,
            timeout: self.inner.timeout,
            grows: false,
        }
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

    /// Asks on a thread that may block.
    pub(crate) async fn probe<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Probe) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<Result<T, KafkaError>> {
        let probe = self.shared_probe()?;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask(&probe);
            // Nobody else empties the queue of log lines.
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
                detail: error.to_string(),
            })?;
        Ok(Arc::clone(probe.insert(Arc::new(made))))
    }

    /// Why the brokers would not talk to the probe, if they said so.
    pub(crate) fn take_refusal(&self) -> Option<String> {
        let probe = self.inner.probe.lock();
        let probe = probe.unwrap_or_else(PoisonError::into_inner);
        probe.as_ref()?.context().0.take_refusal()
    }

    /// What this user may not do.
    pub(crate) fn denied(&self, action: String, code: RDKafkaErrorCode) -> Error {
        Error::Denied {
            action,
            bootstrap: self.bootstrap().to_owned(),
            detail: code.to_string(),
        }
    }

    pub(crate) fn refused(&self, action: &str, error: &KafkaError, waited: Duration) -> Error {
        let bootstrap = self.bootstrap().to_owned();
        let detail = detail_of(error);
        match code_of(error) {
            Some(code) if is_connectivity(code) => match self.take_refusal() {
                Some(detail) => Error::Login { bootstrap, detail },
                None => Error::Unreachable {
                    bootstrap,
                    waited,
                    detail,
                },
            },
            Some(code) if is_denial(code) => self.denied(action.to_owned(), code),
            _ => Error::Request {
                action: action.to_owned(),
                bootstrap,
                detail,
                retryable: false,
            },
        }
    }
}

fn owned(config: &ClientConfig) -> BTreeMap<String, String> {
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
