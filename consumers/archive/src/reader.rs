//! Reads an archive back: files, chains of files, messages, heads and groups.

use std::collections::BTreeSet;

use vintage_control::{Incarnation, Offset, Partition, RecordId};
use vintage_store::Store;

use crate::{
    columns::OFFSET,
    error::{Error, Result},
    file::ArchiveFile,
    filter::Filter,
    groups::Groups,
    heads::Heads,
    message::ArchivedMessage,
    messages::{Merged, Messages},
    meta::ArchiveMeta,
    path,
    select::Selection,
    topic_archive::TopicArchive,
};

/// Reader of the archive of one topic, all incarnations. Cheap to clone; clones share caches.
///
/// Files never change, so what was read of one stays true. A sink may add files meanwhile; each
/// call sees those that existed when it began.
#[derive(Clone)]
pub struct Reader {
    pub(crate) archive: TopicArchive,
}

impl Reader {
    /// Creates a reader of `topic` in the archive whose root is `store`, without reading anything.
    pub fn new(store: Store, topic: &str) -> Self {
        Self {
            archive: TopicArchive::new(store, topic),
        }
    }

    /// Returns the topics archived under `store`, sorted.
    pub async fn topics(store: &Store) -> Result<Vec<String>> {
        let paths = store.list(path::ROOT).await?;
        let begun = paths.iter().filter_map(|path| path::topic_begun(path));
        let topics: BTreeSet<_> = begun.map(str::to_owned).collect();
        Ok(topics.into_iter().collect())
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        self.archive.topic()
    }

    /// Returns the archived incarnations of the topic, ascending.
    pub async fn incarnations(&self) -> Result<Vec<Incarnation>> {
        self.archive.incarnations().await
    }

    /// Reads the metadata of an incarnation, `_meta.json`.
    ///
    /// # Errors
    /// [`Error::NoArchive`] if the incarnation is not archived.
    pub async fn meta(&self, incarnation: Incarnation) -> Result<ArchiveMeta> {
        self.archive.meta(incarnation).await
    }

    /// Returns the partitions of an incarnation, ascending: those with files, and those it began
    /// with.
    pub async fn partitions(&self, incarnation: Incarnation) -> Result<Vec<Partition>> {
        self.archive.partitions(incarnation).await
    }

