//! Tests of a real Apache Kafka that is started here: the conformance suite of every broker, and
//! what needs a broker that can be killed and restarted. Needs Java 17 and Maven.

mod suite;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::{Bus, Consumer, ConsumerLimits, Error, Event, Withheld};
use vintage_control::{Offset, Partition};

use suite::{
    CASES,
    support::{any_next, next_record, noise, reader, topic, within},
};

/// One broker for everything: the suite, then what only a broker that can be killed does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_kafka_conforms_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut kafka = LocalKafka::up(dir.path(), LocalOptions::default())
        .await
        .unwrap();
    println!("up: {:?}", begun.elapsed());
    let bus = kafka.bus().unwrap();
    for (name, case) in CASES {
        let begun = Instant::now();
        case(&bus).await;
        println!("{name}: {:?}", begun.elapsed());
    }
    expired_records_are_named(&bus).await;
    what_transactions_leave_is_no_record(&bus).await;

    let begun = Instant::now();
    a_crash_loses_nothing(&mut kafka, &bus).await;
    println!("a_crash_loses_nothing: {:?}", begun.elapsed());
    let begun = Instant::now();
    a_pause_is_waited_for(&mut kafka, &bus).await;
    println!("a_pause_is_waited_for: {:?}", begun.elapsed());
    kafka.down().await.unwrap();
}

/// A reader whose offset was deleted by retention gets one error that says so, with the bounds.
async fn expired_records_are_named(bus: &Bus) {
    let topic = topic(bus, "expired", 1).await;
    let producer = bus.producer("writer").unwrap();
    for i in 0..10 {
        producer
            .publish(&topic, b"k", Vec::new(), noise(i, 100))
            .await
            .unwrap();
    }
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bus.bootstrap())
        .create()
        .unwrap();
    let mut before = TopicPartitionList::new();
    before
        .add_partition_offset(&topic, 0, rdkafka::Offset::Offset(4))
        .unwrap();
    admin
        .delete_records(&before, &AdminOptions::new())
        .await
        .unwrap();
    let error = within(30, reader(bus, &topic, 1).next()).await.unwrap_err();
    let Error::OffsetOutOfRange {
        offset, low, high, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((offset, low, high), (Offset(0), Offset(4), Offset(10)));
    assert!(error.to_string().contains("retention"), "{error}");
}

/// Creates a producer for consecutive transactions.
fn transactional(bus: &Bus) -> FutureProducer {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bus.bootstrap())
        .set("transactional.id", "transactions")
        .create()
        .unwrap();
    tokio::task::block_in_place(|| producer.init_transactions(Duration::from_secs(60))).unwrap();
    producer
}

/// Begins a transaction with one record, which the brokers hold when this returns.
fn begin(producer: &FutureProducer, topic: &str) {
    producer.begin_transaction().unwrap();
    let record = FutureRecord::<[u8], [u8]>::to(topic)
        .partition(0)
        .payload(b"x");
    let _reported_by_the_flush = producer
        .send_result(record)
        .map_err(|(error, _)| error)
        .unwrap();
    tokio::task::block_in_place(|| producer.flush(Duration::from_secs(30))).unwrap();
}

