use std::ops::RangeInclusive;

use vintage_bus::{Header, Record};
use vintage_control::{Offset, Partition, PolicyVersion};
use vintage_store::Store;
use vintage_trajectory::{Headers, Trajectory, content_sha256, encode};

use crate::{
    fixture::{INCARNATION, Log, TOPIC, archive, group, record, scratch, start},
    groups::SelectionCounts,
    reader::Reader,
    select::{GroupSample, PromptPattern, RefusedBy, Selection},
};

/// Returns part `part` of `of` of a group under `number`, whose rows all have `reward`.
fn part(offset: i64, number: u64, part: (u32, u32), rows: &[Trajectory]) -> Record {
    let mut record = record(0, offset, rows);
    let pairs = record
        .headers
        .iter()
        .map(|h| (h.key.as_str(), h.value.as_deref()));
    let mut headers = Headers::parse(pairs).unwrap();
    headers.part = part;
    headers.producer_seq = number;
    let header = |(key, value): (String, Vec<u8>)| Header {
        key,
        value: Some(value.into()),
    };
    record.headers = headers.to_pairs().into_iter().map(header).collect();
    record
}

fn rewarded(number: u64, version: u64, reward: f32) -> Vec<Trajectory> {
    let mut rows = group(number, 4, 3, version);
    for row in &mut rows {
        row.reward = reward;
    }
    rows
}

/// Returns the offsets of the last parts of the groups taken, and the counts.
async fn taken(store: &Store, selection: &Selection) -> (Vec<i64>, SelectionCounts) {
    let reader = Reader::new(store.clone(), TOPIC);
    let mut groups = reader.groups(selection).await.unwrap();
    let mut offsets = Vec::new();
    let mut parts = 0;
    while let Some(group) = groups.next().await.unwrap() {
        offsets.push(group.last().record.offset.0);
        parts += group.heads().count() as u64;
    }
    let counts = groups.counts().clone();
    let skipped: u64 = counts.skipped.values().sum();
    let met = parts + skipped + counts.quarantined + counts.duplicates + counts.incomplete;
    assert_eq!(
        counts.records, met,
        "every record is counted once: {counts:?}"
    );
    assert_eq!(groups.records(), met);
    (offsets, counts)
}

#[tokio::test]
async fn without_filters_it_is_every_message_in_merged_order() {
    let (_folder, store) = scratch();
    archive(&store, &Log::small(3, 40)).await;
    let reader = Reader::new(store.clone(), TOPIC);
    let mut merged = reader.merged(&crate::Filter::default()).await.unwrap();
    // Each partition's numbers are its offsets: the fixture's groups of several partitions share them.
    let mut groups = reader.groups(&Selection::default()).await.unwrap();
    let mut met = std::collections::BTreeSet::new();
    while let Some(message) = merged.next().await.unwrap() {
        if !met.insert(message.headers.as_ref().unwrap().producer_seq) {
            continue;
        }
        let group = groups.next().await.unwrap().unwrap();
        assert_eq!(group.last().record, message.record);
        let loaded = group.load().await.unwrap();
        assert_eq!(
            content_sha256([loaded[0].rows.as_ref().unwrap()]),
            content_sha256([message.rows.as_ref().unwrap()])
        );
        assert_eq!(loaded[0].raw_headers, message.raw_headers);
        assert_eq!(loaded[0].timestamp_ms, message.timestamp_ms);
    }
    assert!(groups.next().await.unwrap().is_none());
    assert_eq!(groups.counts().duplicates, 80);
}

