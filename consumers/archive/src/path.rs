//! Paths of the archive's files: `v1/topic=<topic>/incarnation=<n>/p=<partition>/<base
//! offset>.parquet`.
//!
//! A name must not depend on the moment at which its file was closed. Two sinks that close at
//! different moments must arrive at the same name, so that one of them loses.
//!
//! Every level below `v1` is `key=value`. Readers that make columns of such levels (Spark, Polars,
//! pyarrow, DuckDB) can then tell the incarnations of a topic apart, and Spark refuses a folder in
//! which some paths have such levels and others do not. Older archives are in
//! `v1/<topic>/<n>/p=<partition>` and continue there.

use vintage_control::{Incarnation, Offset, Partition};
use vintage_store::Store;

use crate::error::Result;

/// Folder of all archived topics.
pub(crate) const ROOT: &str = "v1";
const META: &str = "_meta.json";
const MARK: &str = ".pruned";
const TOPIC: &str = "topic=";
const INCARNATION: &str = "incarnation=";

/// Folder in which a topic is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFolder {
    topic: String,
    layout: Layout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Layout `topic=<topic>/incarnation=<n>/p=<partition>`.
    Keyed,
    /// Layout `<topic>/<n>/p=<partition>` of older archives.
    Plain,
}

impl TopicFolder {
    /// Finds the folder in which a topic is archived, or is to be archived.
    pub(crate) async fn find(store: &Store, topic: &str) -> Result<Self> {
        let plain = Self::of(topic, Layout::Plain);
        // Either the first or later incarnations may have been deleted; the cheaper check comes
        // first.
        let begun = store.head(&plain.meta(Incarnation(0))).await?.is_some()
            || !plain
                .incarnations(&store.list(&plain.path()).await?)
                .is_empty();
        let layout = if begun { Layout::Plain } else { Layout::Keyed };
        Ok(Self::of(topic, layout))
    }

    /// Returns the folder of the data file at `path`, which belongs to `topic`.
    pub(crate) fn of_file(path: &str, topic: &str) -> Self {
        let keyed = path.starts_with(&Self::of(topic, Layout::Keyed).path());
        let layout = if keyed { Layout::Keyed } else { Layout::Plain };
        Self::of(topic, layout)
    }

    /// Returns the folder of a topic whose archive is new.
    #[cfg(test)]
    pub(crate) fn keyed(topic: &str) -> Self {
        Self::of(topic, Layout::Keyed)
    }

    /// Returns the folder of a topic with an older archive.
    #[cfg(test)]
    pub(crate) fn plain(topic: &str) -> Self {
        Self::of(topic, Layout::Plain)
    }

