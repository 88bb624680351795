use std::collections::{BTreeMap, BTreeSet};

use vintage_archive::{Reader, Sink, SinkOptions};
use vintage_bench::synthetic::Synthetic;
use vintage_bus::{Embedded, TopicTable};
use vintage_control::{Incarnation, Offset, Partition};
use vintage_learner::{RolloutSource as _, Stretch};
use vintage_settings::RunConfig;
use vintage_store::Store;
use vintage_trajectory::encode;

use super::HandOff;
use crate::archive_source::{ArchiveSource, ends};

const ARCHIVED: Incarnation = Incarnation(0);
const PARTITION: Partition = Partition(0);
const RECORDS: i64 = 3;

/// Hand-off in incarnation `current` that has yet to read the whole archive of [`ARCHIVED`].
async fn behind(broker: &Embedded, store: &Store, current: Incarnation) -> HandOff {
    let topic = RunConfig::default().topic_names().rollouts();
    let reader = Reader::new(store.clone(), &topic);
    let end = Offset(RECORDS);
    let whole = Stretch::of(&[], PARTITION, Offset(0), end);
    let archived = ArchiveSource::between(&reader, ARCHIVED, &[whole])
        .await
        .unwrap();
    HandOff {
        bus: broker.bus(),
        topic,
        incarnation: current,
        reader,
        resume: BTreeMap::new(),
        next: BTreeMap::from([(PARTITION, end)]),
        archived: Some(archived),
        behind: None,
        caught_up: false,
        silent: BTreeSet::new(),
        log: None,
        clocks: Vec::new(),
        volatile: false,
    }
}

#[tokio::test]
async fn archived_records_advance_the_clock_by_which_the_log_is_merged() {
    let config = RunConfig::default();
    let topics = config.topic_names();
    let broker = Embedded::start(&TopicTable::builtin().specs(&topics, 1, 1))
        .await
        .unwrap();
    let (bus, topic) = (broker.bus(), topics.rollouts());
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().to_string_lossy()).unwrap();
    let writer = bus.producer("writer").unwrap();
    for number in 0..RECORDS as u64 {
        let payload = encode(&Synthetic::new(1, 2, 4).group(number)).unwrap();
        let sent = writer.publish(&topic, b"key", Vec::new(), payload);
        sent.await.unwrap();
    }
    let options = SinkOptions::new(store.clone(), &topic, ARCHIVED);
    let (sink, archiving) = Sink::start(options, &bus).await.unwrap();
    sink.drain_up_to(ends(&bus, &topic).await.unwrap())
        .await
        .unwrap();
    sink.shutdown();
    archiving.await.unwrap().unwrap();

    let mut source = behind(&broker, &store, ARCHIVED).await;
    let mut newest = None;
    for _ in 0..RECORDS {
        let incoming = source.next().await.unwrap().expect("an archived record");
        newest = newest.max(incoming.timestamp_ms);
        assert_eq!(source.clocks[0].clock_ms, newest);
    }
    assert!(newest.is_some());
    // The offset stays where the archive ends.
    assert_eq!(source.next[&PARTITION], Offset(RECORDS));
    let in_log = Stretch::of(&source.clocks, PARTITION, Offset(RECORDS), Offset(9));
    assert_eq!(in_log.clock_ms, newest);

    let mut later = behind(&broker, &store, Incarnation(1)).await;
    later.next().await.unwrap().expect("an archived record");
    assert!(later.clocks.is_empty(), "a clock of another incarnation");
}
