//! Reads an archive back: files, chains of files, messages, heads and groups.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OnceCell;
use vintage_control::{Incarnation, Offset, Partition, RecordId};
use vintage_store::Store;

use crate::{
    cache::Cache,
    error::{Error, Result},
    file::{ArchiveFile, FileId, Opened},
    filter::Filter,
    groups::Groups,
    head::Heads,
    message::ArchivedMessage,
    messages::{Merged, Messages},
    meta::ArchiveMeta,
    path::{self, TopicFolder},
    recover,
    rowgroup::RowGroup,
    select::{Bounds, Selection},
};

/// Reader of the archive of one topic, all incarnations. Cheap to clone; clones share caches.
///
/// Files never change, so what was read of one stays true. A sink may add files meanwhile; each
/// call sees those that existed when it began.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

type Bases = Arc<Vec<Offset>>;

struct Shared {
    store: Store,
    topic: String,
    home: OnceCell<TopicFolder>,
    /// Files opened before, by path.
    files: Mutex<HashMap<String, Known>>,
    /// Base offsets of partitions of which a single record was read.
    bases: Mutex<HashMap<(Incarnation, Partition), Bases>>,
    /// File in which a single record was last found, by partition.
    opened: Mutex<HashMap<(Incarnation, Partition), Opened>>,
    groups: Mutex<Cache>,
}

/// Facts about a file that are kept once it was opened.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) file: ArchiveFile,
    /// Bounds of each of the file's row groups.
    pub(crate) bounds: Arc<[Bounds]>,
}

