//! Intake: turns records into groups that are fit for training, or into rejections with a reason.
//! It does no IO, and its result is a function of the records in their order alone: no clock, no
//! randomness.

mod again;
mod cursor;
mod drawn;
mod group;
pub mod judge;
mod planned;
mod refuse;
#[cfg(feature = "faults")]
mod sabotage;
mod slots;
mod window;

use std::collections::{BTreeMap, VecDeque};

use vintage_control::{
    KnownVersion, NumberSet, PartitionResume, PlannedGroup, PolicyVersion, ProducerWindow,
    RecordId, RejectReason, Rejection, Sha256, SlotNumber, UpdateNumber,
};
use vintage_trajectory::{Abandoned, Assembly, BadRecord, Excerpt, Identity, Part, Progress, Rows};

use self::{
    cursor::{Cursors, Receipt},
    judge::PermittedVersions,
    slots::Slots,
    window::{Windows, shares_number_with_earlier},
};
use crate::{error::Result, settings::LearnerSettings, source::Incoming};

/// Complete group that passed every check.
#[derive(Debug, Clone)]
pub struct ReadyGroup {
    /// Entry of the group in a plan.
    pub planned: PlannedGroup,
    /// Policy that sampled the group.
    pub policy: String,
    /// Update the group was sampled for; `None` for any update, and for groups of other policies.
    pub sampled_for: Option<UpdateNumber>,
    /// Slot that was granted for the group, in the learner's own log.
    pub slot: Option<SlotNumber>,
    /// True if the group was sampled for this run by the learner's own policy, so that its versions
    /// are those of the store.
    pub own: bool,
    /// Digest of the group without its id, by which it is drawn; `None` unless it is of an archive that is blended in.
    pub(crate) sampled: Option<Sha256>,
    /// Rows of the group, one entry per part, in part order.
    pub parts: Vec<Rows>,
}

impl ReadyGroup {
    /// Returns the oldest version that sampled any of the group's tokens.
    pub fn min_version(&self) -> PolicyVersion {
        self.parts
            .iter()
            .filter_map(Rows::min_version)
            .min()
            .unwrap_or_default()
    }

    /// Returns a completion of the group as text, if the log has its text.
    pub(crate) fn excerpt(&self) -> Option<Excerpt> {
        let rows = self.parts.first().filter(|rows| !rows.is_empty())?;
        Excerpt::of_row(rows, 0)
    }

    pub(crate) fn max_version(&self) -> PolicyVersion {
        let newest = self.parts.iter().filter_map(Rows::max_version).max();
        newest.unwrap_or_default()
    }
}

/// Rejection that no plan records yet.
#[derive(Debug)]
struct Refused {
    rejection: Rejection,
    /// Update that the group was sampled for; `None` for any.
    sampled_for: Option<UpdateNumber>,
    /// Slot that was granted for the group.
    slot: Option<SlotNumber>,
    /// Reason and detail for which a group that is refused as [`RejectReason::SlotTaken`] would be
    /// refused if it had its slot.
    fault: Option<(RejectReason, String)>,
    /// Group that a plan may name nevertheless: one with an implausible value, if the plan was made
    /// before values had a range, or the first group of a slot, if it is read second after a
    /// restart.
    kept: Option<Box<ReadyGroup>>,
}

/// Records taken from one log, and their groups that are neither trained nor rejected yet.
#[derive(Debug)]
pub struct Intake {
    settings: LearnerSettings,
    /// Archived topic that the records come from; `None` for the run's own log.
    source: Option<String>,
    cursors: Cursors,
    windows: Windows,
    slots: Slots,
    assembling: Assembly<Rows>,
    ready: VecDeque<ReadyGroup>,
    refused: Vec<Refused>,
    /// Number of groups, by update, that plans refused although they were sampled for that update.
    refused_batches: BTreeMap<UpdateNumber, u64>,
    /// Newest versions met of foreign policies, by policy.
    known: BTreeMap<String, PolicyVersion>,
    /// Producer processes whose engines report other log-probs than those of the versions that
    /// sampled, each with the fault in words.
    distrusted: BTreeMap<String, String>,
    /// Groups that updates before the checkpoint trained and later ones may train again.
    again: again::Again,
}

