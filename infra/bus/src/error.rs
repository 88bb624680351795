use std::time::Duration;

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};
use vintage_control::{Offset, Partition};

/// What the start callback of a group consumer may fail with.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A setting, a name or an order given by the person.
    User,
    /// A broker, the network, the disk or a program this one starts.
    External,
    /// This program.
    Internal,
}

/// Why the log could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bootstrap address that is none.
    #[error("broker address {address:?} is not host:port: give one or more as host:port,host:port")]
    Address {
        /// As given.
        address: String,
    },
    /// A client setting that librdkafka does not know, or a value it refuses.
    #[error("kafka client setting {key}={value}: {detail}; see librdkafka's CONFIGURATION.md")]
    Setting {
        /// Its name.
        key: String,
        /// As given.
        value: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A client setting on which the guarantees rest.
    #[error("kafka client setting {key} is fixed by vintage and cannot be overridden: remove it")]
    FixedSetting {
        /// Its name.
        key: String,
    },
    /// No broker answered in time.
    #[error(
        "no broker answered at {bootstrap} within {} s ({detail}): \
         check the address and that the broker is up",
        seconds(*waited)
    )]
    Unreachable {
        /// Addresses tried.
        bootstrap: String,
        /// How long it was tried.
        waited: Duration,
        /// librdkafka's word.
        detail: String,
    },
    /// A broker would not talk to this client: wrong password, or a certificate not trusted.
    #[error(
        "a broker at {bootstrap} refused the connection ({detail}): check security.protocol, sasl.* \
         and ssl.* under [broker_options]"
    )]
    Login {
        /// Addresses tried.
        bootstrap: String,
        /// The broker's or OpenSSL's word.
        detail: String,
    },
    /// The user of the connection may not do it.
    #[error(
        "{action} on {bootstrap}: {detail}; grant this user the right: infra/kafka/README.md lists \
         what each role needs"
    )]
    Denied {
        /// What was asked.
        action: String,
        /// Where.
        bootstrap: String,
        /// Kafka's word: of a topic, a group or the cluster.
        detail: String,
    },
    /// A client could not be made.
    #[error("creating kafka client {client}: {detail}")]
    Client {
        /// Its id.
        client: String,
        /// librdkafka's word.
        detail: String,
    },
    /// A request was refused.
    #[error("{action} on {bootstrap}: {detail}")]
    Request {
        /// What was asked.
        action: String,
        /// Where.
        bootstrap: String,
        /// librdkafka's word.
        detail: String,
        /// Whether asking again can help.
        retryable: bool,
    },
    /// The topic is not there.
    #[error("topic {topic} does not exist on {bootstrap}: create it with `vintage topics apply`")]
    NoSuchTopic {
        /// The topic.
        topic: String,
        /// Where it was looked for.
        bootstrap: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has {partitions} partitions and no partition {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// How many there are.
        partitions: usize,
    },
    /// An existing topic is not as the table says.
    #[error("topic {topic} has {property} {found}, expected {expected}: {hint}")]
    TopicDiffers {
        /// The topic.
        topic: String,
        /// Partitions or a setting.
        property: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
        /// What to do.
        hint: String,
    },
    /// A record is larger than a topic takes.
    #[error(
        "record of {bytes} bytes for topic {topic} is over its limit of {limit}: \
         split it, or raise max.message.bytes"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// Size of key, headers and payload.
        bytes: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// A record was not acknowledged. It may be in the log all the same.
    #[error(
        "publishing to topic {topic} partition {partition} on {bootstrap}: {detail}{}",
        if *retryable { "; the record may be in the log, publish it again under its number" } else { "" }
    )]
    Publish {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Where.
        bootstrap: String,
        /// librdkafka's word.
        detail: String,
        /// Whether publishing again can help.
        retryable: bool,
    },
    /// The producer cannot go on: it can no longer promise order without duplicates.
    #[error("producer {client} cannot go on: {detail}: start it again")]
    ProducerFatal {
        /// Its id.
        client: String,
        /// librdkafka's word.
        detail: String,
    },
    /// The offset to read from is not in the log.
    #[error(
        "offset {offset} of topic {topic} partition {partition} is not in the log, which holds \
         {low} up to {high}: {}",
        out_of_range_hint(*offset, *low)
    )]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Asked for.
        offset: Offset,
        /// First in the log.
        low: Offset,
        /// First not in the log.
        high: Offset,
    },
    /// A record is missing from a log that never has holes.
    #[error(
        "topic {topic} partition {partition} jumped from offset {expected} to {found}: \
         the embedded broker trimmed records that were not read; \
         more producers than this process write to it, or a reader joined too late"
    )]
    Hole {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The offset that should have come.
        expected: Offset,
        /// The one that came.
        found: Offset,
    },
    /// The start callback did not give an offset.
    #[error("finding where to start topic {topic} partition {partition}: {source}")]
    Start {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The callback's error.
        source: StartError,
    },
    /// The consumer cannot go on.
    #[error("reading topic {topic} as {client}: {detail}")]
    Consume {
        /// The topic.
        topic: String,
        /// The consumer's id.
        client: String,
        /// librdkafka's word.
        detail: String,
    },
    /// A thread of this crate ended unasked.
    #[error("{what} ended unexpectedly: please report this")]
    Stopped {
        /// Which.
        what: &'static str,
    },
    /// The table of topics is not readable.
    #[error("reading topics.toml: {detail}")]
    TopicTable {
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// Who can do something about it.
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
            | Self::Start { .. }
            | Self::Consume { .. } => Fault::External,
            Self::Hole { .. } | Self::Stopped { .. } | Self::TopicTable { .. } => Fault::Internal,
        }
    }

    /// Whether the same call can succeed later with nothing changed here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Request { retryable, .. } | Self::Publish { retryable, .. } => *retryable,
            _ => false,
        }
    }
}

impl Error {
    /// Whether a topic could not be created for want of brokers to hold its copies.
    pub fn lacks_brokers(&self) -> bool {
        let code = RDKafkaErrorCode::InvalidReplicationFactor.to_string();
        matches!(self, Self::Request { detail, .. } if *detail == code)
    }
}

/// librdkafka's code; also of an admin request, for which rust-rdkafka gives none.
pub(crate) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// librdkafka's word without rust-rdkafka's wrapping.
pub(crate) fn detail_of(error: &KafkaError) -> String {
    match code_of(error) {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}

/// Whether the broker could not be reached or did not answer.
pub(crate) fn is_connectivity(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::BrokerTransportFailure
            | C::AllBrokersDown
            // The node asked fell, and the cluster no longer lists it.
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

/// Whether the broker, or this client, broke off because of who the other is.
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

/// Whether the user of the connection lacks a right.
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
        "retention has deleted it; go on from the archive, or from the first offset by choice"
    } else {
        "the topic was recreated or cut short; start a new incarnation of it"
    }
}
