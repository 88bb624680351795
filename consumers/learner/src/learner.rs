//! Main loop of the learner: recover, then plan, train, publish and checkpoint.

mod checkpoint;
mod checks;
mod execute;
mod gather;
mod occasion;
mod publish;
mod record;
mod recover;
mod retained;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vintage_control::{
    CheckpointManifest, Fingerprint, NumberSet, PartitionResume, PolicyVersion, ProducerWindow,
    Sha256, UpdateNumber,
};
use vintage_faults::point;
use vintage_store::{Records, Weights};

use self::{checks::EngineChecks, occasion::Occasion, record::Unrecorded};
use crate::{
    devices::Devices,
    error::{Error, Result},
    intake::Intake,
    origins::Origins,
    outlet::Outlet,
    reuse::ReuseWindow,
    settings::LearnerSettings,
    source::Inputs,
    trainer::{Saved, Trainer},
};

/// Learner, opened at its newest checkpoint.
pub struct Learner {
    settings: LearnerSettings,
    writer: String,
    fingerprint: Fingerprint,
    records: Records,
    weights: Weights,
    outlet: Outlet,
    trainer: Trainer,
    intake: Intake,
    /// Intake of the archive that is blended in, if there is one.
    blended: Option<Intake>,
    /// Groups that may be trained again.
    window: ReuseWindow,
    origins: Origins,
    checks: EngineChecks,
    /// Producers that a warning about renumbering was logged for.
    renumbering: BTreeSet<String>,
    groups_trained: u64,
    groups_rejected: u64,
    /// Newest version published by any process of this learner. No token of its own policy may
    /// claim a newer one.
    newest: PolicyVersion,
    /// Newest version that this process published or found published, and its digest.
    published: (PolicyVersion, Sha256),
    /// Number of refusals without a plan at the time of the last announcement.
    announced_refusals: usize,
    announced_at: Instant,
    /// Versions that producers may be asked to load, and those whose removal is due: version 0, the
    /// newest, bases of checkpoints.
    retained: BTreeSet<PolicyVersion>,
    /// Versions on which those that stay in the store for ever are deltas.
    needed: BTreeSet<PolicyVersion>,
    /// Number of records taken from the run's log since the last update.
    taken: u64,
    /// Time of the last report on the wait for an update, and the number of records taken by then.
    last_wait_report: Option<(Instant, u64)>,
    /// Number of groups chosen since the last checkpoint; a crash makes the learner train them
    /// again.
    unsaved: u64,
    /// First update that had no plan when this process began.
    first_unplanned: UpdateNumber,
    /// First update that this process knows no plan of.
    unplanned: UpdateNumber,
    /// First update whose groups are not chosen.
    unchosen: UpdateNumber,
    /// Update that is computed and not yet recorded.
    unrecorded: Option<Box<Unrecorded>>,
    /// Time spent recording since the last update, while nothing was computed.
    recorded_between: Duration,
    /// True once the source, or the learner that is followed, has ended.
    ended: bool,
    /// Demand for the next update: true while it is wanted; `None` if all are.
    wanted: Option<watch::Receiver<bool>>,
}

/// Outcome of a learner's run.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerSummary {
    /// Number of updates done, over all processes of the learner.
    pub version: PolicyVersion,
    /// Number of groups trained, over all processes of the learner.
    pub groups_trained: u64,
    /// Number of groups rejected in plans, over all processes of the learner.
    pub groups_rejected: u64,
    /// True if all updates are done.
    pub finished: bool,
    /// True if there was nothing more to train on: a recorded log ended, or the plans of the
    /// followed learner did.
    pub ended: bool,
}

