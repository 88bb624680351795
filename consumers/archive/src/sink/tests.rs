use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use vintage_bus::{Embedded, Header, Record, TopicSpec};
use vintage_control::{Incarnation, OffsetRange};
use vintage_store::Store;

use super::{start::recovered, *};
use crate::{
    columns::Codec,
    filter::Filter,
    fixture::{
        Dice, INCARNATION, Log, TOPIC, archive, assert_holds, group, messages, options, published,
        record, scratch, start, start_limited,
    },
    meta::ArchiveMeta,
    reader::Reader,
};

fn small_files(store: &Store) -> SinkOptions {
    let mut options = options(store);
    options.limits.file_bytes = 10_000;
    options
}

async fn files(store: &Store, partition: i32) -> Vec<crate::ArchiveFile> {
    Reader::new(store.clone(), TOPIC)
        .chain(INCARNATION, Partition(partition))
        .await
        .unwrap()
}

#[tokio::test]
async fn what_was_consumed_is_archived_once_and_as_it_was() {
    let (_folder, store) = scratch();
    let log = Log::small(3, 40);
    let (handle, task) = start(small_files(&store), &log).await;
    handle.drain_up_to(log.ends()).await.unwrap();
    handle.shutdown();
    let summary = task.await.unwrap().unwrap();
    assert_holds(&store, &log).await;
    assert_eq!((summary.messages, summary.quarantined), (120, 0));
    assert_eq!(summary.committed, log.ends().into_iter().collect());
    assert!(summary.files > 3, "files close by bytes: {}", summary.files);
    let of_first = files(&store, 0).await;
    assert_eq!(of_first[0].footer.roll_reason, "bytes");
    assert_eq!(
        of_first
            .iter()
            .map(|file| file.footer.messages)
            .sum::<u64>(),
        40
    );
}

/// Tests invariant 4: an offset counts as done only once its effect is durable, and the effect's
/// own record holds the offset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_killed_at_any_moment_goes_on_without_loss_or_repeat() {
    let (_folder, store) = scratch();
    let log = Log::small(2, 120);
    let mut dice = Dice(42);
    let mut starts = 0;
    loop {
        let mut options = small_files(&store);
        options.limits.file_bytes = 4_000 + dice.roll(30_000) as usize;
        // A source that ends leaves less than a file.
        options.limits.file_age = Duration::from_millis(50);
        let limit = 5 + dice.roll(40) as usize;
        let (handle, task) = start_limited(options, &log, Some(limit)).await.unwrap();
        starts += 1;
        let mut committed = handle.committed();
        if *committed.borrow() == log.ends().into_iter().collect() {
            break;
        }
        // The kill falls before, into or after the writing of a file.
        match dice.roll(3) {
            0 => tokio::task::yield_now().await,
            1 => committed.changed().await.unwrap(),
            _ => {
                handle.shutdown();
                task.await.unwrap().unwrap();
                continue;
            }
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert!(starts > 5, "{starts} starts");
    assert_holds(&store, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_sinks_on_one_partition_archive_each_record_once() {
    for seed in 1..6 {
        let (_folder, store) = scratch();
        let log = Log::small(2, 100);
        let mut dice = Dice(seed);
        let mut rivals = Vec::new();
        for _ in 0..2 {
            let mut options = small_files(&store);
            options.limits.file_bytes = 3_000 + dice.roll(20_000) as usize;
            rivals.push(start(options, &log).await);
        }
        let mut lost = 0;
        for (handle, task) in rivals {
            handle.drain_up_to(log.ends()).await.unwrap();
            handle.shutdown();
            lost += task.await.unwrap().unwrap().races_lost;
        }
        assert_holds(&store, &log).await;
        // The second sink finds nothing archived at its start, so at least its first file meets
        // another.
        assert!(lost > 0, "seed {seed}: the sinks never met");
    }
}

#[tokio::test]
async fn a_sink_that_slept_changes_nothing_after_its_successor_took_over() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 30);
    let (zombie, zombie_task) = start_limited(options(&store), &log, Some(7)).await.unwrap();
    archive(&store, &log).await;
    // It wakes with 7 records, all of which its successor has archived in a longer file.
    zombie
        .commit_up_to(vec![(Partition(0), Offset(7))])
        .await
        .unwrap();
    zombie.shutdown();
    let summary = zombie_task.await.unwrap().unwrap();
    assert_eq!((summary.races_lost, summary.messages), (1, 0));
    assert_eq!(summary.committed[&Partition(0)], Offset(30));
    assert_holds(&store, &log).await;
}

#[tokio::test]
async fn a_demand_commits_at_once_and_one_that_is_met_makes_no_file() {
    let (_folder, store) = scratch();
    let log = Log::small(2, 10);
    let (handle, task) = start(options(&store), &log).await;
    let asked = vec![(Partition(0), Offset(10)), (Partition(1), Offset(4))];
    handle.commit_up_to(asked.clone()).await.unwrap();
    assert_eq!(files(&store, 0).await[0].footer.roll_reason, "demand");
    assert_eq!(handle.committed().borrow()[&Partition(0)], Offset(10));
    handle
        .commit_up_to(vec![(Partition(1), Offset(10))])
        .await
        .unwrap();
    let before = store.list("").await.unwrap();
    handle.commit_up_to(asked).await.unwrap();
    handle.commit_up_to(Vec::new()).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), before);

    // An offset the log has not reached is waited for, then archived at once.
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.commit_up_to(vec![(Partition(0), Offset(12))]).await }
    });
    log.grow(2);
    waiting.await.unwrap().unwrap();
    assert_eq!(
        files(&store, 0).await.last().unwrap().footer.next_offset,
        Offset(12)
    );

    let unknown = handle
        .commit_up_to(vec![(Partition(9), Offset(1))])
        .await
        .unwrap_err();
    assert!(matches!(
        unknown,
        Error::UnknownPartition {
            partition: Partition(9),
            ..
        }
    ));
    handle.shutdown();
    task.await.unwrap().unwrap();
    let ended = handle
        .commit_up_to(vec![(Partition(0), Offset(99))])
        .await
        .unwrap_err();
    assert!(
        matches!(
            ended,
            Error::Stopped {
                asked: Offset(99),
                ..
            }
        ),
        "{ended}"
    );
    assert_holds(&store, &log).await;
}

