//! Checks of a plan, and of the result of its update.

use vintage_control::{
    CONTROL_FORMAT, Partition, Plan, PlannedGroup, RecordId, RejectReason, Rejection, ReusedGroup,
    UpdateNumber, UpdateResult,
};

use super::Ledger;
use crate::{
    fate::Fate,
    findings::Findings,
    inventory::partition_records::{Record, RecordState},
};

/// Records in the inventory that an entry of a plan names.
struct Named<'a> {
    found: Vec<&'a Record>,
    /// Partition of the first record, according to the plan.
    partition: Option<i32>,
    /// True if some records are gone for a reason that is no fault of the plan.
    gone: bool,
}

impl<'a> Ledger<'a> {
    /// Adds the plan of `update`. Must be called after adding those of all earlier updates.
    pub(crate) fn plan(&mut self, update: UpdateNumber, plan: &Plan, findings: &mut Findings) {
        let file = format!("plans/{}/{update}.json", self.name);
        let mut wrong = |what: String| {
            findings.breach("plans that are not what they should be", || {
                format!("{file}: {what}")
            });
        };
        if plan.format != CONTROL_FORMAT {
            wrong(format!("it is of format {:?}", plan.format));
        }
        if plan.learner.as_str() != self.name || plan.update() != update {
            wrong(format!(
                "it is plan {} of learner {}",
                plan.update(),
                plan.learner
            ));
        }
        let policy = self.policy.get_or_insert_with(|| plan.policy.to_string());
        if *policy != plan.policy.as_str() {
            wrong(format!(
                "it trains {}, the plans before it {policy}",
                plan.policy
            ));
        }
        if let Some(what) = packing_fault(plan, plan.rows()) {
            wrong(what);
        }
        let before = update.version_before();
        findings.digest(plan.policy.as_str(), before, plan.weights_sha256, &file);
        self.account.updates += 1;
        for group in &plan.groups {
            self.trained += 1;
            if group.source.is_some() {
                self.account.blended += 1;
            } else {
                self.train(update, group, &file, findings);
            }
        }
        for reused in &plan.reused {
            self.account.reused += 1;
            self.check_reused(update, reused, &file, findings);
        }
        let own = plan.rejections.iter();
        for rejection in own.filter(|rejection| rejection.source.is_none()) {
            self.reject(update, rejection, &file, findings);
        }
    }

    /// Compares the result of `update` with its plan.
    pub(crate) fn result(
        &mut self,
        update: UpdateNumber,
        result: &UpdateResult,
        plan: Option<&Plan>,
        findings: &mut Findings,
    ) {
        const KIND: &str = "results that are not what they should be";
        let file = format!("results/{}/{update}.json", self.name);
        if result.learner.as_str() != self.name || result.update() != update {
            findings.breach(KIND, || {
                format!(
                    "{file}: it is of update {} of {}",
                    result.update(),
                    result.learner
                )
            });
        }
        let policy = result.policy.as_str();
        findings.digest(policy, update.version_after(), result.weights_sha256, &file);
        let Some(plan) = plan else {
            findings.breach("updates without a plan", || {
                format!("{file}: update {update} was done, and there is no plan of it")
            });
            return;
        };
        let planned = (plan.groups.len() as u64, plan.rows());
        if planned != (result.groups, result.rows) {
            findings.breach(KIND, || {
                format!(
                    "{file}: it trained {} groups of {} rows, its plan names {} of {}",
                    result.groups, result.rows, planned.0, planned.1
                )
            });
        }
    }

    /// Checks that the update that a reused group names is the one that trained it first.
    fn check_reused(
        &self,
        update: UpdateNumber,
        reused: &ReusedGroup,
        file: &str,
        findings: &mut Findings,
    ) {
        let group = &reused.group;
        let called = format!(
            "{file}: reused group {}/{}",
            group.producer, group.producer_seq
        );
        let first = reused.first_trained;
        let mut wrong = |what: String| {
            findings.breach("reused groups that were not trained before", || {
                format!("{called} {what}")
            });
        };
        if first >= update {
            wrong(format!("was first trained by update {first}, it says"));
        }
        let mut found = Vec::with_capacity(group.records.len());
        for &record in &group.records {
            // Retention or a prune may have deleted the record since.
            let RecordState::Present(at, there) = self.inventory.state_of(record) else {
                continue;
            };
            let trained = self.used_by((record.incarnation, record.partition), at);
            if trained != Some(first) {
                let trained = trained.map_or_else(|| "none".to_owned(), |other| other.to_string());
                wrong(format!(
                    "was first trained by update {first}, it says, and of {record} it was {trained}"
                ));
            }
            found.push(there);
        }
        let complete = found.len() == group.records.len();
        self.check_group(group, &found, complete, &called, findings);
    }

