//! Checkpoints: state of training and resume points of the logs, committed as one.

use vintage_control::{BlendedResume, CONTROL_FORMAT, CheckpointManifest, ProducerWindow};
use vintage_faults::point;

use super::Learner;
use crate::{error::Result, outlet::LearnerEvent};

impl Learner {
    /// Commits the state of training and the resume points of the logs as a checkpoint.
    pub(super) async fn checkpoint(&mut self) -> Result<()> {
        if self.trainer.deviates() {
            return Ok(()); // The checkpoint before remains until the next version's.
        }
        // The version must be published for as long as the checkpoint exists. Publishing first also
        // frees the bytes of the weights before those of the moments are made.
        self.publish(None).await?;
        let state = self.trainer.state(self.settings.base_model.clone()).await?;
        let blend = self.settings.blended.as_ref().zip(self.blended.as_ref());
        let version = self.trainer.version();
        let manifest = CheckpointManifest {
            format: CONTROL_FORMAT.to_owned(),
            learner: self.settings.learner.name.clone(),
            policy: self.settings.learner.policy.clone(),
            version,
            weights_sha256: self.trainer.weights_sha256(),
            optimizer_sha256: state.moments_sha256,
            optimizer_steps: state.steps,
            adapter_sha256: state.adapter_sha256,
            masters_sha256: state.masters_sha256,
            partitions: self.intake.resume_points(),
            producers: self.intake.finished_numbers(),
            slots: ProducerWindow::from(self.intake.finished_slots()),
            waiting: self.intake.waiting(),
            groups_trained: self.groups_trained,
            groups_rejected: self.groups_rejected,
            known: self
                .intake
                .known()
                .into_iter()
                .chain(self.blended.iter().flat_map(crate::intake::Intake::known))
                .collect(),
            refused_batches: self
                .intake
                .planned_refused_batches(self.trainer.next_update()),
            blended: blend.map(|(topic, intake)| BlendedResume {
                source: topic.clone(),
                partitions: intake.resume_points(),
                producers: intake.finished_numbers(),
            }),
        };
        self.records
            .write_checkpoint(&manifest, state.files, self.in_hand())
            .await?;
        self.unsaved = 0;
        point("learner.checkpointed", self.in_hand());
        self.records
            .prune_checkpoints(self.settings.learner.keep_checkpoints)
            .await?;
        self.outlet
            .report(LearnerEvent::Checkpointed(manifest.version));
        Ok(())
    }
}
