//! `_meta.json`: what one life of a topic's archive is of, and where each partition begins.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use vintage_control::{CONTROL_FORMAT, Incarnation, Offset, Partition};
use vintage_store::{Created, Store};

use crate::{Error, Result, path::Home};

/// Written once, by the first sink of a topic's life.
///
/// Where the archive begins must not be decided twice: retention moves the log's start, and two
/// sinks that began at different offsets would write overlapping files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveMeta {
    /// `vintage.control/1`.
    pub format: String,
    /// The topic.
    pub topic: String,
    /// Its life.
    pub incarnation: Incarnation,
    /// First offset archived of each partition the topic had; of one added later it is 0.
    pub starts: BTreeMap<Partition, Offset>,
    /// When, milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Version of the program that began it.
    pub vintage: String,
}

impl ArchiveMeta {
    /// The archive's record, made with `starts` if this is the first to ask.
    pub(crate) async fn agree(
        store: &Store,
        home: &Home,
        incarnation: Incarnation,
        starts: BTreeMap<Partition, Offset>,
    ) -> Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let meta = Self {
            format: CONTROL_FORMAT.to_owned(),
            topic: home.topic().to_owned(),
            incarnation,
            starts,
            created_at_ms: now.as_millis() as i64,
            vintage: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let path = home.meta(incarnation);
        let mut line = serde_json::to_vec(&meta).map_err(|error| Error::Encode {
            file: path.clone(),
            why: error.to_string(),
        })?;
        line.push(b'\n');
        match store.create(&path, line.into()).await? {
            Created::New => Ok(meta),
            Created::Exists => Self::read(store, home, incarnation).await,
        }
    }

    /// Reads and checks the record.
    pub(crate) async fn read(store: &Store, home: &Home, incarnation: Incarnation) -> Result<Self> {
        let (path, topic) = (home.meta(incarnation), home.topic());
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

    /// First offset archived of `partition`.
    pub(crate) fn start(&self, partition: Partition) -> Offset {
        self.starts.get(&partition).copied().unwrap_or_default()
    }
}
