//! The learner's loop: recover, then plan, train, publish, checkpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tokio_util::sync::CancellationToken;
use vintage_control::{
    CONTROL_FORMAT, CheckpointManifest, Fingerprint, Plan, PolicyAnnouncement, PolicyVersion,
    RejectReason, Rejection, Sha256, UpdateResult,
};
use vintage_faults::{mistake, point};
use vintage_store::{Created, Weights, sha256};

use crate::{
    AdamW, Error, LearnerEvent, Outlet, Records, Result, Settings, fingerprint,
    intake::{Intake, ReadyGroup},
    pack::micro_batches,
    source::{Durability, Source},
    trainer::{Trained, Trainer, groups_of, result_of},
};

/// A learner at the point its last checkpoint left it.
pub struct Learner {
    settings: Settings,
    writer: String,
    fingerprint: Fingerprint,
    records: Records,
    weights: Weights,
    outlet: Outlet,
    trainer: Trainer,
    intake: Intake,
    groups_trained: u64,
    groups_rejected: u64,
    /// Newest version published by any life: no token may be newer.
    newest: PolicyVersion,
    /// Newest version published or found published by this life, and its digest.
    published: (PolicyVersion, Sha256),
    /// Refused groups the last announcement counted besides the recorded ones.
    announced_refused: u64,
    retained: BTreeSet<PolicyVersion>,
    checkpoints: BTreeSet<PolicyVersion>,
    /// Groups chosen since the last checkpoint, which a crash makes this learner train again.
    unsaved: u64,
}

/// How a learner ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerSummary {
    /// Updates done, over all lives.
    pub version: PolicyVersion,
    /// Groups trained, over all lives.
    pub groups_trained: u64,
    /// Groups rejected in plans, over all lives.
    pub groups_rejected: u64,
    /// Whether all updates are done.
    pub finished: bool,
}

impl Learner {
    /// Loads the newest checkpoint, or version 0. `writer` is unique to this life.
    pub async fn open(
        settings: Settings,
        writer: String,
        records: Records,
        weights: Weights,
        outlet: Outlet,
    ) -> Result<Self> {
        let checkpoint = records.newest_checkpoint().await?;
        let (trainer, intake, groups_trained, groups_rejected) = if let Some((
            manifest,
            optimizer,
        )) = checkpoint
        {
            let trainer = Trainer::load(&weights, manifest.version, optimizer).await?;
            if trainer.weights_sha256() != manifest.weights_sha256 {
                return Err(Error::Record(format!(
                    "checkpoint {} belongs to weights {}, the store holds {} under that version",
                    manifest.version,
                    manifest.weights_sha256,
                    trainer.weights_sha256()
                )));
            }
            let intake = Intake::new(settings.clone(), &manifest.partitions, &manifest.producers);
            (
                trainer,
                intake,
                manifest.groups_trained,
                manifest.groups_rejected,
            )
        } else {
            let trainer = Trainer::load(&weights, PolicyVersion::ZERO, AdamW::default()).await?;
            let intake = Intake::new(settings.clone(), &[], &BTreeMap::new());
            (trainer, intake, 0, 0)
        };
        let retained: BTreeSet<_> = weights.versions().await?.into_iter().collect();
        let newest = retained.last().copied().unwrap_or_default();
        let checkpoints = records.checkpoints().await?.into_iter().collect();
        Ok(Self {
            fingerprint: fingerprint::current(),
            newest: newest.max(trainer.version()),
            published: (trainer.version(), trainer.weights_sha256()),
            announced_refused: 0,
            retained,
            checkpoints,
            unsaved: 0,
            settings,
            writer,
            records,
            weights,
            outlet,
            trainer,
            intake,
            groups_trained,
            groups_rejected,
        })
    }

    /// Where the source must start: the first record not trained or rejected, by partition.
    pub fn resume_points(&self) -> Vec<vintage_control::PartitionResume> {
        self.intake.resume_points()
    }

