//! Where files lie: `v1/<topic>/<incarnation>/p=<partition>/<base offset>.parquet`.
//!
//! Nothing that depends on when a file was closed may be part of its name: of two sinks that
//! close at different moments, both must come to the same name, or neither would lose.

use vintage_control::{Incarnation, Offset, Partition};

/// Objects of one topic's life.
pub(crate) fn life(topic: &str, incarnation: Incarnation) -> String {
    format!("{}/{incarnation}", topic_folder(topic))
}

pub(crate) fn topic_folder(topic: &str) -> String {
    format!("v1/{topic}")
}

pub(crate) fn meta(topic: &str, incarnation: Incarnation) -> String {
    format!("{}/_meta.json", life(topic, incarnation))
}

pub(crate) fn partition(topic: &str, incarnation: Incarnation, partition: Partition) -> String {
    format!("{}/p={:05}", life(topic, incarnation), partition.0)
}

/// The data file, which is also the commit record, of the offsets from `base` on.
pub(crate) fn data(topic: &str, incarnation: Incarnation, of: Partition, base: Offset) -> String {
    format!(
        "{}/{:020}.parquet",
        partition(topic, incarnation, of),
        base.0
    )
}

/// Where a damaged last file is kept.
pub(crate) fn quarantine(path: &str, attempt: u32) -> String {
    format!("_quarantine/{path}.{attempt}")
}

/// Partition and base offset of a data file below [`life`]; `None` for anything else.
pub(crate) fn parse(below_life: &str) -> Option<(Partition, Offset)> {
    let (folder, file) = below_life.split_once('/')?;
    let partition = Partition(digits(folder.strip_prefix("p=")?, 5)?.try_into().ok()?);
    let base = Offset(digits(file.strip_suffix(".parquet")?, 20)?);
    Some((partition, base))
}

fn digits(text: &str, width: usize) -> Option<i64> {
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() == width && all_digits {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_and_sorts_by_offset() {
        let (partition, base) = (Partition(7), Offset(1_234_567));
        let path = data("ns.run.rollouts.v1", Incarnation(2), partition, base);
        assert_eq!(
            path,
            "v1/ns.run.rollouts.v1/2/p=00007/00000000000001234567.parquet"
        );
        let below = path.strip_prefix("v1/ns.run.rollouts.v1/2/").unwrap();
        assert_eq!(parse(below), Some((partition, base)));
        let later = data(
            "ns.run.rollouts.v1",
            Incarnation(2),
            partition,
            Offset(10_000_000),
        );
        assert!(path < later);
    }

    #[test]
    fn other_objects_are_no_data_files() {
        for path in [
            "_meta.json",
            "p=00001/x.parquet",
            "p=1/00000000000000000001.parquet",
            "p=00001",
            "p=00001/00000000000000000001.parquet.1",
            "p=00001/+0000000000000000001.parquet",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