#[tokio::test]
async fn every_filter_takes_what_it_says_and_counts_the_rest() {
    let (_folder, store) = scratch();
    let log = Log::new(1);
    for offset in 0..40 {
        let rows = rewarded(offset as u64, offset as u64, (offset % 4) as f32);
        log.append(record(0, offset, &rows));
    }
    archive(&store, &log).await;
    let select = |change: fn(&mut Selection)| {
        let mut selection = Selection::default();
        change(&mut selection);
        selection
    };
    let cases: [(Selection, RefusedBy, Vec<i64>); 5] = [
        (
            // A group has tokens of two versions, its offset and the next.
            select(|s| s.versions = Some(PolicyVersion(10)..=PolicyVersion(12))),
            RefusedBy::Version,
            (9..=12).collect(),
        ),
        (
            select(|s| s.timestamps_ms = Some(1_700_000_000_100..=1_700_000_000_120)),
            RefusedBy::Time,
            (10..=12).collect(),
        ),
        (
            select(|s| s.rewards = Some(3.0..=3.0)),
            RefusedBy::Reward,
            (0..40).filter(|at| at % 4 == 3).collect(),
        ),
        (
            select(|s| s.prompts = vec![PromptPattern("*-2".to_owned())]),
            RefusedBy::Prompt,
            (0..40).filter(|at| at % 5 == 2).collect(),
        ),
        (
            select(|s| s.partitions = Some([Partition(7)].into())),
            RefusedBy::Partition,
            Vec::new(),
        ),
    ];
    for (selection, filtered, expected) in cases {
        let (offsets, counts) = taken(&store, &selection).await;
        assert_eq!(offsets, expected, "{filtered:?}");
        let skipped = 40 - expected.len() as u64;
        assert_eq!(counts.skipped, [(filtered, skipped)].into());
    }
    let both = Selection {
        prompts: vec![PromptPattern("prompt-2".to_owned())],
        versions: Some(PolicyVersion(0)..=PolicyVersion(9)),
        ..Selection::default()
    };
    assert_eq!(taken(&store, &both).await.0, [2, 7]);
    let sample = Selection {
        sample: Some(GroupSample {
            share: 0.5,
            seed: 1,
        }),
        ..Selection::default()
    };
    let (half, counts) = taken(&store, &sample).await;
    assert!((10..30).contains(&half.len()), "{half:?}");
    assert_eq!(counts.skipped[&RefusedBy::Sample], 40 - half.len() as u64);
}

