//! Execution of a plan: its update is computed, while it is written and the one before is recorded.

use std::time::Instant;

use vintage_control::{Plan, RejectReason, Rejection};
use vintage_faults::point;

use super::{Learner, occasion::Occasion, record::Unrecorded};
use crate::{error::Result, intake::ReadyGroup, outlet::LearnerEvent, source::Inputs};

impl Learner {
    /// Returns the number of groups taken from the log whose training no checkpoint holds.
    pub(super) fn in_hand(&self) -> u64 {
        self.unsaved + self.intake.ready_groups()
    }

    /// Computes the update of a plan. Meanwhile the plan is written, unless it is there, the update before
    /// is recorded, and what is at hand of the next update's rollouts is read. This update
    /// is recorded at once if it was run before or if a checkpoint is due, else by
    /// [`Learner::record_last`].
    pub(super) async fn execute(
        &mut self,
        plan: Plan,
        groups: Vec<ReadyGroup>,
        occasion: Occasion,
        inputs: &mut Inputs,
    ) -> Result<()> {
        let change = self.window.advance(&plan, &groups);
        let updating = LearnerEvent::Updating {
            update: plan.update(),
            excerpt: groups.first().and_then(ReadyGroup::excerpt).map(Box::new),
        };
        self.take_adapters().await?;
        let is_new = occasion != Occasion::Again;
        let is_kept = self.unrecorded.is_some() && self.is_published(self.trainer.version());
        let began = Instant::now();
        // Who computes elsewhere is told of nothing that could still become another plan.
        let is_early = is_new && self.wanted.is_some();
        if is_early {
            self.decide(&plan).await?;
        }
        let computing = self
            .trainer
            .begin(&self.weights, plan.clone(), groups, is_kept);
        let computing = computing.await?;
        let meanwhile = async {
            if is_new && !is_early {
                self.decide(&plan).await?;
            }
            if is_new {
                let (next, is_over) = (plan.update().next(), || computing.is_finished());
                self.read_ahead(next, inputs, is_over).await?;
            }
            self.record_last().await?;
            if is_new {
                self.outlet.report(updating);
            }
            Ok(())
        };
        let recorded: Result<()> = meanwhile.await;
        let computed = computing.finished().await;
        recorded?;
        let trained = self.trainer.end(computed?)?;
        let held = (began.elapsed().as_secs_f64() - trained.seconds).max(0.0);
        if !is_new {
            self.settle(&plan).await?;
        }
        point("learner.updated", self.in_hand());
        self.intake.keep(change.enter);
        self.intake.finish(&plan);
        self.intake.release(change.leave);
        if let Some(blended) = &mut self.blended {
            blended.finish(&plan);
        }
        self.groups_trained += plan.groups.len() as u64;
        self.groups_rejected += counted(&plan.rejections);
        self.unrecorded = Some(Box::new(Unrecorded {
            announcement: self.announcement(),
            occasion,
            held,
            adapters: None,
            plan,
            trained,
        }));
        let version = self.trainer.version();
        let learner = &self.settings.learner;
        let is_due = version.0.is_multiple_of(learner.checkpoint_every);
        if is_due || !is_new {
            self.record_last().await?;
        }
        if is_due {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Writes the plan. From here on the update is decided, for every process of this learner.
    async fn decide(&mut self, plan: &Plan) -> Result<()> {
        self.records.write_plan(plan).await?;
        self.unplanned = plan.update().next();
        point("learner.planned", self.in_hand());
        Ok(())
    }
}

/// Returns the number of rejections that count as groups of the run's log. A duplicate does not: it
/// is a copy of a group that counts already.
fn counted(rejections: &[Rejection]) -> u64 {
    rejections
        .iter()
        .filter(|refused| refused.source.is_none() && refused.reason != RejectReason::Duplicate)
        .count() as u64
}
