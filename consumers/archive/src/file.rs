//! One archive file: its footer and seal are checked when it is opened, its row groups are read on
//! demand.

use std::{collections::BTreeMap, fmt::Display, ops::Range, sync::Arc};

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::file::{
    metadata::{ParquetMetaData, RowGroupMetaData},
    statistics::Statistics,
};
use vintage_control::{ArchiveFooter, Incarnation, Offset, Partition};
use vintage_store::Store;

use crate::{
    error::{Error, Result},
    footer::{self, FooterFault, SCHEMA_KEY, chunk, end_of, key_value},
    path::TopicFolder,
    seal::{Seal, TAIL, footer_len},
    window::Loaded,
};

/// Number of bytes read first from the end of a file, 64 KiB; they hold footer and seal of all but
/// unusually large files.
const TAIL_READ: u64 = 64 << 10;
/// Number of bytes that the seal of 1000 row groups fits in, 4 KiB.
const SEAL_ROOM: u64 = 4 << 10;

/// A committed file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Path under the archive's root.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Footer: offsets, counts and ranges that the file records about its rows.
    pub footer: ArchiveFooter,
}

/// An archive file with its metadata read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) file: ArchiveFile,
    store: Store,
    metadata: Arc<ParquetMetaData>,
    /// Checksums of the file's bytes; `None` if another program rewrote the file.
    seal: Option<Arc<Seal>>,
    /// All bytes of the file, if it is so small that the first read covered it.
    whole: Option<Bytes>,
}

/// Position of a file in the archive, as its path states it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileId<'a> {
    pub(crate) topic_folder: &'a TopicFolder,
    pub(crate) incarnation: Incarnation,
    pub(crate) partition: Partition,
    pub(crate) base: Offset,
}

impl FileId<'_> {
    pub(crate) fn path(&self) -> String {
        self.topic_folder
            .data(self.incarnation, self.partition, self.base)
    }

    /// Checks that a file's footer agrees with its path.
    fn check(&self, footer: &ArchiveFooter) -> std::result::Result<(), String> {
        let says = (
            footer.topic.as_str(),
            footer.incarnation,
            footer.partition,
            footer.base_offset,
        );
        let named = self.topic_folder.topic();
        if says == (named, self.incarnation, self.partition, self.base) {
            return Ok(());
        }
        let (topic, incarnation, partition, base) = says;
        Err(format!(
            "by its footer it is {topic} incarnation {incarnation} partition {partition} from \
             offset {base} on"
        ))
    }
}

impl Opened {
    /// Opens a file: reads and checks its footer, indexes and seal. Returns `None` if the file does
    /// not exist.
    pub(crate) async fn open(store: &Store, place: FileId<'_>) -> Result<Option<Self>> {
        let path = place.path();
        let Some((mut tail, bytes)) = store.get_tail(&path, TAIL_READ).await? else {
            return Ok(None);
        };
        let corrupt = |reason: String| Error::Corrupt {
            file: name(store, &path),
            reason,
        };
        if bytes < TAIL as u64 {
            return Err(corrupt(format!("it has only {bytes} bytes")));
        }
        let mut start = bytes.saturating_sub(TAIL_READ);
        let end = tail.len() - TAIL;
        let footer = footer_len(&tail[end..]).map_err(corrupt)? as u64 + TAIL as u64;
        if footer > bytes {
            return Err(corrupt("its footer is longer than the file".to_owned()));
        }
        if footer + SEAL_ROOM > TAIL_READ && start > 0 {
            start = bytes.saturating_sub(footer + SEAL_ROOM);
            tail = store.get_range(&path, start..bytes).await?;
        }
        let (before, footer_bytes) = tail.split_at(tail.len() - footer as usize);
        let (metadata, seal, footer) =
            footer::parse(before, footer_bytes).map_err(|fault| match fault {
                FooterFault::Damaged(reason) => corrupt(reason),
                FooterFault::NotUnderstood(reason) => Error::NotUnderstood {
                    file: name(store, &path),
                    reason,
                },
            })?;
        place.check(&footer).map_err(corrupt)?;
        let before_len = before.len() as u64;
        let opened = Self {
            file: ArchiveFile {
                path,
                bytes,
                footer,
            },
            store: store.clone(),
            metadata: Arc::new(metadata),
            seal: seal.map(Arc::new),
            whole: (start == 0).then(|| tail.clone()),
        };
        opened.check_indexes(start + before_len).await?;
        Ok(Some(opened))
    }