#[tokio::test]
async fn an_idle_topic_is_archived_by_age() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 3);
    let mut options = options(&store);
    options.limits.file_age = Duration::from_millis(20);
    let (handle, task) = start(options, &log).await;
    let mut committed = handle.committed();
    committed
        .wait_for(|now| now[&Partition(0)] == Offset(3))
        .await
        .unwrap();
    assert_eq!(files(&store, 0).await[0].footer.roll_reason, "age");
    handle.shutdown();
    assert_eq!(task.await.unwrap().unwrap().files, 1);
}

#[tokio::test]
async fn a_full_buffer_writes_the_largest_partition() {
    let (_folder, store) = scratch();
    let log = Log::small(2, 1);
    for offset in 1..40 {
        log.append(record(1, offset, &crate::fixture::group_at(1, offset)));
    }
    let mut options = options(&store);
    options.limits.buffer_bytes = 20_000;
    let (handle, task) = start(options, &log).await;
    let mut committed = handle.committed();
    committed
        .wait_for(|now| now[&Partition(1)] > Offset(10))
        .await
        .unwrap();
    assert_eq!(committed.borrow()[&Partition(0)], Offset(0));
    handle.shutdown();
    task.await.unwrap().unwrap();
    assert_eq!(files(&store, 1).await[0].footer.roll_reason, "bytes");
    assert_eq!(files(&store, 0).await[0].footer.roll_reason, "shutdown");
}

