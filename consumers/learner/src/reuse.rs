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
    group: ReadyGroup,
}

/// Groups that may be trained again.
#[derive(Debug, Default)]
pub(crate) struct ReuseWindow {
    /// Groups in the order in which they were trained.
    kept: Vec<Kept>,
    /// Groups that plans before the checkpoint trained and whose records are to be read again.
    awaited: Vec<(UpdateNumber, PlannedGroup)>,
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
                let own = plan.groups.clone().into_iter();
                let update = plan.update();
                own.filter(|group| group.source.is_none())
                    .map(move |group| (update, group))
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
        awaited.flat_map(|(_, group)| group.records.iter().copied())
    }

    /// Takes a group that was read again. One that is not awaited, or has other content than its
    /// plan says, is left out.
    fn restore(&mut self, group: ReadyGroup) {
        let place = self.awaited.iter().position(|(_, awaited)| {
            awaited.records == group.planned.records
                && awaited.content_sha256 == group.planned.content_sha256
        });
        if let Some(place) = place {
            let (first_trained, _) = self.awaited.remove(place);
            self.kept.push(Kept {
                first_trained,
                group,
            });
            self.kept.sort_by_key(|kept| kept.first_trained);
        }
    }

    /// Takes what `intake` has read again, and stops waiting for groups that will not be. Returns
    /// true if there is nothing left to wait for.
    pub(crate) fn restore_from(&mut self, intake: &mut Intake) -> bool {
        for group in intake.take_restored() {
            self.restore(group);
        }
        let mut gone = Vec::new();
        for (_, group) in self
            .awaited
            .extract_if(.., |(_, group)| intake.is_past(&group.records))
        {
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
        if plan.reuse.replay.is_some() {
            let own = plan.groups.iter().zip(groups);
            for (_, group) in own.filter(|(planned, _)| planned.source.is_none()) {
                change.enter.extend(&group.planned.records);
                self.kept.push(Kept {
                    first_trained,
                    group: group.clone(),
                });
            }
        }
        let oldest = oldest_after(plan);
        for gone in self.kept.extract_if(.., |kept| kept.first_trained < oldest) {
            change.leave.extend(&gone.group.planned.records);
        }
        for (_, gone) in self.awaited.extract_if(.., |(first, _)| *first < oldest) {
            change.leave.extend(&gone.records);
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

/// Returns the first update whose groups the update after `plan` may train again.
fn oldest_after(plan: &Plan) -> UpdateNumber {
    let next = plan.update().next().0;
    let window = plan.reuse.replay.map_or(0, |rule| rule.window);
    UpdateNumber(next.saturating_sub(window))
}

#[cfg(test)]
mod tests;
