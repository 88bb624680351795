//! Where a sink goes on: after the last good file of each partition.

use vintage_control::{Incarnation, Offset, Partition};
use vintage_store::{Created, Store};

use crate::{
    Error, Result,
    file::{Opened, Place},
    meta::ArchiveMeta,
    path,
};

/// The first offset that is not archived.
///
/// A file is whole before it has its name, so only a disk that lied about a sync, or later
/// damage, leaves a bad one. Such a last file is moved to `_quarantine/` and its offsets are
/// archived again from the log; a bad file further back is the reader's to report.
pub(crate) async fn next_offset(
    store: &Store,
    meta: &ArchiveMeta,
    partition: Partition,
) -> Result<Offset> {
    let mut bases = bases(store, &meta.topic, meta.incarnation, partition).await?;
    while let Some(base) = bases.pop() {
        let place = Place {
            topic: &meta.topic,
            incarnation: meta.incarnation,
            partition,
            base,
        };
        match whole(store, place).await {
            Ok(Some(next)) => return Ok(next),
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
    Ok(meta.start(partition))
}

/// Checks that the log can go on where the archive ends.
pub(crate) fn check_log(
    topic: &str,
    (partition, low, high): (Partition, Offset, Offset),
    next: Offset,
) -> Result<()> {
    let topic = topic.to_owned();
    if next < low {
        let lost = low.0 - next.0;
        return Err(Error::Expired {
            topic,
            partition,
            next,
            low,
            lost,
        });
    }
    if next > high {
        return Err(Error::Rewound {
            topic,
            partition,
            next,
            high,
        });
    }
    Ok(())
}

/// Base offsets of a partition's files, ascending.
pub(crate) async fn bases(
    store: &Store,
    topic: &str,
    incarnation: Incarnation,
    partition: Partition,
) -> Result<Vec<Offset>> {
    let life = path::life(topic, incarnation);
    let files = store
        .list(&path::partition(topic, incarnation, partition))
        .await?;
    let below = files
        .iter()
        .filter_map(|file| file.strip_prefix(&life)?.strip_prefix('/'));
    Ok(below
        .filter_map(path::parse)
        .map(|(_, base)| base)
        .collect())
}

async fn whole(store: &Store, place: Place<'_>) -> Result<Option<Offset>> {
    let Some(opened) = Opened::open(store, place).await? else {
        return Ok(None);
    };
    opened.verify().await?;
    Ok(Some(opened.file.footer.next_offset))
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
