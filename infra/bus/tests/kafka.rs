//! Tests of a real Apache Kafka that is started here: the conformance suite of every broker, and
//! what needs a broker that can be killed and restarted. Needs Java 17 and Maven.

mod suite;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use vintage_bus::{
    Bus, Consumer, ConsumerLimits, Error, Event, LocalKafka, LocalOptions, Withheld,
};
use vintage_control::{Offset, Partition};

use suite::{
    CASES,
    support::{any_next, is_loopback, listening, next_record, noise, reader, topic, within},
};

/// Entries in `/proc` of processes whose command line names the folder.
fn processes(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.canonicalize().unwrap();
    let names_it = |process: &PathBuf| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let marker = dir.as_os_str().as_encoded_bytes();
        line.windows(marker.len()).any(|part| part == marker)
    };
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.filter(|process| process.join("cmdline").exists())
        .filter(names_it)
        .collect()
}

/// One broker passes the conformance suite and then the tests of crashes, pauses and restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_kafka_conforms_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut kafka = LocalKafka::up(dir.path(), LocalOptions::default())
        .await
        .unwrap();
    println!("up: {:?}", begun.elapsed());
    let ports = listening(&processes(dir.path())[0]);
    assert_eq!(ports.len(), 2, "for clients and for controllers: {ports:?}");
    assert!(
        ports.iter().all(|address| is_loopback(address)),
        "{ports:?}"
    );
    let bus = kafka.bus().unwrap();
    for (name, case) in CASES {
        let begun = Instant::now();
        case(&bus).await;
        println!("{name}: {:?}", begun.elapsed());
    }
    expired_records_are_named(&bus).await;
    what_transactions_leave_is_no_record(&bus).await;
    users_share_it(dir.path()).await;

    let begun = Instant::now();
    a_crash_loses_nothing(&mut kafka, &bus).await;
    println!("a_crash_loses_nothing: {:?}", begun.elapsed());
    let begun = Instant::now();
    a_pause_is_waited_for(&mut kafka, &bus).await;
    println!("a_pause_is_waited_for: {:?}", begun.elapsed());

    // The process that started the broker may leave first. After a restart, ports and data are the
    // same.
    let bootstrap = kafka.bootstrap().to_owned();
    let last = LocalKafka::up(dir.path(), LocalOptions::default())
        .await
        .unwrap();
    kafka.down().await.unwrap();
    assert_eq!(processes(dir.path()).len(), 1);
    let begun = Instant::now();
    last.down().await.unwrap();
    println!("down: {:?}", begun.elapsed());
    assert_eq!(processes(dir.path()), Vec::<PathBuf>::new());
    let found = LocalKafka::bootstrap_of(dir.path()).unwrap();
    assert_eq!(found.as_deref(), Some(&bootstrap[..]));

    it_stays_where_it_is_kept(dir.path(), &bootstrap).await;
}

