use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    message::{Header as Raw, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use vintage_bus::{Bus, Header};

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

/// Other producers may send null header values and null keys; ours does not.
pub(crate) async fn null_headers_are_kept_apart(bus: &Bus) {
    let topic = topic(bus, "null-headers", 1).await;
    let raw: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bus.bootstrap())
        .create()
        .unwrap();
    let headers = OwnedHeaders::new()
        .insert(Raw {
            key: "null",
            value: None::<&[u8]>,
        })
        .insert(Raw {
            key: "empty",
            value: Some(""),
        });
    let record = FutureRecord::<[u8], [u8]>::to(&topic)
        .headers(headers)
        .payload(b"x");
    raw.send(record, None).await.unwrap();
    let read = records(&mut reader(bus, &topic, 1), 1).await;
    assert_eq!(read[0].key, None);
    let expected = [("null", None), ("empty", Some(Bytes::new()))].map(|(key, value)| Header {
        key: key.into(),
        value,
    });
    assert_eq!(read[0].headers, expected);
}

pub(crate) async fn large_records_round_trip(bus: &Bus) {
    let topic = topic(bus, "large", 1).await;
    let producer = bus.producer("writer").unwrap();
    let mut consumer = reader(bus, &topic, 1);
    let sizes = [900 << 10, 900 << 10, 1, 4 << 20, 900 << 10, 900 << 10];
    for (i, size) in sizes.into_iter().enumerate() {
        // Just under the limit with key and framing.
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
