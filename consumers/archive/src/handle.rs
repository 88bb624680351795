//! Handle through which a running sink is waited for and stopped.
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vintage_control::{Incarnation, Offset, Partition};
use vintage_store::Store;

use crate::{
    error::{Error, Result},
    meta::ArchiveMeta,
    options::SinkOptions,
    path::TopicFolder,
    recover,
    summary::Taken,
};

/// Interval at which the store is asked how far the other members of a group have archived. Members
/// are other processes, and their files are the only sign of their progress.
const LOOK: Duration = Duration::from_millis(250);

/// Handle of a running sink: waits for commits, reports progress, shuts it down. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SinkHandle {
    topic_folder: Arc<TopicFolder>,
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
        topic_folder: Arc<TopicFolder>,
        demands: mpsc::UnboundedSender<Vec<(Partition, Offset)>>,
        (committed, taken): (
            watch::Receiver<BTreeMap<Partition, Offset>>,
            watch::Receiver<Taken>,
        ),
        failure: Arc<OnceLock<Arc<str>>>,
    ) -> Self {
        Self {
            topic_folder,
            demands,
            committed,
            taken,
            cancel: options.cancel.clone(),
            failure,
            store: options.store.clone(),
            incarnation: options.incarnation,
        }
    }

    /// Asks for everything before each given offset to be archived, without waiting for it: a later
    /// [`SinkHandle::commit_up_to`] finds it done, or on its way.
    pub fn ask_for(&self, mut ends: Vec<(Partition, Offset)>) {
        let now = self.committed.borrow();
        ends.retain(|(partition, end)| now.get(partition).is_some_and(|now| now < end));
        drop(now);
        if !ends.is_empty() {
            // If sending fails, the sink has ended, which who waits is told.
            let _ = self.demands.send(ends);
        }
    }

    /// Waits until everything before each given offset is durably archived. Files are closed as
    /// soon as they hold it; offsets that are archived already close no file. An offset that the
    /// log has not reached is waited for.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the sink ends before, with the sink's own reason;
    /// [`Error::UnknownPartition`] if a partition is not assigned to this sink.
    pub async fn commit_up_to(&self, asked: Vec<(Partition, Offset)>) -> Result<()> {
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
                    let topic = self.topic_folder.topic().to_owned();
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
        // If sending fails, the sink has ended; the watch below reports that.
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
        let reason = self.failure.get().cloned();
        Error::Stopped {
            partition,
            committed: committed.unwrap_or_default(),
            asked,
            reason: reason.unwrap_or_else(|| "its task was dropped".into()),
        }
    }

    /// Waits, at the end of a run, until everything before each given offset is archived by any
    /// sink of the group.
    ///
    /// Pass the ends of the log's records (`vintage_bus::Bus::record_ends`: consumers receive
    /// nothing after them) or the acknowledged offsets. Then call [`SinkHandle::shutdown`] and
    /// await the task's summary. Partitions of other members of a group are waited for until those
    /// have archived them, or are gone and this sink has taken over. A partition that this sink
    /// does not know yet is waited for too.
    pub async fn drain_up_to(&self, offsets: Vec<(Partition, Offset)>) -> Result<()> {
        let mut committed = self.committed.clone();
        // If sending fails, the sink has ended; the watch below reports that.
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
        let (store, topic_folder) = (&self.store, &self.topic_folder);
        let meta = ArchiveMeta::read(store, topic_folder, self.incarnation).await?;
        recover::claimed(store, topic_folder, &meta, partition).await
    }

    /// Returns a watch of the first offset not archived, by partition; it changes with every
    /// commit.
    pub fn committed(&self) -> watch::Receiver<BTreeMap<Partition, Offset>> {
        self.committed.clone()
    }

    /// Returns a watch of what the sink has taken from the log since it started; it changes with
    /// every record.
    pub fn taken(&self) -> watch::Receiver<Taken> {
        self.taken.clone()
    }

    /// Ends the sink: it takes no more records and writes those that it has, and its task returns.
    pub fn shutdown(&self) {
        self.cancel.cancel();
    }
}
