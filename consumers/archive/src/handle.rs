use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vintage_control::{Incarnation, Offset, Partition};
use vintage_store::Store;

use crate::{Error, Result, SinkOptions, Taken, meta::ArchiveMeta, path::Home, recover};

/// How often the store is asked how far the other members of a group have come: they are other
/// processes, and their files all there is to see of them.
const LOOK: Duration = Duration::from_millis(250);

/// Talks to a running sink. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SinkHandle {
    topic: Arc<str>,
    demands: mpsc::UnboundedSender<Vec<(Partition, Offset)>>,
    committed: watch::Receiver<BTreeMap<Partition, Offset>>,
    taken: watch::Receiver<Taken>,
    cancel: CancellationToken,
    failure: Arc<OnceLock<Arc<str>>>,
    store: Store,
    incarnation: Incarnation,
}

impl SinkHandle {
    pub(crate) fn new(
        options: &SinkOptions,
        demands: mpsc::UnboundedSender<Vec<(Partition, Offset)>>,
        (committed, taken): (
            watch::Receiver<BTreeMap<Partition, Offset>>,
            watch::Receiver<Taken>,
        ),
        failure: Arc<OnceLock<Arc<str>>>,
    ) -> Self {
        Self {
            topic: options.topic.as_str().into(),
            demands,
            committed,
            taken,
            cancel: options.cancel.clone(),
            failure,
            store: options.store.clone(),
            incarnation: options.incarnation,
        }
    }

    /// Returns once everything before each offset asked for is durably archived, closing files
    /// as soon as they hold it. What is archived already closes no file. An offset that the log
    /// has not reached is waited for.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the sink ends before, with the sink's own reason;
    /// [`Error::UnknownPartition`].
    pub async fn commit_through(&self, asked: Vec<(Partition, Offset)>) -> Result<()> {
        let mut committed = self.committed.clone();
        let missing: Vec<_> = {
            let now = committed.borrow();
            for (partition, _) in &asked {
                if !now.contains_key(partition) {
                    let known = now
                        .keys()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ");
                    let topic = self.topic.to_string();
                    return Err(Error::UnknownPartition {
                        topic,
                        partition: *partition,
                        known,
                    });
                }
            }
            asked
                .into_iter()
                .filter(|(partition, offset)| now[partition] < *offset)
                .collect()
        };
        let Some(first) = missing.first().copied() else {
            return Ok(());
        };
        // If it fails the sink has ended, which the watch tells.
        let _ = self.demands.send(missing.clone());
        let reached = |now: &BTreeMap<Partition, Offset>| {
            missing
                .iter()
                .all(|(partition, offset)| now.get(partition) >= Some(offset))
        };
        if committed.wait_for(reached).await.is_ok() {
            return Ok(());
        }
        let now = self.committed.borrow();
        let behind = missing
            .iter()
            .find(|(partition, offset)| now.get(partition) < Some(offset));
        let (partition, asked) = *behind.unwrap_or(&first);
        Err(self.stopped(partition, now.get(&partition).copied(), asked))
    }

    fn stopped(&self, partition: Partition, committed: Option<Offset>, asked: Offset) -> Error {
        let why = self.failure.get().cloned();
        Error::Stopped {
            partition,
            committed: committed.unwrap_or_default(),
            asked,
            why: why.unwrap_or_else(|| "its task was dropped".into()),
        }
    }

    /// [`SinkHandle::commit_through`] for the end of a run: give the ends of the log's records
    /// (`vintage_bus::Bus::record_ends`: what stands after them comes to nobody), or what was
    /// acknowledged, then [`SinkHandle::shutdown`] and await the task's summary. What other members
    /// of a group hold is waited for until they have archived it, or are gone and this sink has it;
    /// so is a partition that this sink does not know yet.
    pub async fn drain_through(&self, offsets: Vec<(Partition, Offset)>) -> Result<()> {
        let mut committed = self.committed.clone();
        // If it fails the sink has ended, which the watch tells.
        let _ = self.demands.send(offsets.clone());
        let mut left = offsets;
        loop {
            let held = committed.borrow_and_update().clone();
            let mut behind = Vec::new();
            for (partition, offset) in left {
                let reached = match held.get(&partition) {
                    Some(next) => *next >= offset,
                    None => self.claimed(partition).await? >= offset,
                };
                if !reached {
                    behind.push((partition, offset));
                }
            }
            let Some((partition, asked)) = behind.first().copied() else {
                return Ok(());
            };
            left = behind;
            tokio::select! {
                changed = committed.changed() => {
                    if changed.is_err() {
                        return Err(self.stopped(partition, held.get(&partition).copied(), asked));
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn claimed(&self, partition: Partition) -> Result<Offset> {
        let home = Home::find(&self.store, &self.topic).await?;
        let meta = ArchiveMeta::read(&self.store, &home, self.incarnation).await?;
        recover::claimed(&self.store, &home, &meta, partition).await
    }

    /// First offset not archived, by partition; changes with every commit.
    pub fn committed(&self) -> watch::Receiver<BTreeMap<Partition, Offset>> {
        self.committed.clone()
    }

    /// What came in this life; changes with every record.
    pub fn taken(&self) -> watch::Receiver<Taken> {
        self.taken.clone()
    }

    /// Ends the sink: it takes no more records, writes those it has, and its task returns.
    pub fn shutdown(&self) {
        self.cancel.cancel();
    }
}