/// A kept broker outlives its users. Otherwise, nodes left behind by a killed program are ended and
/// replaced.
async fn it_stays_where_it_is_kept(dir: &Path, bootstrap: &str) {
    let options = LocalOptions::default;
    let keep = LocalOptions {
        keep: true,
        ..options()
    };
    let kept = LocalKafka::up(dir, keep.clone()).await.unwrap();
    assert_eq!(kept.bootstrap(), bootstrap);
    let bus = kept.bus().unwrap();
    let first = next_record(&mut reader(&bus, "round-trip", 1)).await;
    assert_eq!(first.offset, Offset(0), "its data are there");
    drop(kept);
    let running = processes(dir);
    assert_eq!(running.len(), 1, "kept processes outlive their handle");
    drop(LocalKafka::up(dir, keep).await.unwrap());
    drop(LocalKafka::up(dir, options()).await.unwrap());
    let user = LocalKafka::up(dir, options()).await.unwrap();
    user.down().await.unwrap();
    assert_eq!(processes(dir), running, "what is kept is taken as it is");

    // Looks as if a program had been killed.
    std::fs::remove_file(dir.join("kept")).unwrap();
    let owned = LocalKafka::up(dir, options()).await.unwrap();
    let fresh = processes(dir);
    assert_eq!(fresh.len(), 1);
    assert_ne!(fresh, running);
    drop(owned);
    assert_eq!(processes(dir), Vec::<PathBuf>::new(), "dropped: gone");
    assert_eq!(LocalKafka::down_dir(dir).await.unwrap(), 0);
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
    let stands = async |high: i64, end: i64, read: &[i64]| {
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
    stands(2, 1, &[0]).await;
    begin(&producer, &topic);
    tokio::task::block_in_place(|| producer.abort_transaction(minute)).unwrap();
    ends_at(&mut consumer, 4).await;
    stands(4, 1, &[0]).await;
    assert_eq!(bus.withheld(&topic).await.unwrap(), []);

    begin(&producer, &topic);
    let ours = bus.producer("writer").unwrap();
    let sent = ours.publish(&topic, b"k", Vec::new(), Bytes::new());
    assert_eq!(sent.await.unwrap().offset, Offset(5));
    stands(4, 1, &[0]).await;
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
    stands(7, 6, &[0, 4, 5]).await;
    assert_eq!(consumer.position()[&at], Offset(7));
}

/// A second user joins the running broker, which stays up when one of them leaves.
async fn users_share_it(dir: &Path) {
    let running = processes(dir);
    let second = LocalKafka::up(dir, LocalOptions::default()).await.unwrap();
    let ended = LocalKafka::down_dir(dir).await;
    assert!(matches!(ended, Err(Error::LocalInUse { .. })));
    second.down().await.unwrap();
    assert_eq!(processes(dir), running);
    drop(LocalKafka::up(dir, LocalOptions::default()).await.unwrap());
    assert_eq!(processes(dir), running);
    let three = LocalOptions {
        nodes: Some(3),
        ..LocalOptions::default()
    };
    let other = LocalKafka::up(dir, three).await;
    assert!(matches!(other, Err(Error::LocalOptions { .. })));
}

/// Clients resume after a crash: nothing acknowledged is lost, nothing is read twice.
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

#[tokio::test]
async fn a_broker_that_cannot_start_says_why() {
    let home = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        kafka_home: Some(home.path().to_owned()),
        ..LocalOptions::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let error = LocalKafka::up(dir.path(), options).await.err().unwrap();
    assert!(matches!(error, Error::KafkaHome { .. }), "{error}");
    assert_eq!(processes(dir.path()), Vec::<PathBuf>::new());
    // An empty folder has no broker to stop and no address.
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(LocalKafka::down_dir(empty.path()).await.unwrap(), 0);
    assert_eq!(LocalKafka::bootstrap_of(empty.path()).unwrap(), None);
}

/// A cluster of three nodes with three replicas keeps working without one node, whether killed or
/// stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_outlive_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        nodes: Some(3),
        heap_mib: 256,
        ..LocalOptions::default()
    };
    let begun = Instant::now();
    let mut kafka = LocalKafka::up(dir.path(), options).await.unwrap();
    println!("three up: {:?}", begun.elapsed());
    assert_eq!(kafka.node_ids().collect::<Vec<_>>(), [1, 2, 3]);
    let bus = kafka.bus().unwrap();
    let config = BTreeMap::from([("min.insync.replicas".into(), "2".into())]);
    let spec = vintage_bus::TopicSpec {
        name: "three".into(),
        partitions: 3,
        replication: 3,
        config,
    };
    bus.ensure_topics(&[spec]).await.unwrap();
    let producer = bus.producer("writer").unwrap();
    let publish = async |i: u64| {
        producer
            .publish("three", &i.to_le_bytes(), Vec::new(), noise(i, 1000))
            .await
            .unwrap();
    };
    for i in 0..30 {
        publish(i).await;
    }
    kafka.kill_node(2).await.unwrap();
    for i in 30..60 {
        publish(i).await;
    }
    kafka.start_node(2).await.unwrap();
    kafka.stop_node(3).await.unwrap();
    for i in 60..90 {
        publish(i).await;
    }
    let mut consumer = reader(&bus, "three", 3);
    let mut seen: Vec<_> = Vec::new();
    for _ in 0..90 {
        let record = next_record(&mut consumer).await;
        seen.push(u64::from_le_bytes(
            record.key.unwrap()[..].try_into().unwrap(),
        ));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..90).collect::<Vec<_>>());
    let begun = Instant::now();
    kafka.down().await.unwrap();
    println!("three down: {:?}", begun.elapsed());
    assert_eq!(processes(dir.path()), Vec::<PathBuf>::new());
}
