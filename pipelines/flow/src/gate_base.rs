//! What earlier lives of the producers left behind, as the gate of a new one counts it.
//!
//! The gate counts groups, and a group is a producer's number, however many records it has: parts
//! and copies are none, nor is what bears no number, for the announcements give nothing back for
//! that. Counted are the numbers that the log or the archive holds, and those that the learner has
//! trained or refused, whose records retention may have taken. Both as sets: neither the order of
//! reading nor what happens meanwhile counts a group twice. That holds wherever the roles run, for
//! all of them share the log and the learner's records; an archive need not be there.
//!
//! The same groups say which prompts were asked, and so which are still to be asked in the epoch:
//! what a producer held in its memory when it ended, or what it lost, does not count.

use std::collections::BTreeMap;
use vintage_settings::RunConfig;

use vintage_archive::Reader;
use vintage_bus::Bus;
use vintage_control::{
    CheckpointManifest, Incarnation, Name, NumberSet, Offset, Partition, PolicyVersion,
};
use vintage_rollout::GateBase;
use vintage_store::{Records, Store};
use vintage_trajectory::{Identity, Rows};

use crate::{Error, Result};

/// By what the log holds, and the learner's records.
pub(crate) async fn of_log(
    bus: &Bus,
    topic: &str,
    store: &Store,
    config: &RunConfig,
) -> Result<GateBase> {
    let learner = Learner::of(store, config);
    let mut earlier = learner.earlier().await?;
    // What stands before the learner's start is never trained: counted, it would take room for ever.
    let start = learner.records.start().await?;
    let start = start.map_or_else(Vec::new, |start| start.partitions);
    let start: BTreeMap<Partition, Offset> = start
        .into_iter()
        .map(|at| (at.partition, at.offset))
        .collect();
    let read = bus.read_whole(topic, "rollout-base", |record| {
        let first = start.get(&record.partition).copied().unwrap_or_default();
        let pairs = record.headers.iter();
        let pairs = pairs.map(|h| (h.key.as_str(), h.value.as_deref()));
        if record.offset >= first
            && let Some(noted) = earlier.note(&Identity::read(pairs))
        {
            let payload = record.payload.as_ref();
            let rows = payload.and_then(|payload| Rows::decode(payload).ok());
            let rows = rows.filter(|rows| !rows.is_empty());
            earlier.note_prompt(rows.as_ref().map(|rows| rows.prompt_id(0)));
            if let Some(batch) = noted.slot_of {
                earlier.note_slot(batch, rows.as_ref());
            }
        }
    });
    let read = read.await?;
    if let Some((partition, offset)) = read.silent.first_key_value() {
        return Err(Error::Role(format!(
            "counting what earlier producers published: the record of topic {topic} at partition \
             {partition} offset {offset} did not come, and without it the gate would count \
             wrongly; check the broker, and start again"
        )));
    }
    // What retention took of the log the archive may have.
    let archive = Reader::new(store.at("archive"), topic);
    for (partition, low, _) in read.marks {
        let first = start.get(&partition).copied().unwrap_or_default();
        let stretch = (Incarnation(0), partition, first);
        if low > first {
            earlier
                .count_partition(&archive, stretch, Some(low))
                .await?;
        }
    }
    learner.settled(&mut earlier).await?;
    Ok(earlier.base())
}

/// By what the archive holds, and the learner's records: what died with an embedded log is in
/// neither, and must not count.
pub(crate) async fn of_archive(
    reader: &Reader,
    store: &Store,
    config: &RunConfig,
) -> Result<GateBase> {
    let learner = Learner::of(store, config);
    let mut earlier = learner.earlier().await?;
    for incarnation in reader.incarnations().await? {
        for partition in reader.partitions(incarnation).await? {
            let stretch = (incarnation, partition, Offset(0));
            earlier.count_partition(reader, stretch, None).await?;
        }
    }
    learner.settled(&mut earlier).await?;
    Ok(earlier.base())
}

/// The lead, whose updates the gate paces.
struct Learner<'a> {
    store: &'a Store,
    name: &'a Name,
    policy: &'a Name,
    records: Records,
}

impl<'a> Learner<'a> {
    fn of(store: &'a Store, config: &'a RunConfig) -> Self {
        let name = &config.learner.name;
        Self {
            store,
            name,
            policy: &config.learner.policy,
            records: Records::new(store.clone(), name.clone()),
        }
    }

