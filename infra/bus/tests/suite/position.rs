use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use vintage_bus::{Bus, ConsumerLimits, Error};
use vintage_control::{Offset, Partition};

use super::support::{next_record, reader, topic, within};

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

pub(crate) async fn reading_starts_where_it_is_told(bus: &Bus) {
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
    // From the end: only what is new.
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
    let error = within(30, consumer.next()).await.unwrap_err();
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

/// A learner may start at a time: from the first record that is as young.
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
