//! Recording of an update that is computed: weights, result, announcement.
//!
//! An update is recorded while the next one is computed. The order of what is durable stays: plan,
//! weights, result, announcement, update after update. A process that is killed in between leaves two
//! plans without a result at most, and the next one runs both again.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use vintage_control::{
    Metric, Plan, PolicyAnnouncement, PolicyVersion, RejectReason, Rejection, UpdateResult,
};
use vintage_faults::point;

use super::{Learner, occasion::Occasion, publish::AdapterFiles};
use crate::{error::Result, outlet::LearnerEvent, result::result_of, trainer::Trained};

/// Update that is computed and not yet recorded.
pub(super) struct Unrecorded {
    pub(super) plan: Plan,
    pub(super) trained: Trained,
    pub(super) occasion: Occasion,
    /// Seconds for which the update waited for plans and records to be durable.
    pub(super) held: f64,
    /// State of the log when the update was done, as producers are told it.
    pub(super) announcement: PolicyAnnouncement,
    /// Files of the adapters, taken before the next update changes them.
    pub(super) adapters: Option<AdapterFiles>,
}

impl Learner {
    /// Records the update that was computed last, if it is not recorded yet.
    pub(super) async fn record_last(&mut self) -> Result<()> {
        match self.unrecorded.take() {
            Some(done) => Box::pin(self.record(*done)).await,
            None => Ok(()),
        }
    }

    /// Waits for `input`. If it is not there at once, the update computed last is recorded first:
    /// producers may be waiting for its version.
    pub(super) async fn recording_before<T>(
        &mut self,
        input: impl Future<Output = T>,
    ) -> Result<T> {
        let mut input = pin!(input);
        if let Some(there) = input.as_mut().now_or_never() {
            return Ok(there);
        }
        self.record_between().await?;
        Ok(input.await)
    }

    /// Records the update computed last while nothing is computed.
    pub(super) async fn record_between(&mut self) -> Result<()> {
        let began = Instant::now();
        self.record_last().await?;
        self.recorded_between += began.elapsed();
        Ok(())
    }

    /// Takes the files of the adapters for the update computed last, if it is published with them.
    pub(super) async fn take_adapters(&mut self) -> Result<()> {
        let version = self.trainer.version();
        let is_adapted = self.is_published(version) && self.form(version).adapted.is_some();
        if let Some(done) = self.unrecorded.as_mut().filter(|_| is_adapted) {
            let base = self.settings.base_model.clone();
            done.adapters = Some(self.trainer.adapters(base).await?);
        }
        Ok(())
    }

    /// Returns true if every process is to have the weights of this version.
    pub(super) fn is_published(&self, version: PolicyVersion) -> bool {
        let learner = &self.settings.learner;
        version.0.is_multiple_of(learner.publish_every) || version.0 == learner.steps
    }

    async fn record(&mut self, done: Unrecorded) -> Result<()> {
        let Unrecorded {
            plan,
            trained,
            occasion,
            held,
            announcement,
            adapters,
        } = done;
        let is_alone = self.trainer.is_idle();
        let recording = Instant::now();
        let is_published = self.is_published(plan.update().version_after());
        if is_published {
            self.publish(adapters).await?;
            point("learner.published", self.in_hand());
        }
        let wait_seconds = match occasion {
            Occasion::Again => 0.0,
            Occasion::First { wait } => wait,
        };
        let alone = if is_alone {
            recording.elapsed()
        } else {
            Duration::ZERO
        };
        let record_seconds = held + alone.as_secs_f64();
        let result = self
            .note(&plan, &trained, wait_seconds, record_seconds)
            .await?;
        point("learner.noted", self.in_hand());
        if is_published && occasion != Occasion::Again {
            self.announce(announcement).await?;
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
    let values = [
        (Metric::STALENESS, Some(result.max_staleness as f64)),
        (Metric::REWARD, Some(result.reward)),
        (Metric::LOSS, Some(result.loss)),
        (Metric::KL, Some(result.kl)),
        (Metric::ENTROPY, Some(result.entropy)),
        (Metric::M2, Some(result.m2_before)),
        (Metric::MASKED, Some(result.clip_fraction)),
        (Metric::EFFECTIVE_ROWS, result.effective_rows),
        (Metric::CONCENTRABILITY, result.concentrability),
    ];
    for (metric, value) in values {
        if let Some(value) = value {
            metrics::gauge!(metric.name, "learner" => learner()).set(value);
        }
    }
}

fn by_reason(rejections: &[Rejection]) -> BTreeMap<&'static str, u64> {
    let mut reasons = BTreeMap::new();
    for refused in rejections {
        *reasons.entry(refused.reason.as_str()).or_default() += 1;
    }
    reasons
}
