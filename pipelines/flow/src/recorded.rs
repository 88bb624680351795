//! The archive as a learner's source.

use std::{collections::VecDeque, path::Path};

use async_trait::async_trait;
use vintage_archive::{ArchivedMessage, Filter, Messages, Reader};
use vintage_control::{Incarnation, Offset, Partition, PartitionResume, RecordId, RejectReason};
use vintage_learner::{Incoming, Source, Unreadable};
use vintage_store::Store;

use crate::{
    Error, Result,
    config::{RunConfig, secret},
    folder::open_store,
};

/// Records out of the archive in one order, whatever was read of it before: by life, then by
/// clock, partition and offset.
///
/// A partition's clock is the latest timestamp up to a record. Timestamps themselves may step
/// back within a partition, for every producer has a clock of its own, and merging by them would
/// give an order that depends on where reading began.
pub(crate) struct ArchiveSource {
    lives: VecDeque<Vec<Lane>>,
    recorded: bool,
}

/// A partition of one life, with its next message.
struct Lane {
    head: Option<ArchivedMessage>,
    clock_ms: Option<i64>,
    messages: Messages,
    /// First offset that is not read here; `None`: all there is.
    until: Option<Offset>,
}

impl Lane {
    async fn advance(&mut self) -> vintage_archive::Result<Option<ArchivedMessage>> {
        let ends = |message: &ArchivedMessage| {
            self.until
                .is_some_and(|until| message.record.offset >= until)
        };
        let next = self.messages.next().await?.filter(|next| !ends(next));
        if let Some(message) = &next {
            self.clock_ms = self.clock_ms.max(message.timestamp_ms);
        }
        Ok(std::mem::replace(&mut self.head, next))
    }

    /// Where its next message stands in the order; the lane must have one.
    fn key(&self) -> (Option<i64>, Option<RecordId>) {
        (self.clock_ms, self.head.as_ref().map(|head| head.record))
    }
}

impl ArchiveSource {
    /// Everything from the resume points on, as a recorded log: partitions without one from
    /// their beginning.
    pub(crate) async fn recorded(reader: &Reader, resume: &[PartitionResume]) -> Result<Self> {
        let mut source = Self::open(reader, &reader.incarnations().await?, resume).await?;
        source.recorded = true;
        Ok(source)
    }

    /// These lives, each partition from its resume point on.
    pub(crate) async fn open(
        reader: &Reader,
        incarnations: &[Incarnation],
        resume: &[PartitionResume],
    ) -> Result<Self> {
        let mut lives = VecDeque::new();
        for &incarnation in incarnations {
            let mut lanes = Vec::new();
            for partition in reader.partitions(incarnation).await? {
                let at = resume
                    .iter()
                    .find(|at| at.incarnation == incarnation && at.partition == partition);
                let clock = at.and_then(|at| at.clock_ms);
                let from = at.map(|at| at.resume);
                let lane = lane(reader, (incarnation, partition), (from, None), clock);
                lanes.push(lane.await?);
            }
            lives.push_back(lanes);
        }
        Ok(Self {
            lives,
            recorded: false,
        })
    }

    /// Of one life, these partitions from an offset to before another.
    pub(crate) async fn between(
        reader: &Reader,
        incarnation: Incarnation,
        stretches: &[(Partition, Offset, Offset)],
    ) -> Result<Self> {
        let mut lanes = Vec::new();
        for &(partition, from, until) in stretches {
            let range = (Some(from), Some(until));
            lanes.push(lane(reader, (incarnation, partition), range, None).await?);
        }
        Ok(Self {
            lives: VecDeque::from([lanes]),
            recorded: false,
        })
    }

    async fn next_message(&mut self) -> vintage_archive::Result<Option<ArchivedMessage>> {
        while let Some(lanes) = self.lives.front_mut() {
            let waiting = lanes.iter_mut().filter(|lane| lane.head.is_some());
            match waiting.min_by_key(|lane| lane.key()) {
                Some(first) => return first.advance().await,
                None => drop(self.lives.pop_front()),
            }
        }
        Ok(None)
    }
}

async fn lane(
    reader: &Reader,
    (incarnation, partition): (Incarnation, Partition),
    (from, until): (Option<Offset>, Option<Offset>),
    clock_ms: Option<i64>,
) -> Result<Lane> {
    let filter = Filter {
        from: from.map(|from| (partition, from)).into_iter().collect(),
        ..Filter::default()
    };
    let mut lane = Lane {
        head: None,
        clock_ms,
        messages: reader.messages(incarnation, partition, &filter).await?,
        until,
    };
    lane.advance().await?;
    Ok(lane)
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

    fn is_recorded(&self) -> bool {
        self.recorded
    }
}

/// The archive of another run that the settings name, if they name one.
pub(crate) async fn archive_of(config: &RunConfig) -> Result<Option<Reader>> {
    let Some(location) = &config.learner.archive else {
        return Ok(None);
    };
    let root = if location.contains("://") {
        let options =
            secret::reveal("store_options", &config.store_options).map_err(Error::Usage)?;
        Store::open_with(location, &options)?
    } else {
        open_store(Path::new(location))?
    };
    let archive = root.at("archive");
    let mut topics = Reader::topics(&archive).await?;
    match (topics.pop(), topics.is_empty()) {
        (Some(topic), true) => Ok(Some(Reader::new(archive, &topic))),
        (None, _) => Err(Error::Usage(format!(
            "learner.archive = {location:?}: no archive lies there; name the folder of a run"
        ))),
        (Some(_), false) => Err(Error::Usage(format!(
            "learner.archive = {location:?} holds the archives of several topics: give each a \
             folder of its own"
        ))),
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
        timestamp_ms: message.timestamp_ms,
        message: content,
    }
}

/// Partition and offset pairs of where a log ends.
pub(crate) async fn ends(bus: &vintage_bus::Bus, topic: &str) -> Result<Vec<(Partition, Offset)>> {
    let marks = bus.watermarks(topic).await?;
    Ok(marks
        .into_iter()
        .map(|(partition, _, high)| (partition, high))
        .collect())
}
