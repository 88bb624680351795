//! Single order in which partitions are read: by their clocks, then by partition and offset.
//!
//! The clock of a partition at a record is the latest timestamp up to that record. Timestamps
//! themselves may step back within a partition, because every producer has its own clock, and
//! merging by them would give an order that depends on where reading began. The module does no IO:
//! records in, records out.

use std::collections::BTreeMap;

use vintage_control::RecordId;

/// Position of a record in the order: the partition's clock, then the record. A partition without a
/// timestamp so far comes first.
type Position = (Option<i64>, RecordId);

/// Merge of partitions into one order. It holds one record per partition; the reader of the
/// partitions decides how far to read ahead.
#[derive(Debug)]
pub struct Merge<T> {
    partitions: BTreeMap<usize, Input<T>>,
}

#[derive(Debug)]
struct Input<T> {
    clock_ms: Option<i64>,
    head: Option<(Position, T)>,
    ended: bool,
}

impl<T> Merge<T> {
    /// Creates a merge of partitions with the given clocks. A partition that was read before has the clock of
    /// the point where reading resumes; a new partition has none.
    pub fn new(clocks_ms: impl IntoIterator<Item = Option<i64>>) -> Self {
        let partition = |clock_ms| Input {
            clock_ms,
            head: None,
            ended: false,
        };
        Self {
            partitions: clocks_ms.into_iter().map(partition).enumerate().collect(),
        }
    }

    /// Returns the partitions that have not ended and whose next record is not here. The next record of
    /// the merge is certain once there are none.
    pub fn wanting(&self) -> Vec<usize> {
        let wanting =
            |(_, partition): &(&usize, &Input<T>)| !partition.ended && partition.head.is_none();
        self.partitions
            .iter()
            .filter(wanting)
            .map(|(at, _)| *at)
            .collect()
    }

    /// Takes the next record of a partition, which must be one of [`Merge::wanting`].
    pub fn put(&mut self, partition: usize, record: RecordId, timestamp_ms: Option<i64>, item: T) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.clock_ms = partition.clock_ms.max(timestamp_ms);
            partition.head = Some(((partition.clock_ms, record), item));
        }
    }

    /// Marks a partition as ended: it will have no more records.
    pub fn end(&mut self, partition: usize) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.ended = true;
        }
    }

    /// Removes and returns the first of the records that are here, with its partition.
    pub fn pop(&mut self) -> Option<(usize, T)> {
        let heads = self
            .partitions
            .iter_mut()
            .filter(|(_, partition)| partition.head.is_some());
        let first =
            heads.min_by_key(|(_, partition)| partition.head.as_ref().map(|(place, _)| *place));
        let (at, partition) = first?;
        partition.head.take().map(|(_, item)| (*at, item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vintage_control::{Incarnation, Offset, Partition};

    use super::*;

    fn at(partition: usize, offset: usize) -> RecordId {
        RecordId {
            incarnation: Incarnation(0),
            partition: Partition(partition as i32),
            offset: Offset(offset as i64),
        }
    }

    /// Merges partitions of timestamps; `next` selects which of the wanting partitions is read next.
    fn merged(
        partitions: &[Vec<Option<i64>>],
        mut next: impl FnMut(usize) -> usize,
    ) -> Vec<RecordId> {
        let mut merge = Merge::new(partitions.iter().map(|_| None));
        let mut read = vec![0; partitions.len()];
        let mut out = Vec::new();
        loop {
            loop {
                let wanting = merge.wanting();
                if wanting.is_empty() {
                    break;
                }
                let partition = wanting[next(wanting.len())];
                match partitions[partition].get(read[partition]) {
                    Some(timestamp) => {
                        let record = at(partition, read[partition]);
                        merge.put(partition, record, *timestamp, record);
                        read[partition] += 1;
                    }
                    None => merge.end(partition),
                }
            }
            match merge.pop() {
                Some((_, record)) => out.push(record),
                None => return out,
            }
        }
    }

    fn partitions() -> impl Strategy<Value = Vec<Vec<Option<i64>>>> {
        // Clocks may be hours apart, or nonsense.
        let timestamp = prop_oneof![
            1 => Just(None),
            8 => (0..50_i64).prop_map(Some),
            1 => (-1..=1_i64).prop_map(|hours| Some(hours * 18_000_000)),
            1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(Some),
        ];
        prop::collection::vec(prop::collection::vec(timestamp, 0..20), 0..5)
    }

    proptest! {
        /// Checks that records are sorted by the running maximum of their partition's timestamps,
        /// whichever partition is read first.
        #[test]
        fn partitions_come_in_the_order_of_their_clocks(
            partitions in partitions(),
            choices in prop::collection::vec(0..100_usize, 1..50),
        ) {
            let mut expected = Vec::new();
            for (partition, timestamps) in partitions.iter().enumerate() {
                let mut clock = None;
                for (offset, timestamp) in timestamps.iter().enumerate() {
                    clock = clock.max(*timestamp);
                    expected.push((clock, at(partition, offset)));
                }
            }
            expected.sort();
            let expected: Vec<_> = expected.into_iter().map(|(_, record)| record).collect();
            let mut turn = 0;
            let any = |of: usize| {
                turn += 1;
                choices[turn % choices.len()] % of
            };
            prop_assert_eq!(&merged(&partitions, any), &expected);
            prop_assert_eq!(&merged(&partitions, |_| 0), &expected);
        }

        /// Checks that a merge that resumes from its clocks gives the rest of the order.
        #[test]
        fn reading_continues_where_it_stopped(partitions in partitions(), cut in 0..100_usize) {
            let whole = merged(&partitions, |_| 0);
            let cut = cut.min(whole.len());
            let mut read = vec![0; partitions.len()];
            for record in &whole[..cut] {
                read[record.partition.0 as usize] += 1;
            }
            let clock = |partition: usize| partitions[partition][..read[partition]].iter().max().copied().flatten();
            let mut merge = Merge::new((0..partitions.len()).map(clock));
            let mut rest = Vec::new();
            loop {
                for partition in merge.wanting() {
                    match partitions[partition].get(read[partition]) {
                        Some(timestamp) => {
                            let record = at(partition, read[partition]);
                            merge.put(partition, record, *timestamp, record);
                            read[partition] += 1;
                        }
                        None => merge.end(partition),
                    }
                }
                let Some((_, record)) = merge.pop() else { break };
                rest.push(record);
            }
            prop_assert_eq!(&rest[..], &whole[cut..]);
        }
    }

    #[test]
    fn a_lane_that_gives_nothing_stops_nobody_who_does_not_wait_for_it() {
        let mut merge = Merge::new([None, None]);
        merge.put(1, at(1, 0), Some(7), "b");
        assert_eq!(merge.wanting(), [0]);
        assert_eq!(merge.pop(), Some((1, "b")));
        // A record that arrives late comes before all that are newer.
        merge.put(1, at(1, 1), Some(8), "d");
        merge.put(0, at(0, 0), Some(1), "a");
        assert_eq!(merge.pop(), Some((0, "a")));
        merge.end(0);
        assert_eq!(merge.pop(), Some((1, "d")));
        assert_eq!(merge.pop(), None);
    }
}
