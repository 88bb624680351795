//! Offsets at which a learner begins to read: decided once, before its first plan, and recorded.

use std::collections::BTreeMap;
use vintage_settings::Start;
use vintage_store::Records;

use vintage_archive::Reader;
use vintage_bus::Bus;
use vintage_control::{
    CONTROL_FORMAT, Incarnation, LearnerStart, Name, Offset, Partition, PartitionResume,
    PartitionStart, PolicyVersion, UpdateNumber,
};
use vintage_trajectory::Headers;

use crate::{
    broker::{Log, PATIENCE},
    error::{Error, Result},
    handoff::held,
};

/// Sources in which a learner may begin.
pub(crate) struct StartSources<'a> {
    /// Archive of the topic.
    pub(crate) reader: &'a Reader,
    /// Log that continues where the archive ends; `None` to read the archive alone.
    pub(crate) log: Option<&'a Log>,
}

/// Returns the offsets at which `learner` begins. The first decision is recorded and stays valid.
/// Without a record the learner begins at offset 0 of every partition.
pub(crate) async fn decide(
    records: &Records,
    learner: &Name,
    asked: &str,
    places: &StartSources<'_>,
) -> Result<Vec<PartitionResume>> {
    if let Some(there) = records.start().await? {
        if there.start != asked {
            return Err(Error::Setting {
                setting: format!("learner.start = {asked:?}"),
                reason: format!(
                    "learner {learner} began at {} already; leave the setting as it was, or give \
                     this learner another name",
                    there.start
                ),
            });
        }
        return Ok(resume_points(&there));
    }
    if records.is_planned(UpdateNumber::FIRST).await? {
        return Ok(Vec::new());
    }
    let start: Start = asked.parse().map_err(Error::Value)?;
    let partitions = places.find(&start).await?;
    if start == Start::Earliest {
        places.refuse_pruned(&partitions).await?;
    }
    if start == Start::Earliest && partitions.iter().all(|at| at.offset == Offset(0)) {
        return Ok(Vec::new());
    }
    let decided = LearnerStart {
        format: CONTROL_FORMAT.to_owned(),
        learner: learner.clone(),
        start: asked.to_owned(),
        partitions,
    };
    Ok(resume_points(&records.write_start(&decided).await?))
}

/// Converts a recorded start to a learner's resume points.
pub(crate) fn resume_points(start: &LearnerStart) -> Vec<PartitionResume> {
    let partitions = start.partitions.iter();
    partitions
        .map(|at| PartitionResume::starting(at.incarnation, at.partition, at.offset))
        .collect()
}

