use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use vintage_bus::{Bus, Consumer, ConsumerLimits, Event, Record, TopicSpec};
use vintage_control::{Offset, Partition};

/// Limit on each wait, far beyond what any step takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn topic(bus: &Bus, name: &str, partitions: i32) -> String {
    // The value of topics.toml; by default a broker accepts 1 MiB at most.
    let config = BTreeMap::from([("max.message.bytes".into(), "4194304".into())]);
    let spec = TopicSpec {
        name: name.into(),
        partitions,
        replication: 1,
        config,
    };
    bus.ensure_topics(&[spec]).await.unwrap();
    name.to_owned()
}

pub(crate) fn from_zero(partitions: i32) -> Vec<(Partition, Offset)> {
    (0..partitions)
        .map(|partition| (Partition(partition), Offset(0)))
        .collect()
}

pub(crate) fn reader(bus: &Bus, topic: &str, partitions: i32) -> Consumer {
    reader_with(bus, topic, partitions, ConsumerLimits::default())
}

pub(crate) fn reader_with(
    bus: &Bus,
    topic: &str,
    partitions: i32,
    limits: ConsumerLimits,
) -> Consumer {
    bus.consumer("reader", topic, from_zero(partitions), limits)
        .unwrap()
}

/// Returns the next event other than [`Event::End`].
pub(crate) async fn next(consumer: &mut Consumer) -> Event {
    loop {
        match any_next(consumer).await {
            Event::End { .. } => {}
            event => return event,
        }
    }
}

pub(crate) async fn any_next(consumer: &mut Consumer) -> Event {
    let event = tokio::time::timeout(DEADLINE, consumer.next())
        .await
        .expect("an event in time");
    event.unwrap().expect("the consumer continues")
}

pub(crate) async fn next_record(consumer: &mut Consumer) -> Record {
    match next(consumer).await {
        Event::Record(record) => record,
        other => panic!("expected a record, got {other:?}"),
    }
}

pub(crate) async fn records(consumer: &mut Consumer, n: usize) -> Vec<Record> {
    let mut records = Vec::with_capacity(n);
    while records.len() < n {
        records.push(next_record(consumer).await);
    }
    records
}

/// Bytes that no codec compresses, different for every seed.
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.flat_map(u64::to_le_bytes).take(length).collect()
}

pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future)
        .await
        .expect("done in time")
}
