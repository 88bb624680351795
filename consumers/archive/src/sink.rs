//! The sink: reads records from the log and writes them into files, exactly once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use vintage_bus::{Event, Record};
use vintage_control::{Metric, Offset, Partition};
use vintage_faults::point;

use crate::{
    commit::{CommitOutcome, Done, Job},
    encode::Label,
    error::{Error, Result},
    handle::SinkHandle,
    message::Message,
    options::SinkOptions,
    path::TopicFolder,
    recover::{Last, Start},
    retry::Blocked,
    roll::{OpenFile, Reason},
    source::SinkSource,
    summary::{SinkSummary, Taken},
};

use self::planned::Planned;

mod planned;
mod start;

/// Sink that archives one topic. See [`Sink::start`].
pub struct Sink<S> {
    options: SinkOptions,
    topic_folder: Arc<TopicFolder>,
    topic: Arc<str>,
    writer: Arc<str>,
    source: S,
    planned: Planned,
    rolls: BTreeMap<Partition, (u64, OpenFile)>,
    generations: u64,
    commits: JoinSet<Done>,
    /// Bytes of messages gathered or being written.
    held: usize,
    committed: watch::Sender<BTreeMap<Partition, Offset>>,
    taken: watch::Sender<Taken>,
    demanding: mpsc::UnboundedSender<Vec<(Partition, Offset)>>,
    demands: mpsc::UnboundedReceiver<Vec<(Partition, Offset)>>,
    /// Demands for partitions that are not assigned to this sink, or not yet.
    early: BTreeMap<Partition, BTreeSet<Offset>>,
    summary: SinkSummary,
}

/// Task in which a sink runs; it returns the summary.
pub type SinkTask = JoinHandle<Result<SinkSummary>>;

impl<S: SinkSource> Sink<S> {
    fn new(
        options: SinkOptions,
        topic_folder: Arc<TopicFolder>,
        source: S,
        blocked: Blocked,
    ) -> Self {
        let (demanding, demands) = mpsc::unbounded_channel();
        Self {
            topic_folder,
            topic: options.topic.as_str().into(),
            writer: format!("archive-{}", uuid::Uuid::now_v7()).into(),
            options,
            source,
            planned: Planned::default(),
            rolls: BTreeMap::new(),
            generations: 0,
            commits: JoinSet::new(),
            held: 0,
            committed: watch::Sender::default(),
            taken: watch::Sender::default(),
            demanding,
            demands,
            early: BTreeMap::new(),
            summary: SinkSummary {
                blocked,
                ..SinkSummary::default()
            },
        }
    }

    fn run_in_task(mut self) -> (SinkHandle, SinkTask) {
        let failure = Arc::new(OnceLock::new());
        let handle = SinkHandle::new(
            &self.options,
            Arc::clone(&self.topic_folder),
            self.demanding.clone(),
            (self.committed.subscribe(), self.taken.subscribe()),
            Arc::clone(&failure),
        );
        tracing::info!(topic = &*self.topic, "archiving");
        let task = tokio::spawn(async move {
            let ended = self.run().await;
            // Set before the watch closes, so that a waiter finds the reason.
            let reason = ended
                .as_ref()
                .err()
                .map_or_else(|| "it was shut down".into(), reason_of);
            let _ = failure.set(reason);
            ended.map(|()| SinkSummary {
                committed: self.committed.borrow().clone(),
                ..self.summary
            })
        });
        (handle, task)
    }

    async fn run(&mut self) -> Result<()> {
        let mut ended = self.gather().await;
        // Ends the waits for the store to recover.
        self.options.cancel.cancel();
        // A file being written is whole or absent; wait to learn which.
        while let Some(done) = self.commits.join_next().await {
            let settled = self.settle(done);
            if ended.is_ok() {
                ended = settled;
            }
        }
        ended
    }