    /// Returns the files of a partition in order, and checks that they follow one another without
    /// gap or overlap.
    ///
    /// # Errors
    /// [`Error::BrokenChain`] naming the two files; [`Error::Corrupt`].
    pub async fn chain(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Vec<ArchiveFile>> {
        let known = self.archive.survey(incarnation, partition).await?;
        Ok(known.into_iter().map(|known| known.file).collect())
    }

    /// Returns the first offset of a partition that is not archived: a reader of the live log takes
    /// over there without gap or overlap.
    pub async fn next_offset(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Offset> {
        match self.chain(incarnation, partition).await?.last() {
            Some(file) => Ok(file.footer.next_offset),
            None => self.first_offset(incarnation, partition).await,
        }
    }

    /// Returns the first offset of a partition that the archive holds, or is to hold.
    pub async fn first_offset(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Offset> {
        let meta = self.meta(incarnation).await?;
        Ok(self
            .archive
            .held(incarnation, partition)
            .await?
            .first(&meta))
    }

    /// Returns the messages of one partition that `filter` wants, by ascending offset.
    pub async fn messages(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        filter: &Filter,
    ) -> Result<Messages> {
        let wanted = filter.wants_partition(partition);
        let chain = if wanted {
            self.chain(incarnation, partition).await?
        } else {
            Vec::new()
        };
        let files = chain
            .into_iter()
            .filter(|file| filter.wants_file(&file.footer));
        Ok(Messages::new(
            self.archive.clone(),
            files.collect(),
            filter.clone(),
        ))
    }

    /// Returns the messages of all incarnations and partitions that `filter` wants. They are sorted
    /// by incarnation, then timestamp, partition and offset, but within a partition always by
    /// offset. The order is the same every time.
    pub async fn merged(&self, filter: &Filter) -> Result<Merged> {
        let mut incarnations = Vec::new();
        for incarnation in self.incarnations().await? {
            let mut partitions = Vec::new();
            for partition in self.partitions(incarnation).await? {
                partitions.push(self.messages(incarnation, partition, filter).await?);
            }
            incarnations.push(partitions);
        }
        Ok(Merged::new(incarnations))
    }

    /// Returns the heads of one partition's messages from offset `from` on: headers and counts,
    /// without the cost of reading the tokens.
    pub async fn heads(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        from: Offset,
    ) -> Result<Heads> {
        let chain = self.chain(incarnation, partition).await?;
        let files = chain
            .into_iter()
            .filter(|file| file.footer.next_offset > from);
        Ok(Heads::new(self.archive.clone(), files.collect(), from))
    }

    /// Returns the base offsets of a partition's files, ascending. Unlike [`Reader::chain`], it
    /// neither opens nor checks them.
    pub async fn bases(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Vec<Offset>> {
        self.archive.bases(incarnation, partition).await
    }

    /// Opens files of a partition at the same time, for calls of [`Reader::file`], [`Reader::heads_in`] and
    /// [`Reader::messages_in`] that follow. Give it up to [`crate::AHEAD`] files before each as many are used. A
    /// file that cannot be opened fails when it is used.
    pub async fn open_ahead(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        bases: &[Offset],
    ) {
        self.archive
            .open_ahead(incarnation, partition, bases.to_vec())
            .await;
    }

    /// Opens one file and checks its footer and indexes, whatever its neighbours are.
    pub async fn file(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        base: Offset,
    ) -> Result<ArchiveFile> {
        Ok(self.archive.known(incarnation, partition, base).await?.file)
    }

    /// Returns the heads of one file.
    pub fn heads_in(&self, file: ArchiveFile) -> Heads {
        let from = file.footer.base_offset;
        Heads::new(self.archive.clone(), [file].into(), from)
    }

    /// Returns the messages of one file, and checks all bytes of its row groups on the way.
    pub fn messages_in(&self, file: ArchiveFile) -> Messages {
        Messages::new(self.archive.clone(), [file].into(), Filter::default())
    }

    /// Returns the whole groups that `selection` takes, of all incarnations and partitions, in the
    /// order of [`Reader::merged`]. The last part of a group decides its position.
    pub async fn groups(&self, selection: &Selection) -> Result<Groups> {
        Groups::open(self.archive.clone(), selection.clone()).await
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`Error::NotArchived`] if no file holds it.
    pub async fn message(&self, record: RecordId) -> Result<ArchivedMessage> {
        let missing = |reason: String| Error::NotArchived {
            topic: self.topic().to_owned(),
            record,
            reason,
        };
        let (incarnation, partition) = (record.incarnation, record.partition);
        let opened = self.archive.holding(record).await?;
        if opened.is_none()
            && let Some(next) = self.pruned(incarnation, partition).await?
            && record.offset < next
        {
            return Err(self.archive.pruned(incarnation, partition, next));
        }
        let opened = opened.ok_or_else(|| missing("no file reaches there".to_owned()))?;
        for group in 0..opened.groups() {
            let found = opened.range(group, OFFSET, OFFSET);
            if found.is_some_and(|(least, most)| !(least..=most).contains(&record.offset.0)) {
                continue;
            }
            let rows = self.archive.group(&opened, group).await?;
            let index = rows.at_or_after(record.offset);
            if index < rows.len() && rows.offset(index) == record.offset {
                return rows.message(index).map_err(|reason| opened.corrupt(reason));
            }
        }
        Err(missing(format!("{} has no record there", opened.file.path)))
    }

    /// Checks every byte of a file.
    pub async fn verify(&self, file: &ArchiveFile) -> Result<()> {
        let footer = &file.footer;
        let opened = self
            .archive
            .open(footer.incarnation, footer.partition, footer.base_offset)
            .await?;
        opened.verify().await
    }
}

#[cfg(test)]
mod tests;