/// Tests an archive of many files, of which a range of versions needs few.
#[tokio::test]
async fn what_is_passed_over_is_counted_and_not_read() {
    let (_folder, store) = scratch();
    let log = Log::new(1);
    let (handle, task) = start(crate::fixture::options(&store), &log).await;
    for file in 0..6_i64 {
        for at in 0..10 {
            // Further apart than the parts of a whole group can be.
            let offset = 2000 * file + at;
            while log.ends()[0].1.0 < offset {
                let filler = log.ends()[0].1.0;
                let rows = rewarded(filler as u64, file as u64, 0.0)[..1].to_vec();
                log.append(record(0, filler, &one_row(rows)));
            }
            log.append(record(
                0,
                offset,
                &rewarded(offset as u64, file as u64, 0.0),
            ));
        }
        handle.commit_up_to(log.ends()).await.unwrap();
    }
    handle.shutdown();
    task.await.unwrap().unwrap();
    let reader = Reader::new(store.clone(), TOPIC);
    let files = reader.chain(INCARNATION, Partition(0)).await.unwrap();
    assert_eq!(files.len(), 6);
    for file in &files[..3] {
        let path = store.local_path(&file.path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1000] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let newest = Selection {
        versions: Some(PolicyVersion(6)..=PolicyVersion(9)),
        ..Selection::default()
    };
    let (offsets, counts) = taken(&store, &newest).await;
    let end = log.ends()[0].1.0;
    let base = files[5].footer.base_offset.0;
    assert_eq!(offsets, (base..end).collect::<Vec<_>>());
    assert_eq!(counts.records, end as u64);
    assert_eq!(counts.skipped, [(RefusedBy::Version, base as u64)].into());
    // Damage is found where the damaged rows are wanted, by a reader that has not opened the files before.
    let reader = Reader::new(store.clone(), TOPIC);
    let mut groups = reader.groups(&Selection::default()).await.unwrap();
    assert!(groups.next().await.is_err());
}

fn one_row(mut rows: Vec<Trajectory>) -> Vec<Trajectory> {
    for row in &mut rows {
        row.group_size = 1;
    }
    rows
}

#[tokio::test]
async fn parts_stay_together_and_are_judged_as_one() {
    let (_folder, store) = scratch();
    let log = Log::new(1);
    let (low, high) = (rewarded(1, 0, 0.0), rewarded(2, 0, 1.0));
    let mut mixed = rewarded(3, 0, 0.0);
    mixed[2..].iter_mut().for_each(|row| row.reward = 1.0);
    let records = [
        part(0, 1, (1, 2), &mixed[..2]),
        part(1, 0, (1, 1), &low),
        part(2, 1, (2, 2), &mixed[2..]),
        part(3, 2, (1, 1), &high),
        // Its second part never comes.
        part(4, 3, (1, 2), &rewarded(4, 0, 0.5)[..2]),
        // The second copy of a number.
        part(5, 2, (1, 1), &high),
    ];
    for record in records {
        log.append(record);
    }
    archive(&store, &log).await;
    let halves = Selection {
        rewards: Some(0.4..=0.6),
        ..Selection::default()
    };
    let (offsets, counts) = taken(&store, &halves).await;
    assert_eq!(offsets, [2]);
    assert_eq!((counts.duplicates, counts.incomplete), (1, 1));
    assert_eq!(counts.skipped, [(RefusedBy::Reward, 2)].into());
    // A group has the position of the part that made it whole.
    assert_eq!(taken(&store, &Selection::default()).await.0, [1, 2, 3]);
    let mut groups = Reader::new(store.clone(), TOPIC)
        .groups(&halves)
        .await
        .unwrap();
    let messages = groups.next().await.unwrap().unwrap().load().await.unwrap();
    let parts: Vec<_> = messages
        .iter()
        .map(|message| message.headers.as_ref().unwrap().part)
        .collect();
    assert_eq!(parts, [(1, 2), (2, 2)]);
}

/// A learner refuses the whole group as renumbered, because the number has an unfinished group.
#[tokio::test]
async fn a_whole_group_does_not_take_the_number_of_an_unfinished_one() {
    let (_folder, store) = scratch();
    let log = Log::new(1);
    let (first, other) = (rewarded(1, 0, 0.0), rewarded(2, 0, 1.0));
    log.append(part(0, 7, (1, 2), &first[..2]));
    log.append(part(1, 7, (1, 1), &other));
    log.append(part(2, 7, (2, 2), &first[2..]));
    archive(&store, &log).await;
    let (offsets, counts) = taken(&store, &Selection::default()).await;
    assert_eq!(offsets, [2]);
    assert_eq!((counts.duplicates, counts.incomplete), (0, 1));
}

#[tokio::test]
async fn what_cannot_be_decoded_is_counted() {
    let (_folder, store) = scratch();
    let log = Log::small(1, 3);
    let mut bad = record(0, 3, &group(3, 2, 3, 0));
    bad.payload = Some(bytes::Bytes::from_static(b"no arrow"));
    log.append(bad);
    log.append(record(0, 4, &group(4, 2, 3, 0)));
    archive(&store, &log).await;
    let (offsets, counts) = taken(&store, &Selection::default()).await;
    assert_eq!((offsets, counts.quarantined), (vec![0, 1, 2, 4], 1));
    let early: RangeInclusive<i64> = 0..=1_700_000_000_010;
    let early = Selection {
        timestamps_ms: Some(early),
        ..Selection::default()
    };
    let (offsets, counts) = taken(&store, &early).await;
    assert_eq!((offsets, counts.quarantined), (vec![0, 1], 0));
}

#[tokio::test]
async fn heads_say_what_the_messages_say_and_begin_anywhere() {
    let (_folder, store) = scratch();
    archive(&store, &Log::small(1, 30)).await;
    let reader = Reader::new(store.clone(), TOPIC);
    for from in [0, 7, 29, 30] {
        let mut heads = reader
            .heads(INCARNATION, Partition(0), Offset(from))
            .await
            .unwrap();
        for offset in from..30 {
            let head = heads.next().await.unwrap().unwrap();
            let rows = crate::fixture::group_at(0, offset);
            assert_eq!(head.record.offset, Offset(offset));
            assert_eq!((head.rows, head.quarantined), (rows.len(), false));
            let headers = head.headers.unwrap();
            assert_eq!(headers.producer_seq, offset as u64);
            let checksum = crc32c::crc32c(&encode(&rows).unwrap());
            assert_eq!(headers.crc32c, checksum);
            assert_eq!(head.payload_crc32c, Some(checksum));
        }
        assert!(heads.next().await.unwrap().is_none());
    }
}
