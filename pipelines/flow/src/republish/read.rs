//! Reader of a replay: sorts archived groups into taken, already in the target, and passed over.

use std::{collections::BTreeMap, mem::take};

use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use vintage_archive::{ArchivedGroup, Groups, SelectionCounts};
use vintage_control::{Partition, RecordId};

use super::{
    amount::CopiedAmount,
    copy::{Copied, Copier},
};
use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
};

/// Reader of groups until the archive ends, the publisher ends, or `stop` is cancelled.
pub(super) struct Reading {
    pub(super) groups: Groups,
    pub(super) copier: Copier,
    /// Archived record that each partition's last record in the target is a copy of; only
    /// partitions that have not been read up to it.
    pub(super) tails: BTreeMap<Partition, RecordId>,
    pub(super) out: Sender<Vec<Copied>>,
    pub(super) stop: CancellationToken,
    pub(super) events: Events,
}

/// Counts of a replay's reader.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// True if the whole archive was read.
    pub(super) ended: bool,
    /// Groups that the selection took.
    pub(super) taken: CopiedAmount,
    /// Taken groups that the target already had.
    pub(super) there: CopiedAmount,
    /// Records met in the archive, by what became of them.
    pub(super) counts: SelectionCounts,
}

impl Reading {
    pub(super) async fn run(mut self) -> Result<Read> {
        let mut read = Read::default();
        while !self.stop.is_cancelled() {
            let Some(group) = self.groups.next().await? else {
                read.ended = true;
                break;
            };
            let records = self.left_of(&group, &mut read).await?;
            let _nobody_listens = self.events.send(RunEvent::Republished {
                records: self.groups.counts().records,
                of: self.groups.records(),
            });
            if !records.is_empty() && self.out.send(records).await.is_err() {
                break; // publishing has failed, and says why itself
            }
        }
        if let (true, Some((partition, record))) = (read.ended, take(&mut self.tails).pop_first()) {
            return Err(Error::Bug(format!(
                "the archived record {record} is the last one in partition {partition} of the \
                 target and was not met again: please report this"
            )));
        }
        read.counts = self.groups.counts().clone();
        Ok(read)
    }

    /// Returns copies of a group's records that the target does not have yet.
    async fn left_of(&mut self, group: &ArchivedGroup, read: &mut Read) -> Result<Vec<Copied>> {
        let partition = group.last().record.partition;
        let heads: Vec<_> = group
            .heads()
            .map(|head| (head.record, head.rows as u64))
            .collect();
        let there = match self.tails.get(&partition) {
            None => 0,
            Some(tail) => match heads.iter().position(|(record, _)| record == tail) {
                None => heads.len(),
                Some(at) => {
                    self.tails.remove(&partition);
                    at + 1
                }
            },
        };
        let (had, left) = heads.split_at(there);
        read.there.add(had, left.is_empty());
        read.taken.add(&heads, true);
        let mut records = Vec::with_capacity(left.len());
        if !left.is_empty() {
            for message in group.load().await?.iter().skip(there) {
                records.push(self.copier.copy(message)?);
            }
        }
        Ok(records)
    }
}

impl Read {
    /// Returns the number of records not taken, by reason.
    pub(super) fn passed_over(&self) -> BTreeMap<String, u64> {
        let counts = &self.counts;
        let filtered = counts.skipped.iter().map(|(filter, &records)| {
            let name = serde_json::to_value(filter).unwrap_or_default();
            (name.as_str().unwrap_or("filter").to_owned(), records)
        });
        let unfiltered = [
            ("quarantined", counts.quarantined),
            ("duplicate", counts.duplicates),
            ("incomplete", counts.incomplete),
        ];
        let unfiltered = unfiltered.map(|(name, records)| (name.to_owned(), records));
        filtered
            .chain(unfiltered)
            .filter(|(_, records)| *records > 0)
            .collect()
    }
}