    /// Number of row groups that [`Opened::read`] can read.
    pub(crate) fn groups(&self) -> usize {
        // Another program may have split messages across row groups; such a file is read whole.
        if self.seal.is_some() {
            self.metadata.num_row_groups()
        } else {
            1
        }
    }

    /// Name of the trajectory schema that the file's rows have.
    pub(crate) fn schema_name(&self) -> Option<&str> {
        key_value(&self.metadata, SCHEMA_KEY)
    }

    /// Returns the smallest and largest value of an integer column in row group `group`, from the
    /// file's statistics. The column is the leaf below `root` whose name is `last`. Returns `None`
    /// if the file has no statistics of it.
    pub(crate) fn range(&self, group: usize, root: &str, last: &str) -> Option<(i64, i64)> {
        match self.statistics(group, root, last)? {
            Statistics::Int64(stats) => Some((*stats.min_opt()?, *stats.max_opt()?)),
            _ => None,
        }
    }

    /// Returns the smallest and largest value of the f32 column `root` in row group `group`, from
    /// the file's statistics; `None` if the file has none.
    pub(crate) fn float_range(&self, group: usize, root: &str) -> Option<(f32, f32)> {
        match self.statistics(group, root, root)? {
            Statistics::Float(stats) => Some((*stats.min_opt()?, *stats.max_opt()?)),
            _ => None,
        }
    }

    fn statistics(&self, group: usize, root: &str, last: &str) -> Option<&Statistics> {
        self.seal.as_ref()?;
        let columns = self.metadata.row_group(group).columns();
        let column = columns.iter().find(|column| {
            let parts = column.column_path().parts();
            parts.first().is_some_and(|part| part == root)
                && parts.last().is_some_and(|part| part == last)
        })?;
        column.statistics()
    }

    /// Reads, checks and decodes all columns of row group `group`.
    pub(crate) async fn read(&self, group: usize) -> Result<RecordBatch> {
        let bytes = self.load(group).await?;
        self.decode(group, bytes, None).await
    }

    /// Reads the bytes of row group `group` and checks them.
    pub(crate) async fn load(&self, group: usize) -> Result<Loaded> {
        let Some(seal) = &self.seal else {
            let bytes = self.fetch(0..self.file.bytes).await?;
            return Ok(Loaded(vec![(0, bytes)]));
        };
        let range = self.segment(group);
        let bytes = self.fetch(range.clone()).await?;
        seal.check_segment(group, &bytes)
            .map_err(|reason| self.corrupt(reason))?;
        Ok(Loaded(vec![(range.start, bytes)]))
    }

