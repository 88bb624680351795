//! Filter of single messages: by partition, version, timestamp and offset.
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use vintage_control::{ArchiveFooter, Offset, Partition, PolicyVersion};

use crate::{
    columns::{OFFSET, TIMESTAMP},
    file::Opened,
    message::ArchivedMessage,
};

/// Condition on the messages to read. The default accepts all of them.
///
/// Files are skipped by their footers and row groups by their statistics, without being read; what
/// is left is compared message by message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Accepts only these partitions.
    pub partitions: Option<BTreeSet<Partition>>,
    /// Accepts only messages with a range of versions, oldest to newest token, that meets this one.
    /// Quarantined messages have no version.
    pub versions: Option<RangeInclusive<PolicyVersion>>,
    /// Accepts only messages with a Kafka timestamp in this range, in milliseconds since the epoch.
    pub timestamps_ms: Option<RangeInclusive<i64>>,
    /// Accepts only messages at or after an offset, by partition.
    pub from: BTreeMap<Partition, Offset>,
}

impl Filter {
    pub(crate) fn wants_partition(&self, partition: Partition) -> bool {
        self.partitions
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&partition))
    }

    pub(crate) fn start(&self, partition: Partition) -> Offset {
        self.from
            .get(&partition)
            .copied()
            .unwrap_or(Offset(i64::MIN))
    }

    pub(crate) fn wants_file(&self, footer: &ArchiveFooter) -> bool {
        let versions = footer.min_policy_version.zip(footer.max_policy_version);
        let timestamps = footer.min_timestamp_ms.zip(footer.max_timestamp_ms);
        footer.next_offset > self.start(footer.partition)
            && self
                .versions
                .as_ref()
                .is_none_or(|wanted| overlap(wanted, versions))
            && self
                .timestamps_ms
                .as_ref()
                .is_none_or(|wanted| overlap(wanted, timestamps))
    }

    pub(crate) fn wants_group(&self, file: &Opened, group: usize) -> bool {
        // Without statistics a group has to be read.
        let among = |wanted: &RangeInclusive<i64>, root: &str, last: &str| {
            file.range(group, root, last)
                .is_none_or(|found| overlap(wanted, Some(found)))
        };
        let versions = self.versions.as_ref().map(|wanted| {
            let bound = |version: PolicyVersion| i64::try_from(version.0).unwrap_or(i64::MAX);
            bound(*wanted.start())..=bound(*wanted.end())
        });
        let offsets = self.start(file.file.footer.partition).0..=i64::MAX;
        among(&offsets, OFFSET, OFFSET)
            && versions.is_none_or(|wanted| among(&wanted, "policy_spans", "version"))
            && self
                .timestamps_ms
                .as_ref()
                .is_none_or(|wanted| among(wanted, TIMESTAMP, TIMESTAMP))
    }

    pub(crate) fn wants_message(&self, message: &ArchivedMessage) -> bool {
        let versions = message
            .rows
            .as_ref()
            .ok()
            .and_then(|rows| rows.min_version().zip(rows.max_version()));
        let timestamp = message.timestamp_ms.map(|at| (at, at));
        message.record.offset >= self.start(message.record.partition)
            && self
                .versions
                .as_ref()
                .is_none_or(|wanted| overlap(wanted, versions))
            && self
                .timestamps_ms
                .as_ref()
                .is_none_or(|wanted| overlap(wanted, timestamp))
    }
}

fn overlap<T: PartialOrd>(wanted: &RangeInclusive<T>, found: Option<(T, T)>) -> bool {
    found.is_some_and(|(least, most)| least <= *wanted.end() && most >= *wanted.start())
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn ranges_overlap_where_they_share_a_value() {
        for (found, expected) in [
            ((0, 4), false),
            ((0, 5), true),
            ((6, 7), true),
            ((9, 12), true),
            ((10, 12), false),
        ] {
            assert_eq!(overlap(&(5..=9), Some(found)), expected, "{found:?}");
        }
        assert!(!overlap(&(5..=9), None));
    }
}
