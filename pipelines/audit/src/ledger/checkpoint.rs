//! Comparison of a checkpoint with the plans before it: whatever it counts as done must be in a
//! plan.

use std::collections::HashSet;

use vintage_control::{CheckpointManifest, Offset, PolicyVersion, ProducerWindow, RecordId};

use super::Ledger;
use crate::{
    fate::Fate,
    findings::Findings,
    inventory::partition_records::{PartitionId, RecordState},
};

impl Ledger<'_> {
    /// Compares the checkpoint at `version`. Must be called after adding the plans of all earlier
    /// updates and none of later ones.
    pub(crate) fn checkpoint(
        &mut self,
        version: PolicyVersion,
        manifest: &CheckpointManifest,
        findings: &mut Findings,
    ) {
        let file = format!("checkpoints/{}/{version}/manifest.json", self.name);
        let policy = manifest.policy.as_str();
        findings.digest(policy, version, manifest.weights_sha256, &file);
        let mut wrong = |what: String| {
            findings.breach("checkpoints that differ from the plans", || {
                format!("{file}: {what}")
            });
        };
        if manifest.learner.as_str() != self.name || manifest.version != version {
            wrong(format!(
                "it is checkpoint {} of {}",
                manifest.version, manifest.learner
            ));
            return;
        }
        let counts = (manifest.groups_trained, manifest.groups_rejected);
        if counts != (self.trained, self.rejected) {
            wrong(format!(
                "it counts {} trained and {} rejected, the plans before it {} and {}",
                counts.0, counts.1, self.trained, self.rejected
            ));
        }
        let waiting = manifest.waiting.iter();
        let waiting: HashSet<u32> = waiting
            .filter_map(|record| match self.inventory.state_of(*record) {
                RecordState::Present(_, record) => Some(record.group),
                _ => None,
            })
            .collect();
        for at in &manifest.partitions {
            let place = (at.incarnation, at.partition);
            self.check_done(place, at.resume.0, &file, findings);
            for done in &at.done {
                let record = record_at(place, done.0);
                if let RecordState::Present(index, _) = self.inventory.state_of(record)
                    && self.used_by(place, index).is_none()
                {
                    unaccounted(findings, &file, record, "counts as done");
                }
            }
            self.check_open(place, at.resume.0, &waiting, &file, findings);
        }
        for (producer, window) in &manifest.producers {
            self.check_window(producer, window, &file, findings);
        }
    }

    /// Checks that every record before the resume point is in a plan.
    fn check_done(&mut self, place: PartitionId, resume: i64, file: &str, findings: &mut Findings) {
        let Some(partition_records) = self.inventory.partitions().get(&place) else {
            return;
        };
        let records = partition_records.records();
        let from = self.checked.get(&place).copied().unwrap_or(0);
        let to = records.partition_point(|record| record.offset < resume);
        for (at, record) in records.iter().enumerate().take(to).skip(from) {
            let record = record_at(place, record.offset);
            if self.used_by(place, at).is_none() && !self.is_before_start(record) {
                unaccounted(findings, file, record, "precedes the resume point");
            }
        }
        self.checked.insert(place, from.max(to));
    }

    /// Checks the records after the resume point that precede a planned one. Each was received
    /// before that plan was made, so if its group is whole it is in a plan or waiting.
    fn check_open(
        &self,
        place: PartitionId,
        resume: i64,
        waiting: &HashSet<u32>,
        file: &str,
        findings: &mut Findings,
    ) {
        let Some(partition_records) = self.inventory.partitions().get(&place) else {
            return;
        };
        let reached = self.reached.get(&place).copied().unwrap_or(resume);
        let records = partition_records.records();
        let from = records.partition_point(|record| record.offset < resume);
        for (at, record) in records.iter().enumerate().skip(from) {
            if record.offset >= reached {
                break;
            }
            let settled = record.part.1 > 1
                || waiting.contains(&record.group)
                || self.used_by(place, at).is_some();
            let record = record_at(place, record.offset);
            if !settled && !self.is_before_start(record) {
                let why = "is among records of plans and does not wait";
                unaccounted(findings, file, record, why);
            }
        }
    }

    /// Checks that every number which the checkpoint counts as finished is in a plan.
    fn check_window(
        &mut self,
        producer: &str,
        window: &ProducerWindow,
        file: &str,
        findings: &mut Findings,
    ) {
        let from = self.windows.get(producer).copied().unwrap_or(0);
        let below = from..window.next;
        let above = window
            .above
            .iter()
            .map(|&number| number..number.saturating_add(1));
        let runs = window.runs.iter();
        let runs = runs.map(|&(first, last)| first..last.saturating_add(1));
        // A forged number may make a window too large to iterate over; numbers that far are in no
        // plan.
        let all = [below].into_iter().chain(above).chain(runs).flatten();
        let all = all.take(1 + self.fates.len() + self.only_planned.len());
        for seq in all.filter(|seq| !self.is_finished(producer, *seq)) {
            findings.breach("checkpoints that differ from the plans", || {
                format!("{file}: group {producer}/{seq} counts as finished, and no plan names it")
            });
        }
        self.windows
            .insert(producer.to_owned(), from.max(window.next));
    }

    fn is_finished(&self, producer: &str, seq: u64) -> bool {
        match self.inventory.number(producer, seq) {
            Some(group) if self.fate(group) != Fate::Open => true,
            _ if self.only_planned.contains_key(&(producer.to_owned(), seq)) => true,
            // The producer restarted its numbering. The group found first may be another than the
            // learner's first, because partitions are not read in the learner's order.
            None => false,
            Some(_) => {
                let of = self.inventory.find(|group| {
                    group.seq == seq && self.inventory.producer_of(group) == Some(producer)
                });
                of.into_iter().any(|group| self.fate(group) != Fate::Open)
            }
        }
    }
}

fn record_at(place: PartitionId, offset: i64) -> RecordId {
    RecordId {
        incarnation: place.0,
        partition: place.1,
        offset: Offset(offset),
    }
}

fn unaccounted(findings: &mut Findings, file: &str, record: RecordId, why: &str) {
    findings.breach("records neither trained nor rejected", || {
        format!("{record}: by {file} it {why}, and no plan before names it")
    });
}
