//! Effect of plans on the intake: the groups and rejections that a plan takes out of it.

use vintage_control::{Plan, PlannedGroup, RecordId, RejectReason, Rejection, UpdateNumber};
use vintage_trajectory::Identity;

use super::{
    Intake, ReadyGroup, Refused, refuse::leaves_a_gap, window::shares_number_with_earlier,
};
use crate::error::{Error, Result};

impl Intake {
    /// Removes and returns the rejections since the last plan, sorted by their records, because the
    /// order in which they were noticed differs after a restart.
    pub fn drain_refused(&mut self) -> Vec<Rejection> {
        #[cfg(feature = "faults")]
        self.leave_out_refused();
        let mut refused = std::mem::take(&mut self.refused);
        refused.sort_by(|a, b| a.rejection.records.cmp(&b.rejection.records));
        for refill in refused.iter().filter_map(Refused::refill) {
            self.note_refill(refill);
        }
        refused
            .into_iter()
            .map(|refused| refused.rejection)
            .collect()
    }

    /// Removes and returns the groups that a plan names of this log, in the plan's order; `None`
    /// while records of the plan are missing. Groups that the plan rejected are removed as well.
    pub fn take_planned(&mut self, plan: &Plan) -> Result<Option<Vec<ReadyGroup>>> {
        if self.missing(plan).is_some() {
            return Ok(None);
        }
        let mut chosen = Vec::with_capacity(plan.groups.len());
        for planned in &plan.groups {
            if planned.source == self.source {
                chosen.push(self.take_one(plan, planned)?);
            }
        }
        for rejection in &plan.rejections {
            if rejection.source == self.source {
                self.strike(rejection);
            }
        }
        Ok(Some(chosen))
    }

    /// Returns the first record of this log that a plan names and that has not arrived yet.
    pub fn missing(&self, plan: &Plan) -> Option<RecordId> {
        let groups = plan
            .groups
            .iter()
            .map(|group| (&group.source, &group.records));
        let refused = plan
            .rejections
            .iter()
            .map(|refused| (&refused.source, &refused.records));
        groups
            .chain(refused)
            .filter(|(source, _)| **source == self.source)
            .flat_map(|(_, records)| records)
            .find(|record| !self.cursors.received(**record))
            .copied()
    }

    fn take_one(&mut self, plan: &Plan, planned: &PlannedGroup) -> Result<ReadyGroup> {
        let record = planned.records[0];
        let changed = || Error::ContentChanged {
            update: plan.update(),
            group: planned.group.clone(),
            record,
        };
        let place = self
            .ready
            .iter()
            .position(|group| group.planned.records == planned.records);
        if let Some(group) = place.and_then(|place| self.ready.remove(place)) {
            if group.planned.content_sha256 == planned.content_sha256 {
                return Ok(group);
            }
            return Err(changed());
        }
        let refused = self
            .refused
            .iter()
            .position(|refused| refused.rejection.records == planned.records);
        // The plan's decision remains valid.
        if let Some(place) = refused
            && let Some(group) = self.refused[place].kept.take()
        {
            self.refused.remove(place);
            if group.planned.content_sha256 == planned.content_sha256 {
                if let Some(slot) = group.slot {
                    self.hand_slot(slot, group.sampled_for, record);
                }
                return Ok(*group);
            }
            return Err(changed());
        }
        Err(match refused.map(|place| &self.refused[place]) {
            Some(Refused { rejection, .. }) => Error::PlannedButRefused {
                update: plan.update(),
                group: planned.group.clone(),
                record,
                reason: rejection.reason,
                detail: rejection.detail.clone(),
            },
            None if self.cursors.is_before(record) => Error::RecordMissing {
                update: plan.update(),
                record,
            },
            None => changed(),
        })
    }

    /// Removes a group that a plan refused, whatever the intake itself decided about it.
    fn strike(&mut self, rejection: &Rejection) {
        let records = &rejection.records;
        let refused = self
            .refused
            .iter()
            .position(|refused| refused.rejection.records == *records);
        let ready = self
            .ready
            .iter()
            .position(|group| group.planned.records == *records);
        let (slot, sampled_for) = if let Some(place) = refused {
            let refused = self.refused.remove(place);
            (refused.slot, refused.sampled_for)
        } else if let Some(group) = ready.and_then(|place| self.ready.remove(place)) {
            (group.slot, group.sampled_for)
        } else {
            let parts = self.assembling.take(records);
            let headers = parts.as_ref().and_then(|parts| parts.headers());
            let identity = headers.map(Identity::from).unwrap_or_default();
            (self.slot(&identity), self.sampled_for(&identity))
        };
        let reason = rejection.reason;
        if let (Some(slot), Some(record)) = (slot, records.first()) {
            if reason == RejectReason::SlotTaken || shares_number_with_earlier(reason) {
                self.release_slot(slot, *record);
            } else {
                self.hand_slot(slot, sampled_for, *record);
            }
        }
        if let Some(update) = sampled_for.filter(|_| leaves_a_gap(reason)) {
            self.note_refill(update);
        }
    }

    /// Counts a refused group of the update that has to be refilled because of it.
    pub(super) fn note_refill(&mut self, update: UpdateNumber) {
        *self.refused_batches.entry(update).or_default() += 1;
    }

    /// Marks the records and numbers of a plan as done; the next checkpoint makes that durable.
    pub fn finish(&mut self, plan: &Plan) {
        for group in plan
            .groups
            .iter()
            .filter(|group| group.source == self.source)
        {
            self.windows.finish(&group.producer, group.producer_seq);
            self.cursors.finish(&group.records);
            self.slots.finish(&group.records);
        }
        for rejection in &plan.rejections {
            if rejection.source == self.source {
                self.finish_refused(rejection);
            }
        }
    }

    pub(super) fn finish_refused(&mut self, rejection: &Rejection) {
        // Its number belongs to the group that came first.
        if !shares_number_with_earlier(rejection.reason)
            && let (Some(producer), Some(seq)) = (&rejection.producer, rejection.producer_seq)
        {
            self.windows.finish(producer, seq);
        }
        self.cursors.finish(&rejection.records);
        self.slots.finish(&rejection.records);
    }
}
