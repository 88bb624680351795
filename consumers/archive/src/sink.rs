//! The sink: from the log into files, exactly once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use vintage_bus::{Bus, ConsumerLimits, Event};
use vintage_control::{Incarnation, Offset, Partition};
use vintage_store::Store;

use crate::{
    Codec, Error, Result, SinkHandle, SinkLimits,
    commit::{Done, Job, Outcome},
    encode::Label,
    message::Message,
    meta::ArchiveMeta,
    recover,
    roll::{Reason, Roll},
    source::Source,
};

/// What a sink archives and where to.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// Root of the archive.
    pub store: Store,
    /// The topic.
    pub topic: String,
    /// Its life; a recreated topic needs another one.
    pub incarnation: Incarnation,
    /// Names the consumer in the brokers' logs and in errors.
    pub client_id: String,
    /// When files are closed and how much may be held.
    pub limits: SinkLimits,
    /// Compression of the files.
    pub codec: Codec,
    /// Cancelling it ends the sink: what it has consumed is written first.
    pub cancel: CancellationToken,
}

impl SinkOptions {
    /// Options with the default limits and codec.
    pub fn new(store: Store, topic: &str, incarnation: Incarnation) -> Self {
        Self {
            store,
            topic: topic.to_owned(),
            incarnation,
            client_id: "vintage-archive".to_owned(),
            limits: SinkLimits::default(),
            codec: Codec::default(),
            cancel: CancellationToken::new(),
        }
    }
}

/// What a sink did in its life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkSummary {
    /// Records written, quarantined ones included.
    pub messages: u64,
    /// Trajectory rows written.
    pub rows: u64,
    /// Records written as quarantined.
    pub quarantined: u64,
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that another sink had written first.
    pub races_lost: u64,
    /// First offset not archived, by partition.
    pub committed: BTreeMap<Partition, Offset>,
}

/// Archives one topic. See [`Sink::start`].
pub struct Sink<S> {
    options: SinkOptions,
    topic: Arc<str>,
    writer: Arc<str>,
    source: S,
    rolls: BTreeMap<Partition, (u64, Roll)>,
    generations: u64,
    commits: JoinSet<Done>,
    /// Payload bytes gathered or being written.
    held: usize,
    committed: watch::Sender<BTreeMap<Partition, Offset>>,
    demands: mpsc::UnboundedReceiver<Vec<(Partition, Offset)>>,
    /// Demands for partitions that are not assigned (yet).
    early: BTreeMap<Partition, BTreeSet<Offset>>,
    summary: SinkSummary,
}

/// The task that a sink runs in.
pub type SinkTask = JoinHandle<Result<SinkSummary>>;

impl Sink<vintage_bus::Consumer> {
    /// Recovers where the archive ends, checks that the log goes on there, and archives every
    /// partition of the topic until `options.cancel` is cancelled or an error ends it.
    ///
    /// When this returns, the consumer exists: what is produced from now on is seen.
    ///
    /// # Errors
    /// [`Error::Expired`] and [`Error::Rewound`] where log and archive do not meet; the bus's
    /// and the store's own errors. The task ends with an error on any failed write: nothing
    /// half-written is left, and starting again goes on where the last file ends.
    pub async fn start(options: SinkOptions, bus: &Bus) -> Result<(SinkHandle, SinkTask)> {
        let (client, topic) = (options.client_id.clone(), options.topic.clone());
        let watermarks = bus.watermarks(&topic).await?;
        let limits = ConsumerLimits::default();
        Self::start_on(options, &watermarks, |starts| {
            Ok(bus.consumer(&client, &topic, starts.to_vec(), limits)?)
        })
        .await
    }
}

/// Sweeps, agrees on where the archive begins, and finds where each partition goes on.
pub(crate) async fn recovered(
    options: &SinkOptions,
    watermarks: &[(Partition, Offset, Offset)],
) -> Result<Vec<(Partition, Offset)>> {
    let SinkOptions {
        store,
        topic,
        incarnation,
        ..
    } = options;
    store.sweep(&crate::path::life(topic, *incarnation)).await?;
    let lows = watermarks
        .iter()
        .map(|(partition, low, _)| (*partition, *low))
        .collect();
    let meta = ArchiveMeta::agree(store, topic, *incarnation, lows).await?;
    let mut starts = Vec::with_capacity(watermarks.len());
    for watermark in watermarks {
        let next = recover::next_offset(store, &meta, watermark.0).await?;
        recover::check_log(topic, *watermark, next)?;
        starts.push((watermark.0, next));
    }
    Ok(starts)
}

