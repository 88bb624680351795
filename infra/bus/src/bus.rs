use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use vintage_control::{Offset, Partition};

use crate::{
    Consumer, ConsumerLimits, Error, Producer, Result, StartOffsets, TopicSpec,
    ask::{FAILOVER, PROPAGATION_LOOK},
    client::Log,
    consumer::Reading,
    embedded::Mock,
    error::{code_of, detail_of, is_connectivity, is_denial, is_refusal},
    gate::Gate,
    settings::Settings,
};

/// How long a request may take unless [`Bus::with_timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How soon brokers that are missing for a topic's copies are asked for again.
const RETRY: Duration = Duration::from_millis(250);
/// Topic setting: how long records are kept, milliseconds; −1 = for ever.
const RETENTION: &str = "retention.ms";

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

    /// Creates the topics that are missing and checks those that are there: the number of
    /// partitions must be the same and records as large must be taken.
    pub async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        self.health(self.inner.timeout).await?;
        let mut missing = Vec::new();
        for topic in topics {
            match self.look_up(&topic.name).await? {
                Some(partitions) => self.check_topic(topic, partitions.len()).await?,
                None => missing.push(topic),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(mock) = &self.inner.mock {
            for topic in missing {
                mock.create(topic).await?;
            }
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let error = match self.create(&missing).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passes_within = match &error {
                // A broker that missed its heartbeats, on a busy machine, holds nothing until
                // the controllers have heard of it again.
                error if error.lacks_brokers() => self.inner.timeout,
                // The controller that was asked fell, or not every node knows the new topic yet.
                Error::NoSuchTopic { .. } => FAILOVER,
                error if error.is_retryable() => FAILOVER,
                _ => return Err(error),
            };
            if begun.elapsed() > passes_within {
                return Err(error);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn create(&self, topics: &[&TopicSpec]) -> Result<()> {
        let timeout = self.inner.timeout;
        let admin = self.admin()?;
        let new: Vec<_> = topics
            .iter()
            .map(|topic| {
                let replication = TopicReplication::Fixed(topic.replication);
                let new = NewTopic::new(&topic.name, topic.partitions, replication);
                topic
                    .config
                    .iter()
                    .fold(new, |new, (key, value)| new.set(key, value))
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout));
        let created = admin.create_topics(&new, &options).await;
        drop_elsewhere(admin);
        let created = created.map_err(|error| self.refused("creating topics", &error, timeout))?;
        for result in created {
            match result {
                // Another process was faster: its topic is checked below.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) if is_denial(code) => {
                    return Err(self.denied(format!("creating topic {topic}"), code));
                }
                Err((topic, code)) => {
                    return Err(Error::Request {
                        action: format!("creating topic {topic}"),
                        bootstrap: self.bootstrap().to_owned(),
                        detail: code.to_string(),
                        retryable: is_connectivity(code),
                    });
                }
            }
        }
        for topic in topics {
            let partitions = self.partitions(&topic.name).await?;
            self.check_topic(topic, partitions.len()).await?;
        }
        Ok(())
    }

    /// Deletes a topic and everything in it.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let timeout = self.inner.timeout;
        let admin = self.admin()?;
        let options = AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout));
        let deleted = admin.delete_topics(&[topic], &options).await;
        drop_elsewhere(admin);
        let action = format!("deleting topic {topic}");
        let deleted = deleted.map_err(|error| self.refused(&action, &error, timeout))?;
        match deleted.into_iter().next() {
            // An attempt whose answer was lost deleted it.
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(()),
            Some(Err((_, code))) => Err(Error::Request {
                action,
                bootstrap: self.bootstrap().to_owned(),
                detail: code.to_string(),
                retryable: is_connectivity(code),
            }),
            _ => Ok(()),
        }
    }

    /// Deletes the records of a topic before these offsets, as retention does: what the archive
    /// holds need not stay in the log.
    ///
    /// # Errors
    /// [`Error::Request`] naming a partition whose records could not be deleted.
    pub async fn delete_records(&self, topic: &str, before: &[(Partition, Offset)]) -> Result<()> {
        let timeout = self.inner.timeout;
        let action = format!("deleting records of topic {topic}");
        let refused = |error: KafkaError| self.refused(&action, &error, timeout);
        let mut asked = TopicPartitionList::with_capacity(before.len());
        for (partition, offset) in before {
            asked
                .add_partition_offset(topic, partition.0, Native::Offset(offset.0))
                .map_err(refused)?;
        }
        let admin = self.admin()?;
        let options = AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout));
        let deleted = admin.delete_records(&asked, &options).await;
        drop_elsewhere(admin);
        let deleted = deleted.map_err(refused)?;
        for partition in deleted.elements() {
            partition.error().map_err(refused)?;
        }
        Ok(())
    }

    async fn check_topic(&self, topic: &TopicSpec, partitions: usize) -> Result<()> {
        if partitions != topic.partitions as usize {
            return Err(Error::TopicDiffers {
                topic: topic.name.clone(),
                property: "partitions".into(),
                found: partitions.to_string(),
                expected: topic.partitions.to_string(),
                hint: "set the number of partitions to what it has, or use another run name".into(),
            });
        }
        if self.is_embedded() {
            return Ok(()); // its topics have no settings
        }
        self.check_keeps(topic).await?;
        let key = "max.message.bytes";
        let Some(expected) = topic.config.get(key) else {
            return Ok(());
        };
        let found = self.setting_of(&topic.name, key).await?;
        let takes = |value: &str| value.parse::<u64>().unwrap_or(0);
        if takes(&found) < takes(expected) {
            return Err(Error::TopicDiffers {
                topic: topic.name.clone(),
                property: key.into(),
                found,
                expected: format!("at least {expected}"),
                hint: format!("raise it: kafka-configs --alter --add-config {key}={expected}"),
            });
        }
        Ok(())
    }

    /// A topic that is to keep every record as it is must do so.
    async fn check_keeps(&self, topic: &TopicSpec) -> Result<()> {
        if topic.config.get(RETENTION).is_none_or(|time| time != "-1") {
            return Ok(());
        }
        for key in [RETENTION, "cleanup.policy", "message.timestamp.type"] {
            let Some(expected) = topic.config.get(key) else {
                continue;
            };
            let found = self.setting_of(&topic.name, key).await?;
            if found != *expected {
                return Err(Error::TopicDiffers {
                    topic: topic.name.clone(),
                    property: key.into(),
                    found,
                    expected: expected.clone(),
                    hint: "records would be lost or changed there; name a topic that does not \
                           exist yet"
                        .into(),
                });
            }
        }
        Ok(())
    }

    /// A setting of a topic. The node that is asked may hear of a new topic later than the one that
    /// told us of it: with three nodes, a role that starts beside another meets this.
    async fn setting_of(&self, topic: &str, key: &str) -> Result<String> {
        let timeout = self.inner.timeout;
        let action = format!("reading the settings of topic {topic}");
        let begun = Instant::now();
        loop {
            let admin = self.admin()?;
            let options = AdminOptions::new().request_timeout(Some(timeout));
            let described = admin
                .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
                .await;
            drop_elsewhere(admin);
            let resources = match described {
                Ok(resources) => resources,
                // The node that was asked may have fallen.
                Err(error) if begun.elapsed() > FAILOVER || !is_passing(&error) => {
                    return Err(self.refused(&action, &error, begun.elapsed()));
                }
                Err(_) => Vec::new(),
            };
            for resource in resources {
                match resource {
                    Err(code) if is_denial(code) => return Err(self.denied(action, code)),
                    // Not known there yet.
                    Err(_) => {}
                    Ok(resource) => {
                        if let Some(found) = resource.get(key).and_then(|entry| entry.value.clone())
                        {
                            return Ok(found);
                        }
                    }
                }
            }
            if begun.elapsed() > FAILOVER {
                return Err(Error::Request {
                    action,
                    bootstrap: self.bootstrap().to_owned(),
                    detail: format!("{key} was not returned"),
                    retryable: false,
                });
            }
            tokio::time::sleep(PROPAGATION_LOOK).await;
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
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn gate(&self) -> Option<Arc<Gate>> {
        self.inner.mock.as_ref().map(|mock| Arc::clone(mock.gate()))
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        let config = self.inner.settings.probe();
        config.create().map_err(|error| Error::Client {
            client: "vintage-admin".into(),
            detail: error.to_string(),
        })
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

fn is_passing(error: &KafkaError) -> bool {
    code_of(error).is_some_and(is_connectivity)
}

/// Destroying a client joins its threads: not on a runtime's thread.
fn drop_elsewhere(client: impl Send + 'static) {
    std::thread::spawn(move || drop(client));
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("bootstrap", &self.bootstrap())
            .field("embedded", &self.is_embedded())
            .finish_non_exhaustive()
    }
}
