//! Input of the next update: chosen from the log, or copied from another learner's plan.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use vintage_control::{CONTROL_FORMAT, KnownVersion, Plan, Rejection, Reuse, UpdateNumber};
use vintage_grants::Progress;
use vintage_settings::SourceKind;

use super::Learner;
use crate::{
    error::Result,
    intake::{Intake, ReadyGroup, judge::PermittedVersions},
    outlet::{LearnerEvent, LearnerProgress, Waiting},
    pack::micro_batches,
    source::{Incoming, Inputs, OtherPolicies},
    trainer::{in_order, missing_record},
};

/// Interval at which a waiting learner repeats its announcement, so that producers learn the truth
/// whatever another process announced last under its name.
const REANNOUNCE_EVERY: Duration = Duration::from_secs(30);
/// Minimum interval between an announcement and the next one that reports new refusals. It limits
/// the number of announcements in a flood of refusals.
const ANNOUNCE_REFUSED_EVERY: Duration = Duration::from_millis(100);

/// Minimum interval between reports on the wait.
const REPORT_WAIT_EVERY: Duration = Duration::from_millis(500);

type PlannedGroups = (Plan, Vec<ReadyGroup>);

impl Learner {
    /// Returns the plan of the next update and its groups; the caller adds the rejections to a plan
    /// of this learner's own. Returns `None` when stopped or when the input has ended.
    pub(super) async fn next_batch(
        &mut self,
        inputs: &mut Inputs,
        stop: &CancellationToken,
    ) -> Result<Option<PlannedGroups>> {
        if inputs.leader.is_some() {
            self.record_last().await?;
            return tokio::select! {
                () = stop.cancelled() => Ok(None),
                batch = self.follow(inputs) => batch,
            };
        }
        let groups = self.gather(inputs, stop).await?;
        Ok(groups.map(|groups| self.plan(groups)))
    }

