//! Tests of what a sink takes up, and what it refuses, at its start.

use super::*;

#[tokio::test]
async fn a_damaged_last_file_is_moved_away_and_archived_again() {
    let (folder, store) = scratch();
    let log = Log::small(1, 60);
    let (handle, task) = start(small_files(&store), &log).await;
    handle.drain_up_to(log.ends()).await.unwrap();
    handle.shutdown();
    task.await.unwrap().unwrap();
    let whole = files(&store, 0).await;
    // Files as a disk leaves them that reports syncs it has not done: one of zeros, and one cut
    // short.
    let [.., cut, zeros] = &whole[..] else {
        panic!("{} files", whole.len())
    };
    std::fs::write(
        folder.path().join(&zeros.path),
        vec![0; zeros.bytes as usize],
    )
    .unwrap();
    let bytes = std::fs::read(folder.path().join(&cut.path)).unwrap();
    std::fs::write(folder.path().join(&cut.path), &bytes[..bytes.len() / 2]).unwrap();
    archive(&store, &log).await;
    assert_holds(&store, &log).await;
    assert_eq!(store.list("_quarantine").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_log_that_does_not_meet_the_archive_is_refused() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 10);
    archive(&store, &log).await;
    let on = |low, high| {
        let options = options(&store);
        let marks = [(Partition(0), Offset(low), Offset(high))];
        async move {
            let (_, starts) = recovered(&options, &marks, &mut Blocked::new()).await?;
            Ok(starts[&Partition(0)])
        }
    };
    // The last record is read again where the log still has it.
    let start = on(0, 10).await.unwrap();
    assert_eq!((start.base, start.read), (Offset(10), Offset(9)));
    assert_eq!(start.last.unwrap().offset, Offset(9));
    assert_eq!(on(10, 99).await.unwrap(), Start::at(Offset(10)));
    let expired: Error = on(12, 99).await.unwrap_err();
    assert!(
        matches!(expired, Error::Expired { lost: 2, .. }),
        "{expired}"
    );
    let rewound = on(0, 9).await.unwrap_err();
    assert!(
        matches!(
            rewound,
            Error::Rewound {
                high: Offset(9),
                ..
            }
        ),
        "{rewound}"
    );
}

/// Tests a topic that was recreated and has grown past the archive's end: the offsets match, the
/// records do not.
#[tokio::test]
async fn another_log_is_told_by_the_last_archived_record() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 10);
    archive(&store, &log).await;
    let before = store.list("").await.unwrap();
    let other = Log::new(1);
    for offset in 0..20 {
        other.append(record(0, offset, &group(1000 + offset as u64, 2, 5, 0)));
    }
    let (_, task) = start(options(&store), &other).await;
    let refused = task.await.unwrap().unwrap_err();
    assert!(
        matches!(
            refused,
            Error::OtherLog {
                offset: Offset(9),
                ..
            }
        ),
        "{refused}"
    );
    assert!(refused.to_string().contains("recreated"), "{refused}");
    assert_eq!(store.list("").await.unwrap(), before);
    // The log it came from continues.
    log.grow(5);
    archive(&store, &log).await;
    assert_holds(&store, &log).await;
}

/// Tests that lost records are skipped only if that is accepted, and that the file notes them.
#[tokio::test]
async fn an_accepted_gap_stands_in_the_footer() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 10);
    archive(&store, &log).await;
    log.grow(10);
    let expired = [(Partition(0), Offset(14), Offset(20))];
    let mut options = options(&store);
    options.accept_gap = true;
    let read = |starts: &[_]| Ok(log.reader(starts));
    let (handle, task) = Sink::start_on(options, &expired, read).await.unwrap();
    handle.drain_up_to(log.ends()).await.unwrap();
    handle.shutdown();
    assert_eq!(task.await.unwrap().unwrap().messages, 6);
    let chain = files(&store, 0).await;
    let gap = OffsetRange {
        first: Offset(10),
        next: Offset(14),
    };
    let footer = &chain.last().unwrap().footer;
    assert_eq!((footer.base_offset, footer.lost), (Offset(10), Some(gap)));
    assert!(
        chain[..chain.len() - 1]
            .iter()
            .all(|file| file.footer.lost.is_none())
    );
    // Once noted, the gap needs no acceptance.
    log.grow(1);
    archive(&store, &log).await;
    assert_eq!(files(&store, 0).await.last().unwrap().footer.lost, None);
}

