use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::future::{join, join_all, try_join_all};
use vintage_bus::{Bus, ConsumerLimits};
use vintage_control::Offset;

use super::support::{next_record, noise, reader, reader_with, records, topic, within};

const TINY: ConsumerLimits = ConsumerLimits {
    max_bytes: 64 << 10,
};

/// Publishes of one caller keep their order in the log although none is awaited before the next.
pub(crate) async fn a_key_keeps_its_order(bus: &Bus) {
    let topic = topic(bus, "order", 3).await;
    let producer = bus.producer("writer").unwrap();
    let publishes = (0..3000_u32).map(|i| {
        let key = [(i % 7) as u8];
        let (producer, topic) = (&producer, &topic);
        async move {
            let payload = Bytes::copy_from_slice(&i.to_le_bytes());
            producer.publish(topic, &key, Vec::new(), payload).await
        }
    });
    let deliveries = try_join_all(publishes).await.unwrap();
    let mut offsets = BTreeMap::new();
    for delivery in deliveries {
        let next: &mut Offset = offsets.entry(delivery.partition).or_default();
        assert_eq!(
            delivery.offset, *next,
            "no hole and no double in {}",
            delivery.partition
        );
        *next = next.next();
    }
    let mut last = BTreeMap::new();
    for record in records(&mut reader(bus, &topic, 3), 3000).await {
        let i = u32::from_le_bytes(record.payload.unwrap()[..].try_into().unwrap());
        let key = record.key.unwrap();
        assert_eq!(key[..], [(i % 7) as u8]);
        let before = last.insert(key, (record.partition, i));
        assert!(
            before.is_none_or(|b| b < (record.partition, i)),
            "{before:?} then {i}"
        );
    }
    assert_eq!(last.len(), 7);
}

/// The buffer stays bounded while the caller does not read, and every record is delivered once.
pub(crate) async fn a_slow_reader_loses_nothing(bus: &Bus) {
    const RECORDS: u64 = 400;
    const SIZE: usize = 20_000;
    let topic = topic(bus, "slow", 2).await;
    let producer = bus.producer("writer").unwrap();
    let mut consumer = reader_with(bus, &topic, 2, TINY);
    let writing = async {
        let publishes = (0..RECORDS).map(|i| {
            let (producer, topic) = (&producer, &topic);
            async move {
                producer
                    .publish(topic, &i.to_le_bytes(), Vec::new(), noise(i, SIZE))
                    .await
            }
        });
        try_join_all(publishes).await.unwrap();
    };
    let reading = async {
        let mut seen = vec![0; RECORDS as usize];
        for n in 0..RECORDS {
            if n % 50 == 0 {
                // Long enough for the buffer to fill and the partitions to be paused.
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            let held = consumer.buffered_bytes();
            assert!(held < TINY.max_bytes + SIZE + 1000, "{held} bytes are held");
            let record = next_record(&mut consumer).await;
            let i = u64::from_le_bytes(record.key.unwrap()[..].try_into().unwrap());
            assert_eq!(record.payload.unwrap(), noise(i, SIZE));
            seen[i as usize] += 1;
        }
        assert!(
            seen.iter().all(|&times| times == 1),
            "every record once: {seen:?}"
        );
    };
    join(writing, reading).await;
}

pub(crate) async fn readers_are_independent(bus: &Bus) {
    let topic = topic(bus, "independent", 2).await;
    let producer = bus.producer("writer").unwrap();
    let mut quick = reader(bus, &topic, 2);
    let mut slow = reader_with(bus, &topic, 2, TINY);
    let publishes = (0..200_u64).map(|i| {
        let (producer, topic) = (&producer, &topic);
        async move {
            producer
                .publish(topic, &i.to_le_bytes(), Vec::new(), noise(i, 10_000))
                .await
                .unwrap()
        }
    });
    let (_, mut first) = join(join_all(publishes), records(&mut quick, 200)).await;
    let mut second = records(&mut slow, 200).await;
    for read in [&mut first, &mut second] {
        read.sort_by_key(|record| (record.partition, record.offset));
    }
    assert_eq!(first, second);
    let ends: Vec<_> = bus.watermarks(&topic).await.unwrap();
    for (partition, _, high) in ends {
        assert_eq!(quick.position()[&partition], high);
        assert_eq!(slow.position()[&partition], high);
    }
}

/// A cancelled publish releases its reserved bytes, whether or not its record is in the log.
pub(crate) async fn a_cancelled_publish_holds_nothing(bus: &Bus) {
    let topic = topic(bus, "cancelled", 1).await;
    let producer = bus.producer("writer").unwrap();
    let mut consumer = reader(bus, &topic, 1);
    for i in 0..60_u64 {
        let publish = producer.publish(&topic, b"k", Vec::new(), noise(i, 1 << 20));
        // Some are cancelled before they are sent, some after.
        drop(tokio::time::timeout(Duration::from_micros(i * 50), publish).await);
        while consumer.try_next().unwrap().is_some() {}
    }
    within(30, producer.flush()).await.unwrap();
    let last = Bytes::from_static(b"last");
    within(30, async {
        let publish = producer.publish(&topic, b"k", Vec::new(), last.clone());
        let read =
            async { while next_record(&mut consumer).await.payload.as_ref() != Some(&last) {} };
        join(async { publish.await.unwrap() }, read).await;
    })
    .await;
}
