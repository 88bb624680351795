//! Where rollouts come from, and what makes them durable before they are trained.

mod catch_up;

use async_trait::async_trait;
use vintage_bus::{Consumer, Event, Record};
use vintage_control::{Incarnation, Name, Plan, PolicyVersion, RecordId};
use vintage_trajectory::{BadRecord, Headers, Rows, read_record};

pub use self::catch_up::{CatchUp, Stretch};
use crate::{Error, Result};

/// One record of the rollouts topic, decoded as far as it goes.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where it stands.
    pub record: RecordId,
    /// CRC-32C of its payload.
    pub crc32c: u32,
    /// When it was produced, milliseconds since the epoch, if the log says.
    pub timestamp_ms: Option<i64>,
    /// What it says, or why that cannot be told.
    pub message: Result<(Headers, Rows), BadRecord>,
}

/// A stream of records: the live log, the archive, or one after the other.
#[async_trait]
pub trait Source: Send {
    /// The next record; `None` at the end of a recorded log. A live log waits. After
    /// a call that was not awaited to its end, a source may have lost a record: drop it.
    async fn next(&mut self) -> Result<Option<Incoming>>;

    /// Whether the content is fixed and the order of the records with it, so that what is
    /// planned is a function of the log and the seed, killed or not.
    fn is_recorded(&self) -> bool {
        false
    }
}

/// What other lineages than the learner's own have announced.
#[async_trait]
pub trait Lineages: Send {
    /// The newest version announced of `policy`: at least as new as a look that began after this
    /// call would find, unless `at_least` was seen before. `None` if none is.
    async fn newest(
        &mut self,
        policy: &str,
        at_least: PolicyVersion,
    ) -> Result<Option<PolicyVersion>>;
}

/// There are no other lineages.
pub struct NoOthers;

#[async_trait]
impl Lineages for NoOthers {
    async fn newest(&mut self, _: &str, _: PolicyVersion) -> Result<Option<PolicyVersion>> {
        Ok(None)
    }
}

/// A learner whose plans another copies.
#[async_trait]
pub trait Leader: Send {
    /// Its name.
    fn name(&self) -> &Name;

    /// Its plan of update `version`, waiting for it; `None` if it will not write one.
    async fn plan(&mut self, version: PolicyVersion) -> Result<Option<Plan>>;
}

/// Everything a learner reads and asks.
pub struct Inputs {
    /// The run's rollouts.
    pub source: Box<dyn Source>,
    /// The archive that is blended in, if [`crate::Settings::blend`] says so.
    pub blended: Option<Box<dyn Source>>,
    /// What makes rollouts durable before they are trained.
    pub durability: Box<dyn Durability>,
    /// What other lineages have announced.
    pub lineages: Box<dyn Lineages>,
    /// The learner whose batches this one trains on, if it makes no plans of its own.
    pub leader: Option<Box<dyn Leader>>,
}

impl Inputs {
    /// Of a learner that trains on its own lineage's rollouts alone.
    pub fn new(source: Box<dyn Source>, durability: Box<dyn Durability>) -> Self {
        Self {
            source,
            blended: None,
            durability,
            lineages: Box::new(NoOthers),
            leader: None,
        }
    }
}

/// What must hold before a record is trained: on a log that dies with its process, the archive
/// has committed it.
#[async_trait]
pub trait Durability: Send {
    /// Returns once all `records` would survive this process.
    async fn ensure(&mut self, records: &[RecordId]) -> Result<()>;
}

/// A log that is durable by itself.
pub struct DurableLog;

#[async_trait]
impl Durability for DurableLog {
    async fn ensure(&mut self, _: &[RecordId]) -> Result<()> {
        Ok(())
    }
}

/// The rollouts topic of a broker.
pub struct LogSource {
    consumer: Consumer,
    incarnation: Incarnation,
}

impl LogSource {
    /// Reads `consumer`, whose topic is in life `incarnation`.
    pub fn new(consumer: Consumer, incarnation: Incarnation) -> Self {
        Self {
            consumer,
            incarnation,
        }
    }
}

#[async_trait]
impl Source for LogSource {
    async fn next(&mut self) -> Result<Option<Incoming>> {
        loop {
            match self.consumer.next().await? {
                Some(Event::Record(record)) => return Ok(Some(read(self.incarnation, &record))),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

/// Decodes a record of the log.
pub fn read(incarnation: Incarnation, record: &Record) -> Incoming {
    let headers = record.headers.iter();
    let headers = headers.map(|header| (header.key.as_str(), header.value.as_deref()));
    let payload = record.payload.as_deref();
    Incoming {
        record: RecordId {
            incarnation,
            partition: record.partition,
            offset: record.offset,
        },
        crc32c: crc32c::crc32c(payload.unwrap_or_default()),
        timestamp_ms: record.timestamp_ms,
        message: read_record(headers, payload),
    }
}

impl Error {
    /// Wraps the failure of a [`Source`].
    pub fn source_failed(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Source(Box::new(error))
    }

    /// Wraps the failure of a [`Durability`].
    pub fn durability_failed(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Durability(Box::new(error))
    }
}