    /// Trains until all updates are done or `stop` is cancelled; then leaves a checkpoint.
    pub async fn run(
        mut self,
        source: &mut dyn Source,
        durability: &mut dyn Durability,
        stop: &CancellationToken,
    ) -> Result<LearnerSummary> {
        self.recover(source).await?;
        let mut waiting_since = Instant::now();
        while self.trainer.version().0 < self.settings.steps {
            let Some(groups) = self.gather(source, stop).await? else {
                break;
            };
            let records: Vec<_> = groups
                .iter()
                .flat_map(|group| group.planned.records.clone())
                .collect();
            self.unsaved += groups.len() as u64;
            point("learner.chosen", self.in_hand());
            durability.ensure(&records).await?;
            let wait = waiting_since.elapsed().as_secs_f64();
            let recording = Instant::now();
            let plan = self.plan(&groups);
            if mistake("mistake.announce_first") {
                self.execute(plan.clone(), groups, wait, 0.0).await?;
                self.records.write_plan(&plan).await?;
                continue;
            }
            self.records.write_plan(&plan).await?;
            point("learner.planned", self.in_hand());
            let record = recording.elapsed().as_secs_f64();
            self.execute(plan, groups, wait, record).await?;
            waiting_since = Instant::now();
        }
        self.checkpoint().await?;
        let finished = self.trainer.version().0 >= self.settings.steps;
        self.announce().await?;
        Ok(LearnerSummary {
            version: self.trainer.version(),
            groups_trained: self.groups_trained,
            groups_rejected: self.groups_rejected,
            finished,
        })
    }

    /// Runs the plans after the checkpoint again: what they published stays what it was.
    async fn recover(&mut self, source: &mut dyn Source) -> Result<()> {
        let from = self.trainer.version();
        while let Some(plan) = self.records.plan(self.trainer.version()).await? {
            let groups = groups_of(&plan, &mut self.intake, source, self.newest).await?;
            let recorded = self.records.result(plan.version).await?;
            self.unsaved += groups.len() as u64;
            self.execute(plan, groups, 0.0, 0.0).await?;
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

    /// Reads until the next update has its groups; `None` when told to stop.
    async fn gather(
        &mut self,
        source: &mut dyn Source,
        stop: &CancellationToken,
    ) -> Result<Option<Vec<ReadyGroup>>> {
        loop {
            if stop.is_cancelled() {
                return Ok(None);
            }
            if let Some(groups) = self.intake.choose(self.trainer.version()) {
                return Ok(Some(groups));
            }
            let incoming = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                incoming = source.next() => incoming?,
            };
            let Some(incoming) = incoming else {
                return Ok(None);
            };
            self.intake.take(incoming, self.newest)?;
            if self.intake.refused_groups() != self.announced_refused {
                // Producers wait for room: without this, a log full of refused groups starves
                // the update whose plan would tell them.
                self.announce().await?;
            }
        }
    }

    fn plan(&mut self, groups: &[ReadyGroup]) -> Plan {
        let mut plan = Plan {
            format: CONTROL_FORMAT.to_owned(),
            learner: self.settings.learner.clone(),
            writer: self.writer.clone(),
            policy: self.settings.policy.clone(),
            version: self.trainer.version(),
            weights_sha256: self.trainer.weights_sha256(),
            seed: self.settings.seed,
            groups: groups.iter().map(|group| group.planned.clone()).collect(),
            micro_batches: micro_batches(groups, self.settings.micro_batch_tokens),
            rejections: self.intake.drain_refused(),
            algorithm: self.settings.algorithm.clone(),
            optimizer: self.settings.optimizer.clone(),
            fingerprint: self.fingerprint.clone(),
        };
        if mistake("mistake.silent_reject") {
            let mut refused = plan.clone();
            refused.groups.clear();
            plan.rejections.clear();
            self.intake.finish(&refused);
        }
        plan
    }

    /// Groups taken from the log whose training no checkpoint holds.
    fn in_hand(&self) -> u64 {
        self.unsaved + self.intake.ready_groups()
    }

    /// Runs a plan that is durable: update, weights, result, announcement, checkpoint.
    async fn execute(
        &mut self,
        plan: Plan,
        groups: Vec<ReadyGroup>,
        wait_seconds: f64,
        plan_seconds: f64,
    ) -> Result<()> {
        let trained = self.trainer.run(plan.clone(), groups).await?;
        point("learner.updated", self.in_hand());
        let recording = Instant::now();
        self.intake.finish(&plan);
        self.groups_trained += plan.groups.len() as u64;
        self.groups_rejected += counted(&plan.rejections);
        let version = self.trainer.version();
        let publish = version.0.is_multiple_of(self.settings.publish_every)
            || version.0 == self.settings.steps;
        if publish {
            self.publish().await?;
            point("learner.published", self.in_hand());
        }
        let record_seconds = plan_seconds + recording.elapsed().as_secs_f64();
        let result = self
            .note(&plan, &trained, wait_seconds, record_seconds)
            .await?;
        point("learner.noted", self.in_hand());
        if publish {
            self.announce().await?;
            point("learner.announced", self.in_hand());
        }
        if !plan.rejections.is_empty() {
            let groups = plan.rejections.len() as u64;
            self.outlet.tell(LearnerEvent::Rejected {
                update: plan.version,
                groups,
            });
        }
        self.outlet.tell(LearnerEvent::Updated(Box::new(result)));
        if version.0.is_multiple_of(self.settings.checkpoint_every) {
            self.checkpoint().await?;
        }
        Ok(())
    }

    async fn note(
        &self,
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
            wait_seconds,
            record_seconds,
        );
        let mirrors = plan.rejections.iter();
        let mirrors = mirrors.map(|refused| self.outlet.mirror_rejection(&plan.policy, refused));
        // One wait for the disk and the log together: neither needs the other.
        tokio::try_join!(
            self.records.write_result(&result),
            self.outlet.mirror_result(&result),
            futures::future::try_join_all(mirrors),
        )?;
        Ok(result)
    }

