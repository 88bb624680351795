//! The archive of one topic: its folder, its files, and what is kept of them once they were read.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use tokio::sync::OnceCell;
use vintage_control::{Incarnation, Offset, Partition, RecordId};
use vintage_store::Store;

use crate::{
    ahead::{AHEAD, OpenedLast},
    bounds::Bounds,
    cache::Cache,
    error::{Error, Result},
    file::{ArchiveFile, FileId, Opened},
    meta::ArchiveMeta,
    path::TopicFolder,
    recover::Held,
    rowgroup::RowGroup,
};

/// Archive of one topic, all incarnations. Cheap to clone; clones share caches.
///
/// Files never change, so what was read of one stays true. A sink may add files meanwhile; each
/// call sees those that existed when it began.
#[derive(Clone)]
pub(crate) struct TopicArchive {
    shared: Arc<Shared>,
}

type Bases = Arc<Vec<Offset>>;

struct Shared {
    store: Store,
    topic: String,
    topic_folder: OnceCell<TopicFolder>,
    /// Files opened before, by path.
    files: Mutex<HashMap<String, Known>>,
    /// Base offsets of partitions of which a single record was read.
    bases: Mutex<HashMap<(Incarnation, Partition), Bases>>,
    /// File in which a single record was last found, by partition.
    opened: Mutex<HashMap<(Incarnation, Partition), Opened>>,
    /// Files opened last.
    last: Mutex<OpenedLast>,
    groups: Mutex<Cache>,
}

/// Facts about a file that are kept once it was opened.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) file: ArchiveFile,
    /// Bounds of each of the file's row groups.
    pub(crate) bounds: Arc<[Bounds]>,
}

