use std::path::PathBuf;

use vintage_control::PolicyVersion;
use vintage_trajectory::content_sha256;

use super::*;
use crate::{
    fixture::{
        INCARNATION, Log, TOPIC, archive, assert_holds, group_at, messages, options, record,
        scratch, start,
    },
    options::SinkOptions,
    roll::SinkLimits,
};

/// Returns an archive of one partition of 60 messages in several files.
async fn several_files() -> (tempfile::TempDir, Store, Vec<ArchiveFile>) {
    let (folder, store) = scratch();
    let log = Log::small(1, 0);
    let limits = SinkLimits {
        file_bytes: 1 << 20,
        ..SinkLimits::default()
    };
    let (handle, task) = start(
        SinkOptions {
            limits,
            ..options(&store)
        },
        &log,
    )
    .await;
    for _ in 0..6 {
        log.grow(10);
        handle.commit_up_to(log.ends()).await.unwrap();
    }
    handle.shutdown();
    task.await.unwrap().unwrap();
    let files = Reader::new(store.clone(), TOPIC)
        .chain(INCARNATION, Partition(0))
        .await
        .unwrap();
    assert_eq!(files.len(), 6);
    (folder, store, files)
}

fn on_disk(store: &Store, file: &ArchiveFile) -> PathBuf {
    store.local_path(&file.path).unwrap()
}

/// Flips one bit in the middle of each file's first row group.
fn damage_rows(store: &Store, files: &[ArchiveFile]) {
    for file in files {
        let mut bytes = std::fs::read(on_disk(store, file)).unwrap();
        bytes[1000] ^= 1;
        std::fs::write(on_disk(store, file), bytes).unwrap();
    }
}

#[tokio::test]
async fn training_reads_the_same_values_from_log_and_archive() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 5);
    archive(&store, &log).await;
    for (offset, message) in messages(&store, 0, &Filter::default())
        .await
        .into_iter()
        .enumerate()
    {
        let record = record(0, offset as i64, &group_at(0, offset as i64));
        let live = vintage_trajectory::Rows::decode(&record.payload.unwrap()).unwrap();
        let archived = message.rows.unwrap();
        assert_eq!(content_sha256([&archived]), content_sha256([&live]));
        let headers = message.headers.unwrap();
        assert_eq!(
            (headers.producer_seq, headers.rows as usize),
            (offset as u64, live.len())
        );
    }
}

#[tokio::test]
async fn footers_say_what_the_files_hold() {
    let (_folder, _store, files) = several_files().await;
    let footer = &files[2].footer;
    assert_eq!(
        (footer.base_offset, footer.next_offset),
        (Offset(20), Offset(30))
    );
    assert_eq!(
        (footer.messages, footer.rows, footer.quarantined),
        (10, 31, 0)
    );
    assert_eq!(footer.min_policy_version, Some(PolicyVersion(5)));
    assert_eq!(footer.max_policy_version, Some(PolicyVersion(8)));
    assert_eq!(footer.min_timestamp_ms, Some(1_700_000_000_200));
    assert_eq!(footer.max_timestamp_ms, Some(1_700_000_000_290));
    assert!(footer.writer.starts_with("archive-"));
}

