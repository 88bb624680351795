//! The run's log as a learner's source: what the log no longer holds comes out of the archive,
//! reading goes on in the log where the archive ends, and what lies behind there is read in the
//! order of its time.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use vintage_archive::Reader;
use vintage_bus::{Bus, ConsumerLimits};
use vintage_control::{Incarnation, Offset, Partition, PartitionResume};
use vintage_learner::{CatchUp, Incoming, LogSource, Source, Stretch};

use crate::{Result, broker::Log, recorded::ArchiveSource};

/// Records that may have come while what lay behind was read: so few are read as they come.
const AT_HAND: i64 = 64;

/// Earlier lives out of the archive, then this life: by partition the archive as long as the log
/// does not reach back far enough, then the log, from the very offset at which the archive ended.
///
/// How far the log reaches back is asked again whenever the archive was read to its end: reading
/// it may take longer than the log keeps what comes after.
pub(crate) struct HandOff {
    bus: Bus,
    topic: String,
    incarnation: Incarnation,
    reader: Reader,
    /// First records of the log that are trained or rejected by nobody yet.
    resume: BTreeMap<Partition, Offset>,
    /// What is read next of every partition.
    next: BTreeMap<Partition, Offset>,
    archived: Option<ArchiveSource>,
    /// Reads what lies behind in the log, by the same rule as the archive is read.
    behind: Option<CatchUp>,
    /// Whether it was asked for before.
    caught_up: bool,
    /// Partitions of which nothing came though their offsets say that there is more.
    silent: BTreeSet<Partition>,
    log: Option<LogSource>,
    /// Where the partitions' clocks stood when the learner stopped.
    clocks: Vec<PartitionResume>,
    /// The log began with this process: nothing lies behind in it.
    volatile: bool,
}

impl HandOff {
    /// Reads from the resume points on; a partition without one from offset 0. Where nothing is
    /// to be read from the archive of this life, the consumer exists when this returns.
    pub(crate) async fn open(
        log: &Log,
        reader: &Reader,
        resume: &[PartitionResume],
    ) -> Result<Self> {
        let of_log = || resume.iter().filter(|at| at.incarnation == log.incarnation);
        let lives = reader.incarnations().await?;
        let earlier: Vec<_> = lives
            .into_iter()
            .filter(|life| *life != log.incarnation)
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

    /// Opens what holds the next offsets: the log if it holds all of them, else the archive.
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
                behind.push((partition, *next, end));
                *next = end;
            } else if resume >= low {
                // Only the record before it is gone, by which a rewritten topic is known.
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
                "reading what lies behind, partitions merged by the time of their records"
            );
            let (topic, life) = (&self.topic, self.incarnation);
            self.behind = Some(CatchUp::open(&self.bus, topic, life, &stretches)?);
        } else if behind.is_empty() {
            self.silent.clear();
            let start = self.next.iter().map(|(at, next)| (*at, *next)).collect();
            let limits = ConsumerLimits::default();
            let consumer = self
                .bus
                .growing_consumer("learner", &self.topic, start, limits)?;
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
    /// Reading goes on after this record of the log.
    fn noted(&mut self, incoming: Incoming) -> Incoming {
        let at = incoming.record;
        self.next.insert(at.partition, at.offset.next());
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
        incoming
    }
}

#[async_trait]
impl Source for HandOff {
    async fn next(&mut self) -> vintage_learner::Result<Option<Incoming>> {
        loop {
            if let Some(archived) = &mut self.archived {
                if let Some(incoming) = archived.next().await? {
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
                        // Not the last record: many offsets without one would lie behind again.
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
                // The log's start has passed what was to be read next.
                Err(vintage_learner::Error::Bus(vintage_bus::Error::OffsetOutOfRange {
                    ..
                })) => self.log = None,
                Ok(Some(incoming)) => return Ok(Some(self.noted(incoming))),
                ended => return ended,
            }
        }
    }
}

fn as_learners(error: crate::Error) -> vintage_learner::Error {
    match error {
        crate::Error::Learner(error) => error,
        crate::Error::Bus(error) => error.into(),
        other => vintage_learner::Error::source_failed(other),
    }
}

/// First offset of a partition that the archive holds, and the first after them, if it holds any.
pub(crate) async fn held(
    reader: &Reader,
    incarnation: Incarnation,
    partition: Partition,
) -> Result<Option<(Offset, Offset)>> {
    let meta = match reader.meta(incarnation).await {
        Err(vintage_archive::Error::NoArchive { .. }) => return Ok(None),
        meta => meta?,
    };
    let end = reader.next_offset(incarnation, partition).await?;
    let first = meta.starts.get(&partition).copied().unwrap_or_default();
    Ok(Some((first, end)))
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