    fn of(topic: &str, layout: Layout) -> Self {
        Self {
            topic: topic.to_owned(),
            layout,
        }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the folder's path.
    pub(crate) fn path(&self) -> String {
        let Self { topic, layout } = self;
        match layout {
            Layout::Keyed => format!("{ROOT}/{TOPIC}{topic}"),
            Layout::Plain => format!("{ROOT}/{topic}"),
        }
    }

    /// Returns the folder of one incarnation.
    pub(crate) fn incarnation(&self, incarnation: Incarnation) -> String {
        let folder = self.path();
        match self.layout {
            Layout::Keyed => format!("{folder}/{INCARNATION}{incarnation}"),
            Layout::Plain => format!("{folder}/{incarnation}"),
        }
    }

    pub(crate) fn meta(&self, incarnation: Incarnation) -> String {
        format!("{}/{META}", self.incarnation(incarnation))
    }

    pub(crate) fn partition(&self, incarnation: Incarnation, partition: Partition) -> String {
        format!("{}/p={:05}", self.incarnation(incarnation), partition.0)
    }

    /// Returns the path of the data file that begins at offset `base`; the file is also the commit
    /// record.
    pub(crate) fn data(&self, incarnation: Incarnation, of: Partition, base: Offset) -> String {
        format!("{}/{:020}.parquet", self.partition(incarnation, of), base.0)
    }

    /// Returns the path of the mark that the archive of a partition begins at offset `next`, because
    /// the files before it were pruned.
    pub(crate) fn mark(&self, incarnation: Incarnation, of: Partition, next: Offset) -> String {
        format!("{}/{:020}{MARK}", self.partition(incarnation, of), next.0)
    }

    /// Returns the incarnations that were begun, found in paths below [`TopicFolder::path`].
    pub(crate) fn incarnations(&self, paths: &[String]) -> Vec<Incarnation> {
        let folder = self.path();
        let incarnation = |path: &String| {
            let level = path.strip_prefix(&folder)?.strip_prefix('/')?;
            let level = level.strip_suffix(META)?.strip_suffix('/')?;
            let number = match self.layout {
                Layout::Keyed => level.strip_prefix(INCARNATION)?,
                Layout::Plain => level,
            };
            number.parse().ok().map(Incarnation)
        };
        paths.iter().filter_map(incarnation).collect()
    }

    /// Parses the path of a data file of an incarnation into partition and base offset; `None` for
    /// any other path.
    pub(crate) fn parse(
        &self,
        incarnation: Incarnation,
        path: &str,
    ) -> Option<(Partition, Offset)> {
        self.numbered(incarnation, path, ".parquet")
    }

    /// Parses the path of a mark of an incarnation into partition and offset; `None` for any other
    /// path.
    pub(crate) fn parse_mark(
        &self,
        incarnation: Incarnation,
        path: &str,
    ) -> Option<(Partition, Offset)> {
        self.numbered(incarnation, path, MARK)
    }

    fn numbered(
        &self,
        incarnation: Incarnation,
        path: &str,
        end: &str,
    ) -> Option<(Partition, Offset)> {
        let below = path.strip_prefix(&self.incarnation(incarnation))?;
        let (folder, file) = below.strip_prefix('/')?.split_once('/')?;
        let partition = Partition(digits(folder.strip_prefix("p=")?, 5)?.try_into().ok()?);
        let offset = Offset(digits(file.strip_suffix(end)?, 20)?);
        Some((partition, offset))
    }
}

/// Returns the topic of a level below [`ROOT`], in either layout: topic names contain no equals
/// sign.
pub(crate) fn topic_of(level: &str) -> &str {
    level.strip_prefix(TOPIC).unwrap_or(level)
}

/// Returns the topic if `path` is the `_meta.json` of one of its incarnations.
pub(crate) fn topic_begun(path: &str) -> Option<&str> {
    let (level, rest) = path
        .strip_prefix(ROOT)?
        .strip_prefix('/')?
        .split_once('/')?;
    rest.strip_suffix(META)?
        .ends_with('/')
        .then_some(topic_of(level))
}

/// Returns the path to which a damaged last file is moved.
pub(crate) fn quarantine(path: &str, attempt: u32) -> String {
    format!("_quarantine/{path}.{attempt}")
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

    const NAME: &str = "ns.run.rollouts.v1";
    const INCARNATION: Incarnation = Incarnation(2);

    fn topic_folders() -> [TopicFolder; 2] {
        [Layout::Keyed, Layout::Plain].map(|layout| TopicFolder::of(NAME, layout))
    }

    #[test]
    fn a_path_reads_back_and_sorts_by_offset() {
        let (partition, base) = (Partition(7), Offset(1_234_567));
        let [keyed, plain] = topic_folders();
        assert_eq!(
            keyed.data(INCARNATION, partition, base),
            "v1/topic=ns.run.rollouts.v1/incarnation=2/p=00007/00000000000001234567.parquet"
        );
        assert_eq!(
            plain.data(INCARNATION, partition, base),
            "v1/ns.run.rollouts.v1/2/p=00007/00000000000001234567.parquet"
        );
        for topic_folder in topic_folders() {
            let path = topic_folder.data(INCARNATION, partition, base);
            assert_eq!(
                topic_folder.parse(INCARNATION, &path),
                Some((partition, base))
            );
            assert_eq!(TopicFolder::of_file(&path, NAME), topic_folder);
            let mark = topic_folder.mark(INCARNATION, partition, base);
            assert_eq!(topic_folder.parse(INCARNATION, &mark), None);
            let marked = topic_folder.parse_mark(INCARNATION, &mark);
            assert_eq!(marked, Some((partition, base)));
            assert!(path < topic_folder.data(INCARNATION, partition, Offset(10_000_000)));
            let meta = topic_folder.meta(INCARNATION);
            assert_eq!(topic_begun(&meta), Some(NAME));
            assert_eq!(topic_folder.incarnations(&[path, meta]), [INCARNATION]);
        }
    }

    #[test]
    fn every_level_of_a_path_has_a_key_or_none_has_that_other_paths_have() {
        let path = topic_folders()[0].data(INCARNATION, Partition(7), Offset(0));
        let levels: Vec<_> = path.split('/').collect();
        let keyed: Vec<_> = levels.iter().map(|level| level.contains('=')).collect();
        assert_eq!(keyed, [false, true, true, true, false], "{path}");
    }

    #[test]
    fn other_objects_are_no_data_files() {
        for topic_folder in topic_folders() {
            for path in [
                "_meta.json",
                "p=00001/x.parquet",
                "p=1/00000000000000000001.parquet",
                "p=00001",
                "p=00001/00000000000000000001.parquet.1",
                "p=00001/+0000000000000000001.parquet",
            ] {
                let path = format!("{}/{path}", topic_folder.incarnation(INCARNATION));
                assert_eq!(topic_folder.parse(INCARNATION, &path), None, "{path}");
            }
        }
    }
}
