//! Streams of archived messages: of one partition, and of several merged into one order.
use std::{cmp::Reverse, collections::VecDeque};

use tokio_util::task::AbortOnDropHandle;
use vintage_control::{Offset, Partition};

use crate::{
    error::{Error, Result},
    file::{ArchiveFile, Opened},
    filter::Filter,
    message::ArchivedMessage,
    rowgroup::RowGroup,
    topic_archive::TopicArchive,
};

/// Row group that another task decodes.
type Ahead = AbortOnDropHandle<Result<(Opened, RowGroup)>>;

/// Stream of the messages of one partition, by ascending offset. See [`crate::Reader::messages`].
pub struct Messages {
    archive: TopicArchive,
    files: VecDeque<ArchiveFile>,
    filter: Filter,
    /// The file being read, and its row groups that are still to come.
    groups: Option<(Opened, VecDeque<usize>)>,
    /// Next row group, being decoded by another task.
    ahead: Option<Ahead>,
    /// Row group being handed out, and the index of its next message.
    rows: Option<(Opened, RowGroup, usize)>,
}

impl Messages {
    pub(crate) fn new(archive: TopicArchive, files: VecDeque<ArchiveFile>, filter: Filter) -> Self {
        Self {
            archive,
            files,
            filter,
            groups: None,
            ahead: None,
            rows: None,
        }
    }

    /// Returns the next message; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the file whose bytes are not those written or whose rows are not
    /// trajectories.
    pub async fn next(&mut self) -> Result<Option<ArchivedMessage>> {
        loop {
            if let Some((file, rows, at)) = &mut self.rows {
                while *at < rows.len() {
                    let message = rows.message(*at).map_err(|reason| file.corrupt(reason))?;
                    *at += 1;
                    if self.filter.wants_message(&message) {
                        return Ok(Some(message));
                    }
                }
            }
            let next = match self.ahead.take() {
                Some(ahead) => Some(ahead),
                None => self.read_ahead().await?,
            };
            let Some(next) = next else { return Ok(None) };
            let (file, rows) = next.await.map_err(|panic| Error::Died {
                part: "archive reader",
                reason: panic.to_string(),
            })??;
            let first = rows.at_or_after(self.filter.start(file.file.footer.partition));
            self.rows = Some((file, rows, first));
            self.ahead = self.read_ahead().await?;
        }
    }

    /// Starts reading the next row group that the filter wants.
    async fn read_ahead(&mut self) -> Result<Option<Ahead>> {
        loop {
            if let Some((file, groups)) = &mut self.groups {
                while let Some(group) = groups.pop_front() {
                    if self.filter.wants_group(file, group) {
                        let file = file.clone();
                        let reading = async move {
                            let rows = RowGroup::read(&file, group).await?;
                            Ok((file, rows))
                        };
                        return Ok(Some(AbortOnDropHandle::new(tokio::spawn(reading))));
                    }
                }
            }
            self.groups = self.archive.open_next(&mut self.files).await?;
            if self.groups.is_none() {
                return Ok(None);
            }
        }
    }
}

/// Stream of the messages of several partitions and incarnations in one order. See
/// [`crate::Reader::merged`].
pub struct Merged {
    /// Incarnations that are still to be read, each as its partitions.
    incarnations: VecDeque<Vec<Messages>>,
    /// Partitions of the current incarnation, each with its next message.
    heads: Vec<(ArchivedMessage, Messages)>,
}

impl Merged {
    pub(crate) fn new(incarnations: Vec<Vec<Messages>>) -> Self {
        Self {
            incarnations: incarnations.into(),
            heads: Vec::new(),
        }
    }

    /// Returns the next message; `None` at the archive's end.
    pub async fn next(&mut self) -> Result<Option<ArchivedMessage>> {
        while self.heads.is_empty() {
            let Some(partitions) = self.incarnations.pop_front() else {
                return Ok(None);
            };
            for mut messages in partitions {
                if let Some(head) = messages.next().await? {
                    self.heads.push((head, messages));
                }
            }
        }
        let least = self
            .heads
            .iter()
            .enumerate()
            .max_by_key(|(_, (head, _))| Reverse(key(head)));
        let Some(at) = least.map(|(at, _)| at) else {
            return Ok(None);
        };
        let next = self.heads[at].1.next().await?;
        let taken = match next {
            Some(next) => std::mem::replace(&mut self.heads[at].0, next),
            None => self.heads.swap_remove(at).0,
        };
        Ok(Some(taken))
    }
}

/// Returns the key by which messages are merged. It is unique within an incarnation, so the order
/// of `heads` does not matter.
fn key(message: &ArchivedMessage) -> (Option<i64>, Partition, Offset) {
    (
        message.timestamp_ms,
        message.record.partition,
        message.record.offset,
    )
}