    fn train(
        &mut self,
        update: UpdateNumber,
        group: &PlannedGroup,
        file: &str,
        findings: &mut Findings,
    ) {
        let called = format!("{file}: group {}/{}", group.producer, group.producer_seq);
        let named = self.look_up(update, &group.records, &called, findings);
        let complete = named.found.len() == group.records.len();
        self.check_group(group, &named.found, complete, &called, findings);
        self.account.of(named.partition).trained += 1;
        let number = (group.producer.as_str(), group.producer_seq);
        let before = self.settle(Some(number), &named, Fate::Trained(update));
        accounted_before(before, &called, findings);
    }

    fn reject(
        &mut self,
        update: UpdateNumber,
        rejection: &Rejection,
        file: &str,
        findings: &mut Findings,
    ) {
        let number = rejection.producer.as_deref().zip(rejection.producer_seq);
        let called = match number {
            Some((producer, seq)) => format!("{file}: rejected group {producer}/{seq}"),
            None => format!("{file}: a rejected record without a number"),
        };
        let named = self.look_up(update, &rejection.records, &called, findings);
        let mut wrong = |what: String| {
            findings.breach("plans that differ from their records", || {
                format!("{called} {what}")
            });
        };
        if rejection.records.is_empty() {
            wrong("names no record".to_owned());
        }
        if let Some(record) = named.found.first() {
            let of = &self.inventory.groups()[record.group as usize];
            let says = self.inventory.producer_of(of).map(|name| (name, of.seq));
            // Older plans did not record the number of a record with a bad header.
            let silent = number.is_none() && rejection.reason == RejectReason::BadHeaders;
            if says != number && !silent {
                let (offset, there) = (record.offset, self.inventory.named(of));
                wrong(format!("names offset {offset}, where {there} is"));
            }
        }
        if rejection.reason == RejectReason::Duplicate {
            // Older plans refused a group under a repeated number as a duplicate.
            let first = named.found.first().map(|record| record.group as usize);
            let group = first.filter(|&group| self.inventory.groups()[group].renumbered);
            if group.is_none_or(|group| self.fates[group] != Fate::Open) {
                self.check_duplicate(&named, &called, findings);
                return;
            }
        } else {
            self.rejected += 1;
        }
        let rejected = &mut self.account.of(named.partition).rejected;
        let reason = rejection.reason.as_str().to_owned();
        *rejected.entry(reason).or_default() += 1;
        let fate = Fate::Rejected(update, rejection.reason);
        if rejection.reason == RejectReason::Renumbered && named.found.is_empty() {
            // The number belongs to another group, so only this plan names the rejected one.
            self.account.of(named.partition).produced += u64::from(named.gone);
            return;
        }
        let before = self.settle(number, &named, fate);
        accounted_before(before, &called, findings);
    }

    /// Records the fate of a group, and returns its previous fate.
    fn settle(&mut self, number: Option<(&str, u64)>, named: &Named<'_>, fate: Fate) -> Fate {
        let by_number = number.and_then(|(producer, seq)| self.inventory.number(producer, seq));
        let known = named.found.first().map(|record| record.group).or(by_number);
        if let (true, Some((producer, seq))) = (named.gone, number) {
            let key = (producer.to_owned(), seq);
            self.only_planned.insert(key, (fate, named.partition));
        }
        let Some(known) = known.map(|known| known as usize) else {
            return Fate::Open;
        };
        let before = self.fates[known];
        if before == Fate::Open {
            self.fates[known] = fate;
            self.planned_partitions[known] = named.partition;
        }
        before
    }

