use std::time::Duration;

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};
use vintage_control::{Fault, Offset, Partition};

/// Error that the start callback of a group consumer may return.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure of a Kafka client, a topic or a broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Malformed bootstrap address.
    #[error("broker address {address:?} is not host:port: give one or more as host:port,host:port")]
    Address {
        /// Address as given.
        address: String,
    },
    /// Client setting that librdkafka does not know, or whose value it refuses.
    #[error("kafka client setting {key}={value}: {reason}; see librdkafka's CONFIGURATION.md")]
    Setting {
        /// Name of the setting.
        key: String,
        /// Value as given; `(not shown)` for a secret.
        value: String,
        /// Reason for the refusal.
        reason: String,
    },
    /// Override of a client setting that is fixed because the delivery guarantees depend on it.
    #[error("kafka client setting {key} is fixed by vintage and cannot be overridden: remove it")]
    FixedSetting {
        /// Name of the setting.
        key: String,
    },
    /// No broker answered in time.
    #[error(
        "no broker answered at {bootstrap} within {} s ({reason}): \
         check the address and that the broker is up",
        seconds(*waited)
    )]
    Unreachable {
        /// Bootstrap addresses tried.
        bootstrap: String,
        /// Time spent waiting for an answer.
        waited: Duration,
        /// librdkafka's description of the failure.
        reason: String,
    },
    /// Connection refused by a broker or by this client: wrong password, or a certificate that is
    /// not trusted.
    #[error(
        "a broker at {bootstrap} refused the connection ({reason}): check security.protocol, \
         sasl.* and ssl.* under [broker_options]"
    )]
    Login {
        /// Bootstrap addresses tried.
        bootstrap: String,
        /// Description of the failure by the broker or OpenSSL.
        reason: String,
    },
    /// Action for which the connection's user is not authorised.
    #[error(
        "{action} on {bootstrap}: {reason}; grant this user the right: infra/kafka/README.md lists \
         what each role needs"
    )]
    Denied {
        /// Action that was attempted.
        action: String,
        /// Bootstrap addresses of the brokers.
        bootstrap: String,
        /// Kafka's error, which names the kind of resource: a topic, a group or the cluster.
        reason: String,
    },
    /// Failure to create a client, or to start its thread.
    #[error("creating kafka client {client}: {reason}")]
    Client {
        /// Client id.
        client: String,
        /// librdkafka's description of the failure.
        reason: String,
    },
    /// Request that a broker refused or that failed.
    #[error("{action} on {bootstrap}: {reason}")]
    Request {
        /// Action that was attempted.
        action: String,
        /// Bootstrap addresses of the brokers.
        bootstrap: String,
        /// librdkafka's description of the failure.
        reason: String,
        /// True if the same request may succeed later.
        retryable: bool,
    },
    /// Topic that does not exist.
    #[error("topic {topic} does not exist on {bootstrap}: create it with `vintage topics apply`")]
    NoSuchTopic {
        /// Name of the topic.
        topic: String,
        /// Bootstrap addresses of the brokers.
        bootstrap: String,
    },
    /// Partition that the topic does not have.
    #[error("topic {topic} has {partitions} partitions and no partition {partition}")]
    NoSuchPartition {
        /// Name of the topic.
        topic: String,
        /// Partition asked for.
        partition: Partition,
        /// Number of partitions of the topic.
        partitions: usize,
    },
    /// Existing topic that differs from its specification.
    #[error("topic {topic} has {property} {found}, expected {expected}: {hint}")]
    TopicDiffers {
        /// Name of the topic.
        topic: String,
        /// Property that differs: `partitions`, or Kafka's name of a setting.
        property: String,
        /// Value of the existing topic.
        found: String,
        /// Value of the specification.
        expected: String,
        /// Advice on how to fix it.
        hint: String,
    },
    /// Record larger than the topic accepts.
    #[error(
        "record of {bytes} bytes for topic {topic} is over its limit of {limit}: \
         split it, or raise max.message.bytes"
    )]
    TooLarge {
        /// Name of the topic.
        topic: String,
        /// Upper bound of the record's size with framing, in bytes: key, headers and payload.
        bytes: usize,
        /// Largest size accepted, in bytes.
        limit: usize,
    },
    /// Record that was not acknowledged. It may be in the log all the same.
    #[error(
        "publishing to topic {topic} partition {partition} on {bootstrap}: {reason}{}",
        if *retryable { "; the record may be in the log, publish it again under its number" } else { "" }
    )]
    Publish {
        /// Name of the topic.
        topic: String,
        /// Partition of the record.
        partition: Partition,
        /// Bootstrap addresses of the brokers.
        bootstrap: String,
        /// librdkafka's description of the failure.
        reason: String,
        /// True if publishing the record again may succeed.
        retryable: bool,
    },
    /// Fatal error of a producer: it can no longer guarantee order without duplicates.
    #[error("producer {client} cannot continue: {reason}: start it again")]
    ProducerFatal {
        /// Client id of the producer.
        client: String,
        /// librdkafka's description of the failure.
        reason: String,
    },
    /// Offset to read from that is not in the log.
    #[error(
        "offset {offset} of topic {topic} partition {partition} is not in the log, which holds \
         {low} up to {high}: {}",
        out_of_range_hint(*offset, *low)
    )]
    OffsetOutOfRange {
        /// Name of the topic.
        topic: String,
        /// Partition that was read.
        partition: Partition,
        /// Offset asked for.
        offset: Offset,
        /// First offset in the log.
        low: Offset,
        /// First offset after the log's readable end.
        high: Offset,
    },
    /// Gap in the log of the embedded broker, which never has holes of its own: unread records were
    /// trimmed.
    #[error(
        "topic {topic} partition {partition} jumped from offset {expected} to {found}: \
         the embedded broker trimmed records that were not read; \
         more producers than this process write to it, or a reader joined too late"
    )]
    Hole {
        /// Name of the topic.
        topic: String,
        /// Partition with the gap.
        partition: Partition,
        /// Offset that was expected.
        expected: Offset,
        /// Offset that was read.
        found: Offset,
    },
    /// Failure of the callback that returns a partition's start offset.
    #[error("finding where to start topic {topic} partition {partition}: {source}")]
    Start {
        /// Name of the topic.
        topic: String,
        /// Partition that was assigned.
        partition: Partition,
        /// Error returned by the callback.
        source: StartError,
    },
    /// Partition of which nothing came before the end that it had.
    #[error(
        "reading topic {topic} partition {partition} from offset {offset} on at {bootstrap}: \
         nothing came within {} s; check the broker, and try again",
        seconds(*waited)
    )]
    Silent {
        /// Name of the topic.
        topic: String,
        /// First partition that was not read to its end.
        partition: Partition,
        /// First offset that did not come.
        offset: Offset,
        /// Bootstrap addresses of the brokers.
        bootstrap: String,
        /// Time spent waiting for a record.
        waited: Duration,
    },
    /// Fatal error of a consumer.
    #[error("reading topic {topic} as {client}: {reason}")]
    Consume {
        /// Name of the topic.
        topic: String,
        /// Client id of the consumer.
        client: String,
        /// librdkafka's description of the failure.
        reason: String,
    },
    /// Thread of this crate that ended unexpectedly.
    #[error("{what} ended unexpectedly: please report this")]
    Stopped {
        /// Name of the thread or of its task.
        what: &'static str,
    },
    /// Topic table (`topics.toml`) that cannot be parsed or contradicts itself.
    #[error("reading topics.toml: {reason}")]
    TopicTable {
        /// Reason for the refusal.
        reason: String,
    },
}