impl TopicArchive {
    /// Creates the archive of `topic` in `store`, without reading anything.
    pub(crate) fn new(store: Store, topic: &str) -> Self {
        let shared = Shared {
            store,
            topic: topic.to_owned(),
            topic_folder: OnceCell::new(),
            files: Mutex::default(),
            bases: Mutex::default(),
            opened: Mutex::default(),
            last: Mutex::default(),
            groups: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Name of the topic.
    pub(crate) fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// Returns the archived incarnations of the topic, ascending.
    pub(crate) async fn incarnations(&self) -> Result<Vec<Incarnation>> {
        let topic_folder = self.topic_folder().await?;
        let paths = self.shared.store.list(&topic_folder.path()).await?;
        let found: BTreeSet<_> = topic_folder.incarnations(&paths).into_iter().collect();
        Ok(found.into_iter().collect())
    }

    /// Reads the metadata of an incarnation.
    pub(crate) async fn meta(&self, incarnation: Incarnation) -> Result<ArchiveMeta> {
        ArchiveMeta::read(&self.shared.store, self.topic_folder().await?, incarnation).await
    }

    /// Finds the folder of the topic's files. If there is none yet, it is the one that a new
    /// archive will have.
    pub(crate) async fn topic_folder(&self) -> Result<&TopicFolder> {
        let find = || TopicFolder::find(&self.shared.store, self.topic());
        self.shared.topic_folder.get_or_try_init(find).await
    }

    /// Returns the partitions of an incarnation, ascending: those with files, and those it began
    /// with.
    pub(crate) async fn partitions(&self, incarnation: Incarnation) -> Result<Vec<Partition>> {
        let meta = self.meta(incarnation).await?;
        let topic_folder = self.topic_folder().await?;
        let paths = self
            .shared
            .store
            .list(&topic_folder.incarnation(incarnation))
            .await?;
        let filled = paths
            .iter()
            .filter_map(|path| topic_folder.parse(incarnation, path))
            .map(|(partition, _)| partition);
        let all: BTreeSet<_> = filled.chain(meta.starts.keys().copied()).collect();
        Ok(all.into_iter().collect())
    }

    /// Returns the base offsets of a partition's files, ascending, without opening them.
    pub(crate) async fn bases(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Vec<Offset>> {
        Ok(self.held(incarnation, partition).await?.bases)
    }

    /// Lists what the archive holds of a partition, without opening its files.
    pub(crate) async fn held(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Held> {
        let topic_folder = self.topic_folder().await?;
        Held::list(&self.shared.store, topic_folder, incarnation, partition).await
    }

    /// Store that holds the archive.
    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Returns the files of a partition in order, with the bounds of their row groups, and checks
    /// that they follow one another without gap or overlap.
    pub(crate) async fn survey(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Vec<Known>> {
        let meta = self.meta(incarnation).await?;
        let topic_folder = self.topic_folder().await?;
        let there = self.held(incarnation, partition).await?;
        let mut before = match there.pruned {
            Some(next) => topic_folder.mark(incarnation, partition, next),
            None => topic_folder.meta(incarnation),
        };
        let mut ends = there.first(&meta);
        let mut files = Vec::new();
        let bases = stream::iter(there.bases);
        let mut opening = bases
            .map(|base| self.known(incarnation, partition, base))
            .buffered(AHEAD);
        while let Some(known) = opening.try_next().await? {
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

    /// Finds the file whose range of offsets contains the record.
    pub(crate) async fn holding(&self, record: RecordId) -> Result<Option<Opened>> {
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
            bases = Arc::new(self.bases(incarnation, partition).await?);
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

    /// Returns what is known of a file; opens it if it was not opened before.
    pub(crate) async fn known(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        base: Offset,
    ) -> Result<Known> {
        let path = self
            .topic_folder()
            .await?
            .data(incarnation, partition, base);
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

    /// Opens files of a partition at the same time, for calls that follow: [`AHEAD`] at most are kept for
    /// long enough. One that cannot be opened is left to the call that needs it.
    pub(crate) async fn open_ahead(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        bases: Vec<Offset>,
    ) {
        let opening = bases
            .into_iter()
            .map(|base| self.open(incarnation, partition, base));
        let _those_that_need_them_try_again = join_all(opening).await;
    }

    /// Opens a file that was listed, unless it is one of those opened last.
    pub(crate) async fn open(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        base: Offset,
    ) -> Result<Opened> {
        let place = FileId {
            topic_folder: self.topic_folder().await?,
            incarnation,
            partition,
            base,
        };
        if let Some(opened) = lock(&self.shared.last).get(&place.path()) {
            return Ok(opened.clone());
        }
        if let Some(opened) = Opened::open(&self.shared.store, place).await? {
            lock(&self.shared.last).put(opened.clone());
            return Ok(opened);
        }
        let pruned = self.held(incarnation, partition).await?.pruned;
        Err(match pruned.filter(|next| base < *next) {
            Some(next) => self.pruned(incarnation, partition, next),
            None => Error::Corrupt {
                file: place.path(),
                reason: "it was listed and is not there any more".to_owned(),
            },
        })
    }

    /// Returns the error for records that were pruned.
    pub(crate) fn pruned(
        &self,
        incarnation: Incarnation,
        partition: Partition,
        next: Offset,
    ) -> Error {
        Error::Pruned {
            topic: self.topic().to_owned(),
            incarnation,
            partition,
            next,
        }
    }

    /// Takes the first of `files` and opens it; returns the file and the row groups to read of it.
    pub(crate) async fn open_next(
        &self,
        files: &mut VecDeque<ArchiveFile>,
    ) -> Result<Option<(Opened, VecDeque<usize>)>> {
        let Some(ArchiveFile { footer, path, .. }) = files.pop_front() else {
            return Ok(None);
        };
        if lock(&self.shared.last).get(&path).is_none() {
            let following = files.iter().map(|file| file.footer.base_offset);
            let next = [footer.base_offset].into_iter().chain(following);
            let next = next.take(AHEAD).collect();
            self.open_ahead(footer.incarnation, footer.partition, next)
                .await;
        }
        let opened = self
            .open(footer.incarnation, footer.partition, footer.base_offset)
            .await?;
        let groups = (0..opened.groups()).collect();
        Ok(Some((opened, groups)))
    }

    /// Returns a row group, from the cache or the store.
    pub(crate) async fn group(&self, file: &Opened, group: usize) -> Result<Arc<RowGroup>> {
        if let Some(rows) = lock(&self.shared.groups).get(&file.file.path, group) {
            return Ok(rows);
        }
        let rows = Arc::new(RowGroup::read(file, group).await?);
        lock(&self.shared.groups).put(&file.file.path, group, Arc::clone(&rows));
        Ok(rows)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
