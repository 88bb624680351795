//! Whole groups of an archive that a selection takes, in one order over all partitions.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use vintage_control::NumberSet;

use crate::{
    counts::SelectionCounts,
    error::Result,
    partition_groups::{ArchivedGroup, Candidate, PartitionGroups},
    select::Selection,
    topic_archive::TopicArchive,
};

/// Stream of the groups that a selection takes, in order. See [`crate::Reader::groups`].
pub struct Groups {
    /// Incarnations that are still to be read, each as its partitions.
    incarnations: VecDeque<Vec<PartitionGroups>>,
    /// Partitions of the current incarnation, each with its next group.
    heads: Vec<(Candidate, PartitionGroups)>,
    /// Numbers met, by producer: a second copy must not become a group of its own.
    seen: BTreeMap<String, NumberSet>,
    counts: SelectionCounts,
    records: u64,
}

impl Groups {
    pub(crate) async fn open(archive: TopicArchive, selection: Selection) -> Result<Self> {
        let selection = Arc::new(selection);
        let mut counts = SelectionCounts::default();
        let mut incarnations = VecDeque::new();
        let mut records = 0;
        for incarnation in archive.incarnations().await? {
            let mut partitions = Vec::new();
            for partition in archive.partitions(incarnation).await? {
                let files = archive.survey(incarnation, partition).await?;
                let here: u64 = files.iter().map(|known| known.file.footer.messages).sum();
                records += here;
                if let Some(filtered) = selection.refuses_place(incarnation, partition) {
                    counts.records += here;
                    counts.skip(filtered, here);
                    continue;
                }
                let selection = Arc::clone(&selection);
                partitions.push(PartitionGroups::new(
                    archive.clone(),
                    selection,
                    partition,
                    files,
                ));
            }
            incarnations.push_back(partitions);
        }
        counts.skipped.retain(|_, records| *records > 0);
        Ok(Self {
            incarnations,
            heads: Vec::new(),
            seen: BTreeMap::new(),
            counts,
            records,
        })
    }

    /// Returns the next group that the selection takes; `None` at the archive's end.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] naming a file whose bytes are not those written.
    pub async fn next(&mut self) -> Result<Option<ArchivedGroup>> {
        while let Some(candidate) = self.next_candidate().await? {
            let parts = candidate.group.heads().count() as u64;
            if let Ok(headers) = &candidate.group.last().headers {
                let seen = self.seen.entry(headers.producer.clone()).or_default();
                if !seen.insert(headers.producer_seq) {
                    self.counts.duplicates += parts;
                    continue;
                }
            }
            match candidate.verdict {
                Some(filtered) => self.counts.skip(filtered, parts),
                None => return Ok(Some(candidate.group)),
            }
        }
        Ok(None)
    }

    async fn next_candidate(&mut self) -> Result<Option<Candidate>> {
        while self.heads.is_empty() {
            let Some(partitions) = self.incarnations.pop_front() else {
                return Ok(None);
            };
            for mut partition_groups in partitions {
                if let Some(candidate) = partition_groups.next(&mut self.counts).await? {
                    self.heads.push((candidate, partition_groups));
                }
            }
        }
        let least = self.heads.iter().enumerate();
        let least = least.min_by_key(|(_, (candidate, _))| candidate.order);
        let Some(at) = least.map(|(at, _)| at) else {
            return Ok(None);
        };
        let taken = match self.heads[at].1.next(&mut self.counts).await? {
            Some(next) => std::mem::replace(&mut self.heads[at].0, next),
            None => self.heads.swap_remove(at).0,
        };
        Ok(Some(taken))
    }

    /// Returns the counts so far. The records of the groups taken are `records` less all other
    /// counts.
    pub fn counts(&self) -> &SelectionCounts {
        &self.counts
    }

    /// Number of records in the whole archive, selected or not.
    pub fn records(&self) -> u64 {
        self.records
    }
}

#[cfg(test)]
mod tests;
