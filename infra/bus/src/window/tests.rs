use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::{KEPT, LIMIT, ReaderId, Window};

const TOPIC: &str = "vintage.r1.rollouts.v1";

fn one_reader() -> (Window, ReaderId) {
    let mut window = Window::default();
    let reader = window.register(TOPIC, [(0, 0)]);
    (window, reader)
}

/// Reserves bytes for a record and acknowledges it at once; returns false if it does not fit.
fn append(window: &mut Window, offset: i64, bytes: usize) -> bool {
    let room = window.try_reserve(TOPIC, 0, bytes);
    if room {
        window.acknowledged(TOPIC, 0, offset, bytes);
    }
    room
}

#[test]
fn a_partition_fills_and_empties_as_it_is_read() {
    let (mut window, reader) = one_reader();
    assert!(append(&mut window, 0, LIMIT / 2));
    assert!(append(&mut window, 1, LIMIT / 2));
    assert!(!window.try_reserve(TOPIC, 0, 1));
    assert!(
        window.try_reserve(TOPIC, 1, LIMIT),
        "another partition has its own window"
    );
    window.taken(TOPIC, reader, 0, 1);
    assert!(append(&mut window, 2, LIMIT / 2));
    assert!(!window.try_reserve(TOPIC, 0, 1));
}

#[test]
fn the_slowest_of_all_readers_counts() {
    let (mut window, fast) = one_reader();
    let slow = window.register(TOPIC, [(0, 0)]);
    assert!(append(&mut window, 0, LIMIT));
    window.taken(TOPIC, fast, 0, 1);
    assert!(!window.try_reserve(TOPIC, 0, 1));
    window.deregister(TOPIC, slow);
    assert!(
        window.try_reserve(TOPIC, 0, 1),
        "a reader that is gone holds nothing back"
    );
}

#[test]
fn what_is_in_flight_counts_and_failures_give_it_back() {
    let (mut window, _) = one_reader();
    assert!(window.try_reserve(TOPIC, 0, LIMIT));
    assert!(!window.try_reserve(TOPIC, 0, 1));
    window.abandoned(TOPIC, 0, LIMIT);
    assert!(window.try_reserve(TOPIC, 0, 1));
}

#[test]
fn a_record_read_before_its_acknowledgement_is_read() {
    let (mut window, reader) = one_reader();
    assert!(window.try_reserve(TOPIC, 0, LIMIT));
    window.taken(TOPIC, reader, 0, 1);
    window.acknowledged(TOPIC, 0, 0, LIMIT);
    assert!(window.try_reserve(TOPIC, 0, LIMIT));
}

#[test]
fn a_record_over_the_limit_goes_alone() {
    let (mut window, reader) = one_reader();
    assert!(append(&mut window, 0, 10));
    assert!(!window.try_reserve(TOPIC, 0, LIMIT + 1));
    window.taken(TOPIC, reader, 0, 1);
    assert!(append(&mut window, 1, LIMIT + 1));
    assert!(!window.try_reserve(TOPIC, 0, 1));
}

#[test]
fn nothing_is_written_before_the_readers_are_there() {
    let mut window = Window::default();
    window.expect(TOPIC, 2);
    assert!(!window.try_reserve(TOPIC, 0, 1));
    let first = window.register(TOPIC, [(0, 0)]);
    assert!(!window.try_reserve(TOPIC, 0, 1));
    window.register(TOPIC, [(0, 0)]);
    assert!(window.try_reserve(TOPIC, 0, 1));
    window.deregister(TOPIC, first);
    assert!(window.try_reserve(TOPIC, 0, 1), "they have been there");
}

/// A topic without readers (steps, rejects, policies) never blocks its writers.
#[test]
fn a_topic_without_readers_is_not_bounded() {
    let mut window = Window::default();
    for offset in 0..100 {
        assert!(append(&mut window, offset, LIMIT));
    }
    assert!(
        window.topics[TOPIC].partitions[&0].unread_bytes <= KEPT,
        "and costs no memory"
    );
}

