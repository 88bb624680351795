use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use vintage_bus::{Bus, Consumer, ConsumerLimits, Error, Event, StartOffsets};
use vintage_control::{Offset, Partition};

use super::support::{next, topic, within};

const PARTITIONS: i32 = 4;

fn member(bus: &Bus, topic: &str, start: StartOffsets, limits: ConsumerLimits) -> Consumer {
    bus.group_consumer("member", "members", topic, start, limits)
        .unwrap()
}

fn at(offset: i64) -> StartOffsets {
    Arc::new(move |_| Ok(Offset(offset)))
}

/// Members of a group share partitions and hand them over. The first takes all partitions from its
/// start offset. A second joins while the first one's caller reads nothing: the poll thread hands
/// partitions over all the same. After the second leaves, the first has all of them again.
pub(crate) async fn members_share_and_hand_over(bus: &Bus) {
    let topic = topic(bus, "shared", PARTITIONS).await;
    let producer = bus.producer("writer").unwrap();
    let mut written = BTreeMap::<_, i64>::new();
    for i in 0..200_u64 {
        let payload = Bytes::from(vec![0; 5000]);
        let sent = producer
            .publish(&topic, &i.to_le_bytes(), Vec::new(), payload)
            .await
            .unwrap();
        *written.entry(sent.partition).or_default() += 1;
    }
    assert_eq!(written.len(), PARTITIONS as usize);

    // Its buffer is full long before everything is read, so its partitions are held back.
    let tiny = ConsumerLimits { max_bytes: 20_000 };
    let mut first = member(bus, &topic, at(3), tiny);
    let Event::Assigned(given) = next(&mut first).await else {
        panic!("an assignment first")
    };
    let mut expected: BTreeMap<_, _> = given.iter().copied().collect();
    assert!(expected.values().all(|offset| *offset == Offset(3)));

    let mut second = member(bus, &topic, at(10), ConsumerLimits::default());
    let mut taken = BTreeMap::new();
    while taken.is_empty() {
        match next(&mut second).await {
            Event::Assigned(given) => taken.extend(given),
            other => panic!("{other:?} before any assignment"),
        }
    }
    assert!(taken.values().all(|offset| *offset == Offset(10)));

    // The first one's caller resumes: records come in order and before the revocation.
    let mut revoked = Vec::new();
    while revoked.is_empty() {
        match next(&mut first).await {
            Event::Assigned(given) => expected.extend(given),
            Event::Record(record) => {
                let offset = expected.get_mut(&record.partition).expect("held");
                assert_eq!(record.offset, *offset);
                *offset = offset.next();
            }
            Event::Revoked(lost) => revoked = lost,
            Event::End { .. } => unreachable!("passed over"),
        }
    }
    for partition in &revoked {
        expected.remove(partition).expect("was held");
        assert!(!first.position().contains_key(partition));
    }
    assert!(revoked.len() < PARTITIONS as usize, "it keeps some");

    // The second member reads its partitions to their ends, each from offset 10.
    let total = |held: &BTreeMap<Partition, Offset>, from: i64| -> i64 {
        held.keys()
            .map(|partition| (written[partition] - from).max(0))
            .sum()
    };
    let mut left = total(&taken, 10);
    while left > 0 {
        match next(&mut second).await {
            Event::Record(record) => {
                let offset = taken.get_mut(&record.partition).expect("held");
                assert_eq!(record.offset, *offset);
                *offset = offset.next();
                left -= 1;
            }
            Event::Assigned(given) => {
                taken.extend(given.iter().copied());
                left += total(&given.into_iter().collect(), 10);
            }
            other => panic!("{other:?} with nobody else joining"),
        }
    }

    second.close();
    while first.position().len() < PARTITIONS as usize {
        next(&mut first).await;
    }
}

pub(crate) async fn a_failed_start_ends_the_member(bus: &Bus) {
    let topic = topic(bus, "failed-start", 1).await;
    let start: StartOffsets = Arc::new(|_| Err("no checkpoint there".into()));
    let mut consumer = member(bus, &topic, start, ConsumerLimits::default());
    let error = within(60, consumer.next()).await.unwrap_err();
    assert!(matches!(&error, Error::Start { .. }), "{error}");
    assert!(error.to_string().contains("no checkpoint there"), "{error}");
    assert_eq!(consumer.next().await.unwrap(), None);
}