    /// Reads the bytes of columns `roots` of row group `group`. They are not checked, because the
    /// seal covers whole row groups: use them for counting, not for training.
    pub(crate) async fn load_columns(&self, group: usize, roots: &[&str]) -> Result<Loaded> {
        if self.seal.is_none() || self.whole.is_some() {
            return self.load(group).await;
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for column in self.metadata.row_group(group).columns() {
            let root = column.column_path().parts().first();
            if !root.is_some_and(|root| roots.contains(&root.as_str())) {
                continue;
            }
            let range = chunk(column);
            match ranges.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(TAIL_READ) => {
                    last.end = last.end.max(range.end);
                }
                _ => ranges.push(range),
            }
        }
        let mut pieces = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.start > range.end || range.end > self.file.bytes {
                return Err(self.corrupt("a column is outside of it"));
            }
            pieces.push((range.start, self.fetch(range.clone()).await?));
        }
        Ok(Loaded(pieces))
    }

    /// Decodes loaded bytes of row group `group`: all columns, or those of `roots`.
    pub(crate) async fn decode(
        &self,
        group: usize,
        bytes: Loaded,
        roots: Option<&'static [&'static str]>,
    ) -> Result<RecordBatch> {
        let groups = if self.seal.is_some() {
            vec![group]
        } else {
            all(&self.metadata)
        };
        let metadata = Arc::clone(&self.metadata);
        let length = self.file.bytes;
        let decode = move || bytes.decode(length, metadata, groups, roots);
        match tokio::task::spawn_blocking(decode).await {
            Ok(batch) => batch.map_err(|error| self.corrupt(error)),
            Err(panic) => Err(self.corrupt(format!("the Parquet reader panicked: {panic}"))),
        }
    }

    /// Checks every byte of the row groups against the seal. A file that another program rewrote
    /// has no seal; it is decoded instead.
    pub(crate) async fn verify(&self) -> Result<()> {
        let Some(seal) = &self.seal else {
            return self.read(0).await.map(drop);
        };
        for group in 0..self.groups() {
            let bytes = self.fetch(self.segment(group)).await?;
            seal.check_segment(group, &bytes)
                .map_err(|reason| self.corrupt(reason))?;
        }
        Ok(())
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        match &self.whole {
            Some(bytes) if range.start <= range.end && range.end <= bytes.len() as u64 => {
                Ok(bytes.slice(range.start as usize..range.end as usize))
            }
            _ => Ok(self.store.get_range(&self.file.path, range).await?),
        }
    }

    pub(crate) fn corrupt(&self, reason: impl Display) -> Error {
        Error::Corrupt {
            file: name(&self.store, &self.file.path),
            reason: reason.to_string(),
        }
    }

    /// Checks the page indexes, which are between the last row group and the seal; the seal ends at
    /// offset `sealed`.
    async fn check_indexes(&self, sealed: u64) -> Result<()> {
        let Some(seal) = &self.seal else {
            return Ok(());
        };
        let groups = self.metadata.num_row_groups();
        if seal.segments.len() != groups + 1 {
            return Err(self.corrupt("its seal is of another number of row groups"));
        }
        let end = sealed - Seal::len(groups) as u64;
        for group in 0..groups {
            if self.segment(group).start > self.segment(group).end || self.segment(group).end > end
            {
                return Err(self.corrupt("its row groups do not follow one another"));
            }
        }
        let start = groups
            .checked_sub(1)
            .map_or(0, |last| self.segment(last).end);
        let bytes = if start == end {
            Bytes::new()
        } else {
            self.fetch(start..end).await?
        };
        seal.check_segment(groups, &bytes)
            .map_err(|reason| self.corrupt(reason))
    }

    fn segment(&self, group: usize) -> Range<u64> {
        let end = |group| end_of(self.metadata.row_group(group)) as u64;
        group.checked_sub(1).map_or(0, end)..end(group)
    }
}

/// Returns the compressed bytes of each column of a file, by the name of the root column.
pub async fn column_bytes(store: &Store, file: &ArchiveFile) -> Result<BTreeMap<String, u64>> {
    let footer = &file.footer;
    let place = FileId {
        topic_folder: &TopicFolder::of_file(&file.path, &footer.topic),
        incarnation: footer.incarnation,
        partition: footer.partition,
        base: footer.base_offset,
    };
    let gone = || Error::Corrupt {
        file: name(store, &file.path),
        reason: "it was listed and is gone".to_owned(),
    };
    let opened = Opened::open(store, place).await?.ok_or_else(gone)?;
    let mut bytes = BTreeMap::new();
    for column in opened
        .metadata
        .row_groups()
        .iter()
        .flat_map(RowGroupMetaData::columns)
    {
        let root = column.column_path().parts().first().cloned();
        let range = chunk(column);
        *bytes.entry(root.unwrap_or_default()).or_default() += range.end - range.start;
    }
    Ok(bytes)
}

fn all(metadata: &ParquetMetaData) -> Vec<usize> {
    (0..metadata.num_row_groups()).collect()
}

fn name(store: &Store, path: &str) -> String {
    store
        .local_path(path)
        .map_or_else(|| path.to_owned(), |file| file.display().to_string())
}
