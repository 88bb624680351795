//! Deletion of the first files of a partition, for `vintage prune`: the mark first, then the files.

use vintage_control::{Incarnation, Offset, Partition, PruneMark};
use vintage_faults::point;

use crate::{error::Result, reader::Reader};

/// File of the archive as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// First offset that the file covers.
    pub base: Offset,
    /// Size in bytes.
    pub bytes: u64,
    /// Time at which it was written, in milliseconds since the epoch by the store's clock.
    pub written_ms: i64,
}

impl Reader {
    /// Returns the offset at which the archive of a partition begins since `vintage prune` deleted
    /// its first files; `None` if it deleted none.
    pub async fn pruned(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Option<Offset>> {
        Ok(self.archive.held(incarnation, partition).await?.pruned)
    }

    /// Returns the partitions whose first files were pruned, with the offsets at which they begin
    /// now.
    pub async fn pruned_partitions(&self) -> Result<Vec<(Incarnation, Partition, Offset)>> {
        let mut found = Vec::new();
        for incarnation in self.incarnations().await? {
            for partition in self.partitions(incarnation).await? {
                let next = self.pruned(incarnation, partition).await?;
                found.extend(next.map(|next| (incarnation, partition, next)));
            }
        }
        Ok(found)
    }

    /// Fails if any record of the archive was pruned.
    ///
    /// # Errors
    /// [`crate::Error::Pruned`], naming the first such partition.
    pub async fn refuse_pruned(&self) -> Result<()> {
        match self.pruned_partitions().await?.first() {
            Some(&(incarnation, partition, next)) => {
                Err(self.archive.pruned(incarnation, partition, next))
            }
            None => Ok(()),
        }
    }

    /// Returns every file of a partition by ascending offset, those included that were pruned and
    /// not deleted yet. A file ends where the next one begins.
    pub async fn stored(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<Vec<Stored>> {
        let topic_folder = self.archive.topic_folder().await?;
        let folder = topic_folder.partition(incarnation, partition);
        let listed = self.archive.store().list_objects(&folder).await?;
        let files = listed.into_iter().filter_map(|object| {
            let (_, base) = topic_folder.parse(incarnation, &object.path)?;
            Some(Stored {
                base,
                bytes: object.bytes,
                written_ms: object.written_ms,
            })
        });
        Ok(files.collect())
    }

    /// Makes durable that the archive of a partition begins at the mark's `next`. From here on no
    /// reader sees the files before it.
    pub async fn mark_pruned(&self, mark: &PruneMark) -> Result<()> {
        let files = &mark.files;
        let topic_folder = self.archive.topic_folder().await?;
        let path = topic_folder.mark(files.incarnation, files.partition, files.next);
        let _the_first_one_stays = self.archive.store().create_json(&path, mark).await?;
        Ok(())
    }

    /// Deletes the files of a partition that precede its mark, oldest first, and returns their
    /// number. Without a mark it deletes nothing.
    pub async fn delete_pruned(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Result<u64> {
        let Some(next) = self.pruned(incarnation, partition).await? else {
            return Ok(0);
        };
        let topic_folder = self.archive.topic_folder().await?;
        let mut deleted = 0;
        for file in self.stored(incarnation, partition).await? {
            if file.base >= next {
                break;
            }
            let path = topic_folder.data(incarnation, partition, file.base);
            self.archive.store().delete(&path).await?;
            deleted += 1;
            point("prune.deleted", 1);
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use vintage_control::{CONTROL_FORMAT, Offset, Partition, PruneMark, PrunedFiles};
    use vintage_store::Store;

    use crate::{
        error::Error,
        filter::Filter,
        fixture::{INCARNATION, Log, TOPIC, archive, messages, scratch},
        reader::Reader,
    };

    const P: Partition = Partition(0);

    /// Archives four files of ten records each.
    async fn four_files(store: &Store) -> Log {
        let log = Log::new(1);
        for _ in 0..4 {
            log.grow(10);
            archive(store, &log).await;
        }
        log
    }

    fn mark(next: i64) -> PruneMark {
        PruneMark {
            format: CONTROL_FORMAT.to_owned(),
            record: "prunes/0.json".to_owned(),
            files: PrunedFiles {
                topic: TOPIC.to_owned(),
                incarnation: INCARNATION,
                partition: P,
                next: Offset(next),
                objects: 2,
                bytes: 1,
            },
        }
    }

    #[tokio::test]
    async fn a_marked_archive_begins_at_its_mark_and_goes_on() {
        let (_folder, store) = scratch();
        let log = four_files(&store).await;
        let reader = Reader::new(store.clone(), TOPIC);
        assert_eq!(reader.stored(INCARNATION, P).await.unwrap().len(), 4);
        assert_eq!(
            reader.delete_pruned(INCARNATION, P).await.unwrap(),
            0,
            "no mark"
        );
        reader.refuse_pruned().await.unwrap();

        reader.mark_pruned(&mark(20)).await.unwrap();
        // Whether the files are deleted yet or not, and on, readers see the same.
        for expected in [2, 0] {
            let first = reader.first_offset(INCARNATION, P).await.unwrap();
            assert_eq!(first, Offset(20));
            assert_eq!(reader.chain(INCARNATION, P).await.unwrap().len(), 2);
            let held = messages(&store, 0, &Filter::default()).await;
            let offsets: Vec<_> = held.iter().map(|message| message.record.offset.0).collect();
            assert_eq!(offsets, (20..40).collect::<Vec<_>>());
            let deleted = reader.delete_pruned(INCARNATION, P).await.unwrap();
            assert_eq!(deleted, expected);
        }
        let error = reader.refuse_pruned().await.unwrap_err().to_string();
        assert!(error.contains("begins at offset 20"), "{error}");
        let gone = vintage_control::RecordId {
            incarnation: INCARNATION,
            partition: P,
            offset: Offset(7),
        };
        let error = Reader::new(store.clone(), TOPIC).message(gone).await;
        assert!(matches!(error, Err(Error::Pruned { .. })), "{error:?}");

        // A sink resumes after the last file, as before.
        log.grow(10);
        archive(&store, &log).await;
        assert_eq!(messages(&store, 0, &Filter::default()).await.len(), 30);
    }
}
