//! Recovery, the first step of every process: it runs the plans after the checkpoint again.

use vintage_control::{CONTROL_FORMAT, Deviation, Plan, Sha256, UpdateNumber};

use super::{Learner, occasion::Occasion};
use crate::{
    error::{Error, Result},
    intake::{Intake, judge::PermittedVersions},
    outlet::LearnerEvent,
    source::Inputs,
};

impl Learner {
    /// Runs the plans after the checkpoint again. Published versions remain as they are. Announces
    /// once at the end instead of every version on the way, because producers know those.
    pub(super) async fn recover(&mut self, inputs: &mut Inputs) -> Result<()> {
        let from = self.trainer.version();
        self.first_unplanned = self.records.next_plan().await?;
        self.unplanned = self.first_unplanned;
        self.catch_up(inputs).await?;
        self.restore_window(inputs).await?;
        while let Some(plan) = self.records.plan(self.trainer.next_update()).await? {
            if plan.update() >= self.first_unplanned {
                return Err(self.overtaken(plan.update(), plan.writer));
            }
            let groups = self.groups_of(&plan, inputs).await?;
            self.unsaved += plan.groups.len() as u64;
            Box::pin(self.execute(plan, groups, Occasion::Again, inputs)).await?;
        }
        let version = self.trainer.version();
        self.publish(None).await?;
        let announcement = self.announcement();
        self.announce(announcement).await?;
        self.outlet.report(LearnerEvent::Recovered {
            version,
            rerun: version.0 - from.0,
        });
        Ok(())
    }

    /// Compares the weights of an update that was run again with what its first run recorded. On a
    /// CPU they must be equal. A GPU may give other bits: then published weights are adopted, and
    /// the recorded digest keeps naming the version.
    pub(super) async fn settle(&mut self, plan: &Plan) -> Result<()> {
        let update = plan.update();
        let computed = self.trainer.weights_sha256();
        let published = self.weights.manifest(update.version_after()).await?;
        let planned = self.records.plan(update.next()).await?;
        let noted = self.records.result(update).await?;
        let said = [
            published.map(|manifest| manifest.weights_sha256),
            planned.map(|plan| plan.weights_sha256),
            noted.map(|result| result.weights_sha256),
        ];
        let mut said = said.into_iter().flatten();
        let recorded = if self.trainer.is_exact() {
            said.find(|digest| *digest != computed)
        } else {
            said.next().filter(|digest| *digest != computed)
        };
        match recorded {
            Some(recorded) => self.deviate(update, recorded).await,
            None => Ok(()),
        }
    }

    /// Handles an update that gave other weights than are recorded for it: an error where bits must
    /// be equal, else a recorded deviation.
    pub(super) async fn deviate(&mut self, update: UpdateNumber, recorded: Sha256) -> Result<()> {
        let computed = self.trainer.weights_sha256();
        // A process's own plan is run by another process only after that one has overtaken it.
        if self.trainer.is_exact() || update >= self.first_unplanned {
            return Err(Error::Diverged {
                update,
                computed,
                recorded,
            });
        }
        let taken = self.trainer.take(&self.weights, recorded).await?;
        tracing::warn!(
            "update {update}, run again, gave weights {computed} instead of {recorded}, as a GPU \
             may: {}",
            if taken {
                "the published ones are taken"
            } else {
                "training goes on from them, and they are not published"
            }
        );
        let deviation = Deviation {
            format: CONTROL_FORMAT.to_owned(),
            learner: self.settings.learner.name.clone(),
            policy: self.settings.learner.policy.clone(),
            version: update.version_before(),
            recorded_sha256: recorded,
            computed_sha256: computed,
            taken,
            writer: self.writer.clone(),
        };
        Ok(self.records.write_deviation(&deviation).await?)
    }

    /// Reads the groups of updates before the checkpoint that later ones may train again.
    async fn restore_window(&mut self, inputs: &mut Inputs) -> Result<()> {
        while !self.window.restore_from(&mut self.intake) {
            match inputs.source.next().await? {
                Some(incoming) => self.take(incoming, inputs).await?,
                None => break,
            }
        }
        Ok(())
    }

    /// Reads a recorded log up to the point that the previous process had reached. From there on
    /// the same groups wait in the same order as in an uninterrupted process, and the same ones are
    /// chosen.
    async fn catch_up(&mut self, inputs: &mut Inputs) -> Result<()> {
        if inputs.source.is_recorded() {
            while let Some(record) = self.intake.behind() {
                match inputs.source.next().await? {
                    Some(incoming) => {
                        let intake = &mut self.intake;
                        let taken = self.origins.take(intake, incoming, PermittedVersions::Any);
                        taken.await?;
                    }
                    None => return Err(Error::LogEnded { record }),
                }
            }
        }
        if let (Some(intake), Some(source)) = (&mut self.blended, &mut inputs.blended) {
            while let Some(record) = Intake::behind(intake) {
                match source.next().await? {
                    Some(incoming) => {
                        let taken = self.origins.take(intake, incoming, PermittedVersions::Any);
                        taken.await?;
                    }
                    None => return Err(Error::LogEnded { record }),
                }
            }
        }
        Ok(())
    }
}