impl Reader {
    /// Creates a reader of `topic` in the archive whose root is `store`, without reading anything.
    pub fn new(store: Store, topic: &str) -> Self {
        let shared = Shared {
            store,
            topic: topic.to_owned(),
            home: OnceCell::new(),
            files: Mutex::default(),
            bases: Mutex::default(),
            opened: Mutex::default(),
            groups: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
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
        &self.shared.topic
    }

    /// Returns the archived incarnations of the topic, ascending.
    pub async fn incarnations(&self) -> Result<Vec<Incarnation>> {
        let home = self.home().await?;
        let paths = self.shared.store.list(&home.folder()).await?;
        let lives: BTreeSet<_> = home.lives(&paths).into_iter().collect();
        Ok(lives.into_iter().collect())
    }

    /// Reads the metadata of an incarnation, `_meta.json`.
    ///
    /// # Errors
    /// [`Error::NoArchive`] if the incarnation is not archived.
    pub async fn meta(&self, incarnation: Incarnation) -> Result<ArchiveMeta> {
        ArchiveMeta::read(&self.shared.store, self.home().await?, incarnation).await
    }

    /// Finds the folder of the topic's files. If there is none yet, it is the one that a new
    /// archive will have.
    async fn home(&self) -> Result<&TopicFolder> {
        let find = || TopicFolder::find(&self.shared.store, self.topic());
        self.shared.home.get_or_try_init(find).await
    }

    /// Returns the partitions of an incarnation, ascending: those with files, and those it began
    /// with.
    pub async fn partitions(&self, incarnation: Incarnation) -> Result<Vec<Partition>> {
        let meta = self.meta(incarnation).await?;
        let home = self.home().await?;
        let paths = self.shared.store.list(&home.life(incarnation)).await?;
        let filled = paths
            .iter()
            .filter_map(|path| home.parse(incarnation, path))
            .map(|(partition, _)| partition);
        let all: BTreeSet<_> = filled.chain(meta.starts.keys().copied()).collect();
        Ok(all.into_iter().collect())
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
        let known = self.survey(incarnation, partition).await?;
        Ok(known.into_iter().map(|known| known.file).collect())
    }

    /// Returns the files of a partition like [`Reader::chain`], with the bounds of their row
    /// groups.
    pub(crate) async fn survey(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Vec<Known>> {
        let meta = self.meta(incarnation).await?;
        let home = self.home().await?;
        let mut before = home.meta(incarnation);
        let mut ends = meta.start(partition);
        let store = &self.shared.store;
        let mut files = Vec::new();
        for base in recover::bases(store, home, incarnation, partition).await? {
            let known = self.known(incarnation, partition, base).await?;
            let starts = known.file.footer.base_offset;
            if starts != ends {
                let kind = if starts > ends { "gap" } else { "overlap" };
                let after = known.file.path;
                return Err(Error::BrokenChain {
                    kind,
                    partition,
                    before,
                    ends,
                    after,
                    starts,
                });
            }
            let file = &known.file;
            (before, ends) = (file.path.clone(), file.footer.next_offset);
            files.push(known);
        }
        Ok(files)
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
            None => Ok(self.meta(incarnation).await?.start(partition)),
        }
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
        Ok(Messages::new(self.clone(), files.collect(), filter.clone()))
    }

    /// Returns the messages of all incarnations and partitions that `filter` wants. They are sorted
    /// by incarnation, then timestamp, partition and offset, but within a partition always by
    /// offset. The order is the same every time.
    pub async fn merged(&self, filter: &Filter) -> Result<Merged> {
        let mut lives = Vec::new();
        for incarnation in self.incarnations().await? {
            let mut partitions = Vec::new();
            for partition in self.partitions(incarnation).await? {
                partitions.push(self.messages(incarnation, partition, filter).await?);
            }
            lives.push(partitions);
        }
        Ok(Merged::new(lives))
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
        Ok(Heads::new(self.clone(), files.collect(), from))
    }

    /// Returns the base offsets of a partition's files, ascending. Unlike [`Reader::chain`], it
    /// neither opens nor checks them.
    pub async fn bases(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Vec<Offset>> {
        recover::bases(
            &self.shared.store,
            self.home().await?,
            incarnation,
            partition,
        )
        .await
    }

    /// Opens one file and checks its footer and indexes, whatever its neighbours are.
    pub async fn file(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        base: Offset,
    ) -> Result<ArchiveFile> {
        Ok(self.known(incarnation, partition, base).await?.file)
    }

    /// Returns the heads of one file.
    pub fn heads_in(&self, file: ArchiveFile) -> Heads {
        let from = file.footer.base_offset;
        Heads::new(self.clone(), [file].into(), from)
    }

    /// Returns the messages of one file, and checks all bytes of its row groups on the way.
    pub fn messages_in(&self, file: ArchiveFile) -> Messages {
        Messages::new(self.clone(), [file].into(), Filter::default())
    }

    /// Returns the whole groups that `selection` takes, of all incarnations and partitions, in the
    /// order of [`Reader::merged`]. The last part of a group decides its position.
    pub async fn groups(&self, selection: &Selection) -> Result<Groups> {
        Groups::open(self.clone(), selection.clone()).await
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`Error::NotArchived`] if no file holds it.
    pub async fn message(&self, record: RecordId) -> Result<ArchivedMessage> {
        let missing = |why: String| Error::NotArchived {
            topic: self.topic().to_owned(),
            record,
            why,
        };
        let opened = self.holding(record).await?;
        let opened = opened.ok_or_else(|| missing("no file reaches there".to_owned()))?;
        for group in 0..opened.groups() {
            let found = opened.range(group, crate::columns::OFFSET, crate::columns::OFFSET);
            if found.is_some_and(|(least, most)| !(least..=most).contains(&record.offset.0)) {
                continue;
            }
            let rows = self.group(&opened, group).await?;
            let index = rows.at_or_after(record.offset);
            if index < rows.len() && rows.offset(index) == record.offset {
                return rows.message(index).map_err(|why| opened.corrupt(why));
            }
        }
        Err(missing(format!("{} has no record there", opened.file.path)))
    }

    /// Checks every byte of a file.
    pub async fn verify(&self, file: &ArchiveFile) -> Result<()> {
        let footer = &file.footer;
        let opened = self
            .open(footer.incarnation, footer.partition, footer.base_offset)
            .await?;
        opened.verify().await
    }

    /// Finds the file whose range of offsets contains the record.
    async fn holding(&self, record: RecordId) -> Result<Option<Opened>> {
        let RecordId {
            incarnation,
            partition,
            offset,
        } = record;
        let key = (incarnation, partition);
        let holds = |file: &Opened| {
            (file.file.footer.base_offset..file.file.footer.next_offset).contains(&offset)
        };
        if let Some(file) = lock(&self.shared.opened)
            .get(&key)
            .filter(|file| holds(file))
        {
            return Ok(Some(file.clone()));
        }
        let known = lock(&self.shared.bases).get(&key).cloned();
        let mut bases = known.unwrap_or_default();
        // A sink may have added files since the last listing.
        if bases.last().is_none_or(|last| *last <= offset) {
            let home = self.home().await?;
            let listed = recover::bases(&self.shared.store, home, incarnation, partition).await?;
            bases = Arc::new(listed);
            lock(&self.shared.bases).insert(key, Arc::clone(&bases));
        }
        let after = bases.partition_point(|base| *base <= offset);
        let Some(base) = after.checked_sub(1).map(|at| bases[at]) else {
            return Ok(None);
        };
        let opened = self.open(incarnation, partition, base).await?;
        if !holds(&opened) {
            return Ok(None);
        }
        lock(&self.shared.opened).insert(key, opened.clone());
        Ok(Some(opened))
    }

    async fn known(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        base: Offset,
    ) -> Result<Known> {
        let path = self.home().await?.data(incarnation, partition, base);
        if let Some(known) = lock(&self.shared.files).get(&path) {
            return Ok(known.clone());
        }
        let opened = self.open(incarnation, partition, base).await?;
        let bounds = (0..opened.groups()).map(|group| Bounds::of(&opened, group));
        let known = Known {
            bounds: bounds.collect(),
            file: opened.file,
        };
        lock(&self.shared.files).insert(path, known.clone());
        Ok(known)
    }

    pub(crate) async fn open(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        base: Offset,
    ) -> Result<Opened> {
        let place = FileId {
            home: self.home().await?,
            incarnation,
            partition,
            base,
        };
        let opened = Opened::open(&self.shared.store, place).await?;
        opened.ok_or_else(|| Error::Corrupt {
            file: place.path(),
            why: "it was listed and is not there any more".to_owned(),
        })
    }

    /// Takes the first of `files` and opens it; returns the file and the row groups to read of it.
    pub(crate) async fn open_next(
        &self,
        files: &mut VecDeque<ArchiveFile>,
    ) -> Result<Option<(Opened, VecDeque<usize>)>> {
        let Some(ArchiveFile { footer, .. }) = files.pop_front() else {
            return Ok(None);
        };
        let opened = self
            .open(footer.incarnation, footer.partition, footer.base_offset)
            .await?;
        let groups = (0..opened.groups()).collect();
        Ok(Some((opened, groups)))
    }

    /// Returns a row group, from the cache or the store.
    async fn group(&self, file: &Opened, group: usize) -> Result<Arc<RowGroup>> {
        if let Some(rows) = lock(&self.shared.groups).get(&file.file.path, group) {
            return Ok(rows);
        }
        let rows = Arc::new(read(file, group).await?);
        lock(&self.shared.groups).put(&file.file.path, group, Arc::clone(&rows));
        Ok(rows)
    }
}

/// Reads a row group and splits it into messages.
pub(crate) async fn read(file: &Opened, group: usize) -> Result<RowGroup> {
    let batch = file.read(group).await?;
    let footer = &file.file.footer;
    let rows = RowGroup::of(
        &batch,
        footer.incarnation,
        footer.partition,
        file.schema_name(),
    );
    rows.map_err(|why| file.corrupt(why))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
