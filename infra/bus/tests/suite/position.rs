use std::collections::BTreeMap;

use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use vintage_bus::{Bus, ConsumerLimits, Error, Event};
use vintage_control::{Offset, Partition};

use super::support::{any_next, next_record, reader, topic, within};

const P: Partition = Partition(0);

async fn numbered(bus: &Bus, topic: &str, n: u8) {
    let producer = bus.producer("writer").unwrap();
    for i in 0..n {
        let payload = Bytes::copy_from_slice(&[i]);
        producer
            .publish(topic, b"k", Vec::new(), payload)
            .await
            .unwrap();
    }
}

pub(crate) async fn acknowledged_is_readable(bus: &Bus) {
    let topic = topic(bus, "acknowledged", 1).await;
    assert_eq!(
        bus.watermarks(&topic).await.unwrap(),
        [(P, Offset(0), Offset(0))]
    );
    let producer = bus.producer("writer").unwrap();
    let mut consumer = reader(bus, &topic, 1);
    for i in 0..20_u8 {
        let payload = Bytes::copy_from_slice(&[i]);
        let delivery = producer
            .publish(&topic, b"k", Vec::new(), payload)
            .await
            .unwrap();
        assert_eq!(delivery.offset, Offset(i64::from(i)));
        let after = delivery.offset.next();
        assert_eq!(
            bus.watermarks(&topic).await.unwrap(),
            [(P, Offset(0), after)]
        );
        assert_eq!(next_record(&mut consumer).await.offset, delivery.offset);
        assert_eq!(consumer.position()[&P], after);
    }
}

pub(crate) async fn reading_starts_at_the_given_offset(bus: &Bus) {
    let topic = topic(bus, "start", 1).await;
    numbered(bus, &topic, 50).await;
    for start in [0, 1, 17, 49] {
        let limits = ConsumerLimits::default();
        let mut consumer = bus
            .consumer("r", &topic, vec![(P, Offset(start))], limits)
            .unwrap();
        assert_eq!(consumer.position()[&P], Offset(start));
        for offset in start..50 {
            let record = next_record(&mut consumer).await;
            assert_eq!(record.offset, Offset(offset));
            assert_eq!(record.payload.unwrap()[..], [offset as u8]);
        }
        consumer.close();
    }
    // A consumer started at the end reads only new records.
    let limits = ConsumerLimits::default();
    let mut consumer = bus
        .consumer("r", &topic, vec![(P, Offset(50))], limits)
        .unwrap();
    numbered(bus, &topic, 1).await;
    assert_eq!(next_record(&mut consumer).await.offset, Offset(50));
}

pub(crate) async fn an_offset_past_the_end_is_named(bus: &Bus) {
    let topic = topic(bus, "past-the-end", 2).await;
    numbered(bus, &topic, 5).await;
    let held = bus.watermarks(&topic).await.unwrap();
    let (bad, low, high) = held
        .into_iter()
        .find(|(_, _, high)| *high == Offset(5))
        .unwrap();
    let other = Partition(1 - bad.0);
    let start = vec![(other, Offset(0)), (bad, Offset(1000))];
    let mut consumer = bus
        .consumer("r", &topic, start, ConsumerLimits::default())
        .unwrap();
    // The other partition is empty, and its end may come first.
    let error = loop {
        match within(30, consumer.next()).await {
            Ok(Some(Event::End { partition, .. })) if partition == other => {}
            Ok(event) => panic!("{event:?}"),
            Err(error) => break error,
        }
    };
    let text = error.to_string();
    let Error::OffsetOutOfRange {
        topic: named,
        partition,
        offset,
        low: l,
        high: h,
    } = error
    else {
        panic!("{text}");
    };
    assert_eq!(
        (named, partition, offset, l, h),
        (topic, bad, Offset(1000), low, high)
    );
    assert!(text.contains("recreated"), "{text}");
    assert_eq!(consumer.next().await.unwrap(), None, "and that was the end");
}

/// Offsets are found by time: the first record with that timestamp or a later one, where a learner
/// may start.
pub(crate) async fn times_give_offsets(bus: &Bus) {
    if bus.is_embedded() {
        // librdkafka's mock cluster knows first and last offsets only.
        return;
    }
    let topic = topic(bus, "times", 2).await;
    let raw: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bus.bootstrap())
        .create()
        .unwrap();
    for i in 1..=5 {
        let record = FutureRecord::<[u8], [u8]>::to(&topic)
            .partition(0)
            .timestamp(i * 1000)
            .payload(b"x");
        raw.send(record, None).await.unwrap();
    }
    for (ms, offset) in [(-1, 0), (0, 0), (1000, 0), (1001, 1), (5000, 4), (5001, 5)] {
        let found = bus.offsets_at_time(&topic, ms).await.unwrap();
        assert_eq!(
            found,
            [(P, Offset(offset)), (Partition(1), Offset(0))],
            "{ms}"
        );
    }
}

pub(crate) async fn the_cluster_has_an_id(bus: &Bus) {
    let id = bus.cluster_id().await.unwrap();
    assert!(!id.is_empty());
    assert_eq!(bus.cluster_id().await.unwrap(), id);
    let topic = topic(bus, "copies", 2).await;
    let replicas = bus.replicas(&topic).await.unwrap();
    assert_eq!(replicas.len(), 2);
    for (i, of_partition) in replicas.iter().enumerate() {
        assert_eq!(of_partition.partition, Partition(i as i32));
        assert_eq!(of_partition.in_sync, of_partition.brokers);
        assert!(of_partition.leader.is_some());
    }
}

/// An end event comes at offset 0 of an empty partition, and again after more was written.
pub(crate) async fn an_end_is_told_where_reading_comes_to_it(bus: &Bus) {
    let topic = topic(bus, "ends", 2).await;
    let mut consumer = reader(bus, &topic, 2);
    let mut ends = BTreeMap::new();
    while ends.len() < 2 {
        match any_next(&mut consumer).await {
            Event::End { partition, next } => ends.insert(partition, next),
            other => panic!("{other:?} from an empty topic"),
        };
    }
    assert!(ends.values().all(|next| *next == Offset(0)), "{ends:?}");
    numbered(bus, &topic, 3).await;
    let mut came = 0;
    loop {
        match any_next(&mut consumer).await {
            Event::Record(record) => {
                assert_eq!(record.offset, Offset(came));
                came += 1;
            }
            Event::End { next, .. } => {
                assert_eq!(next, Offset(came), "before or after what came");
                if came == 3 {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_snapshot_ends_by_itself(bus: &Bus) {
    let topic = topic(bus, "snapshot", 2).await;
    let all = |_, low, _| Some(low);
    let mut nothing = bus.snapshot("s", &topic, all).await.unwrap();
    assert_eq!(within(30, nothing.next()).await.unwrap(), None);
    numbered(bus, &topic, 3).await;
    let mut reading = bus.snapshot("s", &topic, all).await.unwrap();
    // Records written later are not part of the snapshot.
    numbered(bus, &topic, 2).await;
    let mut offsets = Vec::new();
    while let Some(record) = within(30, reading.next()).await.unwrap() {
        offsets.push(record.offset.0);
    }
    assert_eq!(offsets, [0, 1, 2]);
    assert!(reading.unread().is_empty());
    let ends = within(30, bus.record_ends(&topic)).await.unwrap();
    let ends: Vec<_> = ends.into_iter().map(|(_, end)| end.0).collect();
    assert!(ends == [5, 0] || ends == [0, 5], "{ends:?}");
    assert_eq!(bus.withheld(&topic).await.unwrap(), []);
}