#[test]
fn a_late_reader_is_recognized_by_where_it_starts() {
    let mut window = Window::default();
    assert!(append(&mut window, 0, LIMIT));
    assert!(append(&mut window, 1, 10));
    let from_end = window.register(TOPIC, [(0, 2)]);
    assert!(window.try_reserve(TOPIC, 0, 1));
    window.abandoned(TOPIC, 0, 1);
    window.deregister(TOPIC, from_end);
    assert!(append(&mut window, 2, LIMIT));
    window.register(TOPIC, [(0, 2)]);
    assert!(!window.try_reserve(TOPIC, 0, 1));
}

#[test]
fn a_lost_partition_no_longer_counts() {
    let (mut window, reader) = one_reader();
    assert!(append(&mut window, 0, LIMIT));
    window.left(TOPIC, reader, 0);
    assert!(window.try_reserve(TOPIC, 0, LIMIT));
    window.abandoned(TOPIC, 0, LIMIT);
    window.taken(TOPIC, reader, 0, 0);
    assert!(
        window.try_reserve(TOPIC, 0, LIMIT),
        "not even by records that were held"
    );
}

/// Model of a partition of the mock broker: it drops its oldest whole batches beyond 5 MiB as sent.
#[derive(Default)]
struct Broker {
    batches: VecDeque<(i64, usize)>,
    end: i64,
    bytes: usize,
}

impl Broker {
    fn append(&mut self, records: &[usize]) {
        let bytes = records.iter().sum();
        self.batches.push_back((self.end, bytes));
        self.end += records.len() as i64;
        self.bytes += bytes;
        while self.bytes > KEPT && self.batches.len() > 1 {
            self.bytes -= self.batches.pop_front().expect("more than one").1;
        }
    }

    fn start(&self) -> i64 {
        self.batches.front().map_or(self.end, |batch| batch.0)
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// Reserves bytes for a record of this size.
    Publish(usize),
    /// Sends what is reserved and not yet sent, in batches as librdkafka makes them.
    Send,
    /// Advances a reader by this many records.
    Take { reader: usize, records: i64 },
    /// Delivers outstanding acknowledgements to the window.
    Acknowledge,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (100..1_200_000_usize).prop_map(Op::Publish),
        2 => Just(Op::Publish(4_190_000)),
        3 => Just(Op::Send),
        4 => (0..3_usize, 0..20_i64).prop_map(|(reader, records)| Op::Take { reader, records }),
        3 => Just(Op::Acknowledge),
    ];
    prop::collection::vec(op, 1..400)
}

/// Value of librdkafka's `batch.size`, in bytes.
const BATCH: usize = 1_000_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A reader's next record is never trimmed, in any order of sends, reads and acknowledgements.
    #[test]
    fn nothing_unread_is_trimmed(ops in ops()) {
        let mut window = Window::default();
        let readers: Vec<_> = (0..3).map(|_| window.register(TOPIC, [(0, 0)])).collect();
        let mut next: HashMap<_, i64> = readers.iter().map(|reader| (*reader, 0)).collect();
        let mut broker = Broker::default();
        let mut reserved = Vec::new();
        let mut sent = VecDeque::new();
        for op in ops {
            match op {
                Op::Publish(bytes) => {
                    if window.try_reserve(TOPIC, 0, bytes) {
                        reserved.push(bytes);
                    }
                }
                Op::Send => {
                    let mut batch: Vec<usize> = Vec::new();
                    for bytes in std::mem::take(&mut reserved) {
                        if !batch.is_empty() && batch.iter().sum::<usize>() + bytes > BATCH {
                            broker.append(&std::mem::take(&mut batch));
                        }
                        sent.push_back(bytes);
                        batch.push(bytes);
                    }
                    if !batch.is_empty() {
                        broker.append(&batch);
                    }
                }
                Op::Take { reader, records } => {
                    let reader = readers[reader];
                    let position = next.get_mut(&reader).expect("registered");
                    *position = (*position + records).min(broker.end);
                    window.taken(TOPIC, reader, 0, *position);
                }
                Op::Acknowledge => {
                    let first = broker.end - sent.len() as i64;
                    for (offset, bytes) in (first..).zip(sent.drain(..)) {
                        window.acknowledged(TOPIC, 0, offset, bytes);
                    }
                }
            }
            let slowest = next.values().min().copied().unwrap_or(0);
            prop_assert!(broker.start() <= slowest, "{} trimmed, {slowest} unread", broker.start());
        }
    }
}