impl Intake {
    /// Creates an intake that resumes at a checkpoint; without partitions it starts at the
    /// beginning of the log.
    pub fn new(
        settings: LearnerSettings,
        partitions: &[PartitionResume],
        producers: &BTreeMap<String, ProducerWindow>,
    ) -> Self {
        Self {
            settings,
            source: None,
            cursors: Cursors::new(partitions),
            windows: Windows::new(producers),
            slots: Slots::default(),
            assembling: Assembly::default(),
            ready: VecDeque::new(),
            refused: Vec::new(),
            refused_batches: BTreeMap::new(),
            known: BTreeMap::new(),
            distrusted: BTreeMap::new(),
            again: again::Again::default(),
        }
    }

    /// Makes this the intake of the archived topic `source` instead of the run's own log.
    #[must_use]
    pub fn of_archive(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    /// Restores more state of a checkpoint: versions of foreign policies, and refused groups by
    /// update.
    #[must_use]
    pub fn remembering(
        mut self,
        known: &[KnownVersion],
        refused_batches: &BTreeMap<UpdateNumber, u64>,
    ) -> Self {
        let own = known.iter().filter(|known| known.source == self.source);
        self.known = own
            .map(|known| (known.policy.clone(), known.version))
            .collect();
        self.refused_batches = refused_batches.clone();
        self
    }

    /// Restores the granted slots whose groups are trained or rejected.
    #[must_use]
    pub fn with_slots(mut self, finished: &ProducerWindow) -> Self {
        self.slots = Slots::new(NumberSet::from(finished));
        self
    }

    /// Takes one record: notes its offset, joins the parts of its group, and admits or refuses the
    /// group.
    pub fn take(&mut self, incoming: Incoming, announced: PermittedVersions) -> Result<()> {
        let record = incoming.record;
        let receipt = self
            .cursors
            .receive(record, incoming.crc32c, incoming.timestamp_ms)?;
        match receipt {
            Receipt::Again => return Ok(()),
            Receipt::Done => self.take_again(record, incoming.message),
            Receipt::New => match incoming.message {
                Ok((headers, rows)) => self.take_part(
                    Part {
                        record,
                        headers,
                        body: rows,
                    },
                    announced,
                ),
                Err(unreadable) => self.take_unreadable(record, unreadable),
            },
        }
        let patience = self.settings.incomplete_after_records;
        for parts in self.assembling.overdue(record, patience) {
            let there = parts.there().count();
            let detail = format!(
                "{there} of {} parts came within {patience} records",
                parts.of()
            );
            self.refuse_parts(&parts, &[], RejectReason::Incomplete, detail);
        }
        Ok(())
    }

    fn take_part(&mut self, part: Part<Rows>, announced: PermittedVersions) {
        let identity = Identity::from(&part.headers);
        if self.refuse_seen(&identity, part.record, "") {
            return;
        }
        match self.assembling.add(part) {
            Progress::Partial => {}
            Progress::Complete(parts) => self.admit(parts, announced),
            Progress::Repeated(part) => {
                let (number, of) = part.headers.part;
                let detail = format!("part {number} of {of} came before");
                self.refuse(
                    &identity,
                    vec![part.record],
                    RejectReason::Duplicate,
                    detail,
                );
            }
            Progress::Contradictory(parts, part) => {
                let (number, of) = part.headers.part;
                let detail = format!("part {number} of {of} contradicts the group's other parts");
                self.refuse_parts(&parts, &[part.record], RejectReason::BadHeaders, detail);
            }
            Progress::OfAnother(part) => self.refuse_renumbered(&identity, part.record, ""),
        }
    }

    fn admit(&mut self, parts: Vec<Part<Rows>>, announced: PermittedVersions) {
        let Some(first) = parts.first() else { return };
        let (headers, stranger) = self.of_run(first.headers.clone());
        let identity = Identity::from(&headers);
        self.see(&identity);
        let slot = self.slot(&identity);
        let verdict = judge::judge(&self.settings, &parts, announced);
        let records = parts.iter().map(|part| part.record).collect();
        if let Err((reason, detail)) = verdict {
            self.refuse(&identity, records, reason, detail);
            return;
        }
        let objection = judge::plausible(&parts).err().or(stranger);
        let group = self.group_of(headers, parts);
        let steps = self.settings.learner.steps;
        if let Some(late) = group.sampled_for.filter(|update| update.0 >= steps) {
            let detail = format!("sampled for update {late}, and the run ends before {steps}");
            self.refuse(&identity, records, RejectReason::BatchFull, detail);
            return;
        }
        let objection = objection.or_else(|| self.distrust_of(&group.planned.producer, group.own));
        if self.is_foreign(&group.policy) {
            let known = self.known.entry(group.policy.clone()).or_default();
            *known = group.max_version().max(*known);
        }
        let first = group.planned.records[0];
        let taken = slot.filter(|slot| self.slots.is_taken(*slot, first));
        match (objection, taken) {
            (Some((reason, detail)), _) => {
                self.refuse(&identity, group.planned.records.clone(), reason, detail);
                if let Some(refused) = self.refused.last_mut() {
                    refused.kept = Some(Box::new(group));
                }
            }
            (None, Some(slot)) => self.refused.push(Refused::second(group, slot)),
            (None, None) => {
                if let Some(slot) = slot {
                    self.slots.hold(slot, group.sampled_for, first);
                }
                self.ready.push_back(group);
            }
        }
    }

    fn see(&mut self, identity: &Identity) {
        if let Some((producer, seq)) = identity.number() {
            self.windows.see(producer, seq, identity.group);
        }
    }

    /// Refuses a record that cannot be read. Its producer and number are taken from its headers, as
    /// far as these can be read.
    fn take_unreadable(&mut self, record: RecordId, bad: BadRecord) {
        let BadRecord {
            class,
            identity,
            detail,
        } = bad;
        if self.refuse_seen(&identity, record, &format!("; {detail}")) {
            return;
        }
        let abandoned = match identity.number() {
            Some(number) => self.assembling.abandon(number, identity.group),
            None => Abandoned::Nothing,
        };
        match abandoned {
            // With one part unreadable, the group can never be complete.
            Abandoned::Parts(parts) => {
                self.refuse_parts(&parts, &[record], class.reason(), detail);
            }
            Abandoned::OfAnother => {
                self.refuse_renumbered(&identity, record, &format!("; {detail}"));
            }
            Abandoned::Nothing => {
                self.see(&identity);
                self.refuse(&identity, vec![record], class.reason(), detail);
            }
        }
    }

    /// Returns the number of waiting groups that may be chosen for `update`.
    pub fn available(&self, update: UpdateNumber) -> usize {
        self.places(update).count()
    }

    /// Chooses `wanted` groups for `update`, or returns `None` if there are too few. Groups
    /// sampled for this update have precedence over those for any update. The result is in order of
    /// arrival. Groups that can no longer be trained are refused first.
    pub fn choose(&mut self, update: UpdateNumber, wanted: usize) -> Option<Vec<ReadyGroup>> {
        self.settle(update);
        let mut places: Vec<_> = self.places(update).collect();
        if places.len() < wanted {
            return None;
        }
        if self.settings.max_staleness.is_some() {
            // The oldest first, or a group of a slow producer would be too stale before its turn.
            places.sort_by_key(|place| {
                let group = &self.ready[*place];
                (group.sampled_for.is_none(), group.min_version())
            });
        }
        places.truncate(wanted);
        let mut chosen = self.take_places(places);
        // Groups of granted slots for this very update are in the same order whoever sampled them.
        // Those for any update come after them, in order of arrival.
        chosen.sort_by_key(|group| match group.slot {
            Some(slot) if group.sampled_for.is_some() => (0, slot),
            _ => (1, SlotNumber::default()),
        });
        #[cfg(feature = "faults")]
        self.keep_first(&chosen);
        Some(chosen)
    }

    /// Removes and returns waiting groups, in order of arrival.
    fn take_places(&mut self, mut places: Vec<usize>) -> Vec<ReadyGroup> {
        places.sort_unstable();
        let mut chosen = Vec::with_capacity(places.len());
        for place in places.into_iter().rev() {
            chosen.extend(self.ready.remove(place));
        }
        chosen.reverse();
        chosen
    }

    fn places(&self, update: UpdateNumber) -> impl Iterator<Item = usize> {
        let of = |sampled_for: Option<UpdateNumber>| {
            let ready = self.ready.iter().enumerate();
            ready
                .filter(move |(_, group)| group.sampled_for == sampled_for)
                .map(|(place, _)| place)
        };
        of(Some(update)).chain(of(None))
    }

    /// Returns the records that a plan of `update` may name: those of groups that may be chosen, and of
    /// what is refused.
    pub fn unplanned_records(&self, update: UpdateNumber) -> Vec<RecordId> {
        let groups = self.places(update).map(|place| &self.ready[place].planned);
        let refused = self.refused.iter().map(|refused| &refused.rejection);
        let records = groups.map(|group| &group.records);
        let records = records.chain(refused.map(|refused| &refused.records));
        records.flatten().copied().collect()
    }

    /// Returns true if the record has arrived, or was done before this process started.
    pub fn has(&self, record: RecordId) -> bool {
        self.cursors.received(record)
    }

    /// Returns the number of groups that passed every check and wait to be chosen.
    pub fn ready_groups(&self) -> u64 {
        self.ready.len() as u64
    }

    /// Returns the first record that an earlier process of the learner had read and that has not
    /// been read again yet.
    pub fn behind(&self) -> Option<RecordId> {
        self.cursors.behind()
    }

    /// Returns the newest versions met of foreign policies.
    pub fn known(&self) -> Vec<KnownVersion> {
        let known = self.known.iter();
        known
            .map(|(policy, version)| KnownVersion {
                source: self.source.clone(),
                policy: policy.clone(),
                version: *version,
            })
            .collect()
    }

    /// Returns the number of refusals since the last plan.
    pub fn refusals(&self) -> usize {
        self.refused.len()
    }

    /// Returns the number of refusals since the last plan, by reason.
    pub fn refused_by_reason(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for refused in &self.refused {
            *counts.entry(refused.rejection.reason.as_str()).or_default() += 1;
        }
        counts
    }

    /// Returns the number of groups that lack some of their parts.
    pub fn incomplete_groups(&self) -> u64 {
        self.assembling.len() as u64
    }

    /// Returns the number of groups refused since the last plan; second copies of a group do not
    /// count.
    pub fn refused_groups(&self) -> u64 {
        let refused = self.refused.iter();
        refused
            .filter(|refused| refused.rejection.reason != RejectReason::Duplicate)
            .count() as u64
    }

    /// Returns how many of all refused groups have a producer's number, given that `trained` groups
    /// of this log are trained. Every finished number belongs to a trained or to a refused group.
    pub fn numbered_rejections(&self, trained: u64) -> u64 {
        let open = self.refused.iter().map(|refused| &refused.rejection);
        let open = open
            .filter(|open| open.producer.is_some() && open.producer_seq.is_some())
            .filter(|open| !shares_number_with_earlier(open.reason));
        let finished = self.windows.finished_count();
        finished.saturating_sub(trained) + open.count() as u64
    }

    /// Returns the number of refused groups that were sampled for `update` or a later one, by
    /// update.
    pub fn refused_batches(&self, update: UpdateNumber) -> BTreeMap<UpdateNumber, u64> {
        let mut batches = self.planned_refused_batches(update);
        let open = self.refused.iter().filter_map(Refused::refill);
        for refill in open.filter(|refill| *refill >= update) {
            *batches.entry(refill).or_default() += 1;
        }
        batches
    }

    /// Returns those of [`Intake::refused_batches`] that plans refused. The rest are read and
    /// refused again after a restart.
    pub fn planned_refused_batches(&self, update: UpdateNumber) -> BTreeMap<UpdateNumber, u64> {
        let to_come = self.refused_batches.range(update..);
        to_come.map(|(update, groups)| (*update, *groups)).collect()
    }

    /// Returns the points, by partition, at which reading resumes after a restart.
    pub fn resume_points(&self) -> Vec<PartitionResume> {
        self.cursors.resume_points()
    }

    /// Returns the numbers, by producer, whose groups are trained or rejected.
    pub fn finished_numbers(&self) -> BTreeMap<String, ProducerWindow> {
        self.windows.finished()
    }

    /// Returns the granted slots whose groups are trained or rejected.
    pub fn finished_slots(&self) -> &NumberSet {
        self.slots.finished()
    }

    /// Returns the granted slots whose groups were read since the last call, each with the update
    /// that its group is for.
    pub fn take_seen_slots(&mut self) -> Vec<(SlotNumber, Option<UpdateNumber>)> {
        self.slots.take_news()
    }

    /// Returns the newest waiting group.
    pub(crate) fn newest(&self) -> Option<&ReadyGroup> {
        self.ready.back()
    }

    /// Returns the first record of every waiting group, in order of arrival.
    pub fn waiting(&self) -> Vec<RecordId> {
        self.ready
            .iter()
            .map(|group| group.planned.records[0])
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