impl Learner {
    /// Opens a learner at its newest checkpoint, or at version 0, from which it reads the log at
    /// `start`. `writer` must be unique to this process. Updates are computed on the one of the
    /// program's `devices` that the settings name.
    pub async fn open(
        settings: LearnerSettings,
        writer: String,
        records: Records,
        weights: Weights,
        outlet: Outlet,
        start: &[PartitionResume],
        devices: &'static dyn Devices,
    ) -> Result<Self> {
        let checkpoint = records.newest_checkpoint(&weights).await?;
        let blend = settings.blended.clone();
        // Who names an archive wants what is in it, whoever sampled it.
        let any_policy = || LearnerSettings {
            any_policy: true,
            ..settings.clone()
        };
        let (trainer, mut intake, blended, groups_trained, groups_rejected);
        let mut window = ReuseWindow::default();
        let (training, seed) = (&settings.learner.training(), settings.seed);
        let device = settings.learner.device;
        if let Some(checkpoint) = checkpoint {
            let saved = Saved::try_from(&checkpoint)?;
            let manifest = checkpoint.manifest;
            trainer = Trainer::load(&weights, saved, training, seed, device, devices).await?;
            if trainer.weights_sha256() != manifest.weights_sha256 {
                return Err(Error::OtherWeights {
                    version: manifest.version,
                    saved: manifest.weights_sha256,
                    published: trainer.weights_sha256(),
                });
            }
            let known = &manifest.known;
            let slots = granted_before(&settings, &manifest);
            intake = Intake::new(settings.clone(), &manifest.partitions, &manifest.producers)
                .remembering(known, &manifest.refused_batches)
                .with_slots(&slots);
            window = ReuseWindow::before(manifest.version, &records).await?;
            intake.keep(window.awaited());
            let there = manifest
                .blended
                .filter(|there| Some(&there.source) == blend.as_ref());
            let (partitions, producers) = there.map_or_else(Default::default, |there| {
                (there.partitions, there.producers)
            });
            blended = blend.map(|source| {
                Intake::new(any_policy(), &partitions, &producers)
                    .of_archive(&source)
                    .remembering(known, &BTreeMap::new())
            });
            (groups_trained, groups_rejected) = (manifest.groups_trained, manifest.groups_rejected);
        } else {
            trainer =
                Trainer::load(&weights, Saved::default(), training, seed, device, devices).await?;
            intake = Intake::new(settings.clone(), start, &BTreeMap::new());
            blended = blend
                .map(|source| Intake::new(any_policy(), &[], &BTreeMap::new()).of_archive(&source));
            (groups_trained, groups_rejected) = (0, 0);
        }
        let retained: BTreeSet<_> = weights.versions().await?.into_iter().collect();
        let newest = retained.last().copied().unwrap_or_default();
        Ok(Self {
            fingerprint: trainer.fingerprint().clone(),
            newest: newest.max(trainer.version()),
            published: (trainer.version(), trainer.weights_sha256()),
            announced_refusals: 0,
            announced_at: Instant::now(),
            retained,
            needed: BTreeSet::new(),
            taken: 0,
            last_wait_report: None,
            unsaved: 0,
            settings,
            writer,
            window,
            origins: Origins::new(records.clone()),
            checks: EngineChecks::default(),
            renumbering: BTreeSet::new(),
            records,
            weights,
            outlet,
            trainer,
            intake,
            blended,
            groups_trained,
            groups_rejected,
            first_unplanned: UpdateNumber::FIRST,
            unplanned: UpdateNumber::FIRST,
            unchosen: UpdateNumber::FIRST,
            unrecorded: None,
            recorded_between: Duration::ZERO,
            ended: false,
            wanted: devices.wanted(),
        })
    }

    /// Returns the points, by partition, at which the source must start: the first record that is
    /// neither trained nor rejected.
    pub fn resume_points(&self) -> Vec<PartitionResume> {
        self.intake.resume_points()
    }

    /// Returns the name of this process as a writer of plans, unique to it.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// Returns the granted slots whose groups are trained or rejected. Until the plans after the
    /// checkpoint were run again, those of the checkpoint.
    pub fn finished_slots(&self) -> &NumberSet {
        self.intake.finished_slots()
    }

    /// Returns the resume points of the archive that is blended in; empty without one.
    pub fn blended_resume_points(&self) -> Vec<PartitionResume> {
        let blended = self.blended.as_ref();
        blended.map_or_else(Vec::new, Intake::resume_points)
    }

