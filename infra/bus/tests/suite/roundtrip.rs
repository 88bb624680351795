use bytes::Bytes;
use vintage_bus::{Bus, Error, Header, Outgoing};
use vintage_control::{Offset, Partition};

use super::support::{noise, reader, records, topic};

pub(crate) async fn records_round_trip(bus: &Bus) {
    let topic = topic(bus, "round-trip", 1).await;
    let producer = bus.producer("writer").unwrap();
    let headers = vec![
        ("schema".to_owned(), b"vintage.trajectory/1".to_vec()),
        ("empty".to_owned(), Vec::new()),
        ("schema".to_owned(), "twice, with ü".as_bytes().to_vec()),
    ];
    let payload = Bytes::from_static(b"\x00\xff payload");
    let first = producer
        .publish(&topic, b"key", headers.clone(), payload.clone())
        .await
        .unwrap();
    let second = producer
        .publish(&topic, b"gone", Vec::new(), None)
        .await
        .unwrap();
    let third = producer
        .publish(&topic, b"", Vec::new(), Bytes::new())
        .await
        .unwrap();

    let mut consumer = reader(bus, &topic, 1);
    let read = records(&mut consumer, 3).await;
    for (record, delivery) in read.iter().zip([first, second, third]) {
        assert_eq!(
            (record.partition, record.offset),
            (delivery.partition, delivery.offset)
        );
        assert!(record.timestamp_ms.is_some_and(|at| at > 1_600_000_000_000));
    }
    assert_eq!(read[0].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(read[0].payload.as_ref(), Some(&payload));
    let expected: Vec<_> = headers
        .into_iter()
        .map(|(key, value)| Header {
            key,
            value: Some(value.into()),
        })
        .collect();
    assert_eq!(read[0].headers, expected);
    assert_eq!(read[1].payload, None);
    assert_eq!(read[1].headers, []);
    assert_eq!(read[2].payload, Some(Bytes::new()), "empty is not null");
}

/// A record is appended with a chosen partition and timestamp, and with nulls kept, as a replay
/// needs.
pub(crate) async fn a_record_is_appended_as_it_was(bus: &Bus) {
    let topic = topic(bus, "as-it-was", 2).await;
    let producer = bus.gapless_producer("copier").unwrap();
    let header = |key: &str, value| Header {
        key: key.into(),
        value,
    };
    let old = Outgoing {
        partition: Some(Partition(1)),
        timestamp_ms: Some(1_600_000_000_123),
        key: None,
        headers: vec![header("null", None), header("empty", Some(Bytes::new()))],
        payload: Some(Bytes::from_static(b"x")),
    };
    let older = Outgoing {
        timestamp_ms: Some(1_500_000_000_456),
        key: Some(Bytes::from_static(b"its partition is not that of its key")),
        ..old.clone()
    };
    let sent = [old, older];
    for (offset, record) in sent.iter().enumerate() {
        let delivery = producer.append(&topic, record.clone()).await.unwrap();
        assert_eq!(
            (delivery.partition, delivery.offset),
            (Partition(1), Offset(offset as i64))
        );
    }
    let read = records(&mut reader(bus, &topic, 2), 2).await;
    let read = read.into_iter().map(|record| Outgoing {
        partition: Some(record.partition),
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        headers: record.headers,
        payload: record.payload,
    });
    assert_eq!(read.collect::<Vec<_>>(), sent);
    let nowhere = Outgoing {
        partition: Some(Partition(2)),
        ..Outgoing::default()
    };
    let refused = producer.append(&topic, nowhere).await.unwrap_err();
    assert!(
        matches!(refused, Error::NoSuchPartition { partitions: 2, .. }),
        "{refused}"
    );
}

pub(crate) async fn large_records_round_trip(bus: &Bus) {
    let topic = topic(bus, "large", 1).await;
    let producer = bus.producer("writer").unwrap();
    let mut consumer = reader(bus, &topic, 1);
    let sizes = [900 << 10, 900 << 10, 1, 4 << 20, 900 << 10, 900 << 10];
    for (i, size) in sizes.into_iter().enumerate() {
        // The largest payload is just under the limit with key and framing.
        let payload = noise(i as u64, if size == 4 << 20 { size - 1024 } else { size });
        producer
            .publish(&topic, b"k", Vec::new(), payload.clone())
            .await
            .unwrap();
        let read = records(&mut consumer, 1).await;
        assert_eq!(
            read[0].payload.as_ref(),
            Some(&payload),
            "record {i} of {size} bytes"
        );
    }
}
