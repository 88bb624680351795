//! What earlier lives of the producers left behind, as the gate of a new one counts it.
//!
//! The gate counts groups, and a group is a producer's number, however many records it has: parts
//! and copies are none, nor is what bears no number, for the announcements give nothing back for
//! that. Counted are the numbers that the log or the archive holds, and those that the learner has
//! trained or refused, whose records retention may have taken. Both as sets: neither the order of
//! reading nor what happens meanwhile counts a group twice. That holds wherever the roles run, for
//! all of them share the log and the learner's records; an archive need not be there.

use std::collections::BTreeMap;

use vintage_archive::Reader;
use vintage_bus::Bus;
use vintage_control::{CheckpointManifest, Name, NumberSet, Offset, Partition, PolicyVersion};
use vintage_learner::Records;
use vintage_rollout::GateBase;
use vintage_store::Store;
use vintage_trajectory::{Headers, Rows};

use crate::{Error, Result, config::RunConfig, through::through};

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
    let read = through(bus, topic, "rollout-base", |record| {
        let first = start.get(&record.partition).copied().unwrap_or_default();
        let pairs = record.headers.iter();
        let pairs = pairs.map(|h| (h.key.as_str(), h.value.as_deref()));
        if let (false, Ok(headers)) = (record.offset < first, Headers::parse(pairs)) {
            let payload = record.payload.as_ref();
            if earlier.note(&headers) {
                let rows = payload.and_then(|payload| Rows::decode(payload).ok());
                earlier.note_slot(headers.batch, rows.as_ref());
            }
        }
    });
    if let Some((partition, offset)) = read.await?.silent.first_key_value() {
        return Err(Error::Role(format!(
            "counting what earlier producers published: the record of topic {topic} at partition \
             {partition} offset {offset} did not come, and without it the gate would count \
             wrongly; check the broker, and start again"
        )));
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
            for base in reader.bases(incarnation, partition).await? {
                let file = reader.file(incarnation, partition, base).await;
                let counted = match file {
                    Ok(file) => earlier.count(reader, file).await,
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
                    earlier.number(producer, number);
                }
            }
            version = manifest.version;
            break;
        }
        while let Some(plan) = self.records.plan(version).await? {
            let own = plan.groups.iter().filter(|group| group.source.is_none());
            for group in own {
                earlier.number(&group.producer, group.producer_seq);
            }
            let own = plan.rejections.iter().filter(|r| r.source.is_none());
            for refused in own {
                if let (Some(producer), Some(seq)) = (&refused.producer, refused.producer_seq) {
                    earlier.number(producer, seq);
                }
            }
            version = version.next();
        }
        Ok(())
    }
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

    /// Counts a record's group; whether its slot is to be noted. Of batches that have a plan only
    /// the count matters: they are full.
    fn note(&mut self, headers: &Headers) -> bool {
        let new = self.number(&headers.producer, headers.producer_seq);
        // A batch is the learner's own: refused, another lineage's group leaves no gap in it.
        if !new || headers.batch < 0 || headers.policy != self.policy.as_str() {
            return false;
        }
        self.base.filled.entry(headers.batch).or_default().groups += 1;
        headers.batch as u64 >= self.planned.0
    }

    fn note_slot(&mut self, batch: i64, rows: Option<&Rows>) {
        let mut metadata = rows.and_then(|rows| rows.metadata(0)).into_iter().flatten();
        let slot = metadata.find(|(key, _)| *key == "slot");
        let slot = slot.and_then(|(_, number)| number.parse().ok());
        let filled = self.base.filled.entry(batch).or_default();
        filled.slots.extend::<Option<u64>>(slot);
    }

    /// Counts an archived file.
    async fn count(
        &mut self,
        reader: &Reader,
        file: vintage_archive::ArchiveFile,
    ) -> vintage_archive::Result<()> {
        let mut heads = reader.heads_in(file);
        while let Some(head) = heads.next().await? {
            if let Ok(headers) = &head.headers
                && self.note(headers)
            {
                let message = reader.message(head.record).await?;
                self.note_slot(headers.batch, message.rows.as_ref().ok());
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
