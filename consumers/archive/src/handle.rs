use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vintage_control::{Offset, Partition};

use crate::{Error, Result};

/// Talks to a running sink. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SinkHandle {
    topic: Arc<str>,
    demands: mpsc::UnboundedSender<Vec<(Partition, Offset)>>,
    committed: watch::Receiver<BTreeMap<Partition, Offset>>,
    cancel: CancellationToken,
    failure: Arc<OnceLock<Arc<str>>>,
}

impl SinkHandle {
    pub(crate) fn new(
        topic: &str,
        demands: mpsc::UnboundedSender<Vec<(Partition, Offset)>>,
        committed: watch::Receiver<BTreeMap<Partition, Offset>>,
        cancel: CancellationToken,
        failure: Arc<OnceLock<Arc<str>>>,
    ) -> Self {
        Self {
            topic: topic.into(),
            demands,
            committed,
            cancel,
            failure,
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
        Err(Error::Stopped {
            partition,
            committed: now.get(&partition).copied().unwrap_or_default(),
            asked,
            why: self
                .failure
                .get()
                .cloned()
                .unwrap_or_else(|| "its task was dropped".into()),
        })
    }

    /// [`SinkHandle::commit_through`] for the end of a run: give the log's high watermarks, or
    /// what was acknowledged, then [`SinkHandle::shutdown`] and await the task's summary.
    pub async fn drain_through(&self, offsets: Vec<(Partition, Offset)>) -> Result<()> {
        self.commit_through(offsets).await
    }

    /// First offset not archived, by partition; changes with every commit.
    pub fn committed(&self) -> watch::Receiver<BTreeMap<Partition, Offset>> {
        self.committed.clone()
    }

    /// Ends the sink: it takes no more records, writes those it has, and its task returns.
    pub fn shutdown(&self) {
        self.cancel.cancel();
    }
}