impl<S: Source> Sink<S> {
    /// [`Sink::start`] on records from anywhere: `watermarks` are partition, first offset and
    /// first offset not written of each partition, and `source` makes what delivers the records
    /// from the offsets it is given on.
    pub async fn start_on(
        options: SinkOptions,
        watermarks: &[(Partition, Offset, Offset)],
        source: impl FnOnce(&[(Partition, Offset)]) -> Result<S> + Send,
    ) -> Result<(SinkHandle, SinkTask)> {
        let starts = recovered(&options, watermarks).await?;
        let source = source(&starts)?;
        Ok(Self::spawn(options, source, starts))
    }

    pub(crate) fn spawn(
        options: SinkOptions,
        source: S,
        starts: Vec<(Partition, Offset)>,
    ) -> (SinkHandle, SinkTask) {
        let (committed, watching) = watch::channel(starts.iter().copied().collect());
        let (demanding, demands) = mpsc::unbounded_channel();
        let failure = Arc::new(OnceLock::new());
        let handle = SinkHandle::new(
            &options.topic,
            demanding,
            watching,
            options.cancel.clone(),
            Arc::clone(&failure),
        );
        let mut sink = Self {
            topic: options.topic.as_str().into(),
            writer: format!("archive-{}", uuid::Uuid::now_v7()).into(),
            options,
            source,
            rolls: BTreeMap::new(),
            generations: 0,
            commits: JoinSet::new(),
            held: 0,
            committed,
            demands,
            early: BTreeMap::new(),
            summary: SinkSummary::default(),
        };
        sink.assign(starts);
        let task = tokio::spawn(async move {
            let ended = sink.run().await;
            // Before the watch closes, so that who waits on it finds the reason.
            let why = ended
                .as_ref()
                .err()
                .map_or_else(|| "it was told to".into(), reason_of);
            let _ = failure.set(why);
            ended.map(|()| SinkSummary {
                committed: sink.committed.borrow().clone(),
                ..sink.summary
            })
        });
        (handle, task)
    }

    async fn run(&mut self) -> Result<()> {
        let ended = self.gather().await;
        // What is being written is whole or nothing, but let it be known which.
        while let Some(done) = self.commits.join_next().await {
            let settled = self.settle(done);
            if ended.is_ok() {
                settled?;
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
                let message = Message::of(record);
                if let Some(reason) = message.quarantined() {
                    let name = "vintage_records_quarantined_total";
                    metrics::counter!(name, "reason" => reason).increment(1);
                }
                self.held += roll.push(message, Instant::now());
            }
            Event::Assigned(starts) => self.assign(starts),
            // Its records will be written by who reads the partition now.
            Event::Revoked(partitions) => partitions.iter().for_each(|partition| {
                if let Some((_, roll)) = self.rolls.remove(partition) {
                    self.held -= roll.bytes();
                }
            }),
        }
        Ok(())
    }

    fn assign(&mut self, starts: Vec<(Partition, Offset)>) {
        for (partition, start) in starts {
            self.generations += 1;
            let mut roll = Roll::new(start);
            for offset in self.early.remove(&partition).unwrap_or_default() {
                roll.want(offset);
            }
            if let Some((_, before)) = self.rolls.insert(partition, (self.generations, roll)) {
                self.held -= before.bytes();
            }
            self.committed.send_modify(|committed| {
                committed.insert(partition, start);
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

    /// Starts writing every file that is due; of a full buffer, the largest.
    fn write_due(&mut self, stopping: bool) {
        let now = Instant::now();
        let limits = self.options.limits;
        let due = |(partition, (_, roll)): (&Partition, &(u64, Roll))| {
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
        let (base, next, messages) = roll.close();
        let label = Label {
            topic: Arc::clone(&self.topic),
            incarnation: self.options.incarnation,
            partition,
            base,
            next,
            writer: Arc::clone(&self.writer),
            reason: reason.as_str(),
        };
        let (store, codec) = (self.options.store.clone(), self.options.codec);
        self.commits.spawn(
            Job {
                store,
                label,
                messages,
                codec,
                generation,
            }
            .run(),
        );
    }

    fn settle(&mut self, done: std::result::Result<Done, tokio::task::JoinError>) -> Result<()> {
        let done = done.map_err(|panic| Error::Died {
            part: "commit task",
            why: panic.to_string(),
        })?;
        self.held -= done.freed;
        let (next, rest) = match done.outcome? {
            Outcome::Won { footer, bytes } => {
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
                metrics::counter!("vintage_records_archived_total").increment(footer.messages);
                self.summary.messages += footer.messages;
                self.summary.rows += footer.rows;
                self.summary.quarantined += footer.quarantined;
                self.summary.files += 1;
                self.summary.bytes += bytes as u64;
                (footer.next_offset, Vec::new())
            }
            Outcome::Lost { next, rest } => {
                tracing::warn!(
                    partition = done.partition.0,
                    next = next.0,
                    "another sink archived these offsets first: going on after its file"
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
            }
            // Revoked since: who has it now found the file or loses to it.
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

fn reason_of(error: &Error) -> Arc<str> {
    error.to_string().into()
}

#[cfg(test)]
mod tests;
