//! Publication of versions: weights in the store, announcements to producers, removal of old ones.

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use vintage_control::{CONTROL_FORMAT, PolicyAnnouncement, PolicyVersion, UpdateNumber};
use vintage_store::{Created, Form, MODEL_FILE};

use super::{Learner, retained::take_old};
use crate::{
    error::{Error, Result},
    outlet::LearnerEvent,
};

/// Files of adapters by name.
pub(super) type AdapterFiles = Vec<(&'static str, Bytes)>;

impl Learner {
    /// Publishes the weights of the current version to the store. Weights that are already
    /// published under its number must be equal: a re-run update gives equal bits or adopts the
    /// published ones.
    ///
    /// `adapters` are the files of adapters if they were taken before; the policy may be in use.
    pub(super) async fn publish(&mut self, adapters: Option<AdapterFiles>) -> Result<()> {
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
                files.extend(if let Some(adapters) = adapters {
                    adapters
                } else {
                    let base = self.settings.base_model.clone();
                    self.trainer.adapters(base).await?
                });
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
    pub(super) fn form(&self, version: PolicyVersion) -> Form {
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

    /// Stops a learner that another process of its name has overtaken. A successor begins with the
    /// plans that this process wrote, so that its own first plan is of the update after them.
    async fn fence(&self) -> Result<()> {
        let update = self.unplanned;
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

    /// Returns the counts of groups as they are now, for producers. The versions in it are those
    /// published so far.
    pub(super) fn announcement(&mut self) -> PolicyAnnouncement {
        let update = self.trainer.next_update();
        let (version, weights_sha256) = self.published;
        self.announced_refusals = self.intake.refusals();
        let own_groups = self.settings.learner.live_groups() as u64;
        let groups_rejected = self.groups_rejected + self.intake.refused_groups();
        let numbered = self.intake.numbered_rejections(update.0 * own_groups);
        PolicyAnnouncement {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.settings.learner.policy.clone(),
            version,
            weights_sha256,
            retained: Vec::new(),
            groups_trained: self.groups_trained,
            groups_rejected,
            numbered_rejections: (numbered != groups_rejected).then_some(numbered),
            refused_batches: self.intake.refused_batches(update),
            groups_per_update: own_groups,
            steps: Some(self.settings.learner.steps),
            finished: false,
        }
    }

    /// Announces the newest published version, with the counts of `announcement`, to producers. A
    /// learner that was overtaken announces nothing and stops.
    pub(super) async fn announce(&mut self, announcement: PolicyAnnouncement) -> Result<()> {
        self.fence().await?;
        // Between publications only the counts are new.
        let (version, weights_sha256) = self.published;
        self.announced_at = Instant::now();
        let next_update = self.unchosen.max(self.trainer.next_update());
        self.report_progress(next_update, false);
        self.outlet
            .announce(&PolicyAnnouncement {
                version,
                weights_sha256,
                retained: self.retained.iter().copied().collect(),
                finished: version.0 >= self.settings.learner.steps,
                ..announcement
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
}
