//! Where a sink goes on: after the last good file of each partition, on the log that file is of.

use std::result;

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::UInt32Type,
};
use bytes::Bytes;
use vintage_control::{Incarnation, Metric, Offset, OffsetRange, Partition};
use vintage_store::{Created, Store};

use crate::{
    Error, Result,
    columns::{OFFSET, PAYLOAD_CRC, ROW},
    file::{Opened, Place},
    meta::ArchiveMeta,
    path::{self, Home},
    rowgroup::{column, messages},
};

/// Where and how a partition goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The first offset that no file claims: the next file's name.
    pub(crate) base: Offset,
    /// The first to read: `base`, or the last archived record once more, or the log's first.
    pub(crate) read: Offset,
    /// What the log must hold at `read`.
    pub(crate) last: Option<Last>,
    /// What retention deleted before it was archived.
    pub(crate) lost: Option<OffsetRange>,
}

impl Start {
    /// On a log of which nothing is known.
    pub(crate) fn at(base: Offset) -> Self {
        Self {
            base,
            read: base,
            last: None,
            lost: None,
        }
    }
}

/// The last record that a partition's archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) offset: Offset,
    /// CRC-32C of its payload; `None` if it had none.
    pub(crate) crc32c: Option<u32>,
}

impl Last {
    /// What [`Last::crc32c`] would be of a payload.
    pub(crate) fn crc_of(payload: Option<&Bytes>) -> Option<u32> {
        payload.map(|bytes| crc32c::crc32c(bytes))
    }
}

/// What the archive of a partition ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The first offset that is not archived.
    pub(crate) next: Offset,
    pub(crate) last: Option<Last>,
}

/// Where the archive of a partition ends.
///
/// A file is whole before it has its name, so only a disk that lied about a sync, or later
/// damage, leaves a bad one. Such a last file is moved to `_quarantine/` and its offsets are
/// archived again from the log; a bad file further back is the reader's to report.
pub(crate) async fn end(
    store: &Store,
    home: &Home,
    meta: &ArchiveMeta,
    partition: Partition,
) -> Result<End> {
    let mut bases = bases(store, home, meta.incarnation, partition).await?;
    while let Some(base) = bases.pop() {
        let place = Place {
            home,
            incarnation: meta.incarnation,
            partition,
            base,
        };
        match whole(store, place).await {
            Ok(Some(end)) => return Ok(end),
            // Moved away by another sink that found it bad too.
            Ok(None) => {}
            Err(Error::Corrupt { file, why }) => {
                let kept = quarantine(store, &place.path()).await?;
                tracing::error!(
                    file,
                    why,
                    kept,
                    "the last file of a partition is damaged: moved away, its records are \
                     archived again from the log"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(End {
        next: meta.start(partition),
        last: None,
    })
}

/// The first offset that is not archived, by the last file's word alone.
pub(crate) async fn claimed(
    store: &Store,
    home: &Home,
    meta: &ArchiveMeta,
    partition: Partition,
) -> Result<Offset> {
    let bases = bases(store, home, meta.incarnation, partition).await?;
    let Some(base) = bases.last().copied() else {
        return Ok(meta.start(partition));
    };
    let place = Place {
        home,
        incarnation: meta.incarnation,
        partition,
        base,
    };
    let last = Opened::open(store, place).await?;
    Ok(last.map_or(base, |last| last.file.footer.next_offset))
}

/// Checks that the log can go on where the archive ends; records that retention deleted before
/// they were archived are gone for good, and passed over only if `accept_gap` says so.
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

/// Base offsets of a partition's files, ascending.
pub(crate) async fn bases(
    store: &Store,
    home: &Home,
    incarnation: Incarnation,
    partition: Partition,
) -> Result<Vec<Offset>> {
    let files = store.list(&home.partition(incarnation, partition)).await?;
    let parsed = files
        .iter()
        .filter_map(|file| home.parse(incarnation, file));
    Ok(parsed.map(|(_, base)| base).collect())
}

async fn whole(store: &Store, place: Place<'_>) -> Result<Option<End>> {
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
    last_of(&batch).map_err(|why| file.corrupt(why))
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
            // Not if another sink has moved it and written it anew in between.
            if store.get(path).await?.as_ref() == Some(&damaged) {
                store.delete(path).await?;
            }
            return Ok(kept);
        }
    }
    unreachable!("attempts are not numbered out")
}