impl StartSources<'_> {
    async fn find(&self, start: &Start) -> Result<Vec<PartitionStart>> {
        match self.log {
            Some(log) => self.in_log(log, start).await,
            None => self.in_archive(start).await,
        }
    }

    /// Fails if a partition would be read from where `vintage prune` let its archive begin: what is
    /// earliest there is not what the run began with.
    async fn refuse_pruned(&self, partitions: &[PartitionStart]) -> Result<()> {
        for at in partitions {
            let pruned = self.reader.pruned(at.incarnation, at.partition).await;
            let pruned = match pruned {
                Err(vintage_archive::Error::NoArchive { .. }) => None,
                pruned => pruned?,
            };
            if pruned == Some(at.offset) {
                return Err(Error::Setting {
                    setting: "learner.start = \"earliest\"".to_owned(),
                    reason: format!(
                        "`vintage prune` deleted the first groups of partition {} from the \
                         archive, up to offset {}; begin later, with --start offset=…, time=…, \
                         version=… or latest, or read a copy of the run made before that",
                        at.partition, at.offset
                    ),
                });
            }
        }
        Ok(())
    }

    async fn in_log(&self, log: &Log, start: &Start) -> Result<Vec<PartitionStart>> {
        let topic = log.topics.rollouts();
        let marks = log.bus.watermarks(&topic).await?;
        let mut timed = BTreeMap::new();
        if let Start::Time(ms) = start {
            timed = log
                .bus
                .offsets_at_time(&topic, *ms)
                .await?
                .into_iter()
                .collect();
        }
        let mut found = Vec::new();
        let mut named = match start {
            Start::Offsets(offsets) => offsets.clone(),
            _ => BTreeMap::new(),
        };
        for (partition, low, high) in marks {
            let archived = held(self.reader, log.incarnation, partition).await?;
            // Before the log's start, only archived records that reach the log without a gap count.
            let archived = archived.filter(|(first, end)| *first < low && *end >= low);
            let first = archived.map_or(low, |(first, _)| first);
            let heads = Heads {
                reader: self.reader,
                place: (log.incarnation, partition),
                range: (first, low),
            };
            let offset = match start {
                Start::Earliest => first,
                Start::Latest => high,
                Start::Offsets(_) => match named.remove(&partition) {
                    Some(offset) if offset < first || offset > high => {
                        return Err(bad_start(format!(
                            "partition {partition} of {topic} has offsets {first} to {high}, not \
                             {offset}"
                        )));
                    }
                    Some(offset) => offset,
                    None => first,
                },
                Start::Time(ms) => {
                    let in_log = timed.get(&partition).copied().unwrap_or(high);
                    // The log has older records than this, so the archive has none as young.
                    let before = if in_log > low {
                        None
                    } else {
                        heads.first(|at, _| at >= *ms).await?
                    };
                    before.unwrap_or(in_log)
                }
                Start::Version(version) => {
                    let before = heads.first(|_, newest| newest >= Some(*version)).await?;
                    match before {
                        Some(offset) => offset,
                        None => sampled_by(&log.bus, &topic, partition, *version)
                            .await?
                            .unwrap_or(high),
                    }
                }
            };
            found.push(PartitionStart {
                incarnation: log.incarnation,
                partition,
                offset,
            });
        }
        all_known(&named, &topic)?;
        Ok(found)
    }

    async fn in_archive(&self, start: &Start) -> Result<Vec<PartitionStart>> {
        if *start == Start::Latest {
            return Err(Error::Setting {
                setting: "learner.start = \"latest\"".to_owned(),
                reason: "nothing comes after the end of an archive; give another start, or train \
                         from the log"
                    .to_owned(),
            });
        }
        let mut found = Vec::new();
        let incarnations = self.reader.incarnations().await?;
        let mut named = match start {
            Start::Offsets(offsets) => offsets.clone(),
            _ => BTreeMap::new(),
        };
        for &incarnation in &incarnations {
            for partition in self.reader.partitions(incarnation).await? {
                let Some((first, end)) = held(self.reader, incarnation, partition).await? else {
                    continue;
                };
                let heads = Heads {
                    reader: self.reader,
                    place: (incarnation, partition),
                    range: (first, end),
                };
                let offset = match start {
                    // Given offsets refer to the last incarnation; earlier ones are skipped.
                    Start::Offsets(_) if Some(&incarnation) != incarnations.last() => end,
                    Start::Offsets(_) => named.remove(&partition).unwrap_or(first),
                    Start::Time(ms) => heads.first(|at, _| at >= *ms).await?.unwrap_or(end),
                    Start::Version(version) => heads
                        .first(|_, newest| newest >= Some(*version))
                        .await?
                        .unwrap_or(end),
                    Start::Earliest | Start::Latest => first,
                };
                if offset < first || offset > end {
                    return Err(bad_start(format!(
                        "the archive of partition {partition} has offsets {first} to {end}, not \
                         {offset}"
                    )));
                }
                found.push(PartitionStart {
                    incarnation,
                    partition,
                    offset,
                });
            }
        }
        all_known(&named, self.reader.topic())?;
        Ok(found)
    }
}

fn all_known(left: &BTreeMap<Partition, Offset>, topic: &str) -> Result<()> {
    match left.keys().next() {
        None => Ok(()),
        Some(partition) => Err(bad_start(format!("{topic} has no partition {partition}"))),
    }
}

/// Error of a start that the log or the archive does not have.
fn bad_start(reason: String) -> Error {
    Error::Setting {
        setting: "learner.start".to_owned(),
        reason,
    }
}

/// Archived messages of a partition between two offsets, by their headers.
struct Heads<'a> {
    reader: &'a Reader,
    place: (Incarnation, Partition),
    range: (Offset, Offset),
}

impl Heads<'_> {
    /// Returns the offset of the first message whose timestamp (ms) and newest version satisfy
    /// `wanted`.
    async fn first(
        &self,
        wanted: impl Fn(i64, Option<PolicyVersion>) -> bool,
    ) -> Result<Option<Offset>> {
        let (from, until) = self.range;
        if from >= until {
            return Ok(None);
        }
        let (incarnation, partition) = self.place;
        let mut heads = self.reader.heads(incarnation, partition, from).await?;
        while let Some(head) = heads.next().await? {
            if head.record.offset >= until {
                break;
            }
            let newest = head.headers.ok().map(|headers| headers.max_policy_version);
            if wanted(head.timestamp_ms.unwrap_or(i64::MIN), newest) {
                return Ok(Some(head.record.offset));
            }
        }
        Ok(None)
    }
}

/// Returns the offset of the first record in a log partition with a token of this version or a
/// newer one.
async fn sampled_by(
    bus: &Bus,
    topic: &str,
    partition: Partition,
    version: PolicyVersion,
) -> Result<Option<Offset>> {
    let only = |at: Partition, low, _| (at == partition).then_some(low);
    let mut records = bus.snapshot("learner-start", topic, only).await?;
    loop {
        let record = match records.next_within(PATIENCE).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(vintage_bus::Error::Silent { offset, .. }) => {
                return Err(Error::Undelivered(format!(
                    "looking for the first record of version {version}: nothing of topic {topic} \
                     partition {partition} came from offset {offset} on; check the broker, and \
                     start again"
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let pairs = record.headers.iter();
        let pairs = pairs.map(|header| (header.key.as_str(), header.value.as_deref()));
        if Headers::parse(pairs).is_ok_and(|headers| headers.max_policy_version >= version) {
            return Ok(Some(record.offset));
        }
    }
}
