//! Intake: from records to groups fit for training, or rejections with a reason. Sans IO.

mod assembly;
mod cursor;
mod judge;
mod window;

use std::collections::{BTreeMap, VecDeque};

use vintage_control::{
    PartitionResume, Plan, PlannedGroup, PolicyVersion, ProducerWindow, RecordId, RejectReason,
    Rejection,
};
use vintage_trajectory::{Rows, content_sha256};

use self::{
    assembly::{Assembly, Progress},
    cursor::Cursors,
    window::Windows,
};
use crate::{Error, Incoming, Result, Settings, source::Unreadable};

/// A complete group that passed every check.
#[derive(Debug, Clone)]
pub struct ReadyGroup {
    /// How a plan names it.
    pub planned: PlannedGroup,
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
}

/// Everything taken from the log and not yet trained or rejected.
#[derive(Debug)]
pub struct Intake {
    settings: Settings,
    cursors: Cursors,
    windows: Windows,
    assembling: Assembly,
    ready: VecDeque<ReadyGroup>,
    refused: Vec<Rejection>,
    /// Refused groups that were sampled for one certain update, by update.
    refused_batches: BTreeMap<i64, u64>,
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
            cursors: Cursors::new(partitions),
            windows: Windows::new(producers),
            assembling: Assembly::default(),
            ready: VecDeque::new(),
            refused: Vec::new(),
            refused_batches: BTreeMap::new(),
        }
    }

    /// Takes one record. `announced` is the newest version published when it was read.
    pub fn take(&mut self, incoming: Incoming, announced: PolicyVersion) -> Result<()> {
        let record = incoming.record;
        if !self.cursors.receive(record, incoming.crc32c)? {
            return Ok(());
        }
        let (headers, rows) = match incoming.message {
            Ok(message) => message,
            Err(unreadable) => {
                self.refuse_unreadable(record, unreadable);
                return Ok(());
            }
        };
        match self.assembling.add(record, headers, rows) {
            Progress::Partial => {}
            Progress::Refused(rejection) => self.refused.push(rejection),
            Progress::Complete {
                headers,
                records,
                parts,
            } => {
                let planned = PlannedGroup {
                    group: headers.group.to_string(),
                    rows: parts.iter().map(|rows| rows.len() as u32).sum(),
                    records,
                    producer: headers.producer.clone(),
                    producer_seq: headers.producer_seq,
                    content_sha256: content_sha256(&parts),
                };
                let group = ReadyGroup {
                    planned,
                    batch: headers.batch,
                    parts,
                };
                let verdict = if self.windows.see(&headers.producer, headers.producer_seq) {
                    judge::judge(&self.settings, &headers, &group, announced)
                } else {
                    Err((
                        RejectReason::Duplicate,
                        format!("number {} came before", headers.producer_seq),
                    ))
                };
                match verdict {
                    Ok(()) => self.ready.push_back(group),
                    Err((reason, detail)) => self.refuse(&group, reason, detail),
                }
            }
        }
        let overdue = self
            .assembling
            .overdue(record, self.settings.incomplete_after_records);
        self.refused.extend(overdue);
        Ok(())
    }

    /// The groups of update `version`, if enough are there: those sampled for it first, then
    /// those for any update, in the order they came. Refuses what can no longer be trained.
    pub fn choose(&mut self, version: PolicyVersion) -> Option<Vec<ReadyGroup>> {
        self.refuse_late(version);
        let wanted = self.settings.groups_per_update;
        let update = version.0 as i64;
        let of = |batch: i64| {
            let ready = self.ready.iter().enumerate();
            ready
                .filter(move |(_, group)| group.batch == batch)
                .map(|(place, _)| place)
        };
        let mut places: Vec<_> = of(update).chain(of(-1)).take(wanted).collect();
        if places.len() < wanted {
            return None;
        }
        places.sort_unstable();
        let mut chosen = Vec::with_capacity(wanted);
        for place in places.into_iter().rev() {
            chosen.extend(self.ready.remove(place));
        }
        chosen.reverse();
        if vintage_faults::mistake("mistake.train_twice") {
            self.ready.extend(chosen.first().cloned());
        }
        Some(chosen)
    }

    /// The groups a plan names, in its order, or `None` while records of it are still to come.
    /// What the plan rejected is struck from the intake as well.
    pub fn take_planned(&mut self, plan: &Plan) -> Result<Option<Vec<ReadyGroup>>> {
        let arrived =
            |records: &[RecordId]| records.iter().all(|record| self.cursors.received(*record));
        let groups_arrived = plan.groups.iter().all(|group| arrived(&group.records));
        if !groups_arrived
            || !plan
                .rejections
                .iter()
                .all(|refused| arrived(&refused.records))
        {
            return Ok(None);
        }
        let mut chosen = Vec::with_capacity(plan.groups.len());
        for planned in &plan.groups {
            chosen.push(self.take_one(plan, planned)?);
        }
        for rejection in &plan.rejections {
            self.refused
                .retain(|refused| refused.records != rejection.records);
            self.ready
                .retain(|group| group.planned.records != rejection.records);
            self.assembling.forget(&rejection.records);
        }
        Ok(Some(chosen))
    }

    fn take_one(&mut self, plan: &Plan, planned: &PlannedGroup) -> Result<ReadyGroup> {
        let place = self
            .ready
            .iter()
            .position(|group| group.planned.records == planned.records);
        if let Some(group) = place.and_then(|place| self.ready.remove(place)) {
            if group.planned.content_sha256 == planned.content_sha256 {
                return Ok(group);
            }
            return Err(Error::ContentChanged {
                update: plan.version,
                group: planned.group.clone(),
                record: planned.records[0],
            });
        }
        let refused = self
            .refused
            .iter()
            .find(|refused| refused.records == planned.records);
        Err(match refused {
            Some(refused) => Error::PlannedButRefused {
                update: plan.version,
                group: planned.group.clone(),
                record: planned.records[0],
                reason: refused.reason,
                detail: refused.detail.clone(),
            },
            None => Error::ContentChanged {
                update: plan.version,
                group: planned.group.clone(),
                record: planned.records[0],
            },
        })
    }

    /// Whether the record came, or was done before this process started.
    pub fn has(&self, record: RecordId) -> bool {
        self.cursors.received(record)
    }

    /// Groups that passed every check and wait to be chosen.
    pub fn ready_groups(&self) -> u64 {
        self.ready.len() as u64
    }

    /// The rejections since the last plan.
    pub fn drain_refused(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.refused)
    }

    /// Groups refused since the last plan; second copies of a group do not count.
    pub fn refused_groups(&self) -> u64 {
        let refused = self.refused.iter();
        refused
            .filter(|refused| refused.reason != RejectReason::Duplicate)
            .count() as u64
    }

    /// Groups refused that were sampled for `version` or a later update, by update.
    pub fn refused_batches(&self, version: PolicyVersion) -> BTreeMap<i64, u64> {
        let to_come = self.refused_batches.range(version.0 as i64..);
        to_come.map(|(batch, groups)| (*batch, *groups)).collect()
    }

    /// Marks the records of a plan as done: its effect is durable with the next checkpoint.
    pub fn finish(&mut self, plan: &Plan) {
        for group in &plan.groups {
            self.windows.finish(&group.producer, group.producer_seq);
            self.cursors.finish(&group.records);
        }
        for rejection in &plan.rejections {
            // A duplicate's number belongs to the group that came first.
            if rejection.reason != RejectReason::Duplicate
                && let (Some(producer), Some(seq)) = (&rejection.producer, rejection.producer_seq)
            {
                self.windows.finish(producer, seq);
            }
            self.cursors.finish(&rejection.records);
        }
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

    fn refuse(&mut self, group: &ReadyGroup, reason: RejectReason, detail: String) {
        let planned = &group.planned;
        // A duplicate leaves its batch as full as it was, and so does one that came too late.
        if group.batch >= 0 && !matches!(reason, RejectReason::Duplicate | RejectReason::BatchFull)
        {
            *self.refused_batches.entry(group.batch).or_default() += 1;
        }
        self.refused.push(Rejection {
            group: Some(planned.group.clone()),
            producer: Some(planned.producer.clone()),
            producer_seq: Some(planned.producer_seq),
            records: planned.records.clone(),
            reason,
            detail,
        });
    }

    fn refuse_unreadable(&mut self, record: RecordId, unreadable: Unreadable) {
        let Unreadable {
            headers,
            mut reason,
            detail,
        } = unreadable;
        if let Some(headers) = &headers {
            if !self.windows.see(&headers.producer, headers.producer_seq) {
                reason = RejectReason::Duplicate;
            } else if headers.batch >= 0 {
                *self.refused_batches.entry(headers.batch).or_default() += 1;
            }
        }
        self.refused.push(Rejection {
            group: headers.as_ref().map(|headers| headers.group.to_string()),
            producer: headers.as_ref().map(|headers| headers.producer.clone()),
            producer_seq: headers.as_ref().map(|headers| headers.producer_seq),
            records: vec![record],
            reason,
            detail,
        });
    }

    fn refuse_late(&mut self, version: PolicyVersion) {
        let max_age = self.settings.max_age;
        let late = |group: &ReadyGroup| {
            if group.batch >= 0 && (group.batch as u64) < version.0 {
                let detail = format!("sampled for update {}, now at {version}", group.batch);
                return Some((RejectReason::BatchFull, detail));
            }
            let age = version.staleness_of(group.min_version());
            (age.0 > max_age?).then(|| {
                (
                    RejectReason::TooStale,
                    format!("{age} updates old, more than {}", max_age.unwrap_or(0)),
                )
            })
        };
        let (keep, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ready)
            .into_iter()
            .partition(|group| late(group).is_none());
        self.ready = keep.into();
        for group in gone {
            if let Some((reason, detail)) = late(&group) {
                self.refuse(&group, reason, detail);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