#[tokio::test]
async fn an_undecodable_record_is_kept_with_its_reason() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 1);
    let good = record(0, 1, &crate::fixture::group_at(0, 1));
    let at = |offset, change: &dyn Fn(&mut Record)| {
        let mut record = good.clone();
        record.offset = Offset(offset);
        change(&mut record);
        log.append(record);
    };
    let long = Bytes::from(vec![7; crate::BAD_PAYLOAD_LIMIT + 5]);
    at(1, &|record| record.payload = None);
    at(2, &|record| record.payload = Some(long.clone()));
    at(3, &|record| record.headers.clear());
    at(4, &|record| {
        record.headers.push(Header {
            key: "odd".to_owned(),
            value: None,
        });
        let mut bytes = record.payload.take().unwrap().to_vec();
        bytes[100] ^= 1;
        record.payload = Some(bytes.into());
    });
    at(5, &|_| {});
    let (handle, task) = start(options(&store), &log).await;
    handle.drain_up_to(log.ends()).await.unwrap();
    handle.shutdown();
    let summary = task.await.unwrap().unwrap();
    assert_eq!((summary.messages, summary.quarantined), (6, 4));

    let archived = messages(&store, 0, &Filter::default()).await;
    assert_eq!(archived.len(), 6);
    let bad = |at: usize| archived[at].rows.as_ref().unwrap_err();
    assert_eq!(
        (
            bad(1).reason.as_str(),
            &bad(1).payload,
            bad(1).payload_bytes
        ),
        ("it has no payload", &None, 0)
    );
    assert_eq!(
        bad(2).payload.as_ref().unwrap(),
        &long[..crate::BAD_PAYLOAD_LIMIT]
    );
    assert_eq!(bad(2).payload_bytes, long.len() as u64);
    assert_eq!(bad(2).payload_sha256, Some(vintage_store::sha256(&long)));
    assert!(bad(2).reason.contains("CRC-32C"), "{}", bad(2).reason);
    assert!(bad(3).reason.contains("header"), "{}", bad(3).reason);
    assert!(archived[3].headers.is_err() && archived[3].raw_headers.is_empty());
    let odd = archived[4].raw_headers.last().unwrap();
    assert_eq!((odd.key.as_str(), &odd.value), ("odd", &None));
    assert_eq!(
        archived[5].rows.as_ref().unwrap().to_trajectories(),
        crate::fixture::group_at(0, 1)
    );
}

/// Tests that a create which succeeded although it was reported as failed is recognized as our own.
#[tokio::test]
async fn its_own_earlier_write_is_no_lost_race() {
    let (_folder, store) = scratch();
    let write = |writer: &str| {
        let job = crate::commit::Job {
            store: store.clone(),
            label: Label {
                topic_folder: crate::fixture::topic_folder(),
                incarnation: INCARNATION,
                partition: Partition(0),
                base: Offset(0),
                next: Offset(1),
                writer: writer.into(),
                reason: "age",
                lost: None,
            },
            messages: vec![Message::of(record(0, 0, &crate::fixture::group_at(0, 0)))],
            codec: Codec::default(),
            generation: 0,
            patience: Duration::ZERO,
            cancel: CancellationToken::new(),
        };
        async { matches!(job.run().await.outcome.unwrap(), CommitOutcome::Won { .. }) }
    };
    assert!(write("a").await);
    assert!(write("a").await, "the same once more");
    assert!(!write("b").await);
}

/// Tests a folder that cannot be written: `/sys` refuses new folders even to root, which runs the
/// tests in most containers.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_waited_for_and_then_reported() {
    let store = Store::open("/sys/vintage").unwrap();
    let mut options = options(&store);
    options.patience = Duration::from_millis(250);
    let begun = Instant::now();
    let marks = [(Partition(0), Offset(0), Offset(9))];
    let mut blocked = Blocked::new();
    let error = recovered(&options, &marks, &mut blocked).await.unwrap_err();
    assert!(
        error.to_string().contains("no permission or read-only"),
        "{error}"
    );
    assert!(
        begun.elapsed() >= options.patience && blocked.values().sum::<u64>() > 1,
        "{blocked:?}"
    );
    options.cancel.cancel();
    options.patience = Duration::from_secs(3600);
    recovered(&options, &marks, &mut blocked).await.unwrap_err();
}

#[tokio::test]
async fn a_store_that_cannot_be_written_ends_the_sink_with_a_clear_error() {
    let (folder, store) = scratch();
    let log = Log::small(1, 3);
    let (handle, task) = start(options(&store), &log).await;
    let in_the_way = folder
        .path()
        .join(crate::fixture::topic_folder().partition(INCARNATION, Partition(0)));
    std::fs::write(&in_the_way, "").unwrap();
    let stopped = handle.commit_up_to(log.ends()).await.unwrap_err();
    assert!(stopped.to_string().contains("p=00000"), "{stopped}");
    let error = task.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Store(vintage_store::Error::NotADirectory { .. })
        ),
        "{error:?}"
    );
    // With the obstacle gone, starting again loses nothing.
    std::fs::remove_file(in_the_way).unwrap();
    archive(&store, &log).await;
    assert_holds(&store, &log).await;
}

mod events;
mod start;
