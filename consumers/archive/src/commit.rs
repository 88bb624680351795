//! The commit of one archive file: its messages are encoded, then the file is created if absent.
//!
//! The `next_offset` in the file's footer is the durable position of the partition. The group offset
//! that is committed to Kafka later is for display, and nothing resumes from it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use vintage_control::{ArchiveFooter, Offset, Partition};
use vintage_faults::point;
use vintage_store::{Created, Store};

use crate::{
    columns::Codec,
    encode::{Label, encode},
    error::{Error, Result},
    file::{FileId, Opened},
    message::Message,
    retry::{self, Blocked},
};

/// A file to be written, with everything that its commit needs.
pub(crate) struct Job {
    pub(crate) store: Store,
    pub(crate) label: Label,
    pub(crate) messages: Vec<Message>,
    pub(crate) codec: Codec,
    /// Number of the partition's assignment under which the messages were gathered.
    pub(crate) generation: u64,
    /// Longest time to wait out a transient store failure, unless cancelled.
    pub(crate) patience: Duration,
    pub(crate) cancel: CancellationToken,
}

/// Result of a [`Job`].
pub(crate) struct Done {
    pub(crate) partition: Partition,
    pub(crate) generation: u64,
    /// Bytes of messages that are no longer held in memory.
    pub(crate) freed: usize,
    /// Number of failed tries, by the store's trouble.
    pub(crate) blocked: Blocked,
    pub(crate) outcome: Result<CommitOutcome>,
}

pub(crate) enum CommitOutcome {
    /// File created by this sink, with its footer and its length in bytes.
    Won {
        footer: Box<ArchiveFooter>,
        bytes: usize,
    },
    /// Another sink's file covers the offsets up to `next`; `rest` are this sink's messages at or
    /// after `next`.
    Lost { next: Offset, rest: Vec<Message> },
}

impl Job {
    pub(crate) async fn run(self) -> Done {
        let (partition, generation) = (self.label.partition, self.generation);
        let held: usize = self.messages.iter().map(Message::bytes).sum();
        let mut blocked = Blocked::new();
        let outcome = self.commit(&mut blocked).await;
        let kept = match &outcome {
            Ok(CommitOutcome::Lost { rest, .. }) => rest.iter().map(Message::bytes).sum(),
            _ => 0,
        };
        Done {
            partition,
            generation,
            freed: held - kept,
            blocked,
            outcome,
        }
    }

    async fn commit(self, blocked: &mut Blocked) -> Result<CommitOutcome> {
        let Self {
            store,
            label,
            messages,
            codec,
            patience,
            cancel,
            ..
        } = self;
        let label = Arc::new(label);
        let place = FileId {
            topic_folder: &label.topic_folder,
            incarnation: label.incarnation,
            partition: label.partition,
            base: label.base,
        };
        let path = place.path();
        let encoding = Arc::clone(&label);
        // CPU work only, and much of it.
        let encoded = tokio::task::spawn_blocking(move || {
            let encoded = encode(&encoding, &messages, codec);
            (encoded, messages)
        });
        let (encoded, messages) = encoded.await.map_err(|panic| Error::Died {
            part: "encoder",
            reason: panic.to_string(),
        })?;
        let (file, footer) = encoded.map_err(|reason| Error::Encode {
            file: path.clone(),
            reason,
        })?;
        point("archive.encoded", messages.len() as u64);
        let file = Bytes::from(file);
        let winner = retry::on(&path, (patience, &cancel, &store), blocked, || async {
            if store.create(&path, file.clone()).await? == Created::New {
                return Ok(None);
            }
            let gone = || Error::Corrupt {
                file: path.clone(),
                reason: "it was there and vanished while this sink looked".to_owned(),
            };
            let winner = Opened::open(&store, place).await?.ok_or_else(gone)?;
            let winner = winner.file.footer;
            // A create that succeeded although it was reported as failed has our writer id.
            Ok((winner.writer != *label.writer).then_some(winner))
        });
        match winner.await? {
            None => {
                point("archive.committed", messages.len() as u64);
                Ok(CommitOutcome::Won {
                    footer: Box::new(footer),
                    bytes: file.len(),
                })
            }
            Some(winner) => {
                let next = winner.next_offset;
                let rest = messages
                    .into_iter()
                    .filter(|message| message.offset >= next);
                Ok(CommitOutcome::Lost {
                    next,
                    rest: rest.collect(),
                })
            }
        }
    }
}
