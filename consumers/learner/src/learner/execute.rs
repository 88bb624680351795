//! Execution of a durable plan: update, weights, result, announcement, checkpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use vintage_control::{
    BlendedResume, CONTROL_FORMAT, CheckpointManifest, Metric, Plan, PolicyAnnouncement,
    PolicyVersion, ProducerWindow, RejectReason, Rejection, UpdateNumber, UpdateResult,
};
use vintage_faults::point;
use vintage_store::{Created, Form, MODEL_FILE};

use super::{Learner, occasion::Occasion, retained::take_old};
use crate::{
    error::{Error, Result},
    intake::ReadyGroup,
    outlet::LearnerEvent,
    result::result_of,
    trainer::Trained,
};

impl Learner {
    /// Returns the number of groups taken from the log whose training no checkpoint holds.
    pub(super) fn in_hand(&self) -> u64 {
        self.unsaved + self.intake.ready_groups()
    }

    /// Runs a durable plan: update, weights, result, announcement and, if due, a checkpoint.
    pub(super) async fn execute(
        &mut self,
        plan: Plan,
        groups: Vec<ReadyGroup>,
        occasion: Occasion,
    ) -> Result<()> {
        let change = self.window.advance(&plan, &groups);
        let trained = self
            .trainer
            .run(&self.weights, plan.clone(), groups)
            .await?;
        if occasion == Occasion::Again {
            self.settle(&plan).await?;
        }
        point("learner.updated", self.in_hand());
        let recording = Instant::now();
        self.intake.keep(change.enter);
        self.intake.finish(&plan);
        self.intake.release(change.leave);
        if let Some(blended) = &mut self.blended {
            blended.finish(&plan);
        }
        self.groups_trained += plan.groups.len() as u64;
        self.groups_rejected += counted(&plan.rejections);
        let version = self.trainer.version();
        let publish = version
            .0
            .is_multiple_of(self.settings.learner.publish_every)
            || version.0 == self.settings.learner.steps;
        if publish {
            self.publish().await?;
            point("learner.published", self.in_hand());
        }
        let (wait_seconds, plan_seconds) = match occasion {
            Occasion::Again => (0.0, 0.0),
            Occasion::First { wait, record } => (wait, record),
        };
        let record_seconds = plan_seconds + recording.elapsed().as_secs_f64();
        let result = self
            .note(&plan, &trained, wait_seconds, record_seconds)
            .await?;
        point("learner.noted", self.in_hand());
        if publish && occasion != Occasion::Again {
            self.announce().await?;
            point("learner.announced", self.in_hand());
        }
        if !plan.rejections.is_empty() {
            let groups = plan.rejections.len() as u64;
            self.outlet.report(LearnerEvent::Rejected {
                update: plan.update(),
                groups,
                reasons: by_reason(&plan.rejections),
            });
        }
        if occasion != Occasion::Again {
            count(&plan, &result);
            self.warn_of_renumbering(&plan);
        }
        self.outlet.report(LearnerEvent::Updated(Box::new(result)));
        if version
            .0
            .is_multiple_of(self.settings.learner.checkpoint_every)
        {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Logs a warning, once per producer, if groups are refused as renumbered: they will be for as
    /// long as the producer continues.
    fn warn_of_renumbering(&mut self, plan: &Plan) {
        let refused = plan.rejections.iter();
        for refused in refused.filter(|refused| refused.reason == RejectReason::Renumbered) {
            let name = refused.producer.clone().unwrap_or_default();
            if self.renumbering.insert(name.clone()) {
                tracing::warn!(
                    producer = name,
                    "a producer has started its numbers again from an earlier one: its groups are \
                     refused as renumbered until its numbers are new; give every start of a \
                     producer a name of its own, or continue its numbers where they ended"
                );
            }
        }
    }

    async fn note(
        &mut self,
        plan: &Plan,
        trained: &Trained,
        wait_seconds: f64,
        record_seconds: f64,
    ) -> Result<UpdateResult> {
        let digest = self.trainer.weights_sha256();
        let result = result_of(
            &self.settings,
            plan,
            trained,
            digest,
            self.checks.take_found(),
            wait_seconds,
            record_seconds,
        );
        let mirrors = plan.rejections.iter();
        let mirrors = mirrors.map(|refused| self.outlet.mirror_rejection(plan, refused));
        // One joint wait for store and topics, because neither needs the other.
        tokio::try_join!(
            async { Ok(self.records.write_result(&result).await?) },
            self.outlet.mirror_result(&result),
            futures::future::try_join_all(mirrors),
        )?;
        Ok(result)
    }

    /// Publishes the weights of the current version to the store. Weights that are already
    /// published under its number must be equal: a re-run update gives equal bits or adopts the
    /// published ones.
    pub(super) async fn publish(&mut self) -> Result<()> {
        // A successor may have published this version and removed it again; nobody would remove it
        // twice.
        self.fence().await?;
        let version = self.trainer.version();
        // Weights that this process published, or found published, need not be serialised again.
        // Weights that deviate are not published, because a version names one set of weights.
        let (published, _) = self.published;
        let there = if published == version || self.trainer.deviates() {
            self.weights.manifest(version).await?
        } else {
            None
        };
        let (manifest, created) = if let Some(there) = there {
            (there, Created::Exists)
        } else if self.trainer.deviates() {
            return Ok(());
        } else {
            let form = self.form(version);
            let mut files = vec![(MODEL_FILE, self.trainer.weights().await?)];
            if form.adapted.is_some() {
                let base = self.settings.base_model.clone();
                files.extend(self.trainer.adapters(base).await?);
            }
            match Box::pin(self.weights.publish_as(version, files, form)).await {
                Ok(published) => published,
                Err(error) => {
                    // A successor removed the version meanwhile; its plan explains the failure.
                    self.fence().await?;
                    return Err(error.into());
                }
            }
        };
        if created == Created::Exists && manifest.weights_sha256 != self.trainer.weights_sha256() {
            let update = UpdateNumber::that_made(version).unwrap_or_default();
            self.deviate(update, manifest.weights_sha256).await?;
        }
        self.newest = self.newest.max(version);
        self.published = (version, self.trainer.weights_sha256());
        self.retained.insert(version);
        self.prune().await?;
        self.outlet.report(LearnerEvent::Published(version));
        Ok(())
    }

    /// Returns the form in which a version is published. What stays in the store for long is whole,
    /// so that it needs no other version for as long.
    fn form(&self, version: PolicyVersion) -> Form {
        let learner = &self.settings.learner;
        let full_every = learner.publish.full_every;
        let stays = version.0.is_multiple_of(self.settings.pin_every)
            || version.0.is_multiple_of(learner.checkpoint_every)
            || version.0 >= learner.steps;
        let (before, _) = self.published;
        Form {
            precision: self.trainer.precision(),
            base: (full_every > 1 && !stays).then_some(before),
            full_every,
            // Version 0 is never removed. The last version is what a user takes away.
            adapted: (self.settings.learner.publish.adapters
                && self.settings.learner.lora.rank.is_some()
                && version.0 < learner.steps)
                .then_some(PolicyVersion::ZERO),
        }
    }

    /// Stops a learner that another process of its name has overtaken. Only a successor can have
    /// written the plan of this process's next update, or of the first update that had no plan when
    /// this process began.
    async fn fence(&self) -> Result<()> {
        let update = self.trainer.next_update().max(self.first_unplanned);
        if !self.records.is_planned(update).await? {
            return Ok(());
        }
        let theirs = self.records.plan(update).await?;
        let theirs = theirs.map_or_else(|| "unreadable".to_owned(), |plan| plan.writer);
        Err(self.overtaken(update, theirs))
    }

    pub(super) fn overtaken(&self, update: UpdateNumber, theirs: String) -> Error {
        Error::Fenced {
            learner: self.settings.learner.name.to_string(),
            update,
            theirs,
        }
    }

    /// Announces the newest published version and the counts of groups to producers. A learner that
    /// was overtaken announces nothing and stops.
    pub(super) async fn announce(&mut self) -> Result<()> {
        self.fence().await?;
        let update = self.trainer.next_update();
        // Between publications only the counts are new.
        let (version, weights_sha256) = self.published;
        self.announced_refusals = self.intake.refusals();
        self.announced_at = Instant::now();
        self.report_progress(update, false);
        let own_groups = self.settings.learner.live_groups() as u64;
        let groups_rejected = self.groups_rejected + self.intake.refused_groups();
        let numbered = self.intake.numbered_rejections(update.0 * own_groups);
        self.outlet
            .announce(&PolicyAnnouncement {
                format: CONTROL_FORMAT.to_owned(),
                policy: self.settings.learner.policy.clone(),
                version,
                weights_sha256,
                retained: self.retained.iter().copied().collect(),
                groups_trained: self.groups_trained,
                groups_rejected,
                numbered_rejections: (numbered != groups_rejected).then_some(numbered),
                refused_batches: self.intake.refused_batches(update),
                groups_per_update: own_groups,
                steps: Some(self.settings.learner.steps),
                finished: version.0 >= self.settings.learner.steps,
            })
            .await
    }

    /// Removes versions that nobody needs: neither among the newest, nor pinned, nor of a
    /// checkpoint.
    async fn prune(&mut self) -> Result<()> {
        let newest = self.trainer.version().0;
        let (pin_every, keep_versions) =
            (self.settings.pin_every, self.settings.learner.keep_versions);
        let before = self.retained.clone();
        let mut gone = take_old(&mut self.retained, newest, keep_versions, pin_every);
        // The pinned are no longer announced, and what they are deltas on stays with them.
        let pinned: Vec<_> = before.difference(&self.retained).copied().collect();
        self.needed.extend(self.weights.bases(pinned).await?);
        if gone.is_empty() {
            return Ok(());
        }
        // Listed anew, because another process may have left a checkpoint that this one does not
        // know of.
        let saved: BTreeSet<_> = self.records.checkpoints().await?.into_iter().collect();
        gone.retain(|version| !saved.contains(version) && !self.needed.contains(version));
        let anchors = self.anchors(&saved);
        gone.retain(|version| !anchors.contains(version));
        let goes: BTreeSet<_> = gone.iter().copied().collect();
        let stays = self.retained.difference(&goes).copied();
        let bases = self.weights.bases(stays.chain(saved)).await?;
        gone.retain(|version| !bases.contains(version));
        // A delta goes before its base: what is found can be read.
        for version in gone.into_iter().rev() {
            self.weights.remove(version).await?;
            self.retained.remove(&version);
        }
        Ok(())
    }

    /// Returns the versions from which the penalty of an update may be measured that is still to be
    /// run, or that would be run again from one of the checkpoints `saved`.
    fn anchors(&self, saved: &BTreeSet<PolicyVersion>) -> BTreeSet<PolicyVersion> {
        let learner = &self.settings.learner;
        if learner.kl.beta == 0.0 {
            return BTreeSet::new();
        }
        let before = saved.iter().map(|version| version.0.saturating_sub(1));
        let newest = self.trainer.version().0.saturating_sub(1);
        let reference = learner.reincarnation.at;
        let versions = before.chain(reference).chain([newest]);
        versions.map(PolicyVersion).collect()
    }

    /// Commits the state of training and the resume points of the logs as a checkpoint.
    pub(super) async fn checkpoint(&mut self) -> Result<()> {
        if self.trainer.deviates() {
            return Ok(()); // The checkpoint before remains until the next version's.
        }
        // The version must be published for as long as the checkpoint exists. Publishing first also
        // frees the bytes of the weights before those of the moments are made.
        self.publish().await?;
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

/// Updates the metrics after an update that ran for the first time.
fn count(plan: &Plan, result: &UpdateResult) {
    let learner = || plan.learner.to_string();
    let trained = metrics::counter!(Metric::GROUPS_TRAINED.name, "learner" => learner());
    trained.increment(plan.groups.len() as u64);
    for rejection in &plan.rejections {
        let labels = [
            ("learner", learner()),
            ("reason", rejection.reason.as_str().to_owned()),
        ];
        metrics::counter!(Metric::GROUPS_REJECTED.name, &labels).increment(1);
    }
    metrics::histogram!(Metric::UPDATE_SECONDS.name, "learner" => learner())
        .record(result.update_seconds);
    metrics::gauge!(Metric::STALENESS.name, "learner" => learner())
        .set(result.max_staleness as f64);
}

fn by_reason(rejections: &[Rejection]) -> BTreeMap<&'static str, u64> {
    let mut reasons = BTreeMap::new();
    for refused in rejections {
        *reasons.entry(refused.reason.as_str()).or_default() += 1;
    }
    reasons
}

/// Returns the number of rejections that count as groups of the run's log. A duplicate does not: it
/// is a copy of a group that counts already.
fn counted(rejections: &[Rejection]) -> u64 {
    rejections
        .iter()
        .filter(|refused| refused.source.is_none() && refused.reason != RejectReason::Duplicate)
        .count() as u64
}
