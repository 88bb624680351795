//! Outlet of a learner to the rest of the run: topics for other processes, events for this one.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use vintage_bus::{Header, Outgoing, Producer};
use vintage_control::{
    CONTROL_FORMAT, Name, Partition, Plan, PolicyAnnouncement, PolicyVersion, Rejection,
    SlotNumber, Topics, UpdateNumber, UpdateResult,
};
use vintage_grants::Progress;
use vintage_trajectory::Excerpt;

use crate::error::{Error, Result};

/// Event of a learner, for progress display and evaluation.
#[derive(Debug, Clone)]
pub enum LearnerEvent {
    /// Recovery has finished.
    Recovered {
        /// Version from which training continues.
        version: PolicyVersion,
        /// Number of updates that were run again from their plans.
        rerun: u64,
    },
    /// The learner waits for the groups of the next update.
    Waiting(Box<Waiting>),
    /// An update is decided and is being computed.
    Updating {
        /// Number of the update.
        update: UpdateNumber,
        /// First completion of the batch as text, if the log has its text.
        excerpt: Option<Box<Excerpt>>,
    },
    /// An update is done and recorded.
    Updated(Box<UpdateResult>),
    /// The weights of a version are in the store.
    Published(PolicyVersion),
    /// Records were refused; the plan of `update` names them.
    Rejected {
        /// Update whose plan records the refusals.
        update: UpdateNumber,
        /// Number of rejections in the plan.
        groups: u64,
        /// Number of rejections by reason.
        reasons: BTreeMap<&'static str, u64>,
    },
    /// A checkpoint of a version is committed.
    Checkpointed(PolicyVersion),
}

/// State of the wait for the groups of an update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Update that is waited for.
    pub update: UpdateNumber,
    /// Learner whose plan is waited for, if any; all fields but `update` are then empty.
    pub leader: Option<Name>,
    /// Number of groups that are ready for the update.
    pub ready: u64,
    /// Number of groups that the update takes.
    pub wanted: u64,
    /// Number of records that arrived since the last update.
    pub records: u64,
    /// Number of refusals since the last update, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Number of groups that lack parts.
    pub incomplete: u64,
    /// Number of groups that are ready for other updates.
    pub later: u64,
}

/// Report of a learner to the granter of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnerProgress {
    /// Granted slots whose groups were read since the last report, each with the update that its
    /// group is for.
    pub seen: Vec<(SlotNumber, Option<UpdateNumber>)>,
    /// Producers all of whose groups are refused since the last report, each with the reason and what
    /// to do.
    pub distrusted: Vec<(String, String)>,
    /// State of training.
    pub progress: Progress,
}

/// Topics and channels to which a learner reports.
pub struct Outlet {
    log: Option<(Producer, Topics)>,
    events: mpsc::UnboundedSender<LearnerEvent>,
    granter: Option<mpsc::UnboundedSender<LearnerProgress>>,
}

impl Outlet {
    /// Creates an outlet that announces and mirrors to the run's topics.
    pub fn new(
        producer: Producer,
        topics: Topics,
        events: mpsc::UnboundedSender<LearnerEvent>,
    ) -> Self {
        Self {
            log: Some((producer, topics)),
            events,
            granter: None,
        }
    }

    /// Adds the granter of slots, which hears of every group that is read.
    #[must_use]
    pub fn with_granter(mut self, granter: mpsc::UnboundedSender<LearnerProgress>) -> Self {
        self.granter = Some(granter);
        self
    }

    /// Creates an outlet that reports within this process only. Training from a recorded log needs
    /// no broker, and nobody samples from its versions.
    pub fn without_log(events: mpsc::UnboundedSender<LearnerEvent>) -> Self {
        Self {
            log: None,
            events,
            granter: None,
        }
    }

    /// Announces the newest version to producers.
    pub async fn announce(&self, announcement: &PolicyAnnouncement) -> Result<()> {
        let key = announcement.policy.as_str().as_bytes();
        // Always one partition, however many the topic has by now, so that the last announcement
        // remains the last.
        self.publish(
            (Topics::policies, Some(Partition(0))),
            key,
            announcement,
            &announcement.policy,
            None,
        )
        .await
    }

    /// Mirrors the result of an update to the steps topic. The result of a re-run update is
    /// mirrored again; readers identify it by learner and version.
    pub async fn mirror_result(&self, result: &UpdateResult) -> Result<()> {
        let key = result.learner.as_str().as_bytes();
        self.publish(
            (Topics::steps, None),
            key,
            result,
            &result.policy,
            Some(&result.learner),
        )
        .await
    }

    /// Mirrors a rejection of `plan` to the rejects topic.
    pub async fn mirror_rejection(&self, plan: &Plan, rejection: &Rejection) -> Result<()> {
        let key = rejection.group.as_deref().unwrap_or_default().as_bytes();
        self.publish(
            (Topics::rejects, None),
            key,
            rejection,
            &plan.policy,
            Some(&plan.learner),
        )
        .await
    }

    /// Reports to the granter, if there is one.
    pub(crate) fn report_progress(&self, progress: LearnerProgress) {
        if let Some(granter) = &self.granter {
            let _granter_ended = granter.send(progress);
        }
    }

    /// Reports an event within this process; a missing listener is not an error.
    pub fn report(&self, event: LearnerEvent) {
        let _nobody_listens = self.events.send(event);
    }

    async fn publish(
        &self,
        (topic, partition): (fn(&Topics) -> String, Option<Partition>),
        key: &[u8],
        record: &impl serde::Serialize,
        policy: &Name,
        learner: Option<&Name>,
    ) -> Result<()> {
        let Some((producer, topics)) = &self.log else {
            return Ok(());
        };
        let topic = topic(topics);
        let json = serde_json::to_vec(record).map_err(|error| Error::Encode {
            topic: topic.clone(),
            reason: error.to_string(),
        })?;
        let texts = [
            ("schema", CONTROL_FORMAT),
            ("content-type", "application/json"),
            ("run", topics.run.as_str()),
            ("policy", policy.as_str()),
        ];
        let learner = learner.map(|learner| ("learner", learner.as_str()));
        let headers = texts.into_iter().chain(learner);
        let headers = headers.map(|(name, text)| Header {
            key: name.to_owned(),
            value: Some(Bytes::copy_from_slice(text.as_bytes())),
        });
        let record = Outgoing {
            partition,
            timestamp_ms: None,
            key: Some(Bytes::copy_from_slice(key)),
            headers: headers.collect(),
            payload: Some(Bytes::from(json)),
        };
        producer.append(&topic, record).await?;
        Ok(())
    }
}