/// Transaction markers, aborted records and withheld records at a partition's end are not reported
/// as records.
async fn what_transactions_leave_is_no_record(bus: &Bus) {
    let topic = topic(bus, "transactions", 1).await;
    let minute = Duration::from_secs(60);
    let producer = transactional(bus);
    let mut consumer = reader(bus, &topic, 1);
    let check = async |high: i64, end: i64, read: &[i64]| {
        let at = Partition(0);
        let marks = [(at, Offset(0), Offset(high))];
        assert_eq!(bus.watermarks(&topic).await.unwrap(), marks);
        let ends = within(30, bus.record_ends(&topic)).await.unwrap();
        assert_eq!(ends, [(at, Offset(end))]);
        let all = |_, low, _| Some(low);
        let mut snapshot = bus.snapshot("s", &topic, all).await.unwrap();
        let mut offsets = Vec::new();
        while let Some(record) = within(30, snapshot.next()).await.unwrap() {
            offsets.push(record.offset.0);
        }
        assert_eq!(offsets, read);
    };
    let ends_at = async |consumer: &mut Consumer, at: i64| {
        while any_next(consumer).await
            != (Event::End {
                partition: Partition(0),
                next: Offset(at),
            })
        {}
    };

    begin(&producer, &topic);
    tokio::task::block_in_place(|| producer.commit_transaction(minute)).unwrap();
    ends_at(&mut consumer, 2).await;
    check(2, 1, &[0]).await;
    begin(&producer, &topic);
    tokio::task::block_in_place(|| producer.abort_transaction(minute)).unwrap();
    ends_at(&mut consumer, 4).await;
    check(4, 1, &[0]).await;
    assert_eq!(bus.withheld(&topic).await.unwrap(), []);

    begin(&producer, &topic);
    let ours = bus.producer("writer").unwrap();
    let sent = ours.publish(&topic, b"k", Vec::new(), Bytes::new());
    assert_eq!(sent.await.unwrap().offset, Offset(5));
    check(4, 1, &[0]).await;
    let withheld = bus.withheld(&topic).await.unwrap();
    let at = Partition(0);
    assert_eq!(
        withheld,
        [Withheld {
            partition: at,
            from: Offset(4),
            to: Offset(6)
        }]
    );
    tokio::task::block_in_place(|| producer.commit_transaction(minute)).unwrap();
    ends_at(&mut consumer, 7).await;
    check(7, 6, &[0, 4, 5]).await;
    assert_eq!(consumer.position()[&at], Offset(7));
}

/// Clients continue where they were: nothing acknowledged is lost, nothing comes twice.
async fn a_crash_loses_nothing(kafka: &mut LocalKafka, bus: &Bus) {
    let topic = topic(bus, "crash", 1).await;
    let producer = bus.producer("writer").unwrap();
    let mut consumer = reader(bus, &topic, 1);
    let publish = async |i: u64| {
        let payload = Bytes::copy_from_slice(&i.to_le_bytes());
        producer.publish(&topic, b"k", Vec::new(), payload).await
    };
    for i in 0..50 {
        publish(i).await.unwrap();
    }
    next_record(&mut consumer).await;
    kafka.kill_node(1).await.unwrap();
    // A record published while the broker is down waits until it is back.
    let (sent, started) = join(publish(50), kafka.start_node(1)).await;
    started.unwrap();
    assert_eq!(sent.unwrap().offset, Offset(50));
    for i in 1..=50_u64 {
        let record = next_record(&mut consumer).await;
        assert_eq!(record.offset, Offset(i as i64));
        assert_eq!(record.payload.unwrap()[..], i.to_le_bytes());
    }
}

async fn a_pause_is_waited_for(kafka: &mut LocalKafka, bus: &Bus) {
    let topic = topic(bus, "pause", 1).await;
    let producer = bus.producer("writer").unwrap();
    let publish = || producer.publish(&topic, b"k", Vec::new(), Bytes::new());
    publish().await.unwrap();
    kafka.pause_node(1).unwrap();
    let limit = Duration::from_millis(300);
    let error = bus.health(limit).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let waiting = publish();
    let mut waiting = Box::pin(waiting);
    assert!(tokio::time::timeout(limit, waiting.as_mut()).await.is_err());
    kafka.resume_node(1).unwrap();
    assert_eq!(within(30, waiting).await.unwrap().offset, Offset(1));
    let start = vec![(Partition(0), Offset(1))];
    let mut consumer = bus
        .consumer("r", &topic, start, ConsumerLimits::default())
        .unwrap();
    assert_eq!(next_record(&mut consumer).await.offset, Offset(1));
}
