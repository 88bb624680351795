use std::collections::BTreeMap;

use bytes::Bytes;
use vintage_bus::{Bus, Error, TopicSpec};
use vintage_control::Fault;

use super::support::{noise, topic, within};

pub(crate) async fn a_missing_topic_is_named(bus: &Bus) {
    let missing = |error: Error| {
        assert_eq!(error.fault(), Fault::User);
        assert!(
            matches!(&error, Error::NoSuchTopic { topic, .. } if topic == "nowhere"),
            "{error}"
        );
    };
    missing(bus.partitions("nowhere").await.unwrap_err());
    missing(bus.watermarks("nowhere").await.unwrap_err());
    let producer = bus.producer("writer").unwrap();
    let publish = producer.publish("nowhere", b"k", Vec::new(), Bytes::new());
    missing(within(30, publish).await.unwrap_err());
}

pub(crate) async fn a_topic_that_differs_is_refused(bus: &Bus) {
    let name = topic(bus, "differs", 2).await;
    let spec = |partitions, config| TopicSpec {
        name: name.clone(),
        partitions,
        replication: 1,
        config,
    };
    bus.ensure_topics(&[spec(2, BTreeMap::new())])
        .await
        .unwrap();
    let error = bus
        .ensure_topics(&[spec(3, BTreeMap::new())])
        .await
        .unwrap_err();
    let Error::TopicDiffers {
        topic,
        property,
        found,
        expected,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        [topic, property, found, expected].map(String::as_str),
        ["differs", "partitions", "2", "3"]
    );
    // The topic may have more partitions than specified.
    bus.ensure_topics(&[spec(1, BTreeMap::new())])
        .await
        .unwrap();
    let larger = BTreeMap::from([("max.message.bytes".into(), "5000000".into())]);
    let checked = bus.ensure_topics(&[spec(2, larger)]).await;
    if bus.is_embedded() {
        checked.unwrap(); // takes any size
    } else {
        let error = checked.unwrap_err().to_string();
        assert!(error.contains("max.message.bytes 4194304"), "{error}");
    }
    let for_ever = BTreeMap::from([
        ("retention.ms".into(), "-1".into()),
        ("cleanup.policy".into(), "delete".into()),
    ]);
    let checked = bus.ensure_topics(&[spec(2, for_ever)]).await;
    if bus.is_embedded() {
        checked.unwrap();
    } else {
        let error = checked.unwrap_err().to_string();
        assert!(
            error.contains("retention.ms 604800000, expected -1"),
            "{error}"
        );
    }
}

pub(crate) async fn a_record_too_large_is_refused(bus: &Bus) {
    let topic = topic(bus, "too-large", 1).await;
    let producer = bus.producer("writer").unwrap();
    let error = producer
        .publish(&topic, b"k", Vec::new(), noise(1, 4 << 20))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                limit: 4_194_304,
                ..
            }
        ),
        "{error}"
    );
    // The producer still works.
    producer
        .publish(&topic, b"k", Vec::new(), noise(1, 100))
        .await
        .unwrap();
}
