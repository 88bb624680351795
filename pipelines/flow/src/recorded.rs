//! The archive as a learner's source, alone or before the live log.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use vintage_archive::{ArchivedMessage, Filter, Messages, Reader};
use vintage_bus::ConsumerLimits;
use vintage_control::{Incarnation, Offset, Partition, PartitionResume, RejectReason};
use vintage_learner::{Incoming, LogSource, Source, Unreadable};

use crate::{Result, broker::Log, tally::Held};

/// Records out of the archive: life by life, in the archive's own order.
pub(crate) struct ArchiveSource {
    lives: VecDeque<Life>,
}

/// The partitions of one life, each with its next message.
struct Life {
    partitions: Vec<(Option<ArchivedMessage>, Messages)>,
}

impl ArchiveSource {
    /// Everything from the beginning.
    pub(crate) async fn whole(reader: &Reader) -> Result<Self> {
        Self::open(reader, &reader.incarnations().await?, &[]).await
    }

    /// These lives, each partition from its resume point on.
    async fn open(
        reader: &Reader,
        incarnations: &[Incarnation],
        resume: &[PartitionResume],
    ) -> Result<Self> {
        let mut lives = VecDeque::new();
        for &incarnation in incarnations {
            let of_life = resume.iter().filter(|at| at.incarnation == incarnation);
            let from: BTreeMap<_, _> = of_life.map(|at| (at.partition, at.resume)).collect();
            let filter = Filter {
                from,
                ..Filter::default()
            };
            let mut partitions = Vec::new();
            for partition in reader.partitions(incarnation).await? {
                let mut messages = reader.messages(incarnation, partition, &filter).await?;
                partitions.push((messages.next().await?, messages));
            }
            lives.push_back(Life { partitions });
        }
        Ok(Self { lives })
    }

    /// The next message by (life, timestamp, partition, offset).
    async fn next_message(&mut self) -> vintage_archive::Result<Option<ArchivedMessage>> {
        while let Some(life) = self.lives.front_mut() {
            let key = |message: &ArchivedMessage| {
                (
                    message.timestamp_ms,
                    message.record.partition,
                    message.record.offset,
                )
            };
            let waiting = life
                .partitions
                .iter_mut()
                .filter(|(head, _)| head.is_some());
            let first = waiting.min_by_key(|(head, _)| head.as_ref().map(key));
            if let Some((head, messages)) = first {
                let message = head.take();
                *head = messages.next().await?;
                return Ok(message);
            }
            self.lives.pop_front();
        }
        Ok(None)
    }
}

#[async_trait]
impl Source for ArchiveSource {
    async fn next(&mut self) -> vintage_learner::Result<Option<Incoming>> {
        let message = self
            .next_message()
            .await
            .map_err(vintage_learner::Error::source_failed)?;
        Ok(message.map(incoming))
    }
}

/// One source after the other.
struct Then {
    recorded: ArchiveSource,
    live: LogSource,
    /// Once the recorded part ended it is not asked again.
    ended: bool,
}

#[async_trait]
impl Source for Then {
    async fn next(&mut self) -> vintage_learner::Result<Option<Incoming>> {
        if !self.ended {
            if let Some(incoming) = self.recorded.next().await? {
                return Ok(Some(incoming));
            }
            self.ended = true;
        }
        self.live.next().await
    }
}

/// What a learner goes on with: earlier lives out of the archive, then the live log, each from
/// its resume point on. The consumer exists when this returns.
pub(crate) async fn resume_source(
    log: &Log,
    reader: &Reader,
    resume: &[PartitionResume],
) -> Result<Box<dyn Source>> {
    let lives = reader.incarnations().await?;
    let earlier: Vec<_> = lives
        .into_iter()
        .filter(|life| *life != log.incarnation)
        .collect();
    let recorded = ArchiveSource::open(reader, &earlier, resume).await?;
    let live = live_source(log, resume).await?;
    Ok(Box::new(Then {
        recorded,
        live,
        ended: false,
    }))
}

/// The live log from its resume points on. The consumer exists when this returns.
pub(crate) async fn live_source(log: &Log, resume: &[PartitionResume]) -> Result<LogSource> {
    let topic = log.topics.rollouts();
    let start = log.bus.watermarks(&topic).await?;
    let start = start.into_iter().map(|(partition, low, _)| {
        let of_log = resume
            .iter()
            .find(|at| at.incarnation == log.incarnation && at.partition == partition);
        (partition, of_log.map_or(low, first_read))
    });
    let consumer = log.bus.consumer(
        "learner",
        &topic,
        start.collect(),
        ConsumerLimits::default(),
    )?;
    Ok(LogSource::new(consumer, log.incarnation))
}

/// The record before the resume point is read again where its checksum is known, to see that
/// the topic is still the same.
fn first_read(at: &PartitionResume) -> Offset {
    if at.crc32c_before.is_some() {
        Offset(at.resume.0 - 1)
    } else {
        at.resume
    }
}

fn incoming(message: ArchivedMessage) -> Incoming {
    let unreadable = |headers, reason, detail| Unreadable {
        headers,
        reason,
        detail,
    };
    let content = match (message.headers, message.rows) {
        (Ok(headers), Ok(rows)) => Ok((headers, rows)),
        (Ok(headers), Err(bad)) => Err(unreadable(
            Some(headers),
            RejectReason::Undecodable,
            bad.reason,
        )),
        (Err(error), _) => Err(unreadable(
            None,
            RejectReason::BadHeaders,
            error.to_string(),
        )),
    };
    Incoming {
        record: message.record,
        // CRC-32C of no bytes is 0.
        crc32c: message.payload_crc32c.unwrap_or(0),
        message: content,
    }
}

/// What the archive holds, counted.
pub(crate) async fn held(reader: &Reader) -> Result<Held> {
    let mut held = Held::default();
    let mut messages = reader.merged(&Filter::default()).await?;
    while let Some(message) = messages.next().await? {
        held.rows += message.rows.as_ref().map_or(0, |rows| rows.len() as u64);
        let Ok(headers) = message.headers else {
            held.unnumbered += 1;
            continue;
        };
        if headers.batch >= 0 {
            let number = (headers.producer.clone(), headers.producer_seq);
            held.batches.insert(number, headers.batch);
        }
        held.numbers
            .entry(headers.producer)
            .or_default()
            .insert(headers.producer_seq);
    }
    Ok(held)
}

/// Partition and offset pairs of where a log ends.
pub(crate) async fn ends(bus: &vintage_bus::Bus, topic: &str) -> Result<Vec<(Partition, Offset)>> {
    let marks = bus.watermarks(topic).await?;
    Ok(marks
        .into_iter()
        .map(|(partition, _, high)| (partition, high))
        .collect())
}
