//! Sources of rollouts, and the interface that makes rollouts durable before they are trained.

use async_trait::async_trait;
use vintage_bus::{Consumer, Event, Record};
use vintage_control::{Incarnation, Name, Plan, PolicyVersion, RecordId, UpdateNumber};
use vintage_trajectory::{BadRecord, Headers, Rows, read_record};

use crate::error::{Error, Result};

/// Record of the rollouts topic, decoded as far as possible.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Position of the record in the log.
    pub record: RecordId,
    /// CRC-32C of the record's payload.
    pub crc32c: u32,
    /// Timestamp of the record in milliseconds since the epoch, if the log has one.
    pub timestamp_ms: Option<i64>,
    /// Headers and rows of the message, or the reason for which they cannot be read.
    pub message: Result<(Headers, Rows), BadRecord>,
}

/// Stream of records: the live log, the archive, or one after the other.
#[async_trait]
pub trait RolloutSource: Send {
    /// Returns the next record, or `None` at the end of a recorded log; a live log waits. A call
    /// that is dropped before its end may lose a record, so the source must be dropped as well.
    async fn next(&mut self) -> Result<Option<Incoming>>;

    /// Returns the next record if it need not be waited for; `None` also from a source that cannot tell.
    fn at_hand(&mut self) -> Result<Option<Incoming>> {
        Ok(None)
    }

    /// Returns true if content and order of the records are fixed. Plans are then a function of the
    /// log and the seed, even if the learner is killed in between.
    fn is_recorded(&self) -> bool {
        false
    }
}

/// Announcements of policies other than the learner's own.
#[async_trait]
pub trait OtherPolicies: Send {
    /// Returns the newest announced version of `policy`; `None` if there is none. The answer must
    /// be at least as new as that of a read that begins after this call, unless `at_least` was seen
    /// before.
    async fn newest(
        &mut self,
        policy: &str,
        at_least: PolicyVersion,
    ) -> Result<Option<PolicyVersion>>;
}

/// [`OtherPolicies`] of a learner that needs no other policy than its own.
pub struct NoOtherPolicies;

#[async_trait]
impl OtherPolicies for NoOtherPolicies {
    async fn newest(&mut self, _: &str, _: PolicyVersion) -> Result<Option<PolicyVersion>> {
        Ok(None)
    }
}

/// Learner whose plans another learner copies.
#[async_trait]
pub trait Leader: Send {
    /// Returns the leader's name.
    fn name(&self) -> &Name;

    /// Returns the leader's plan of `update`, and waits for it; `None` if the leader will
    /// not write one.
    async fn plan(&mut self, update: UpdateNumber) -> Result<Option<Plan>>;
}

/// Inputs of a learner: the logs it reads and the services it asks.
pub struct Inputs {
    /// Rollouts of the run.
    pub source: Box<dyn RolloutSource>,
    /// Archive that is blended in, if [`crate::LearnerSettings::blend`] is set.
    pub blended: Option<Box<dyn RolloutSource>>,
    /// Service that makes rollouts durable before they are trained.
    pub durability: Box<dyn Durability>,
    /// Announcements of other policies.
    pub other_policies: Box<dyn OtherPolicies>,
    /// Learner whose batches this one trains on, if it makes no plans of its own.
    pub leader: Option<Box<dyn Leader>>,
}

impl Inputs {
    /// Creates the inputs of a learner that trains on its own policy's rollouts alone.
    pub fn new(source: Box<dyn RolloutSource>, durability: Box<dyn Durability>) -> Self {
        Self {
            source,
            blended: None,
            durability,
            other_policies: Box::new(NoOtherPolicies),
            leader: None,
        }
    }
}

/// Guarantee that must hold before a record is trained. On a log that is lost with its process, the
/// archive must have committed the record.
#[async_trait]
pub trait Durability: Send {
    /// Asks for records to be made durable, for which [`Durability::ensure`] is called later.
    fn ask(&mut self, _: &[RecordId]) {}

    /// Returns once all `records` would survive the end of this process.
    async fn ensure(&mut self, records: &[RecordId]) -> Result<()>;
}

/// Log that is durable by itself, so that there is nothing to wait for.
pub struct DurableLog;

#[async_trait]
impl Durability for DurableLog {
    async fn ensure(&mut self, _: &[RecordId]) -> Result<()> {
        Ok(())
    }
}

/// Source that reads the rollouts topic of a broker.
pub struct LogSource {
    consumer: Consumer,
    incarnation: Incarnation,
}

impl LogSource {
    /// Creates a source that reads `consumer`, whose topic is in incarnation `incarnation`.
    pub fn new(consumer: Consumer, incarnation: Incarnation) -> Self {
        Self {
            consumer,
            incarnation,
        }
    }
}

#[async_trait]
impl RolloutSource for LogSource {
    async fn next(&mut self) -> Result<Option<Incoming>> {
        loop {
            match self.consumer.next().await? {
                Some(Event::Record(record)) => return Ok(Some(read(self.incarnation, &record))),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    fn at_hand(&mut self) -> Result<Option<Incoming>> {
        while let Some(event) = self.consumer.try_next()? {
            if let Event::Record(record) = event {
                return Ok(Some(read(self.incarnation, &record)));
            }
        }
        Ok(None)
    }
}

/// Decodes a Kafka record of the rollouts topic.
pub fn read(incarnation: Incarnation, record: &Record) -> Incoming {
    let headers = record.headers.iter();
    let headers = headers.map(|header| (header.key.as_str(), header.value.as_deref()));
    let message = read_record(headers, record.payload.as_ref());
    Incoming {
        record: RecordId {
            incarnation,
            partition: record.partition,
            offset: record.offset,
        },
        // The payload of a message that can be read has the checksum in its headers.
        crc32c: match &message {
            Ok((headers, _)) => headers.crc32c,
            Err(_) => crc32c::crc32c(record.payload.as_deref().unwrap_or_default()),
        },
        timestamp_ms: record.timestamp_ms,
        message,
    }
}

impl Error {
    /// Wraps an error of a [`RolloutSource`].
    pub fn source_failed(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Source(Box::new(error))
    }

    /// Wraps an error of a [`Durability`].
    pub fn durability_failed(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Durability(Box::new(error))
    }
}
