//! `_meta.json`: topic and incarnation of an archive, and the offset at which each partition
//! begins.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use vintage_control::{CONTROL_FORMAT, Incarnation, Offset, Partition};
use vintage_store::{Created, Store};

use crate::{
    error::{Error, Result},
    path::TopicFolder,
};

/// Contents of `_meta.json`, written once by the first sink of a topic's incarnation.
///
/// The beginning of the archive must not be decided twice: retention moves the log's start, and two
/// sinks that began at different offsets would write overlapping files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveMeta {
    /// Format of the record, `vintage.control/1`.
    pub format: String,
    /// Name of the topic.
    pub topic: String,
    /// Incarnation of the topic.
    pub incarnation: Incarnation,
    /// First archived offset of each partition that the topic had; 0 for one added later.
    pub starts: BTreeMap<Partition, Offset>,
    /// Time of the first sink's start, in milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Version of the program that began the archive.
    pub vintage: String,
}

impl ArchiveMeta {
    /// Returns the archive's metadata, and creates it with `starts` if there is none.
    pub(crate) async fn agree(
        store: &Store,
        topic_folder: &TopicFolder,
        incarnation: Incarnation,
        starts: BTreeMap<Partition, Offset>,
    ) -> Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let meta = Self {
            format: CONTROL_FORMAT.to_owned(),
            topic: topic_folder.topic().to_owned(),
            incarnation,
            starts,
            created_at_ms: now.as_millis() as i64,
            vintage: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let path = topic_folder.meta(incarnation);
        let mut line = serde_json::to_vec(&meta).map_err(|error| Error::Encode {
            file: path.clone(),
            reason: error.to_string(),
        })?;
        line.push(b'\n');
        match store.create(&path, line.into()).await? {
            Created::New => Ok(meta),
            Created::Exists => Self::read(store, topic_folder, incarnation).await,
        }
    }

    /// Reads the archive's metadata and checks its topic, incarnation and format.
    pub(crate) async fn read(
        store: &Store,
        topic_folder: &TopicFolder,
        incarnation: Incarnation,
    ) -> Result<Self> {
        let (path, topic) = (topic_folder.meta(incarnation), topic_folder.topic());
        let none = || Error::NoArchive {
            topic: topic.to_owned(),
            incarnation,
            location: store.location(),
        };
        let meta: Self = store.get_json(&path).await?.ok_or_else(none)?;
        let of = |topic: &str, incarnation| format!("{topic} incarnation {incarnation}");
        let (found, expected) = (of(&meta.topic, meta.incarnation), of(topic, incarnation));
        if found == expected && meta.format == CONTROL_FORMAT {
            Ok(meta)
        } else {
            let found = format!("{found} in format {}", meta.format);
            Err(Error::OtherTopic {
                file: format!("{}/{path}", store.location()),
                found,
                expected,
            })
        }
    }

    /// Returns the first archived offset of `partition`.
    pub(crate) fn start(&self, partition: Partition) -> Offset {
        self.starts.get(&partition).copied().unwrap_or_default()
    }
}