    /// Trains until all updates are done, there is nothing more to train on, or `stop` is
    /// cancelled, and then writes a checkpoint. If `stop` is cancelled during recovery, it writes
    /// none.
    pub async fn run(
        mut self,
        mut inputs: Inputs,
        stop: &CancellationToken,
    ) -> Result<LearnerSummary> {
        tokio::select! {
            // Recovery may be killed at any await, so it may also be cancelled there.
            () = stop.cancelled() => return Ok(self.summary()),
            recovered = Box::pin(self.recover(&mut inputs)) => recovered?,
        }
        while self.trainer.version().0 < self.settings.learner.steps {
            if !self.is_wanted(stop).await? {
                break;
            }
            self.recorded_between = Duration::ZERO;
            let waiting_since = Instant::now();
            let Some((mut plan, groups)) = Box::pin(self.next_batch(&mut inputs, stop)).await?
            else {
                break;
            };
            self.unchosen = plan.update().next();
            self.report_progress(self.unchosen, false);
            (self.taken, self.last_wait_report) = (0, None);
            if plan.follows.is_none() {
                plan.rejections = self.drain_refused();
            }
            // To be run again, a plan needs every record it names, refused ones included.
            let trained = plan.groups.iter();
            let trained = trained.map(|group| (&group.source, &group.records));
            let refused = plan.rejections.iter();
            let refused = refused.map(|refused| (&refused.source, &refused.records));
            let own = trained
                .chain(refused)
                .filter(|(source, _)| source.is_none());
            let records: Vec<_> = own.flat_map(|(_, records)| records).copied().collect();
            self.unsaved += plan.groups.len() as u64;
            point("learner.chosen", self.in_hand());
            let durable = inputs.durability.ensure(&records);
            self.recording_before(durable).await??;
            let wait = waiting_since
                .elapsed()
                .saturating_sub(self.recorded_between);
            let wait = wait.as_secs_f64();
            // Boxed, or the future of this function would be large.
            Box::pin(self.execute(plan, groups, Occasion::First { wait }, &mut inputs)).await?;
        }
        self.record_last().await?;
        Box::pin(self.checkpoint()).await?;
        let announcement = self.announcement();
        self.announce(announcement).await?;
        Ok(self.summary())
    }

    /// Waits until the next update is wanted; returns false if it never will be.
    async fn is_wanted(&mut self, stop: &CancellationToken) -> Result<bool> {
        let Some(mut wanted) = self.wanted.clone() else {
            return Ok(true);
        };
        // Who asks for the next update has been told of the one before.
        self.record_last().await?;
        Ok(tokio::select! {
            () = stop.cancelled() => false,
            wanted = wanted.wait_for(|wanted| *wanted) => wanted.is_ok(),
        })
    }

    fn summary(&self) -> LearnerSummary {
        LearnerSummary {
            version: self.trainer.version(),
            groups_trained: self.groups_trained,
            groups_rejected: self.groups_rejected,
            finished: self.trainer.version().0 >= self.settings.learner.steps,
            ended: self.ended,
        }
    }
}

/// Returns the granted slots of a checkpoint whose groups are trained or rejected. Before slots were
/// granted, producers took them in order.
fn granted_before(settings: &LearnerSettings, manifest: &CheckpointManifest) -> ProducerWindow {
    if !manifest.slots.is_empty() {
        return manifest.slots.clone();
    }
    // Under the exact rule a refused group was replaced by a slot far beyond those in order.
    let refused = settings
        .max_staleness
        .map_or(0, |_| manifest.groups_rejected);
    // Groups of a blended archive had no slots, and `groups_trained` counts them.
    let trained = match settings.blended {
        Some(_) => manifest.version.0 * settings.learner.live_groups() as u64,
        None => manifest.groups_trained,
    };
    ProducerWindow {
        next: trained + refused,
        ..ProducerWindow::default()
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
