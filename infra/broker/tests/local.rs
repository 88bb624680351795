//! Tests of a local Kafka: sharing between processes, shutdown, and survival of kills. They need
//! Java 17 and Maven.

#[path = "../../bus/tests/suite/ports.rs"]
mod ports;
#[path = "../../bus/tests/suite/support.rs"]
#[expect(dead_code, reason = "the suite of the bus uses the rest")]
mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use vintage_broker::{Error, LocalKafka, LocalOptions};
use vintage_control::Offset;

use ports::{is_loopback, listening};
use support::{next_record, noise, reader, topic};

/// Topic that is written to before the broker is shared, killed, stopped and started again.
const TOPIC: &str = "kept";

/// Finds the processes whose command line contains the folder's path.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_kafka_is_shared_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = LocalKafka::up(dir.path(), LocalOptions::default())
        .await
        .unwrap();
    let ports = listening(&processes(dir.path())[0]);
    assert_eq!(ports.len(), 2, "for clients and for controllers: {ports:?}");
    assert!(
        ports.iter().all(|address| is_loopback(address)),
        "{ports:?}"
    );
    let bus = kafka.bus().unwrap();
    topic(&bus, TOPIC, 1).await;
    let producer = bus.producer("writer").unwrap();
    let sent = producer.publish(TOPIC, b"k", Vec::new(), Bytes::new());
    assert_eq!(sent.await.unwrap().offset, Offset(0));
    users_share_it(dir.path()).await;
    kafka.kill_node(1).await.unwrap();
    kafka.start_node(1).await.unwrap();

    // The process that started the broker may leave first. A restart keeps ports and data.
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

/// Checks that a kept broker outlives its users, and that nodes left behind by a killed program are
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
    let first = next_record(&mut reader(&bus, TOPIC, 1)).await;
    assert_eq!(first.offset, Offset(0), "its data are there");
    drop(kept);
    let running = processes(dir);
    assert_eq!(running.len(), 1, "kept processes outlive their handle");
    drop(LocalKafka::up(dir, keep).await.unwrap());
    drop(LocalKafka::up(dir, options()).await.unwrap());
    let user = LocalKafka::up(dir, options()).await.unwrap();
    user.down().await.unwrap();
    assert_eq!(processes(dir), running, "what is kept is taken as it is");

    // Without this file the running nodes look like those of a killed program.
    std::fs::remove_file(dir.join("kept")).unwrap();
    let owned = LocalKafka::up(dir, options()).await.unwrap();
    let fresh = processes(dir);
    assert_eq!(fresh.len(), 1);
    assert_ne!(fresh, running);
    drop(owned);
    assert_eq!(processes(dir), Vec::<PathBuf>::new(), "dropped: gone");
    assert_eq!(LocalKafka::down_dir(dir).await.unwrap(), 0);
}

/// Checks that a second user joins the running broker, which stays up when one of them leaves.
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
    // An empty folder has no broker to end, and no address.
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(LocalKafka::down_dir(empty.path()).await.unwrap(), 0);
    assert_eq!(LocalKafka::bootstrap_of(empty.path()).unwrap(), None);
}

/// Checks that three nodes with three replicas survive the loss of any one of them.
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
