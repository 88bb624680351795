//! Groups that the latest updates trained, from which later updates take some again.
//!
//! The window is a function of the plans alone: a restarted learner, a follower and a replay have
//! the same one.

mod choose;

use vintage_control::{Plan, PlannedGroup, PolicyVersion, RecordId, ReusedGroup, UpdateNumber};
use vintage_store::Records;

use crate::{
    error::{Error, Result},
    intake::{Intake, ReadyGroup},
};

/// Group of the window.
#[derive(Debug, Clone)]
struct Kept {
    first_trained: UpdateNumber,
    /// Place of the group in the plan of that update.
    place: usize,
    /// Number of later updates that trained the group again.
    uses: u32,
    group: ReadyGroup,
}

impl Kept {
    fn order(&self) -> (UpdateNumber, usize) {
        (self.first_trained, self.place)
    }
}

/// Group that is to be read again.
#[derive(Debug)]
struct Awaited {
    first_trained: UpdateNumber,
    place: usize,
    uses: u32,
    group: PlannedGroup,
}

/// Groups that may be trained again.
#[derive(Debug, Default)]
pub(crate) struct ReuseWindow {
    /// Groups in the order in which they were trained, which a choice depends on.
    kept: Vec<Kept>,
    /// Groups that plans before the checkpoint trained and whose records are to be read again.
    awaited: Vec<Awaited>,
}

/// Records that enter the window with an update, and those that leave it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WindowChange {
    /// Records that are needed for longer than the update.
    pub(crate) enter: Vec<RecordId>,
    /// Records that are no longer needed.
    pub(crate) leave: Vec<RecordId>,
}

impl ReuseWindow {
    /// Creates the window as it was after `plans`, which are in order. Its groups are still to be
    /// read.
    fn after(plans: &[Plan]) -> Self {
        let mut window = Self::default();
        if let Some(last) = plans.last() {
            let oldest = oldest_after(last);
            let of = |plan: &Plan| {
                let own = plan.groups.clone().into_iter().enumerate();
                let first_trained = plan.update();
                own.filter(|(_, group)| group.source.is_none())
                    .map(move |(place, group)| Awaited {
                        first_trained,
                        place,
                        uses: uses_of(&group, plans),
                        group,
                    })
            };
            let reach = plans.iter().filter(|plan| plan.update() >= oldest);
            window.awaited = reach.flat_map(of).collect();
        }
        window
    }

    /// Reads the plans before `version` and creates the window as it was after them.
    pub(crate) async fn before(version: PolicyVersion, records: &Records) -> Result<Self> {
        let mut plans = Vec::new();
        let mut update = version;
        let mut window = 1;
        while plans.len() < window
            && let Some(before) = UpdateNumber::that_made(update)
            && let Some(plan) = records.plan(before).await?
        {
            if plans.is_empty() {
                let rule = plan.reuse.replay;
                window = rule.map_or(0, |rule| usize::try_from(rule.window).unwrap_or(usize::MAX));
            }
            update = before.version_before();
            plans.push(plan);
        }
        plans.reverse();
        Ok(Self::after(&plans))
    }

    /// Returns the records of the groups that are still to be read.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = RecordId> {
        let awaited = self.awaited.iter();
        awaited.flat_map(|awaited| awaited.group.records.iter().copied())
    }

    /// Takes a group that was read again. One that is not awaited, or has other content than its
    /// plan says, is left out.
    fn restore(&mut self, group: ReadyGroup) {
        let found = self.awaited.iter().position(|awaited| {
            awaited.group.records == group.planned.records
                && awaited.group.content_sha256 == group.planned.content_sha256
        });
        if let Some(found) = found {
            let awaited = self.awaited.remove(found);
            let kept = Kept {
                first_trained: awaited.first_trained,
                place: awaited.place,
                uses: awaited.uses,
                group,
            };
            // Records of several partitions arrive in any order.
            let before = |other: &Kept| other.order() < kept.order();
            self.kept.insert(self.kept.partition_point(before), kept);
        }
    }

    /// Takes what `intake` has read again, and stops waiting for groups that will not be. Returns
    /// true if there is nothing left to wait for.
    pub(crate) fn restore_from(&mut self, intake: &mut Intake) -> bool {
        for group in intake.take_restored() {
            self.restore(group);
        }
        let mut gone = Vec::new();
        let is_past = |awaited: &mut Awaited| intake.is_past(&awaited.group.records);
        for Awaited { group, .. } in self.awaited.extract_if(.., is_past) {
            tracing::warn!(
                group = group.group,
                "a group of an earlier update cannot be read again, and is not trained again"
            );
            gone.extend(group.records);
        }
        intake.release(gone);
        self.awaited.is_empty()
    }

    /// Adds the groups that `plan` trains for the first time, and removes those that are too old
    /// for the update after it. `groups` are the plan's, in its order.
    pub(crate) fn advance(&mut self, plan: &Plan, groups: &[ReadyGroup]) -> WindowChange {
        let mut change = WindowChange::default();
        let first_trained = plan.update();
        for kept in &mut self.kept {
            kept.uses += uses_of(&kept.group.planned, std::slice::from_ref(plan));
        }
        if plan.reuse.replay.is_some() {
            let own = plan.groups.iter().zip(groups).enumerate();
            for (place, (_, group)) in own.filter(|(_, (planned, _))| planned.source.is_none()) {
                change.enter.extend(&group.planned.records);
                self.kept.push(Kept {
                    first_trained,
                    place,
                    uses: 0,
                    group: group.clone(),
                });
            }
        }
        let oldest = oldest_after(plan);
        for gone in self.kept.extract_if(.., |kept| kept.first_trained < oldest) {
            change.leave.extend(&gone.group.planned.records);
        }
        let is_old = |awaited: &mut Awaited| awaited.first_trained < oldest;
        for gone in self.awaited.extract_if(.., is_old) {
            change.leave.extend(&gone.group.records);
        }
        change
    }

    /// Returns the groups that `plan` trains again.
    ///
    /// # Errors
    /// A group is not in the window, or has other content than the plan says.
    pub(crate) fn take(&self, plan: &Plan) -> Result<Vec<ReadyGroup>> {
        let find = |reused: &ReusedGroup| {
            let planned = &reused.group;
            let kept = self.kept.iter();
            let kept = kept.map(|kept| &kept.group);
            let mut kept = kept.filter(|kept| kept.planned.records == planned.records);
            let update = plan.update();
            let record = planned.records.first().copied();
            let record = record.ok_or(Error::PlanContradicts {
                update,
                reason: "a reused group without records",
            })?;
            match kept.next() {
                Some(group) if group.planned.content_sha256 == planned.content_sha256 => {
                    Ok(group.clone())
                }
                Some(_) => Err(Error::ContentChanged {
                    update,
                    group: planned.group.clone(),
                    record,
                }),
                None => Err(Error::RecordMissing { update, record }),
            }
        };
        plan.reused.iter().map(find).collect()
    }
}

/// Returns the number of times that `plans` train a group again.
fn uses_of(group: &PlannedGroup, plans: &[Plan]) -> u32 {
    let reused = plans.iter().flat_map(|plan| &plan.reused);
    let same = |reused: &&ReusedGroup| reused.group.records == group.records;
    reused.filter(same).count() as u32
}

/// Returns the first update whose groups the update after `plan` may train again.
fn oldest_after(plan: &Plan) -> UpdateNumber {
    let next = plan.update().next().0;
    let window = plan.reuse.replay.map_or(0, |rule| rule.window);
    UpdateNumber(next.saturating_sub(window))
}

#[cfg(test)]
mod tests;