/// Tests that a file which a newer build wrote is not taken for a damaged one, and is not moved
/// away.
#[tokio::test]
async fn a_file_of_another_format_stops_the_sink() {
    let (folder, store) = scratch();
    let log = Log::small(1, 9);
    archive(&store, &log).await;
    let path = folder.path().join(&files(&store, 0).await[0].path);
    let mut file = std::fs::read(&path).unwrap();
    let format = b"\"vintage.control/1\"";
    let footer = file.len() - 8 - crate::seal::footer_len(&file[file.len() - 8..]).unwrap();
    let found = file[footer..].windows(format.len());
    let found = found.enumerate().filter(|(_, bytes)| bytes == format);
    let found: Vec<_> = found
        .map(|(at, _)| footer + at + format.len() - 2)
        .collect();
    for at in found {
        file[at] = b'2';
    }
    let body = footer - crate::seal::Seal::len(1);
    file.drain(body..footer);
    let groups = parquet::file::metadata::ParquetMetaDataReader::decode_metadata(
        &file[body..file.len() - 8],
    );
    let groups = groups.unwrap();
    let ends: Vec<_> = groups
        .row_groups()
        .iter()
        .map(crate::footer::end_of)
        .collect();
    assert_eq!(ends.len(), 1);
    crate::seal::seal(&mut file, &ends).unwrap();
    std::fs::write(&path, &file).unwrap();

    let started = start_limited(options(&store), &log, None).await;
    let error = started.map(drop).unwrap_err();
    assert!(matches!(error, Error::NotUnderstood { .. }), "{error}");
    assert!(error.to_string().contains("vintage.control/2"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), file);
}

#[tokio::test]
async fn an_archive_begins_where_its_first_sink_found_the_log() {
    let (_folder, store) = scratch();
    let at = |low| [(Partition(0), Offset(low), Offset(99))];
    let blocked = &mut Blocked::new();
    let (_, begun) = recovered(&options(&store), &at(5), blocked).await.unwrap();
    assert_eq!(begun, [(Partition(0), Start::at(Offset(5)))].into());
    // Retention moved on before anything was archived: a second start may not skip records.
    let moved = recovered(&options(&store), &at(8), blocked)
        .await
        .unwrap_err();
    assert!(matches!(moved, Error::Expired { lost: 3, .. }), "{moved}");
}

#[tokio::test]
async fn an_archive_goes_on_where_it_was_begun() {
    let (_folder, store) = scratch();
    let plain = TopicFolder::plain(TOPIC);
    let starts = [(Partition(0), Offset(0))].into();
    ArchiveMeta::agree(&store, &plain, INCARNATION, starts)
        .await
        .unwrap();
    let log = Log::small(1, 7);
    archive(&store, &log).await;
    assert_holds(&store, &log).await;
    let second = SinkOptions {
        incarnation: Incarnation(1),
        ..options(&store)
    };
    let (handle, task) = start(second, &log).await;
    handle.commit_up_to(log.ends()).await.unwrap();
    handle.shutdown();
    task.await.unwrap().unwrap();
    let paths = store.list("v1").await.unwrap();
    let folder = format!("{}/", plain.path());
    assert!(
        paths.iter().all(|path| path.starts_with(&folder)),
        "{paths:?}"
    );
    assert_eq!(Reader::topics(&store).await.unwrap(), [TOPIC]);
    let incarnations = Reader::new(store, TOPIC).incarnations().await.unwrap();
    assert_eq!(incarnations, [INCARNATION, Incarnation(1)]);
}
