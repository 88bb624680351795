//! Source of a learner on a live log. Records that the log no longer holds come from the archive;
//! reading then continues in the log at the offset where the archive ends. A backlog in the log is
//! read in the order of the records' timestamps.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use vintage_archive::Reader;
use vintage_bus::{Bus, ConsumerLimits};
use vintage_control::{Incarnation, Offset, Partition, PartitionResume};
use vintage_learner::{CatchUp, Incoming, LogSource, RolloutSource, Stretch};

use crate::{
    archive_source::ArchiveSource,
    board::LEARNER,
    broker::Log,
    error::{Error, Result},
};

/// Number of records up to which a second backlog, which grew while the first was read, is read as
/// live records.
const AT_HAND: i64 = 64;

/// Source that reads earlier incarnations from the archive, then the current one: for each
/// partition the archive while the log does not reach back far enough, then the log, from the exact
/// offset at which the archive ended.
///
/// The log's start is queried again each time the archive was read to its end, because reading it
/// may take longer than the log retains the records that follow.
pub(crate) struct HandOff {
    bus: Bus,
    topic: String,
    incarnation: Incarnation,
    reader: Reader,
    /// First offset of each partition that is neither trained nor rejected yet.
    resume: BTreeMap<Partition, Offset>,
    /// Offset of each partition to read next.
    next: BTreeMap<Partition, Offset>,
    archived: Option<ArchiveSource>,
    /// Reader of the backlog in the log, merging partitions by the same rule as the archive's
    /// reader.
    behind: Option<CatchUp>,
    /// True once a backlog was opened.
    caught_up: bool,
    /// Partitions that returned no record although their offsets say that there are more.
    silent: BTreeSet<Partition>,
    log: Option<LogSource>,
    /// Resume points of the current incarnation, each with the clock of its partition: the newest
    /// timestamp read so far, from archive or log, in milliseconds.
    clocks: Vec<PartitionResume>,
    /// True if the log began with this process, so that it has no backlog.
    volatile: bool,
}

impl HandOff {
    /// Opens the source at the resume points; a partition without one starts at offset 0. If
    /// nothing of the current incarnation must come from the archive, the consumer exists when this
    /// returns.
    pub(crate) async fn open(
        log: &Log,
        reader: &Reader,
        resume: &[PartitionResume],
    ) -> Result<Self> {
        let of_log = || resume.iter().filter(|at| at.incarnation == log.incarnation);
        let incarnations = reader.incarnations().await?;
        let earlier: Vec<_> = incarnations
            .into_iter()
            .filter(|earlier| *earlier != log.incarnation)
            .collect();
        let archived = if earlier.is_empty() {
            None
        } else {
            Some(ArchiveSource::open(reader, &earlier, resume).await?)
        };
        let mut source = Self {
            bus: log.bus.clone(),
            topic: log.topics.rollouts(),
            incarnation: log.incarnation,
            reader: reader.clone(),
            resume: of_log().map(|at| (at.partition, at.resume)).collect(),
            next: of_log().map(|at| (at.partition, first_read(at))).collect(),
            archived,
            behind: None,
            caught_up: false,
            silent: BTreeSet::new(),
            log: None,
            clocks: of_log().cloned().collect(),
            volatile: log.volatile,
        };
        if source.archived.is_none() || log.volatile {
            source.go_on().await?;
        }
        Ok(source)
    }

    /// Opens the reader of the next offsets: the archive if the log misses some that it holds, else
    /// the log, as a backlog or live.
    async fn go_on(&mut self) -> Result<()> {
        let mut behind = Vec::new();
        let mut stretches = Vec::new();
        for (partition, low, high) in self.bus.watermarks(&self.topic).await? {
            let resume = self.resume.get(&partition).copied().unwrap_or(Offset(0));
            let next = self.next.entry(partition).or_insert(resume);
            if *next > high {
                return Err(vintage_learner::Error::Rewound {
                    topic: self.topic.clone(),
                    partition,
                    need: *next,
                    high,
                }
                .into());
            }
            if *next >= low {
                stretches.push(Stretch::of(&self.clocks, partition, *next, high));
                continue;
            }
            let held = held(&self.reader, self.incarnation, partition).await?;
            if let Some((_, end)) = held.filter(|(first, end)| first <= next && *end >= low) {
                behind.push(Stretch::of(&self.clocks, partition, *next, end));
                *next = end;
            } else if resume >= low {
                // Only the preceding record is gone, which serves to recognise a rewritten topic.
                tracing::warn!(
                    topic = self.topic, %partition, offset = %resume,
                    "the record before this learner's first one has expired and is not archived: \
                     going on without seeing that the topic is still the same"
                );
                *next = resume;
                stretches.push(Stretch::of(&self.clocks, partition, resume, high));
            } else {
                return Err(vintage_learner::Error::Expired {
                    topic: self.topic.clone(),
                    partition,
                    need: *next,
                    low,
                    archived: held.map_or_else(
                        || "no archive holds any of it".to_owned(),
                        |(first, end)| format!("the archive holds offsets {first} to before {end}"),
                    ),
                }
                .into());
            }
        }
        stretches.retain(|of| !self.silent.contains(&of.partition));
        let records: i64 = stretches.iter().map(|of| of.until.0 - of.from.0).sum();
        let at_hand = if self.caught_up { AT_HAND } else { 0 };
        if behind.is_empty() && records > at_hand && !self.volatile {
            self.caught_up = true;
            tracing::info!(
                topic = self.topic,
                records,
                "reading the records already in the log, partitions merged by the time of their records"
            );
            let (topic, incarnation) = (&self.topic, self.incarnation);
            self.behind = Some(CatchUp::open(&self.bus, topic, incarnation, &stretches)?);
        } else if behind.is_empty() {
            self.silent.clear();
            let start = self.next.iter().map(|(at, next)| (*at, *next)).collect();
            let limits = ConsumerLimits::default();
            let consumer = self
                .bus
                .growing_consumer(LEARNER, &self.topic, start, limits)?;
            self.log = Some(LogSource::new(consumer, self.incarnation));
        } else {
            tracing::info!(
                topic = self.topic,
                ?behind,
                "the log no longer holds what comes next: reading the archive first"
            );
            let source = ArchiveSource::between(&self.reader, self.incarnation, &behind).await?;
            self.archived = Some(source);
        }
        Ok(())
    }
}