    async fn earlier(&self) -> Result<Earlier<'a>> {
        Ok(Earlier {
            policy: self.policy,
            planned: self.records.next_plan().await?,
            numbers: BTreeMap::new(),
            base: GateBase::default(),
        })
    }

    /// Adds what the learner has trained or refused: by its newest checkpoint, and the plans since.
    async fn settled(&self, earlier: &mut Earlier<'_>) -> Result<()> {
        let mut version = PolicyVersion::ZERO;
        for at in self.records.checkpoints().await?.into_iter().rev() {
            let path = format!("checkpoints/{}/{at}/manifest.json", self.name);
            // Pruned between the two reads: the plans tell the same.
            let manifest: Option<CheckpointManifest> = self.store.get_json(&path).await?;
            let Some(manifest) = manifest else { continue };
            for (producer, window) in &manifest.producers {
                let above = window.above.iter().map(|&number| number..=number);
                let runs = window.runs.iter().map(|&(first, last)| first..=last);
                let above = above.chain(runs).flatten();
                for number in (0..window.next).chain(above) {
                    earlier.settled(producer, number);
                }
            }
            version = manifest.version;
            break;
        }
        while let Some(plan) = self.records.plan(version).await? {
            let own = plan.groups.iter().filter(|group| group.source.is_none());
            for group in own {
                earlier.settled(&group.producer, group.producer_seq);
            }
            let own = plan.rejections.iter().filter(|r| r.source.is_none());
            for refused in own {
                if let (Some(producer), Some(seq)) = (&refused.producer, refused.producer_seq) {
                    earlier.settled(producer, seq);
                }
            }
            version = version.next();
        }
        Ok(())
    }
}

/// A group of the lead's lineage that was not met before: its prompt was asked once more.
struct Noted {
    /// Its batch, where that has no plan yet. Of others only the count matters: they are full.
    slot_of: Option<i64>,
}

/// What was found so far.
struct Earlier<'a> {
    policy: &'a Name,
    /// The first update without a plan when this began.
    planned: PolicyVersion,
    numbers: BTreeMap<String, NumberSet>,
    base: GateBase,
}

impl Earlier<'_> {
    /// Counts a number; whether it is new.
    fn number(&mut self, producer: &str, seq: u64) -> bool {
        if !self.numbers.contains_key(producer) {
            self.numbers
                .insert(producer.to_owned(), NumberSet::default());
        }
        let numbers = self.numbers.get_mut(producer);
        numbers.is_some_and(|numbers| numbers.insert(seq))
    }

    /// Counts a number that the learner's records name. In neither log nor archive, its group does
    /// not say any more what it asked.
    fn settled(&mut self, producer: &str, seq: u64) {
        if self.number(producer, seq) {
            self.base.unnamed += 1;
        }
    }

    /// Counts a record's group, as far as its headers can be read; `None` of one that was met
    /// before, is of another lineage, or bears no number.
    fn note(&mut self, identity: &Identity) -> Option<Noted> {
        let (producer, seq) = identity.number()?;
        let new = self.number(producer, seq);
        // A batch is the learner's own: refused, another lineage's group leaves no gap in it.
        let own = identity.policy.as_deref() == Some(self.policy.as_str());
        if !new || !own {
            return None;
        }
        let batch = identity.batch.filter(|&batch| batch >= 0);
        if let Some(batch) = batch {
            self.base.filled.entry(batch).or_default().groups += 1;
        }
        let slot_of = batch.filter(|&batch| batch as u64 >= self.planned.0);
        Some(Noted { slot_of })
    }

    fn note_prompt(&mut self, id: Option<&str>) {
        if let Some(id) = id {
            *self.base.asked.entry(id.to_owned()).or_default() += 1;
        }
    }

    fn note_slot(&mut self, batch: i64, rows: Option<&Rows>) {
        let mut metadata = rows.and_then(|rows| rows.metadata(0)).into_iter().flatten();
        let slot = metadata.find(|(key, _)| *key == "slot");
        let slot = slot.and_then(|(_, number)| number.parse().ok());
        let filled = self.base.filled.entry(batch).or_default();
        filled.slots.extend::<Option<u64>>(slot);
    }

    /// Counts what is archived of a partition from an offset on, in files that begin before `until`.
    async fn count_partition(
        &mut self,
        reader: &Reader,
        (incarnation, partition, from): (Incarnation, Partition, Offset),
        until: Option<Offset>,
    ) -> vintage_archive::Result<()> {
        let bases = reader.bases(incarnation, partition).await?;
        for base in bases
            .into_iter()
            .filter(|&base| until.is_none_or(|until| base < until))
        {
            let file = reader.file(incarnation, partition, base).await;
            let counted = match file {
                Ok(file) => self.count(reader, file, from).await,
                Err(error) => Err(error),
            };
            match counted {
                // Damage is the audit's to tell. Of what was trained, the plans tell too.
                Err(error @ vintage_archive::Error::Corrupt { .. }) => {
                    tracing::warn!("the gate counts without a file: {error}");
                }
                counted => counted?,
            }
        }
        Ok(())
    }

    /// Counts an archived file.
    async fn count(
        &mut self,
        reader: &Reader,
        file: vintage_archive::ArchiveFile,
        from: Offset,
    ) -> vintage_archive::Result<()> {
        let mut heads = reader.heads_in(file);
        while let Some(head) = heads.next().await? {
            if head.record.offset < from {
                continue;
            }
            let Some(noted) = self.note(&head.identity) else {
                continue;
            };
            self.note_prompt(head.prompt.as_deref());
            if let Some(batch) = noted.slot_of {
                let message = reader.message(head.record).await?;
                self.note_slot(batch, message.rows.as_ref().ok());
            }
        }
        Ok(())
    }

    fn base(self) -> GateBase {
        GateBase {
            published_before: self.numbers.values().map(NumberSet::len).sum(),
            ..self.base
        }
    }
}

#[cfg(test)]
mod tests;
