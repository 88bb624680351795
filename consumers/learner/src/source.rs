//! Where rollouts come from, and what makes them durable before they are trained.

use async_trait::async_trait;
use vintage_bus::{Consumer, Event, Record};
use vintage_control::{Incarnation, Plan, PolicyVersion, RecordId, RejectReason};
use vintage_trajectory::{Headers, Rows};

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
    pub message: Result<(Headers, Rows), Unreadable>,
}

/// Why a record says nothing.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Its headers, if at least they can be read.
    pub headers: Option<Headers>,
    /// As a class to count by.
    pub reason: RejectReason,
    /// In words.
    pub detail: String,
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
    let payload = record.payload.as_deref().unwrap_or_default();
    Incoming {
        record: RecordId {
            incarnation,
            partition: record.partition,
            offset: record.offset,
        },
        crc32c: crc32c::crc32c(payload),
        timestamp_ms: record.timestamp_ms,
        message: decode(record, payload),
    }
}

fn decode(record: &Record, payload: &[u8]) -> Result<(Headers, Rows), Unreadable> {
    let headers = Headers::parse(
        record
            .headers
            .iter()
            .map(|header| (header.key.as_str(), header.value.as_deref())),
    )
    .map_err(|error| Unreadable {
        headers: None,
        reason: RejectReason::BadHeaders,
        detail: error.to_string(),
    })?;
    match headers
        .check_payload(payload)
        .and_then(|()| Rows::decode(payload))
    {
        Ok(rows) => Ok((headers, rows)),
        Err(error) => Err(Unreadable {
            headers: Some(headers),
            reason: RejectReason::Undecodable,
            detail: error.to_string(),
        }),
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
