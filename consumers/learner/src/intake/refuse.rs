//! Refusals: the records and groups that are refused, and the producer and number they count under.

use std::collections::VecDeque;

use vintage_control::{Name, RecordId, RejectReason, Rejection, SlotNumber, UpdateNumber};
use vintage_trajectory::{GroupId, Headers, Identity, Parts, Rows};

use super::{
    Intake, ReadyGroup, Refused,
    slots::filled_before,
    window::{Seen, shares_number_with_earlier},
};
use crate::source::Incoming;

/// Maximum number of characters in a rejection's detail.
const DETAIL: usize = 400;

/// Returns true if a group refused for this reason is missing in the update it was sampled for. A
/// copy and a second group of a slot leave it as full as before, and so does a group that came too
/// late.
pub(super) fn leaves_a_gap(reason: RejectReason) -> bool {
    !matches!(
        reason,
        RejectReason::Duplicate | RejectReason::BatchFull | RejectReason::SlotTaken
    )
}

impl Refused {
    /// Refuses a group for no fault of its own: another one has its slot.
    pub(super) fn second(group: ReadyGroup, slot: SlotNumber) -> Self {
        let planned = &group.planned;
        Self {
            rejection: Rejection {
                group: Some(planned.group.clone()),
                producer: Some(planned.producer.clone()),
                producer_seq: Some(planned.producer_seq),
                records: planned.records.clone(),
                reason: RejectReason::SlotTaken,
                detail: filled_before(slot),
                source: planned.source.clone(),
            },
            sampled_for: group.sampled_for,
            slot: Some(slot),
            fault: None,
            kept: Some(Box::new(group)),
        }
    }

    /// Makes this the refusal of a second group, whatever it was refused for.
    pub(super) fn make_second(&mut self, slot: SlotNumber) {
        let reason = std::mem::replace(&mut self.rejection.reason, RejectReason::SlotTaken);
        let detail = std::mem::replace(&mut self.rejection.detail, filled_before(slot));
        self.fault = Some((reason, detail));
    }

    /// Returns the update that has to be refilled because of the rejection, if there is one.
    pub(super) fn refill(&self) -> Option<UpdateNumber> {
        self.sampled_for
            .filter(|_| leaves_a_gap(self.rejection.reason))
    }
}

impl Intake {
    /// Refuses a record whose number was seen before, as a copy or as a record of another group,
    /// and returns true if it did. A producer that restarts under its old name and numbers from 0
    /// sends new groups instead of copies.
    pub(super) fn refuse_seen(&mut self, identity: &Identity, record: RecordId, why: &str) -> bool {
        let Some((producer, seq)) = identity.number() else {
            return false;
        };
        match self.windows.met(producer, seq, identity.group) {
            Seen::Not => false,
            Seen::Copy => {
                let detail = format!("number {seq} came before{why}");
                self.refuse(identity, vec![record], RejectReason::Duplicate, detail);
                true
            }
            Seen::Elsewhere => {
                self.refuse_renumbered(identity, record, why);
                true
            }
        }
    }

    pub(super) fn refuse_renumbered(&mut self, identity: &Identity, record: RecordId, why: &str) {
        let Some((producer, seq)) = identity.number() else {
            return;
        };
        self.windows.see_also(producer, seq, identity.group);
        let detail = format!(
            "number {seq} of {producer} came before, on another group: a producer that starts again \
             needs a name of its own, or goes on numbering where it ended{why}"
        );
        self.refuse(identity, vec![record], RejectReason::Renumbered, detail);
    }

    /// Returns producer and number of a new record if the number was seen on groups that are no
    /// longer remembered. Plans hold these groups. A record that is done already is not examined
    /// again, so it needs none of them.
    pub fn needs_recall(&self, incoming: &Incoming) -> Option<(String, u64)> {
        let identity = match &incoming.message {
            Ok((headers, _)) => Identity::from(headers),
            Err(bad) => bad.identity.clone(),
        };
        let (producer, seq) = identity.number()?;
        let asked = identity.group.is_some()
            && !self.cursors.received(incoming.record)
            && !self.cursors.is_done(incoming.record)
            && self.windows.needs_recall(producer, seq);
        asked.then(|| (producer.to_owned(), seq))
    }

    /// Restores the groups that had a number.
    pub fn recall(&mut self, producer: &str, seq: u64, groups: &[GroupId]) {
        self.windows.recall(producer, seq, groups);
    }

    /// Returns the archived topic that the records come from; `None` for the run's own log.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Returns the update a group was sampled for; `None` for any. It counts only for the learner's
    /// own policy in the run's own log: producers of other policies are not asked to refill an
    /// update.
    pub(super) fn sampled_for(&self, identity: &Identity) -> Option<UpdateNumber> {
        let own = identity.policy.as_deref() == Some(self.settings.learner.policy.as_str());
        let batch = identity.batch.filter(|_| own && self.source.is_none());
        batch.and_then(UpdateNumber::from_batch)
    }

    /// Returns a group's headers, and the reason to refuse it if it says it was sampled for another
    /// run: prompts, seed and version 0 were that run's, and its slot and update are none of this one.
    pub(super) fn of_run(&self, headers: Headers) -> (Headers, Option<(RejectReason, String)>) {
        let is_of = |run: &&Name| {
            headers.run == **run || headers.replay_of.is_some() || self.source.is_some()
        };
        let Some(own) = self.settings.run.as_ref().filter(|run| !is_of(run)) else {
            return (headers, None);
        };
        let theirs = &headers.run;
        let detail = format!("sampled for run {theirs}, and this log is of run {own}");
        let headers = Headers {
            slot: None,
            batch: -1,
            ..headers
        };
        (headers, Some((RejectReason::OtherPolicy, detail)))
    }

