//! Finds where a sink resumes: after the last good file of each partition, provided that the log is
//! the one which that file was written from.

use std::result;

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::UInt32Type,
};
use bytes::Bytes;
use vintage_control::{Incarnation, Metric, Offset, OffsetRange, Partition};
use vintage_store::{Created, Store};

use crate::{
    columns::{OFFSET, PAYLOAD_CRC, ROW},
    error::{Error, Result},
    file::{FileId, Opened},
    meta::ArchiveMeta,
    path::{self, TopicFolder},
    rowgroup::{column, messages},
};

/// Offset at which archiving a partition resumes, and what has to be checked there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// First offset that no file claims, which names the next file.
    pub(crate) base: Offset,
    /// First offset to read: `base`; or that of the last archived record, which is read once more;
    /// or the log's first.
    pub(crate) read: Offset,
    /// Record that the log must hold at `read`.
    pub(crate) last: Option<Last>,
    /// Offsets that retention deleted before they were archived.
    pub(crate) lost: Option<OffsetRange>,
}

impl Start {
    /// Returns a start at `base`, without a record to compare.
    pub(crate) fn at(base: Offset) -> Self {
        Self {
            base,
            read: base,
            last: None,
            lost: None,
        }
    }
}

/// Last record in a partition's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) offset: Offset,
    /// CRC-32C of the payload; `None` if the record had none.
    pub(crate) crc32c: Option<u32>,
}

impl Last {
    /// Returns the value that [`Last::crc32c`] has for a payload.
    pub(crate) fn crc_of(payload: Option<&Bytes>) -> Option<u32> {
        payload.map(|bytes| crc32c::crc32c(bytes))
    }
}

/// End of the archive of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// First offset that is not archived.
    pub(crate) next: Offset,
    pub(crate) last: Option<Last>,
}

