//! Intake: from records to groups fit for training, or rejections with a reason. Sans IO, and a
//! function of the records in their order alone: no clock, no randomness.

mod cursor;
mod judge;
mod planned;
mod refuse;
#[cfg(feature = "faults")]
mod sabotage;
mod window;

use std::collections::{BTreeMap, VecDeque};

use vintage_control::{
    KnownVersion, PartitionResume, PlannedGroup, PolicyVersion, ProducerWindow, RecordId,
    RejectReason, Rejection,
};
use vintage_trajectory::{
    Abandoned, Assembly, BadRecord, Identity, Part, Progress, Rows, content_sha256,
};

use self::{
    cursor::{Cursors, Receipt},
    refuse::shares_its_number,
    window::Windows,
};
use crate::{Incoming, Result, Settings};

/// A complete group that passed every check.
#[derive(Debug, Clone)]
pub struct ReadyGroup {
    /// How a plan names it.
    pub planned: PlannedGroup,
    /// The lineage that sampled it.
    pub policy: String,
    /// The update it was sampled for; −1 for any.
    pub batch: i64,
    /// Its rows, by sample index; parts in order.
    pub parts: Vec<Rows>,
}

impl ReadyGroup {
    /// Oldest version that sampled any of its tokens.
    pub fn min_version(&self) -> PolicyVersion {
        self.parts
            .iter()
            .filter_map(Rows::min_version)
            .min()
            .unwrap_or_default()
    }

    fn max_version(&self) -> PolicyVersion {
        let newest = self.parts.iter().filter_map(Rows::max_version).max();
        newest.unwrap_or_default()
    }
}

/// Which versions a record's tokens may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Any: a recorded log is not ahead of anything.
    Any,
    /// Versions of the record's lineage up to this one, the newest announced when the record had
    /// been read; `None` if none was.
    UpTo(Option<PolicyVersion>),
}

/// A rejection no plan records yet, and the update that must be filled up again for it.
#[derive(Debug)]
struct Refused {
    rejection: Rejection,
    batch: i64,
    /// The group, if a plan made before there was a range for its values may name it.
    implausible: Option<Box<ReadyGroup>>,
}

/// Everything taken from a log and not yet trained or rejected.
#[derive(Debug)]
pub struct Intake {
    settings: Settings,
    /// The archived topic this is the intake of; `None` for the run's own log.
    source: Option<String>,
    cursors: Cursors,
    windows: Windows,
    assembling: Assembly<Rows>,
    ready: VecDeque<ReadyGroup>,
    refused: Vec<Refused>,
    /// Groups that plans refused and that were sampled for one certain update, by update.
    refused_batches: BTreeMap<i64, u64>,
    /// Newest versions met of lineages other than the learner's own.
    known: BTreeMap<String, PolicyVersion>,
}

