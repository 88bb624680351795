//! Count of the groups that earlier producer processes left behind, from which the gate of a new
//! one starts.
//!
//! The gate counts groups, and a group is one number of a producer, however many records it has.
//! Parts and copies add nothing, nor do records without a number, because the announcements never
//! give those back. The count is the union of the numbers that the log or the archive holds and the
//! numbers that the learner has trained or refused, whose records retention may have deleted. Both
//! are sets, so neither the order of reading nor a concurrent change counts a group twice. The
//! count is the same wherever the roles run, because all of them share the log and the learner's
//! records; an archive is optional.
//!
//! The same groups tell which prompts were asked in the current epoch and which remain. Groups that
//! a producer held only in memory when it ended, or lost, do not count.

use std::collections::BTreeMap;
use vintage_settings::RunConfig;

use vintage_archive::Reader;
use vintage_bus::Bus;
use vintage_control::{Incarnation, Name, NumberSet, Offset, Partition, UpdateNumber};
use vintage_rollout::GateBase;
use vintage_store::{Records, Store};
use vintage_trajectory::{Identity, Rows};

use crate::{
    error::{Error, Result},
    folder::archive_in,
};

/// Computes the base from the log and the learner's records, and from the archive for what the log
/// no longer holds.
pub(crate) async fn of_log(
    bus: &Bus,
    topic: &str,
    store: &Store,
    config: &RunConfig,
) -> Result<GateBase> {
    let learner = Learner::of(store, config);
    let mut earlier = learner.earlier().await?;
    // Records before the learner's start are never trained; counted, they would fill the gate for
    // ever.
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
        return Err(Error::Undelivered(format!(
            "counting what earlier producers published: the record of topic {topic} at partition \
             {partition} offset {offset} did not come, and without it the gate would count \
             wrongly; check the broker, and start again"
        )));
    }
    // The archive may have the records that retention deleted from the log.
    let archive = Reader::new(archive_in(store), topic);
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

/// Computes the base from the archive and the learner's records. Records that were lost with an
/// embedded log are in neither, and must not count.
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

/// Lead of the run, whose updates pace the gate.
struct Learner<'a> {
    policy: &'a Name,
    records: Records,
}

impl<'a> Learner<'a> {
    fn of(store: &Store, config: &'a RunConfig) -> Self {
        Self {
            policy: &config.learner.policy,
            records: Records::new(store.clone(), config.learner.name.clone()),
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

    /// Counts the groups that the learner has trained or refused, by its newest checkpoint and the
    /// plans after it.
    async fn settled(&self, earlier: &mut Earlier<'_>) -> Result<()> {
        let mut update = UpdateNumber::FIRST;
        for at in self.records.checkpoints().await?.into_iter().rev() {
            // The checkpoint was pruned between the two reads; an older one with its plans gives
            // the same.
            let Some(manifest) = self.records.checkpoint(at).await? else {
                continue;
            };
            for (producer, window) in &manifest.producers {
                let above = window.above.iter().map(|&number| number..=number);
                let runs = window.runs.iter().map(|&(first, last)| first..=last);
                let above = above.chain(runs).flatten();
                for number in (0..window.next).chain(above) {
                    earlier.settled(producer, number);
                }
            }
            update = UpdateNumber::from_version(manifest.version);
            break;
        }
        while let Some(plan) = self.records.plan(update).await? {
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
            update = update.next();
        }
        Ok(())
    }
}

/// First record of a group of the lead's policy; each such group asked its prompt once.
struct Noted {
    /// Batch of the group if that batch has no plan yet. Planned batches are full, so only their
    /// count matters.
    slot_of: Option<i64>,
}

/// Groups found so far.
struct Earlier<'a> {
    policy: &'a Name,
    /// First update that had no plan when counting began.
    planned: UpdateNumber,
    numbers: BTreeMap<String, NumberSet>,
    base: GateBase,
}

impl Earlier<'_> {
    /// Counts a number of a producer; returns true if it is new.
    fn number(&mut self, producer: &str, seq: u64) -> bool {
        if !self.numbers.contains_key(producer) {
            self.numbers
                .insert(producer.to_owned(), NumberSet::default());
        }
        let numbers = self.numbers.get_mut(producer);
        numbers.is_some_and(|numbers| numbers.insert(seq))
    }

    /// Counts a number that the learner's records name. If neither log nor archive holds its group,
    /// the group's prompt is unknown.
    fn settled(&mut self, producer: &str, seq: u64) {
        if self.number(producer, seq) {
            self.base.unknown_prompts += 1;
        }
    }

    /// Counts the group of a record, as far as its headers can be read. Returns `None` for a group
    /// that was counted before, is of another policy, or has no number.
    fn note(&mut self, identity: &Identity) -> Option<Noted> {
        let (producer, seq) = identity.number()?;
        let new = self.number(producer, seq);
        // Batches count the lead's policy only: a refused group of another policy leaves no gap
        // in them.
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

    /// Counts the archived records of a partition from offset `from` on, in files that begin before
    /// `until`.
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
                // Reporting damage is the audit's job. Trained groups are in the plans as well.
                Err(error @ vintage_archive::Error::Corrupt { .. }) => {
                    tracing::warn!("the gate counts without a file: {error}");
                }
                counted => counted?,
            }
        }
        Ok(())
    }

    /// Counts the records of an archived file from offset `from` on.
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