impl Error {
    /// Returns who can do something about the error.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Address { .. }
            | Self::Setting { .. }
            | Self::FixedSetting { .. }
            | Self::Login { .. }
            | Self::Denied { .. }
            | Self::NoSuchTopic { .. }
            | Self::NoSuchPartition { .. }
            | Self::TopicDiffers { .. }
            | Self::TooLarge { .. } => Fault::User,
            Self::Unreachable { .. }
            | Self::Client { .. }
            | Self::Request { .. }
            | Self::Publish { .. }
            | Self::ProducerFatal { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Silent { .. }
            | Self::Start { .. }
            | Self::Consume { .. } => Fault::External,
            Self::Hole { .. } | Self::Stopped { .. } | Self::TopicTable { .. } => Fault::Internal,
        }
    }

    /// Returns true if the same call may succeed later with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Request { retryable, .. } | Self::Publish { retryable, .. } => *retryable,
            _ => false,
        }
    }
}

impl Error {
    /// Returns true if a topic could not be created because there are fewer brokers than replicas.
    pub fn lacks_brokers(&self) -> bool {
        let code = RDKafkaErrorCode::InvalidReplicationFactor.to_string();
        matches!(self, Self::Request { reason, .. } if *reason == code)
    }
}

/// Returns librdkafka's error code, including that of an admin request, for which rust-rdkafka
/// returns none.
pub(crate) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// Returns librdkafka's error text without rust-rdkafka's wrapping.
pub(crate) fn reason_of(error: &KafkaError) -> String {
    match code_of(error) {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}

/// Returns true for codes that mean that a broker could not be reached, did not answer, or is
/// temporarily not responsible for the partition, group or cluster asked about.
pub(crate) fn is_connectivity(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::BrokerTransportFailure
            | C::AllBrokersDown
            // The node asked failed, and the cluster no longer lists it.
            | C::DestroyBroker
            | C::Resolve
            | C::OperationTimedOut
            | C::RequestTimedOut
            | C::MessageTimedOut
            | C::NetworkException
            | C::LeaderNotAvailable
            | C::NotLeaderForPartition
            | C::NotEnoughReplicas
            | C::NotEnoughReplicasAfterAppend
            | C::NotController
            | C::CoordinatorNotAvailable
            | C::CoordinatorLoadInProgress
            | C::NotCoordinator
    )
}

/// Returns true for codes that mean that authentication or the TLS handshake failed on either side.
pub(crate) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::Authentication
            | C::SaslAuthenticationFailed
            | C::SSL
            | C::UnsupportedSASLMechanism
            | C::IllegalSASLState
    )
}

/// Returns true for codes that mean that the connection's user is not authorised.
pub(crate) fn is_denial(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::TopicAuthorizationFailed | C::GroupAuthorizationFailed | C::ClusterAuthorizationFailed
    )
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

fn out_of_range_hint(offset: Offset, low: Offset) -> &'static str {
    if offset < low {
        "retention has deleted it; continue from the archive, or from the first offset by choice"
    } else {
        "the topic was recreated or cut short; start a new incarnation of it"
    }
}