    /// Returns the slot that was granted for a group. Slots belong to the learner's own policy and
    /// to the run's own log.
    pub(super) fn slot(&self, identity: &Identity) -> Option<SlotNumber> {
        let own = identity.policy.as_deref() == Some(self.settings.learner.policy.as_str());
        identity.slot.filter(|_| own && self.source.is_none())
    }

    /// Refuses an incomplete group together with the records `more`. The number counts as seen from
    /// then on, so that a later part is a duplicate.
    pub(super) fn refuse_parts(
        &mut self,
        parts: &Parts<Rows>,
        more: &[RecordId],
        reason: RejectReason,
        detail: String,
    ) {
        let Some(headers) = parts.headers() else {
            return;
        };
        let identity = Identity::from(headers);
        self.see(&identity);
        let mut records = parts.records();
        records.extend(more);
        self.refuse(&identity, records, reason, detail);
    }

    pub(super) fn refuse(
        &mut self,
        identity: &Identity,
        records: Vec<RecordId>,
        reason: RejectReason,
        mut detail: String,
    ) {
        // The record's writer chose the text that the detail quotes; it must not swell the plan.
        if let Some((end, _)) = detail.char_indices().nth(DETAIL) {
            detail.truncate(end);
        }
        let sampled_for = self.sampled_for(identity);
        let slot = self
            .slot(identity)
            .filter(|_| !shares_number_with_earlier(reason));
        let mut refused = Refused {
            rejection: Rejection {
                group: identity.group.map(|group| group.to_string()),
                producer: identity.producer.clone(),
                producer_seq: identity.producer_seq,
                records,
                reason,
                detail,
                source: self.source.clone(),
            },
            sampled_for,
            slot,
            fault: None,
            kept: None,
        };
        let first = refused.rejection.records.first().copied();
        if let (Some(slot), Some(first)) = (slot, first) {
            if self.slots.is_taken(slot, first) {
                refused.make_second(slot);
            } else {
                self.slots.hold(slot, sampled_for, first);
            }
        }
        self.refused.push(refused);
    }

    /// Refuses the waiting groups that can no longer be trained in `update`. The detail of
    /// a refusal does not depend on when it was noticed, because a restart may notice it at another
    /// offset.
    pub fn settle(&mut self, update: UpdateNumber) {
        let max_age = self.settings.learner.max_age;
        let own = self
            .source
            .is_none()
            .then_some(&self.settings.learner.policy);
        let known = &self.known;
        let late = |group: &ReadyGroup| {
            if let Some(sampled_for) = group.sampled_for.filter(|past| *past < update) {
                let detail = format!("sampled for update {sampled_for}, now at {update}");
                return Some((RejectReason::BatchFull, detail));
            }
            let newest = match own {
                Some(own) if group.policy == own.as_str() => update.version_before(),
                _ => known.get(&group.policy).copied().unwrap_or_default(),
            };
            let oldest = group.min_version();
            let bound = self.settings.max_staleness.filter(|_| group.slot.is_some());
            let max_age = max_age.into_iter().chain(bound).min();
            let max_age = max_age.filter(|max_age| newest.staleness_of(oldest).0 > *max_age)?;
            let detail = format!("sampled by version {oldest}, more than {max_age} updates ago");
            Some((RejectReason::TooStale, detail))
        };
        let gone: Vec<_> = self.ready.iter().map(late).collect();
        self.withdraw(gone);
    }

    /// Refuses every group of a producer process, waiting ones and those to come: the log-probs of
    /// its engine are not those of the versions that it names, which `fault` says in words.
    pub fn distrust(&mut self, producer: &str, fault: String) {
        self.distrusted.insert(producer.to_owned(), fault);
        let ready = self.ready.iter();
        let gone: Vec<_> = ready
            .map(|group| self.distrust_of(&group.planned.producer, group.own))
            .collect();
        self.withdraw(gone);
    }

    /// Returns the reason to refuse a group of a producer that is not trusted. Groups that were
    /// sampled elsewhere are not judged by the versions of this run.
    pub(super) fn distrust_of(&self, producer: &str, own: bool) -> Option<(RejectReason, String)> {
        let fault = self.distrusted.get(producer).filter(|_| own)?;
        Some((RejectReason::LogprobMismatch, fault.clone()))
    }

    /// Refuses the waiting groups that have a reason in `gone`, which has one entry a group.
    fn withdraw(&mut self, gone: Vec<Option<(RejectReason, String)>>) {
        if gone.iter().all(Option::is_none) {
            return;
        }
        let mut withdrawn = Vec::new();
        let mut keep = VecDeque::with_capacity(self.ready.len());
        for (group, why) in std::mem::take(&mut self.ready).into_iter().zip(gone) {
            match why {
                None => keep.push_back(group),
                Some(why) => withdrawn.push((group, why)),
            }
        }
        self.ready = keep;
        for (group, (reason, detail)) in withdrawn {
            let identity = Identity {
                group: group.planned.group.parse().ok(),
                producer: Some(group.planned.producer),
                producer_seq: Some(group.planned.producer_seq),
                policy: Some(group.policy),
                batch: group.sampled_for.map(UpdateNumber::to_batch),
                part: None,
                slot: group.slot,
            };
            self.refuse(&identity, group.planned.records, reason, detail);
        }
    }
}