#[tokio::test]
async fn reading_can_begin_at_any_offset() {
    let (_folder, store, _) = several_files().await;
    for start in [0, 1, 9, 10, 35, 59, 60] {
        let filter = Filter {
            from: [(Partition(0), Offset(start))].into(),
            ..Filter::default()
        };
        let read = messages(&store, 0, &filter).await;
        let offsets: Vec<_> = read.iter().map(|message| message.record.offset.0).collect();
        assert_eq!(offsets, (start..60).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn files_that_are_not_wanted_are_not_read() {
    let (_folder, store, files) = several_files().await;
    // Only the file of offsets 20 to 29 (versions 5 to 8) stays readable.
    damage_rows(&store, &[&files[..2], &files[3..]].concat());
    let versions = Filter {
        versions: Some(PolicyVersion(6)..=PolicyVersion(6)),
        ..Filter::default()
    };
    let times = Filter {
        timestamps_ms: Some(1_700_000_000_215..=1_700_000_000_240),
        ..Filter::default()
    };
    for (filter, expected) in [(versions, 20..28), (times, 22..25)] {
        let read = messages(&store, 0, &filter).await;
        let offsets: Vec<_> = read.iter().map(|message| message.record.offset.0).collect();
        assert_eq!(offsets, expected.collect::<Vec<_>>());
    }
    let elsewhere = Filter {
        partitions: Some([Partition(1)].into()),
        ..Filter::default()
    };
    assert!(messages(&store, 0, &elsewhere).await.is_empty());
}

#[tokio::test]
async fn one_record_is_found_by_its_id() {
    let (_folder, store, _) = several_files().await;
    let reader = Reader::new(store, TOPIC);
    let id = |offset| RecordId {
        incarnation: INCARNATION,
        partition: Partition(0),
        offset: Offset(offset),
    };
    for offset in [59, 0, 31, 30, 29, 31] {
        let message = reader.message(id(offset)).await.unwrap();
        assert_eq!(message.record, id(offset));
        assert_eq!(message.rows.unwrap().to_trajectories(), group_at(0, offset));
    }
    for offset in [-1, 60] {
        let error = reader.message(id(offset)).await.unwrap_err();
        assert!(matches!(error, Error::NotArchived { .. }), "{error}");
    }
}

#[tokio::test]
async fn one_record_is_found_in_a_file_that_came_later() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 3);
    archive(&store, &log).await;
    let reader = Reader::new(store.clone(), TOPIC);
    let id = |offset| RecordId {
        incarnation: INCARNATION,
        partition: Partition(0),
        offset: Offset(offset),
    };
    assert!(reader.message(id(2)).await.is_ok());
    assert!(reader.message(id(3)).await.is_err());
    log.grow(1);
    archive(&store, &log).await;
    assert!(reader.message(id(3)).await.is_ok());
    assert_eq!(
        reader.next_offset(INCARNATION, Partition(0)).await.unwrap(),
        Offset(4)
    );
}

#[tokio::test]
async fn partitions_and_lives_merge_into_one_order() {
    let (_folder, store) = scratch();
    archive(&store, &Log::small(3, 7)).await;
    let again = SinkOptions {
        incarnation: Incarnation(1),
        ..options(&store)
    };
    let log = Log::small(1, 2);
    let (handle, task) = start(again, &log).await;
    handle.drain_up_to(log.ends()).await.unwrap();
    handle.shutdown();
    task.await.unwrap().unwrap();

    let reader = Reader::new(store.clone(), TOPIC);
    assert_eq!(Reader::topics(&store).await.unwrap(), [TOPIC]);
    assert_eq!(
        reader.incarnations().await.unwrap(),
        [Incarnation(0), Incarnation(1)]
    );
    assert_eq!(
        reader.partitions(INCARNATION).await.unwrap(),
        [0, 1, 2].map(Partition)
    );
    let mut merged = reader.merged(&Filter::default()).await.unwrap();
    let mut order = Vec::new();
    while let Some(message) = merged.next().await.unwrap() {
        let RecordId {
            incarnation,
            partition,
            offset,
        } = message.record;
        order.push((incarnation.0, offset.0, partition.0));
    }
    // The fixture's timestamps grow with the offset.
    let first = (0..7).flat_map(|offset| (0..3).map(move |partition| (0, offset, partition)));
    let expected: Vec<_> = first.chain([(1, 0, 0), (1, 1, 0)]).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn a_missing_or_foreign_file_breaks_the_chain_and_both_sides_are_named() {
    let (_folder, store, files) = several_files().await;
    let chain = || async {
        let broken = Reader::new(store.clone(), TOPIC)
            .chain(INCARNATION, Partition(0))
            .await;
        broken.unwrap_err().to_string()
    };
    std::fs::rename(
        on_disk(&store, &files[2]),
        on_disk(&store, &files[2]).with_extension("away"),
    )
    .unwrap();
    let said = chain().await;
    for part in ["gap", &files[1].path, &files[3].path, "20", "30"] {
        assert!(said.contains(part), "{said}");
    }
    // A good file under another's name.
    std::fs::copy(on_disk(&store, &files[3]), on_disk(&store, &files[2])).unwrap();
    let said = chain().await;
    assert!(
        said.contains("from offset 30") && said.contains("00020.parquet"),
        "{said}"
    );
    std::fs::remove_file(on_disk(&store, &files[0])).unwrap();
    let said = chain().await;
    assert!(
        said.contains("gap") && said.contains("_meta.json"),
        "{said}"
    );
}

#[tokio::test]
async fn an_archive_that_is_not_there_is_named() {
    let (_folder, store) = scratch();
    let reader = Reader::new(store, TOPIC);
    assert_eq!(reader.incarnations().await.unwrap(), []);
    let error = reader.chain(INCARNATION, Partition(0)).await.unwrap_err();
    assert!(matches!(error, Error::NoArchive { .. }), "{error}");
    assert!(
        reader
            .merged(&Filter::default())
            .await
            .unwrap()
            .next()
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_anywhere_in_a_file_is_found_and_the_file_named() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 2);
    archive(&store, &log).await;
    let reader = Reader::new(store.clone(), TOPIC);
    let file = reader
        .chain(INCARNATION, Partition(0))
        .await
        .unwrap()
        .remove(0);
    reader.verify(&file).await.unwrap();
    let path = on_disk(&store, &file);
    let bytes = std::fs::read(&path).unwrap();
    // A stride that shares no factor with anything meets every part of the file.
    for at in (0..bytes.len())
        .step_by(31)
        .chain(bytes.len() - 120..bytes.len())
    {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, damaged).unwrap();
        let reader = Reader::new(store.clone(), TOPIC);
        let read = async {
            let mut messages = reader
                .messages(INCARNATION, Partition(0), &Filter::default())
                .await?;
            while messages.next().await?.is_some() {}
            Ok::<_, Error>(())
        };
        let error = read
            .await
            .expect_err(&format!("byte {at} of {}", bytes.len()));
        assert!(error.to_string().contains(&file.path), "{error}");
        assert!(reader.verify(&file).await.is_err());
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_holds(&store, &log).await;
}

#[tokio::test]
async fn a_shortened_or_lengthened_file_is_named() {
    let (_folder, store) = scratch();
    archive(&store, &Log::small(1, 2)).await;
    let file = Reader::new(store.clone(), TOPIC)
        .chain(INCARNATION, Partition(0))
        .await
        .unwrap()
        .remove(0);
    let bytes = std::fs::read(on_disk(&store, &file)).unwrap();
    let longer = [&bytes[..], b"x"].concat();
    for changed in [
        &bytes[..0],
        &bytes[..7],
        &bytes[..bytes.len() / 2],
        &longer,
        b"PAR1PAR1PAR1",
    ] {
        std::fs::write(on_disk(&store, &file), changed).unwrap();
        let error = Reader::new(store.clone(), TOPIC)
            .chain(INCARNATION, Partition(0))
            .await
            .unwrap_err();
        assert!(matches!(&error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(&file.path), "{error}");
    }
}
