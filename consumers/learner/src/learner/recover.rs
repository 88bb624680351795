//! What a new life does first: it runs the plans after the checkpoint again.

use vintage_control::RecordId;

use super::{Learner, execute::Run};
use crate::{
    Error, Inputs, LearnerEvent, Result,
    intake::{Announced, Intake},
};

impl Learner {
    /// Runs the plans after the checkpoint again: what they published stays what it was.
    /// Announces once at the end, not every version on the way: producers know them.
    pub(super) async fn recover(&mut self, inputs: &mut Inputs) -> Result<()> {
        let from = self.trainer.version();
        self.horizon = self.records.next_plan().await?;
        self.catch_up(inputs).await?;
        while let Some(plan) = self.records.plan(self.trainer.version()).await? {
            if plan.version >= self.horizon {
                return Err(self.overtaken(plan.version, plan.writer));
            }
            let groups = self.groups_of(&plan, inputs).await?;
            let recorded = self.records.result(plan.version).await?;
            self.unsaved += groups.len() as u64;
            self.execute(plan, groups, Run::Again).await?;
            if let Some(recorded) = recorded
                && recorded.weights_sha256 != self.trainer.weights_sha256()
            {
                return Err(Error::Diverged {
                    update: recorded.version,
                    computed: self.trainer.weights_sha256(),
                    recorded: recorded.weights_sha256,
                });
            }
        }
        let version = self.trainer.version();
        self.publish().await?;
        self.announce().await?;
        self.outlet.tell(LearnerEvent::Recovered {
            version,
            rerun: version.0 - from.0,
        });
        Ok(())
    }

    /// Reads a recorded log up to where the life before had read it. From there on the same
    /// groups wait in the same order as in a life that was never interrupted, and the same ones
    /// are chosen.
    async fn catch_up(&mut self, inputs: &mut Inputs) -> Result<()> {
        if inputs.source.is_recorded() {
            while let Some(record) = self.intake.behind() {
                match inputs.source.next().await? {
                    Some(incoming) => self.intake.take(incoming, Announced::Any)?,
                    None => return Err(shrunk(record)),
                }
            }
        }
        if let (Some(intake), Some(source)) = (&mut self.blended, &mut inputs.blended) {
            while let Some(record) = Intake::behind(intake) {
                match source.next().await? {
                    Some(incoming) => intake.take(incoming, Announced::Any)?,
                    None => return Err(shrunk(record)),
                }
            }
        }
        Ok(())
    }
}

fn shrunk(record: RecordId) -> Error {
    Error::Record(format!(
        "the recorded log ends before {record}, which this learner had read before it was \
         interrupted: restore the archive from a copy"
    ))
}