    /// Reads until the next update has its groups; `None` when stopped or at the end of the
    /// log.
    async fn gather(
        &mut self,
        inputs: &mut Inputs,
        stop: &CancellationToken,
    ) -> Result<Option<Vec<ReadyGroup>>> {
        let update = self.trainer.next_update();
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            read = self.read_blended(inputs) => read?,
        }
        loop {
            if stop.is_cancelled() {
                return Ok(None);
            }
            self.take_checked().await;
            let own = self.settings.learner.live_groups();
            if let Some(mut groups) = self.intake.choose(update, own) {
                if let Some(intake) = &mut self.blended {
                    // Once the archive has ended, updates are of the own log's groups alone: the
                    // bound on the producers counts on no more of them.
                    let share = self.settings.learner.blended_groups();
                    if self.settings.learner.source == SourceKind::Hybrid {
                        groups.extend(intake.draw(update, share, self.settings.seed));
                    } else {
                        let wanted = share.min(intake.available(update));
                        groups.extend(intake.choose(update, wanted).into_iter().flatten());
                    }
                }
                return Ok(Some(groups));
            }
            self.report_wait(update);
            self.report_progress(update, true);
            let mut next = inputs.source.next();
            let incoming = loop {
                if self.unrecorded.is_some() {
                    if let Some(incoming) = (&mut next).now_or_never() {
                        break incoming?;
                    }
                    self.record_between().await?;
                }
                let after = if self.intake.refusals() == self.announced_refusals {
                    REANNOUNCE_EVERY
                } else {
                    ANNOUNCE_REFUSED_EVERY
                };
                let again = tokio::time::Instant::from_std(self.announced_at + after);
                // Set if records arrived after the last report.
                let unreported = self
                    .last_wait_report
                    .filter(|(_, then)| *then != self.taken);
                let news = unreported
                    .map(|(at, _)| tokio::time::Instant::from_std(at + REPORT_WAIT_EVERY));
                tokio::select! {
                    () = stop.cancelled() => return Ok(None),
                    incoming = &mut next => break incoming?,
                    () = tokio::time::sleep_until(again) => {
                        let announcement = self.announcement();
                        self.announce(announcement).await?;
                    }
                    () = tokio::time::sleep_until(news.unwrap_or(again)), if news.is_some() => {
                        self.report_wait(update);
                    }
                }
            };
            drop(next);
            let Some(incoming) = incoming else {
                self.ended = true;
                return Ok(None);
            };
            tokio::select! {
                // A record that is not taken will be read again.
                () = stop.cancelled() => return Ok(None),
                taken = self.take_checking(incoming, inputs) => taken?,
            }
        }
    }

    /// Takes records that are at hand until there are enough for `update`, or `is_over`, and asks for them
    /// to be made durable. It stops where [`Learner::gather`] stops, so that plans from a recorded log do not
    /// depend on when it was read.
    pub(super) async fn read_ahead(
        &mut self,
        update: UpdateNumber,
        inputs: &mut Inputs,
        is_over: impl Fn() -> bool,
    ) -> Result<()> {
        let wanted = self.settings.learner.live_groups();
        let is_read = inputs.leader.is_none() && update.0 < self.settings.learner.steps;
        while is_read && !is_over() && self.intake.available(update) < wanted {
            let Some(incoming) = inputs.source.at_hand()? else {
                break;
            };
            self.take_checking(incoming, inputs).await?;
        }
        if is_read {
            let records = self.intake.unplanned_records(update);
            inputs.durability.ask(&records);
        }
        Ok(())
    }

    /// Takes a record, and checks the engine of a group that is complete with it, if a check is due.
    async fn take_checking(&mut self, incoming: Incoming, inputs: &mut Inputs) -> Result<()> {
        let ready = self.intake.ready_groups();
        self.take(incoming, inputs).await?;
        // Versions of a recorded log may be another run's.
        if !inputs.source.is_recorded() && self.intake.ready_groups() > ready {
            self.check_newest();
        }
        Ok(())
    }

    /// Reads the archive that is blended in until it has its share of the next update, or as much as
    /// is drawn from, or has ended.
    async fn read_blended(&mut self, inputs: &mut Inputs) -> Result<()> {
        let update = self.trainer.next_update();
        let learner = &self.settings.learner;
        let wanted = match learner.source {
            SourceKind::Hybrid => learner.blended_groups().max(learner.archive_ahead),
            _ => learner.blended_groups(),
        };
        if let (Some(intake), Some(source)) = (&mut self.blended, &mut inputs.blended) {
            loop {
                intake.settle(update);
                if intake.available(update) >= wanted {
                    break;
                }
                let Some(incoming) = source.next().await? else {
                    break;
                };
                self.origins
                    .take(intake, incoming, PermittedVersions::Any)
                    .await?;
            }
        }
        Ok(())
    }

    /// Reports the state of the wait: at its beginning, and at intervals while records arrive.
    fn report_wait(&mut self, update: UpdateNumber) {
        if self
            .last_wait_report
            .is_some_and(|(at, _)| at.elapsed() < REPORT_WAIT_EVERY)
        {
            return;
        }
        self.last_wait_report = Some((Instant::now(), self.taken));
        let ready = self.intake.available(update) as u64;
        self.outlet.report(LearnerEvent::Waiting(Box::new(Waiting {
            update,
            leader: None,
            ready,
            wanted: self.settings.learner.live_groups() as u64,
            records: self.taken,
            refused: self.intake.refused_by_reason(),
            incomplete: self.intake.incomplete_groups(),
            later: self.intake.ready_groups() - ready,
        })));
    }

    /// Reports to the granter which slots were seen, and how far training is. Nothing is missing
    /// for `next_update`, the next one whose groups are not chosen, unless the learner is
    /// `starving`.
    pub(super) fn report_progress(&mut self, next_update: UpdateNumber, starving: bool) {
        self.outlet.report_progress(LearnerProgress {
            seen: self.intake.take_seen_slots(),
            distrusted: self.checks.take_distrusted(),
            progress: Progress {
                announced: self.published.0,
                next_update,
                waiting: self.intake.ready_groups(),
                refused: self.intake.refused_batches(next_update),
                starving,
            },
        });
    }

    /// Takes a record of the run's log into the intake.
    pub(super) async fn take(&mut self, incoming: Incoming, inputs: &mut Inputs) -> Result<()> {
        self.taken += 1;
        let announced = if inputs.leader.is_some() || inputs.source.is_recorded() {
            PermittedVersions::Any
        } else {
            self.announced(&incoming, inputs.other_policies.as_mut())
                .await?
        };
        let intake = &mut self.intake;
        self.origins.take(intake, incoming, announced).await
    }

    /// Returns the versions of the record's policy that were announced once the record had been
    /// read.
    async fn announced(
        &self,
        incoming: &Incoming,
        other_policies: &mut dyn OtherPolicies,
    ) -> Result<PermittedVersions> {
        let Ok((headers, _)) = &incoming.message else {
            return Ok(PermittedVersions::Any); // nothing to judge
        };
        let newest = if headers.policy == self.settings.learner.policy.as_str() {
            Some(self.newest)
        } else if self.settings.trains_on(&headers.policy) {
            other_policies
                .newest(&headers.policy, headers.max_policy_version)
                .await?
        } else {
            None
        };
        Ok(PermittedVersions::UpTo(newest))
    }

    /// Creates a plan for `groups` and those of earlier updates that are trained again with them.
    /// Its rejections are added when it is written.
    fn plan(&self, mut groups: Vec<ReadyGroup>) -> PlannedGroups {
        let learner = &self.settings.learner;
        let update = self.trainer.next_update();
        let reuse = learner.reuse_of(update);
        let planned = groups.iter().map(|group| group.planned.clone()).collect();
        let mut reused = Vec::new();
        if let Some(rule) = reuse.replay {
            let wanted = learner.replayed_groups();
            let chosen = self.window.choose(update, wanted, rule, self.settings.seed);
            for (entry, group) in chosen {
                reused.push(entry);
                groups.push(group);
            }
        }
        let blended = self.blended.iter().flat_map(Intake::known);
        let plan = Plan {
            format: CONTROL_FORMAT.to_owned(),
            learner: self.settings.learner.name.clone(),
            writer: self.writer.clone(),
            policy: self.settings.learner.policy.clone(),
            version: self.trainer.version(),
            weights_sha256: self.trainer.weights_sha256(),
            seed: self.settings.seed,
            groups: planned,
            micro_batches: micro_batches(&groups, learner.micro_batch_tokens),
            rejections: Vec::new(),
            algorithm: self.settings.algorithm.clone(),
            optimizer: learner.optimizer.clone(),
            training: learner.training(),
            fingerprint: self.fingerprint.clone(),
            follows: None,
            known: self.intake.known().into_iter().chain(blended).collect(),
            reused,
            reuse,
        };
        (plan, groups)
    }

    pub(super) fn drain_refused(&mut self) -> Vec<Rejection> {
        let mut refused = self.intake.drain_refused();
        // The update's own announcement counts them.
        self.announced_refusals = 0;
        refused.extend(self.blended.iter_mut().flat_map(Intake::drain_refused));
        refused
    }

    /// Returns the leader's next batch, with this learner's own algorithm, optimizer and weights.
    async fn follow(&mut self, inputs: &mut Inputs) -> Result<Option<PlannedGroups>> {
        let update = self.trainer.next_update();
        let Some(leader) = &mut inputs.leader else {
            return Ok(None);
        };
        self.outlet.report(LearnerEvent::Waiting(Box::new(Waiting {
            update,
            leader: Some(leader.name().clone()),
            ..Waiting::default()
        })));
        let Some(theirs) = leader.plan(update).await? else {
            self.ended = true;
            return Ok(None);
        };
        let plan = self.copied(theirs);
        self.outlet.report(LearnerEvent::Waiting(Box::new(Waiting {
            update,
            wanted: plan.groups.len() as u64,
            records: self.taken,
            ..Waiting::default()
        })));
        let groups = self.groups_of(&plan, inputs).await?;
        Ok(Some((plan, groups)))
    }

    /// Copies a leader's plan. Batch, packing and rejections remain the leader's, and so do the
    /// versions that staleness is measured from: to the leader these tokens were of its own
    /// policy, at its version.
    fn copied(&self, theirs: Plan) -> Plan {
        let mut known = theirs.known;
        let own = KnownVersion {
            source: None,
            policy: theirs.policy.to_string(),
            version: theirs.version,
        };
        known.push(own);
        Plan {
            learner: self.settings.learner.name.clone(),
            writer: self.writer.clone(),
            policy: self.settings.learner.policy.clone(),
            weights_sha256: self.trainer.weights_sha256(),
            seed: self.settings.seed,
            algorithm: self.settings.algorithm.clone(),
            optimizer: self.settings.learner.optimizer.clone(),
            training: self.settings.learner.training(),
            fingerprint: self.fingerprint.clone(),
            follows: Some(theirs.learner),
            known,
            // Which groups are used again is the batch's; how often and how far, this learner's.
            reuse: Reuse {
                replay: theirs.reuse.replay,
                ..self
                    .settings
                    .learner
                    .reuse_of(UpdateNumber::from_version(theirs.version))
            },
            ..theirs
        }
    }

    /// Reads until every record that `plan` names has arrived, and takes the plan's groups, whose
    /// content must be that of the plan.
    pub(super) async fn groups_of(
        &mut self,
        plan: &Plan,
        inputs: &mut Inputs,
    ) -> Result<Vec<ReadyGroup>> {
        while self.intake.missing(plan).is_some() {
            match inputs.source.next().await? {
                Some(incoming) => self.take(incoming, inputs).await?,
                None => return Err(missing_record(plan, &self.intake)),
            }
        }
        let own = self.intake.take_planned(plan)?.unwrap_or_default();
        let mut blended = Vec::new();
        if let (Some(intake), Some(source)) = (&mut self.blended, &mut inputs.blended) {
            while intake.missing(plan).is_some() {
                match source.next().await? {
                    Some(incoming) => {
                        let taken = self.origins.take(intake, incoming, PermittedVersions::Any);
                        taken.await?;
                    }
                    None => return Err(missing_record(plan, intake)),
                }
            }
            blended = intake.take_planned(plan)?.unwrap_or_default();
        }
        in_order(plan, own, blended, self.window.take(plan)?)
    }
}
