//! Tests of the embedded broker: the conformance suite of every broker, and its protection against
//! trimmed records.

#[path = "suite/ports.rs"]
mod ports;
mod suite;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::{join, join3, try_join_all};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use vintage_bus::{Bus, ConsumerLimits, Embedded, Error};
use vintage_control::{Offset, Partition};

use ports::{is_loopback, listening};
use suite::{
    CASES,
    support::{from_zero, next_record, noise, reader, reader_with, topic, within},
};

async fn embedded() -> Embedded {
    // Joining a group of the mock broker takes 3 s with the classic protocol and 0.1 s with this
    // one.
    let quick = BTreeMap::from([("group.protocol".into(), "consumer".into())]);
    Embedded::start_with(&[], &quick).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_conforms() {
    for (name, case) in CASES {
        let begun = Instant::now();
        let broker = embedded().await;
        case(&broker.bus()).await;
        println!("{name}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn nobody_outside_this_machine_reaches_it() {
    let _broker = embedded().await;
    let ports = listening(Path::new("/proc/self"));
    assert!(!ports.is_empty());
    assert!(
        ports.iter().all(|address| is_loopback(address)),
        "{ports:?}"
    );
}

/// A burst of 30 MB passes through two partitions of a broker that keeps 5 MiB of each. One reader
/// is quick, one is slow, and nothing is awaited between publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_30_mb_loses_nothing() {
    const RECORDS: u64 = 300;
    let broker = embedded().await;
    let bus = broker.bus();
    let topic = topic(&bus, "burst", 2).await;
    broker.expect_consumers(&topic, 2);
    let producer = bus.producer("writer").unwrap();
    let writing = async {
        let publishes = (0..RECORDS).map(|i| {
            let (producer, topic) = (&producer, &topic);
            async move {
                producer
                    .publish(topic, &i.to_le_bytes(), Vec::new(), noise(i, 100_000))
                    .await
            }
        });
        try_join_all(publishes).await.unwrap();
    };
    let read = async |limits, pause| {
        let mut consumer = reader_with(&bus, &topic, 2, limits);
        let mut seen = 0;
        for n in 0..RECORDS {
            if n % 30 == 0 {
                tokio::time::sleep(pause).await;
            }
            let record = next_record(&mut consumer).await;
            let i = u64::from_le_bytes(record.key.unwrap()[..].try_into().unwrap());
            assert_eq!(record.payload.unwrap(), noise(i, 100_000));
            seen += i;
        }
        assert_eq!(seen, RECORDS * (RECORDS - 1) / 2);
    };
    let quick = read(ConsumerLimits::default(), Duration::ZERO);
    let slow = read(
        ConsumerLimits { max_bytes: 300_000 },
        Duration::from_millis(20),
    );
    within(60, join3(writing, quick, slow)).await;
}

/// A writer that bypasses the flow control causes an error that names the partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimmed_records_are_an_error() {
    let broker = embedded().await;
    let bus = broker.bus();
    let topic = topic(&bus, "trimmed", 1).await;
    let mut consumer = reader_with(&bus, &topic, 1, ConsumerLimits { max_bytes: 1 });
    flood(&bus, &topic, 120).await;
    let mut next = Offset(0);
    let error = loop {
        match within(30, consumer.next()).await {
            Ok(event) => {
                assert!(event.is_some());
                next = next.next();
            }
            Err(error) => break error,
        }
    };
    let (Error::OffsetOutOfRange {
        topic: named,
        partition,
        ..
    }
    | Error::Hole {
        topic: named,
        partition,
        ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!((named, *partition), (&topic, Partition(0)));
    assert!(next < Offset(120), "some were trimmed");
}

/// Writes records of 100 kB each without flow control, as a client does that only knows the
/// address.
async fn flood(bus: &Bus, topic: &str, records: u64) {
    let raw: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bus.bootstrap())
        .create()
        .unwrap();
    for i in 0..records {
        let payload = noise(i, 100_000);
        let record = FutureRecord::<[u8], [u8]>::to(topic)
            .key(b"k")
            .payload(&payload);
        raw.send(record, None).await.unwrap();
    }
}

/// A reader whose start offset is no longer held gets an error, never a silent jump.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_reader_gets_an_error() {
    let broker = embedded().await;
    let bus = broker.bus();
    let topic = topic(&bus, "late", 1).await;
    flood(&bus, &topic, 80).await;
    let error = within(30, reader(&bus, &topic, 1).next())
        .await
        .unwrap_err();
    let Error::OffsetOutOfRange {
        offset, low, high, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((offset, high), (Offset(0), Offset(80)));
    assert!(low > Offset(0));
    assert!(error.to_string().contains("retention"), "{error}");
    // Reading from the first offset held works.
    let start = vec![(Partition(0), low)];
    let mut consumer = bus
        .consumer("r", &topic, start, ConsumerLimits::default())
        .unwrap();
    assert_eq!(next_record(&mut consumer).await.offset, low);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_before_the_expected_readers_are_there() {
    let broker = embedded().await;
    let bus = broker.bus();
    let topic = topic(&bus, "expected", 1).await;
    bus.expect_consumers(&topic, 2);
    let producer = bus.producer("writer").unwrap();
    let publish = producer.publish(&topic, b"k", Vec::new(), Bytes::new());
    let mut publish = Box::pin(publish);
    let first = reader(&bus, &topic, 1);
    let waited = tokio::time::timeout(Duration::from_millis(100), publish.as_mut()).await;
    assert!(waited.is_err(), "one reader is missing");
    let second = bus
        .consumer("r", &topic, from_zero(1), ConsumerLimits::default())
        .unwrap();
    within(30, publish).await.unwrap();
    drop((first, second));
}

/// A topic that nobody reads (policies, steps, rejects) never blocks its writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_nobody_reads_takes_everything() {
    let broker = embedded().await;
    let bus = broker.bus();
    let topic = topic(&bus, "unread", 1).await;
    let producer = bus.producer("writer").unwrap();
    for i in 0..100 {
        let publish = producer.publish(&topic, b"k", Vec::new(), noise(i, 100_000));
        within(30, publish).await.unwrap();
    }
    let held = bus.watermarks(&topic).await.unwrap();
    let (_, low, high) = held[0];
    assert_eq!(high, Offset(100));
    let start = vec![(Partition(0), low)];
    let mut consumer = bus
        .consumer("r", &topic, start, ConsumerLimits::default())
        .unwrap();
    let last = async { while next_record(&mut consumer).await.offset != Offset(99) {} };
    within(30, last).await;
}

/// Dropping clients does not block, because they are destroyed on threads of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_clients_does_not_block() {
    let broker = embedded().await;
    let bus = broker.bus();
    let topic = topic(&bus, "dropped", 1).await;
    let producer = bus.producer("writer").unwrap();
    producer
        .publish(&topic, b"k", Vec::new(), Bytes::new())
        .await
        .unwrap();
    let start: vintage_bus::StartOffsets = std::sync::Arc::new(|_| Ok(Offset(0)));
    let limits = ConsumerLimits::default();
    let mut member = bus.group_consumer("m", "g", &topic, start, limits).unwrap();
    within(30, member.next()).await.unwrap();
    let mut consumer = reader(&bus, &topic, 1);
    next_record(&mut consumer).await;
    let begun = Instant::now();
    member.close();
    consumer.close();
    drop((producer, bus, broker));
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(200), "took {took:?}");
}

/// An address on which nothing listens gives one clear error within the time limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_one_error() {
    // A port that was just bound and released, so that nothing is likely to listen on it.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let limit = Duration::from_millis(400);
    let bus = Bus::connect(&address, &BTreeMap::new())
        .unwrap()
        .with_timeout(limit);
    let begun = Instant::now();
    let (health, ensured) = join(bus.health(limit), bus.ensure_topics(&[])).await;
    for error in [health.unwrap_err(), ensured.unwrap_err()] {
        let text = error.to_string();
        assert!(matches!(error, Error::Unreachable { .. }), "{text}");
        assert!(text.contains(&address) && text.contains("0.4 s"), "{text}");
        assert!(error.is_retryable());
    }
    assert!(begun.elapsed() < 4 * limit, "took {:?}", begun.elapsed());
}