    async fn gather(&mut self) -> Result<()> {
        let cancel = self.options.cancel.clone();
        let mut stopping = false;
        loop {
            self.write_due(stopping);
            if stopping && self.commits.is_empty() {
                return Ok(());
            }
            let deadline = self.deadline();
            let room = self.held < self.options.limits.buffer_bytes;
            tokio::select! {
                () = cancel.cancelled(), if !stopping => stopping = true,
                Some(done) = self.commits.join_next() => self.settle(done)?,
                Some(demand) = self.demands.recv() => self.demand(demand),
                event = self.source.next(), if room && !stopping => match event? {
                    Some(event) => self.take(event)?,
                    None => stopping = true,
                },
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                    if deadline.is_some() && !stopping => {}
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Record(record) => {
                let (partition, found) = (record.partition, record.offset);
                let Some((_, roll)) = self.rolls.get_mut(&partition) else {
                    return Ok(());
                };
                if found < roll.position() {
                    let (topic, expected) = (self.topic.to_string(), roll.position());
                    return Err(Error::OutOfOrder {
                        topic,
                        partition,
                        expected,
                        found,
                    });
                }
                if let Some(last) = roll.take_last() {
                    check_log(&self.topic, &record, last)?;
                }
                let message = Message::of(record);
                let quarantined = message.quarantined();
                let taken = roll.push(message, Instant::now());
                self.held += taken;
                // The last archived record is only compared; it does not count as taken.
                if taken > 0 {
                    self.taken.send_modify(|taken| taken.count(quarantined));
                }
                if let (Some(reason), 1..) = (quarantined, taken) {
                    metrics::counter!(Metric::RECORDS_QUARANTINED.name, "reason" => reason)
                        .increment(1);
                }
            }
            Event::Assigned(given) => {
                for (partition, offset) in given {
                    let start = match self.planned.take(partition) {
                        Some(start) => start,
                        None if self.options.group.is_none() => Start::at(offset),
                        // The start was found during the rebalance, or the consumer would have
                        // failed.
                        None => {
                            return Err(Error::Died {
                                part: "rebalance",
                                reason: format!("partition {partition} was given without a start"),
                            });
                        }
                    };
                    self.assign([(partition, start)]);
                }
            }
            Event::Revoked(partitions) => partitions.into_iter().for_each(|p| self.revoke(p)),
            Event::End { partition, next } => {
                if let Some((_, roll)) = self.rolls.get_mut(&partition) {
                    roll.pass(next);
                    self.pass(partition);
                }
            }
        }
        Ok(())
    }

    /// Advances the committed offset to the reader's position if every record that came is
    /// archived: no record exists in between. No file says so; after a restart these offsets are
    /// read once more.
    fn pass(&mut self, partition: Partition) {
        let Some((_, roll)) = self.rolls.get_mut(&partition) else {
            return;
        };
        let Some(next) = roll.settled() else { return };
        let moved = self.committed.send_if_modified(|committed| {
            let before = committed.insert(partition, next);
            before != Some(next)
        });
        if moved {
            self.source.archived(partition, next);
        }
    }

    /// Gives a partition up. Its records will be written by the member that reads it now.
    fn revoke(&mut self, partition: Partition) {
        self.committed.send_modify(|committed| {
            committed.remove(&partition);
        });
        if let Some((_, roll)) = self.rolls.remove(&partition) {
            self.held -= roll.bytes();
            // The partition may come back.
            self.early
                .entry(partition)
                .or_default()
                .extend(roll.into_wanted());
        }
    }

    fn assign(&mut self, starts: impl IntoIterator<Item = (Partition, Start)>) {
        for (partition, start) in starts {
            self.generations += 1;
            let base = start.base;
            let mut roll = OpenFile::new(start);
            for offset in self.early.remove(&partition).unwrap_or_default() {
                roll.want(offset);
            }
            if let Some((_, before)) = self.rolls.insert(partition, (self.generations, roll)) {
                self.held -= before.bytes();
            }
            self.committed.send_modify(|committed| {
                committed.insert(partition, base);
            });
        }
    }

    fn demand(&mut self, demand: Vec<(Partition, Offset)>) {
        for (partition, offset) in demand {
            match self.rolls.get_mut(&partition) {
                Some((_, roll)) => roll.want(offset),
                None => {
                    self.early.entry(partition).or_default().insert(offset);
                }
            }
        }
    }

    /// Starts writing every file that is due and, if the buffer is full, that of the largest
    /// partition.
    fn write_due(&mut self, stopping: bool) {
        let now = Instant::now();
        let limits = self.options.limits;
        let due = |(partition, (_, roll)): (&Partition, &(u64, OpenFile))| {
            Some((*partition, roll.due(&limits, now, stopping)?))
        };
        let due: Vec<_> = self.rolls.iter().filter_map(due).collect();
        for (partition, reason) in due {
            self.write(partition, reason);
        }
        if self.held >= limits.buffer_bytes && self.commits.is_empty() {
            let ready = self.rolls.iter().filter(|(_, (_, roll))| !roll.is_empty());
            let largest = ready.max_by_key(|(_, (_, roll))| roll.bytes());
            if let Some(partition) = largest.map(|(partition, _)| *partition) {
                self.write(partition, Reason::Bytes);
            }
        }
    }

    fn write(&mut self, partition: Partition, reason: Reason) {
        let Some((generation, roll)) = self.rolls.get_mut(&partition) else {
            return;
        };
        let generation = *generation;
        debug_assert!(
            !roll.is_writing(),
            "files of a partition follow one another"
        );
        let lost = roll.lost();
        let (base, next, messages) = roll.close();
        point("archive.gathered", messages.len() as u64);
        let label = Label {
            topic_folder: Arc::clone(&self.topic_folder),
            incarnation: self.options.incarnation,
            partition,
            base,
            next,
            writer: Arc::clone(&self.writer),
            reason: reason.as_str(),
            lost,
        };
        let options = &self.options;
        let job = Job {
            store: options.store.clone(),
            label,
            messages,
            codec: options.codec,
            generation,
            patience: options.patience,
            cancel: options.cancel.clone(),
        };
        self.commits.spawn(job.run());
    }

    fn settle(&mut self, done: std::result::Result<Done, tokio::task::JoinError>) -> Result<()> {
        let done = done.map_err(|panic| Error::Died {
            part: "commit task",
            reason: panic.to_string(),
        })?;
        self.held -= done.freed;
        for (trouble, times) in done.blocked {
            *self.summary.blocked.entry(trouble).or_default() += times;
        }
        let (next, rest) = match done.outcome? {
            CommitOutcome::Won { footer, bytes } => {
                tracing::debug!(
                    partition = done.partition.0,
                    base = footer.base_offset.0,
                    next = footer.next_offset.0,
                    rows = footer.rows,
                    bytes,
                    reason = footer.roll_reason,
                    "archived"
                );
                if footer.quarantined > 0 {
                    tracing::warn!(
                        partition = done.partition.0,
                        base = footer.base_offset.0,
                        records = footer.quarantined,
                        "archived records that cannot be decoded"
                    );
                }
                metrics::counter!(Metric::RECORDS_ARCHIVED.name).increment(footer.messages);
                self.summary.messages += footer.messages;
                self.summary.rows += footer.rows;
                self.summary.quarantined += footer.quarantined;
                self.summary.files += 1;
                self.summary.bytes += bytes as u64;
                (footer.next_offset, Vec::new())
            }
            CommitOutcome::Lost { next, rest } => {
                tracing::warn!(
                    partition = done.partition.0,
                    next = next.0,
                    "another sink archived these offsets first: continuing after its file"
                );
                self.summary.races_lost += 1;
                (next, rest)
            }
        };
        let rest_bytes: usize = rest.iter().map(Message::bytes).sum();
        match self.rolls.get_mut(&done.partition) {
            Some((generation, roll)) if *generation == done.generation => {
                self.held -= roll.committed(next, rest, Instant::now());
                self.committed.send_modify(|committed| {
                    committed.insert(done.partition, next);
                });
                self.source.archived(done.partition, next);
                self.pass(done.partition);
            }
            // The partition was revoked since: its new owner found the file or loses to it.
            _ => self.held -= rest_bytes,
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        let limits = &self.options.limits;
        self.rolls
            .values()
            .filter_map(|(_, roll)| roll.deadline(limits))
            .min()
    }
}

/// Checks that the log is the one that the archive was written from, by the last archived record.
/// Offsets do not suffice: a topic that was recreated may have grown past them.
fn check_log(topic: &str, record: &Record, last: Last) -> Result<()> {
    let found = if record.offset != last.offset {
        "none"
    } else if Last::crc_of(record.payload.as_ref()) != last.crc32c {
        "another"
    } else {
        return Ok(());
    };
    Err(Error::OtherLog {
        topic: topic.to_owned(),
        partition: record.partition,
        offset: last.offset,
        found,
    })
}

fn reason_of(error: &Error) -> Arc<str> {
    error.to_string().into()
}

#[cfg(test)]
mod tests;