impl HandOff {
    /// Advances the partition's offset and clock past a record of the log, and returns the record.
    fn noted(&mut self, incoming: Incoming) -> Incoming {
        let at = incoming.record;
        self.next.insert(at.partition, at.offset.next());
        self.advance_clock(&incoming);
        incoming
    }

    /// Advances the clock of a record's partition. Records of earlier incarnations have none here:
    /// their offsets and clocks say nothing about the current log.
    fn advance_clock(&mut self, incoming: &Incoming) {
        let at = incoming.record;
        if at.incarnation != self.incarnation {
            return;
        }
        let clock = self
            .clocks
            .iter_mut()
            .find(|of| of.partition == at.partition);
        match clock {
            Some(clock) => clock.clock_ms = clock.clock_ms.max(incoming.timestamp_ms),
            None => self.clocks.push(PartitionResume {
                clock_ms: incoming.timestamp_ms,
                ..PartitionResume::starting(at.incarnation, at.partition, at.offset)
            }),
        }
    }
}

#[async_trait]
impl RolloutSource for HandOff {
    async fn next(&mut self) -> vintage_learner::Result<Option<Incoming>> {
        loop {
            if let Some(archived) = &mut self.archived {
                if let Some(incoming) = archived.next().await? {
                    // The partition's offset is at the end of what is archived already.
                    self.advance_clock(&incoming);
                    return Ok(Some(incoming));
                }
                self.archived = None;
            }
            if let Some(behind) = &mut self.behind {
                match behind.next().await {
                    Err(vintage_learner::Error::Bus(vintage_bus::Error::OffsetOutOfRange {
                        ..
                    })) => self.behind = None,
                    Ok(None) => {
                        self.silent.extend(behind.silent());
                        // The end of the stretch, not the last record: otherwise a long run of
                        // offsets without records would be a backlog again.
                        for (partition, end) in behind.passed() {
                            let next = self.next.entry(partition).or_insert(end);
                            *next = (*next).max(end);
                        }
                        self.behind = None;
                    }
                    Ok(Some(incoming)) => return Ok(Some(self.noted(incoming))),
                    failed => return failed,
                }
            }
            let Some(log) = &mut self.log else {
                self.go_on().await.map_err(as_learners)?;
                continue;
            };
            match log.next().await {
                // Retention has deleted the record to be read next.
                Err(vintage_learner::Error::Bus(vintage_bus::Error::OffsetOutOfRange {
                    ..
                })) => self.log = None,
                Ok(Some(incoming)) => return Ok(Some(self.noted(incoming))),
                ended => return ended,
            }
        }
    }

    fn at_hand(&mut self) -> vintage_learner::Result<Option<Incoming>> {
        if self.archived.is_some() || self.behind.is_some() {
            return Ok(None);
        }
        let there = match &mut self.log {
            Some(log) => log.at_hand(),
            None => Ok(None),
        };
        match there {
            Err(vintage_learner::Error::Bus(vintage_bus::Error::OffsetOutOfRange { .. })) => {
                self.log = None;
                Ok(None)
            }
            there => Ok(there?.map(|incoming| self.noted(incoming))),
        }
    }
}

fn as_learners(error: Error) -> vintage_learner::Error {
    match error {
        Error::Learner(error) => error,
        Error::Bus(error) => error.into(),
        other => vintage_learner::Error::source_failed(other),
    }
}

/// Returns the first offset of a partition that the archive holds and the first offset after it, or
/// `None` if there is no archive of the incarnation.
pub(crate) async fn held(
    reader: &Reader,
    incarnation: Incarnation,
    partition: Partition,
) -> Result<Option<(Offset, Offset)>> {
    let first = match reader.first_offset(incarnation, partition).await {
        Err(vintage_archive::Error::NoArchive { .. }) => return Ok(None),
        first => first?,
    };
    let end = reader.next_offset(incarnation, partition).await?;
    Ok(Some((first, end)))
}

/// Returns the first offset to read. If the checksum of the record before the resume point is
/// known, that record is read again, to verify that the topic was not rewritten.
fn first_read(at: &PartitionResume) -> Offset {
    if at.crc32c_before.is_some() {
        Offset(at.resume.0 - 1)
    } else {
        at.resume
    }
}

#[cfg(test)]
mod tests;