impl Intake {
    /// Goes on where a checkpoint says; an empty one starts at the beginning of the log.
    pub fn new(
        settings: Settings,
        partitions: &[PartitionResume],
        producers: &BTreeMap<String, ProducerWindow>,
    ) -> Self {
        Self {
            settings,
            source: None,
            cursors: Cursors::new(partitions),
            windows: Windows::new(producers),
            assembling: Assembly::default(),
            ready: VecDeque::new(),
            refused: Vec::new(),
            refused_batches: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// The same for the archived topic `source` instead of the run's own log.
    #[must_use]
    pub fn of_archive(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    /// Takes up what else a checkpoint remembers.
    #[must_use]
    pub fn remembering(
        mut self,
        known: &[KnownVersion],
        refused_batches: &BTreeMap<i64, u64>,
    ) -> Self {
        let own = known.iter().filter(|known| known.source == self.source);
        self.known = own
            .map(|known| (known.policy.clone(), known.version))
            .collect();
        self.refused_batches = refused_batches.clone();
        self
    }

    /// Takes one record.
    pub fn take(&mut self, incoming: Incoming, announced: Announced) -> Result<()> {
        let record = incoming.record;
        let receipt = self
            .cursors
            .receive(record, incoming.crc32c, incoming.timestamp_ms)?;
        match receipt {
            Receipt::Again => return Ok(()),
            Receipt::Done => {}
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

    fn take_part(&mut self, part: Part<Rows>, announced: Announced) {
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

    fn admit(&mut self, parts: Vec<Part<Rows>>, announced: Announced) {
        let Some(first) = parts.first() else { return };
        let headers = first.headers.clone();
        let identity = Identity::from(&headers);
        self.see(&identity);
        let verdict = judge::judge(&self.settings, &parts, announced);
        let records = parts.iter().map(|part| part.record).collect();
        if let Err((reason, detail)) = verdict {
            self.refuse(&identity, records, reason, detail);
            return;
        }
        let foreign =
            self.source.is_some() || headers.policy != self.settings.learner.policy.as_str();
        let late =
            u64::try_from(headers.batch).is_ok_and(|batch| batch >= self.settings.learner.steps);
        if !foreign && late {
            let (batch, steps) = (headers.batch, self.settings.learner.steps);
            let detail = format!("sampled for update {batch}, and the run ends before {steps}");
            self.refuse(&identity, records, RejectReason::BatchFull, detail);
            return;
        }
        let implausible = judge::plausible(&parts).err();
        let parts: Vec<_> = parts.into_iter().map(|part| part.body).collect();
        let group = ReadyGroup {
            planned: PlannedGroup {
                group: headers.group.to_string(),
                rows: parts.iter().map(|rows| rows.len() as u32).sum(),
                records,
                producer: headers.producer,
                producer_seq: headers.producer_seq,
                content_sha256: content_sha256(&parts),
                source: self.source.clone(),
            },
            policy: headers.policy,
            // Updates are counted within a lineage: another's number says nothing here.
            batch: if foreign { -1 } else { headers.batch },
            parts,
        };
        if foreign {
            let known = self.known.entry(group.policy.clone()).or_default();
            *known = group.max_version().max(*known);
        }
        let Some((reason, detail)) = implausible else {
            self.ready.push_back(group);
            return;
        };
        self.refuse(&identity, group.planned.records.clone(), reason, detail);
        if let Some(refused) = self.refused.last_mut() {
            refused.implausible = Some(Box::new(group));
        }
    }

    fn see(&mut self, identity: &Identity) {
        if let Some((producer, seq)) = identity.number() {
            self.windows.see(producer, seq, identity.group);
        }
    }

    /// A record that says nothing is still its producer's, as far as its headers tell.
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
            // With one part unreadable the group will never be whole.
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

    /// Groups that could be chosen for update `version`, had they been enough.
    pub fn available(&self, version: PolicyVersion) -> usize {
        self.places(version).count()
    }

    /// `wanted` groups for update `version`, if they are there: those sampled for it first, then
    /// those for any update, in the order they came. Refuses what can no longer be trained.
    pub fn choose(&mut self, version: PolicyVersion, wanted: usize) -> Option<Vec<ReadyGroup>> {
        self.settle(version);
        let mut places: Vec<_> = self.places(version).take(wanted).collect();
        if places.len() < wanted {
            return None;
        }
        places.sort_unstable();
        let mut chosen = Vec::with_capacity(wanted);
        for place in places.into_iter().rev() {
            chosen.extend(self.ready.remove(place));
        }
        chosen.reverse();
        #[cfg(feature = "faults")]
        self.keep_first(&chosen);
        Some(chosen)
    }

    fn places(&self, version: PolicyVersion) -> impl Iterator<Item = usize> {
        let of = |batch: i64| {
            let ready = self.ready.iter().enumerate();
            ready
                .filter(move |(_, group)| group.batch == batch)
                .map(|(place, _)| place)
        };
        of(version.0 as i64).chain(of(-1))
    }

    /// Whether the record came, or was done before this process started.
    pub fn has(&self, record: RecordId) -> bool {
        self.cursors.received(record)
    }

    /// Groups that passed every check and wait to be chosen.
    pub fn ready_groups(&self) -> u64 {
        self.ready.len() as u64
    }

    /// The first record that an earlier life of the learner had read and that is still to be
    /// read again.
    pub fn behind(&self) -> Option<RecordId> {
        self.cursors.behind()
    }

    /// Newest versions met of lineages other than the learner's own.
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

    /// Refusals since the last plan.
    pub fn refusals(&self) -> usize {
        self.refused.len()
    }

    /// Refusals since the last plan, by reason.
    pub fn refused_by_reason(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for refused in &self.refused {
            *counts.entry(refused.rejection.reason.as_str()).or_default() += 1;
        }
        counts
    }

    /// Groups of which parts came and parts are missing.
    pub fn incomplete_groups(&self) -> u64 {
        self.assembling.len() as u64
    }

    /// Groups refused since the last plan; second copies of a group do not count.
    pub fn refused_groups(&self) -> u64 {
        let refused = self.refused.iter();
        refused
            .filter(|refused| refused.rejection.reason != RejectReason::Duplicate)
            .count() as u64
    }

    /// Of all groups refused so far, those that bear a producer's number, where `trained` groups
    /// of this log are trained: a finished number is that of a trained group or of a refused one.
    pub fn numbered_rejections(&self, trained: u64) -> u64 {
        let open = self.refused.iter().map(|refused| &refused.rejection);
        let open = open
            .filter(|open| open.producer.is_some() && open.producer_seq.is_some())
            .filter(|open| !shares_its_number(open.reason));
        let finished = self.windows.finished_count();
        finished.saturating_sub(trained) + open.count() as u64
    }

    /// Groups refused that were sampled for `version` or a later update, by update.
    pub fn refused_batches(&self, version: PolicyVersion) -> BTreeMap<i64, u64> {
        let mut batches = self.planned_refused_batches(version);
        let open = self.refused.iter().map(|refused| refused.batch);
        for batch in open.filter(|batch| *batch >= version.0 as i64) {
            *batches.entry(batch).or_default() += 1;
        }
        batches
    }

    /// Of these, the groups that plans refused: the others are read and refused again after a
    /// restart.
    pub fn planned_refused_batches(&self, version: PolicyVersion) -> BTreeMap<i64, u64> {
        let to_come = self.refused_batches.range(version.0 as i64..);
        to_come.map(|(batch, groups)| (*batch, *groups)).collect()
    }

    /// Where reading goes on after a restart.
    pub fn resume_points(&self) -> Vec<PartitionResume> {
        self.cursors.resume_points()
    }

    /// Numbers whose groups are trained or rejected.
    pub fn finished_numbers(&self) -> BTreeMap<String, ProducerWindow> {
        self.windows.finished()
    }

    /// First records of the groups that wait, in the order they came.
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
