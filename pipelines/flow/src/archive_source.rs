//! Source of a learner that reads the archive.

use std::{collections::VecDeque, path::Path};
use vintage_config::secret;
use vintage_settings::{RunConfig, SourceKind};

use async_trait::async_trait;
use vintage_archive::{ArchivedMessage, Filter, Messages, Reader};
use vintage_control::{
    Incarnation, Offset, Partition, PartitionResume, PolicyVersion, WeightsManifest,
};
use vintage_learner::{Incoming, RolloutSource, Stretch, order::Merge};
use vintage_store::{Store, Weights};

use crate::{
    error::{Error, Result},
    folder::{archive_in, open_store},
};

/// Source that returns archived records in one fixed order, wherever reading begins: by
/// incarnation, then as [`vintage_learner::order`] defines.
pub(crate) struct ArchiveSource {
    /// Incarnations that have not been read to their end, oldest first.
    remaining: VecDeque<MergedPartitions>,
    recorded: bool,
}

/// Partitions of one incarnation, merged into one order.
struct MergedPartitions {
    partitions: Vec<ArchivedPartition>,
    merge: Merge<ArchivedMessage>,
}

/// Partition of one incarnation.
struct ArchivedPartition {
    messages: Messages,
    /// Clock of the partition where reading begins: the newest timestamp before it, in
    /// milliseconds.
    clock_ms: Option<i64>,
    /// First offset that is not read any more; `None` for no limit.
    until: Option<Offset>,
}

impl MergedPartitions {
    fn of(partitions: Vec<ArchivedPartition>) -> Self {
        let merge = Merge::new(partitions.iter().map(|partition| partition.clock_ms));
        Self { partitions, merge }
    }

    async fn next(&mut self) -> vintage_archive::Result<Option<ArchivedMessage>> {
        for at in self.merge.wanting() {
            let partition = &mut self.partitions[at];
            let until = partition.until;
            let within =
                |next: &ArchivedMessage| until.is_none_or(|until| next.record.offset < until);
            match partition.messages.next().await?.filter(within) {
                Some(next) => {
                    let (record, timestamp) = (next.record, next.timestamp_ms);
                    self.merge.put(at, record, timestamp, next);
                }
                None => self.merge.end(at),
            }
        }
        Ok(self.merge.pop().map(|(_, first)| first))
    }
}

impl ArchiveSource {
    /// Opens the whole archive as a recorded log, from the resume points on. Partitions without one
    /// are read from their beginning.
    pub(crate) async fn recorded(reader: &Reader, resume: &[PartitionResume]) -> Result<Self> {
        let mut source = Self::open(reader, &reader.incarnations().await?, resume).await?;
        source.recorded = true;
        Ok(source)
    }

    /// Opens the given incarnations, each partition from its resume point on, or from its
    /// beginning.
    pub(crate) async fn open(
        reader: &Reader,
        incarnations: &[Incarnation],
        resume: &[PartitionResume],
    ) -> Result<Self> {
        let mut remaining = VecDeque::new();
        for &incarnation in incarnations {
            let mut partitions = Vec::new();
            for partition in reader.partitions(incarnation).await? {
                let at = resume
                    .iter()
                    .find(|at| at.incarnation == incarnation && at.partition == partition);
                let clock = at.and_then(|at| at.clock_ms);
                let from = at.map(|at| at.resume);
                let opened = open_partition(reader, (incarnation, partition), (from, None), clock);
                partitions.push(opened.await?);
            }
            remaining.push_back(MergedPartitions::of(partitions));
        }
        Ok(Self {
            remaining,
            recorded: false,
        })
    }

    /// Opens stretches of some partitions of one incarnation.
    pub(crate) async fn between(
        reader: &Reader,
        incarnation: Incarnation,
        stretches: &[Stretch],
    ) -> Result<Self> {
        let mut partitions = Vec::new();
        for of in stretches {
            let range = (Some(of.from), Some(of.until));
            partitions.push(
                open_partition(reader, (incarnation, of.partition), range, of.clock_ms).await?,
            );
        }
        Ok(Self {
            remaining: VecDeque::from([MergedPartitions::of(partitions)]),
            recorded: false,
        })
    }

    async fn next_message(&mut self) -> vintage_archive::Result<Option<ArchivedMessage>> {
        while let Some(merged) = self.remaining.front_mut() {
            match merged.next().await? {
                Some(first) => return Ok(Some(first)),
                None => drop(self.remaining.pop_front()),
            }
        }
        Ok(None)
    }
}