/// Finds the end of the archive of a partition, and moves damaged last files away.
///
/// A file is whole before it has its name, so a bad one is the result of a disk that reported a
/// sync it had not done, or of later damage. A bad last file is moved to `_quarantine/` and its
/// offsets are archived again from the log. A bad file further back is for the reader to report.
pub(crate) async fn end(
    store: &Store,
    topic_folder: &TopicFolder,
    meta: &ArchiveMeta,
    partition: Partition,
) -> Result<End> {
    let mut there = Held::list(store, topic_folder, meta.incarnation, partition).await?;
    while let Some(base) = there.bases.pop() {
        let place = FileId {
            topic_folder,
            incarnation: meta.incarnation,
            partition,
            base,
        };
        match whole(store, place).await {
            Ok(Some(end)) => return Ok(end),
            // Another sink found it damaged too and moved it away.
            Ok(None) => {}
            Err(Error::Corrupt { file, reason }) => {
                let kept = quarantine(store, &place.path()).await?;
                tracing::error!(
                    file,
                    why = reason,
                    kept,
                    "the last file of a partition is damaged: moved away, its records are \
                     archived again from the log"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(End {
        next: there.first(meta),
        last: None,
    })
}

/// Returns the first offset that is not archived according to the footer of the last file, whose
/// rows are not checked.
pub(crate) async fn claimed(
    store: &Store,
    topic_folder: &TopicFolder,
    meta: &ArchiveMeta,
    partition: Partition,
) -> Result<Offset> {
    let there = Held::list(store, topic_folder, meta.incarnation, partition).await?;
    let Some(base) = there.bases.last().copied() else {
        return Ok(there.first(meta));
    };
    let place = FileId {
        topic_folder,
        incarnation: meta.incarnation,
        partition,
        base,
    };
    let last = Opened::open(store, place).await?;
    Ok(last.map_or(base, |last| last.file.footer.next_offset))
}

/// Checks that the log can continue where the archive ends. Records that retention deleted before
/// they were archived are lost; they are skipped only if `accept_gap` is set.
pub(crate) fn start(
    topic: &str,
    (partition, low, high): (Partition, Offset, Offset),
    End { next, last }: End,
    accept_gap: bool,
) -> Result<Start> {
    let mut start = Start::at(next);
    if next > high {
        return Err(Error::Rewound {
            topic: topic.to_owned(),
            partition,
            next,
            high,
        });
    }
    if next < low {
        let lost = low.0 - next.0;
        if !accept_gap {
            return Err(Error::Expired {
                topic: topic.to_owned(),
                partition,
                next,
                low,
                lost,
            });
        }
        tracing::warn!(
            topic,
            partition = partition.0,
            from = next.0,
            to = low.0,
            lost,
            "records were deleted by retention unarchived: the gap is accepted, and noted in the \
             footer of the next file"
        );
        metrics::counter!(Metric::RECORDS_LOST.name, "reason" => "retention")
            .increment(lost.unsigned_abs());
        start.read = low;
        start.lost = Some(OffsetRange {
            first: next,
            next: low,
        });
    } else if let Some(last) = last {
        if last.offset >= low {
            start.read = last.offset;
            start.last = Some(last);
        } else {
            tracing::info!(
                topic,
                partition = partition.0,
                "the last archived record has expired: that this is the log it came from cannot \
                 be seen"
            );
        }
    }
    Ok(start)
}

/// Files of a partition that the archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    partition: Partition,
    /// Base offsets, ascending. A file before the mark counts as deleted, whether it still exists or
    /// not.
    pub(crate) bases: Vec<Offset>,
    /// Offset at which the archive begins since its first files were pruned; `None` if none were.
    pub(crate) pruned: Option<Offset>,
}

impl Held {
    /// Lists the folder of a partition.
    pub(crate) async fn list(
        store: &Store,
        topic_folder: &TopicFolder,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Self> {
        let folder = topic_folder.partition(incarnation, partition);
        let files = store.list(&folder).await?;
        let marks = files
            .iter()
            .filter_map(|file| topic_folder.parse_mark(incarnation, file));
        let pruned = marks.map(|(_, next)| next).max();
        let bases = files
            .iter()
            .filter_map(|file| topic_folder.parse(incarnation, file));
        let bases = bases.map(|(_, base)| base);
        Ok(Self {
            partition,
            bases: bases.filter(|base| Some(*base) >= pruned).collect(),
            pruned,
        })
    }

    /// Returns the first offset that the archive holds, or is to hold.
    pub(crate) fn first(&self, meta: &ArchiveMeta) -> Offset {
        let begun = meta.start(self.partition);
        self.pruned.map_or(begun, |pruned| pruned.max(begun))
    }
}

async fn whole(store: &Store, place: FileId<'_>) -> Result<Option<End>> {
    let Some(opened) = Opened::open(store, place).await? else {
        return Ok(None);
    };
    opened.verify().await?;
    Ok(Some(End {
        next: opened.file.footer.next_offset,
        last: last_record(&opened).await?,
    }))
}

async fn last_record(file: &Opened) -> Result<Option<Last>> {
    const COLUMNS: &[&str] = &[OFFSET, ROW, PAYLOAD_CRC];
    let Some(group) = file.groups().checked_sub(1) else {
        return Ok(None);
    };
    let bytes = file.load_columns(group, COLUMNS).await?;
    let batch = file.decode(group, bytes, Some(COLUMNS)).await?;
    last_of(&batch).map_err(|reason| file.corrupt(reason))
}

fn last_of(batch: &RecordBatch) -> result::Result<Option<Last>, String> {
    let (offsets, rows) = (column(batch, OFFSET)?, column(batch, ROW)?);
    let found = messages(offsets.as_primitive(), rows.as_primitive())?;
    let crcs = column(batch, PAYLOAD_CRC)?;
    let crcs = crcs.as_primitive::<UInt32Type>();
    Ok(found.last().map(|(offset, rows)| Last {
        offset: *offset,
        crc32c: crcs.is_valid(rows.start).then(|| crcs.value(rows.start)),
    }))
}

async fn quarantine(store: &Store, path: &str) -> Result<String> {
    let Some(damaged) = store.get(path).await? else {
        return Ok("another sink".to_owned());
    };
    for attempt in 1.. {
        let kept = path::quarantine(path, attempt);
        if store.create(&kept, damaged.clone()).await? == Created::New {
            // Unless another sink has moved it and written it anew in between.
            if store.get(path).await?.as_ref() == Some(&damaged) {
                store.delete(path).await?;
            }
            return Ok(kept);
        }
    }
    unreachable!("attempts are not numbered out")
}