    /// Puts the current version into the store. What is published under its number already
    /// must be the same: on a CPU, a re-run update gives the same bits.
    async fn publish(&mut self) -> Result<()> {
        let version = self.trainer.version();
        let files = vec![("model.safetensors", self.trainer.weights().clone())];
        let (manifest, created) = self.weights.publish(version, files).await?;
        if created == Created::Exists && manifest.weights_sha256 != self.trainer.weights_sha256() {
            return Err(Error::Diverged {
                update: PolicyVersion(version.0.saturating_sub(1)),
                computed: self.trainer.weights_sha256(),
                recorded: manifest.weights_sha256,
            });
        }
        self.newest = self.newest.max(version);
        self.published = (version, self.trainer.weights_sha256());
        self.retained.insert(version);
        self.prune().await?;
        self.outlet.tell(LearnerEvent::Published(version));
        Ok(())
    }

    async fn announce(&mut self) -> Result<()> {
        // Between publications the counts are news, the version is not.
        let (version, weights_sha256) = self.published;
        self.announced_refused = self.intake.refused_groups();
        self.outlet
            .announce(&PolicyAnnouncement {
                format: CONTROL_FORMAT.to_owned(),
                policy: self.settings.policy.clone(),
                version,
                weights_sha256,
                retained: self.retained.iter().copied().collect(),
                groups_trained: self.groups_trained,
                groups_rejected: self.groups_rejected + self.announced_refused,
                refused_batches: self.intake.refused_batches(self.trainer.version()),
                groups_per_update: self.settings.groups_per_update as u64,
                finished: version.0 >= self.settings.steps,
            })
            .await
    }

    /// Drops versions nobody needs: not among the newest, not pinned, no checkpoint's.
    async fn prune(&mut self) -> Result<()> {
        let newest = self.trainer.version().0;
        let Settings {
            checkpoint_every,
            pin_every,
            keep_versions,
            ..
        } = self.settings;
        let needed = |version: &PolicyVersion| {
            version.0 + keep_versions > newest
                || version.0.is_multiple_of(checkpoint_every)
                || version.0.is_multiple_of(pin_every)
                || self.checkpoints.contains(version)
        };
        let gone: Vec<_> = self
            .retained
            .iter()
            .filter(|v| !needed(v))
            .copied()
            .collect();
        for version in gone {
            self.weights.remove(version).await?;
            self.retained.remove(&version);
        }
        Ok(())
    }

    /// Commits what training did so far, and where reading goes on.
    async fn checkpoint(&mut self) -> Result<()> {
        let optimizer = self.trainer.optimizer()?;
        let moments = optimizer.to_safetensors()?;
        let manifest = CheckpointManifest {
            format: CONTROL_FORMAT.to_owned(),
            learner: self.settings.learner.clone(),
            policy: self.settings.policy.clone(),
            version: self.trainer.version(),
            weights_sha256: self.trainer.weights_sha256(),
            optimizer_sha256: sha256(&moments),
            optimizer_steps: optimizer.steps(),
            partitions: self.intake.resume_points(),
            producers: self.intake.finished_numbers(),
            waiting: self.intake.waiting(),
            groups_trained: self.groups_trained,
            groups_rejected: self.groups_rejected,
        };
        // Its base must be there for as long as the checkpoint is.
        self.publish().await?;
        self.checkpoints.insert(manifest.version);
        self.records
            .write_checkpoint(&manifest, moments, self.in_hand())
            .await?;
        self.unsaved = 0;
        point("learner.checkpointed", self.in_hand());
        self.outlet
            .tell(LearnerEvent::Checkpointed(manifest.version));
        Ok(())
    }
}

/// Rejections that count as groups: a duplicate is a second copy of one that counts already.
fn counted(rejections: &[Rejection]) -> u64 {
    rejections
        .iter()
        .filter(|refused| refused.reason != RejectReason::Duplicate)
        .count() as u64
}