async fn open_partition(
    reader: &Reader,
    (incarnation, partition): (Incarnation, Partition),
    (from, until): (Option<Offset>, Option<Offset>),
    clock_ms: Option<i64>,
) -> Result<ArchivedPartition> {
    let filter = Filter {
        from: from.map(|from| (partition, from)).into_iter().collect(),
        ..Filter::default()
    };
    Ok(ArchivedPartition {
        clock_ms,
        messages: reader.messages(incarnation, partition, &filter).await?,
        until,
    })
}

#[async_trait]
impl RolloutSource for ArchiveSource {
    async fn next(&mut self) -> vintage_learner::Result<Option<Incoming>> {
        let message = self
            .next_message()
            .await
            .map_err(vintage_learner::Error::source_failed)?;
        Ok(message.map(incoming))
    }

    fn is_recorded(&self) -> bool {
        self.recorded
    }
}

/// Opens the store of the run whose archive `learner.archive` names; `None` if it is not set.
fn other_run(config: &RunConfig) -> Result<Option<(&str, Store)>> {
    let Some(location) = &config.learner.archive else {
        return Ok(None);
    };
    let root = if location.contains("://") {
        let options =
            secret::reveal("store_options", &config.store_options).map_err(Error::Value)?;
        Store::open_with(location, &options)?
    } else {
        open_store(Path::new(location))?
    };
    Ok(Some((location, root)))
}

/// Refuses another run's archive if its policies have another tokenizer than the learner's: the same ids would
/// be other texts. An archive without weights beside it is taken as it is.
pub(crate) async fn check_tokenizer(config: &RunConfig, own: &Weights) -> Result<()> {
    const FILE: &str = "tokenizer.json";
    let Some((location, root)) = other_run(config)? else {
        return Ok(());
    };
    let zero = PolicyVersion::ZERO;
    let Some(own) = own.manifest(zero).await? else {
        return Ok(());
    };
    let manifest = format!("/{}/manifest.json", zero.0);
    for path in root.list("weights").await? {
        if !path.ends_with(&manifest) {
            continue;
        }
        let other: Option<WeightsManifest> = root.get_json(&path).await?;
        let Some(other) = other else { continue };
        if other.files.get(FILE) != own.files.get(FILE) {
            let policy = &other.policy;
            return Err(Error::Setting {
                setting: format!("learner.archive = {location:?}"),
                reason: format!(
                    "its policy {policy} has another tokenizer ({path}, {FILE}), so its tokens are other texts \
                     here; name the archive of a run with the same model"
                ),
            });
        }
    }
    Ok(())
}

/// Opens the archive that `learner.archive` names; `None` if it is not set.
pub(crate) async fn archive_of(config: &RunConfig) -> Result<Option<Reader>> {
    let Some((location, root)) = other_run(config)? else {
        return Ok(None);
    };
    let archive = archive_in(&root);
    let mut topics = Reader::topics(&archive).await?;
    match (topics.pop(), topics.is_empty()) {
        (Some(topic), true) => Ok(Some(Reader::new(archive, &topic))),
        (None, _) => Err(Error::Setting {
            setting: format!("learner.archive = {location:?}"),
            reason: "there is no archive; name the folder of a run".to_owned(),
        }),
        (Some(_), false) => Err(Error::SeveralTopics {
            location: location.to_owned(),
        }),
    }
}

/// Returns the archive whose records the plans of a run name, and true if it is another run's.
/// `has_config` is false for a copy without its settings.
pub(crate) async fn archive_of_run(
    config: &RunConfig,
    store: &Store,
    has_config: bool,
) -> Result<(Reader, bool)> {
    let own = archive_in(store);
    if config.learner.source == SourceKind::Archive
        && let Some(other) = archive_of(config).await?
    {
        return Ok((other, true));
    }
    let named = config.topic_names().rollouts();
    let topics = Reader::topics(&own).await?;
    let reader = match topics.as_slice() {
        // A copy without its settings: the archive says what it is of.
        [only] if !has_config => Reader::new(own, only),
        [_, ..] if !topics.contains(&named) => {
            return Err(Error::OtherTopic {
                named,
                location: own.location(),
                there: topics.join(", "),
            });
        }
        _ => Reader::new(own, &named),
    };
    Ok((reader, false))
}

fn incoming(message: ArchivedMessage) -> Incoming {
    Incoming {
        record: message.record,
        // CRC-32C of no bytes is 0.
        crc32c: message.payload_crc32c.unwrap_or(0),
        timestamp_ms: message.timestamp_ms,
        message: message.into_read(),
    }
}

/// Returns the end of the records of each partition. Warns of records that an open transaction
/// withholds from readers.
pub(crate) async fn ends(bus: &vintage_bus::Bus, topic: &str) -> Result<Vec<(Partition, Offset)>> {
    for withheld in bus.withheld(topic).await? {
        tracing::warn!(topic, "left in the log: {withheld}");
    }
    Ok(bus.record_ends(topic).await?)
}