    /// Compares a group in a plan with its records.
    fn check_group(
        &self,
        group: &PlannedGroup,
        found: &[&Record],
        complete: bool,
        called: &str,
        findings: &mut Findings,
    ) {
        let mut wrong = |what: String| {
            findings.breach("plans that differ from their records", || {
                format!("{called} {what}")
            });
        };
        if group.records.is_empty() {
            wrong("names no record".to_owned());
        }
        let parts = found.first().map_or(1, |record| record.part.1);
        for (place, record) in (1..).zip(found) {
            let of = &self.inventory.groups()[record.group as usize];
            if self.inventory.producer_of(of) != Some(&group.producer)
                || of.seq != group.producer_seq
            {
                let (offset, there) = (record.offset, self.inventory.named(of));
                wrong(format!("names offset {offset}, where {there} is"));
            } else if record.id.map(hex::encode).as_deref() != Some(&group.group) {
                wrong(format!(
                    "is {} by its plan, and not by its record",
                    group.group
                ));
            }
            if complete && record.part != (place, parts) {
                let (part, of) = record.part;
                wrong(format!("takes part {part} of {of} in place {place}"));
            }
            if record.rows.is_none() {
                let offset = record.offset;
                wrong(format!(
                    "was trained on offset {offset}, which cannot be decoded"
                ));
            }
        }
        if !complete || found.is_empty() {
            return;
        }
        if found.len() != parts as usize {
            wrong(format!("has {} of {parts} parts", found.len()));
        }
        let rows: u32 = found.iter().filter_map(|record| record.rows).sum();
        if rows != group.rows {
            let planned = group.rows;
            wrong(format!(
                "has {planned} rows by its plan, {rows} by its records"
            ));
        }
        if let [record] = found
            && let Some(content) = record.content
            && content != group.content_sha256
        {
            let planned = group.content_sha256;
            wrong(format!(
                "has content {planned} by its plan, {content} by its record"
            ));
        }
        if found.len() > 1 && found.iter().all(|record| record.content.is_some()) {
            findings.note("contents not compared", || {
                let parts = found.len();
                format!(
                    "{called} came in {parts} parts: its content is held against the plan by \
                     `vintage replay --exact`, and not here"
                )
            });
        }
    }

    /// Reports a duplicate without another copy: a group refused in this way would be lost
    /// unnoticed.
    fn check_duplicate(&self, named: &Named<'_>, called: &str, findings: &mut Findings) {
        let Some(record) = named.found.first() else {
            return;
        };
        let copies = self.inventory.groups()[record.group as usize].copies;
        // The first copy may have been deleted.
        let whole = !self.inventory.begins_late() && !self.inventory.is_pruned();
        if copies as usize <= named.found.len() && whole {
            findings.breach("duplicates of nothing", || {
                format!("{called} as a duplicate, and there is no other copy of it")
            });
        }
    }

    /// Finds the records that a plan names, and marks them as named by it.
    fn look_up(
        &mut self,
        update: UpdateNumber,
        records: &[RecordId],
        called: &str,
        findings: &mut Findings,
    ) -> Named<'a> {
        let inventory = self.inventory;
        let mut named = Named {
            found: Vec::with_capacity(records.len()),
            partition: records
                .first()
                .map(|record| record.partition)
                .map(|Partition(p)| p),
            gone: false,
        };
        for &record in records {
            let place = (record.incarnation, record.partition);
            let reached = self.reached.entry(place).or_insert(record.offset.0);
            *reached = (*reached).max(record.offset.0);
            let (at, found) = match inventory.state_of(record) {
                RecordState::Present(at, found) => (at, found),
                // Deleted by retention or pruned, or in an unreadable file that is reported as such.
                RecordState::Unreadable | RecordState::Expired => {
                    named.gone = true;
                    continue;
                }
                RecordState::Missing => {
                    findings.breach("planned records missing", || {
                        format!("{called} names {record}, which neither archive nor log holds")
                    });
                    continue;
                }
                RecordState::Beyond => {
                    findings.breach("planned records missing", || {
                        format!("{called} names {record}, beyond all that archive and log hold")
                    });
                    continue;
                }
            };
            named.found.push(found);
            let used = self.used.get_mut(&place).and_then(|used| used.get_mut(at));
            let Some(used) = used else { continue };
            if *used > 0 {
                let first = *used - 1;
                findings.breach("records in two plans", || {
                    format!("{called} names {record}, which plan {first} names already")
                });
            }
            *used = u32::try_from(update.0).unwrap_or(u32::MAX - 1) + 1;
        }
        named
    }
}

fn accounted_before(before: Fate, called: &str, findings: &mut Findings) {
    match before {
        Fate::Open => {}
        Fate::Trained(first) => findings.breach("groups accounted for twice", || {
            format!("{called} was trained by update {first} already")
        }),
        Fate::Rejected(first, reason) => findings.breach("groups accounted for twice", || {
            let reason = reason.as_str();
            format!("{called} was rejected ({reason}) by plan {first} already")
        }),
    }
}

/// Returns the first fault of the micro-batches: a row of the plan that they miss, repeat or
/// exceed.
fn packing_fault(plan: &Plan, rows: u64) -> Option<String> {
    let mut packed = vec![false; usize::try_from(rows).ok()?];
    for &row in plan.micro_batches.iter().flat_map(|batch| &batch.rows) {
        match packed.get_mut(row as usize) {
            None => return Some(format!("it packs row {row} of {rows}")),
            Some(true) => return Some(format!("it trains row {row} twice")),
            Some(packed) => *packed = true,
        }
    }
    let left = packed.iter().position(|packed| !packed)?;
    Some(format!("it packs all rows but row {left} of {rows}"))
}
