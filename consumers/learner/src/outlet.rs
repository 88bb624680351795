//! What the rest of the run hears of a learner: topics for other processes, events for this one.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use vintage_bus::{Header, Outgoing, Producer};
use vintage_control::{
    CONTROL_FORMAT, Name, Partition, Plan, PolicyAnnouncement, PolicyVersion, Rejection, Topics,
    UpdateResult,
};

use crate::{Error, Result};

/// What happened, for progress display and evaluation.
#[derive(Debug, Clone)]
pub enum LearnerEvent {
    /// Started at this version; so many updates were run again from their plans.
    Recovered {
        /// Version training goes on from.
        version: PolicyVersion,
        /// Updates that were run again.
        rerun: u64,
    },
    /// It waits for what the next update trains on.
    Waiting(Box<Waiting>),
    /// Its update is decided, and computed now.
    Updating(PolicyVersion),
    /// An update is done and recorded.
    Updated(Box<UpdateResult>),
    /// These weights are in the store.
    Published(PolicyVersion),
    /// Groups were refused; the plan of `update` names them.
    Rejected {
        /// The plan that records them.
        update: PolicyVersion,
        /// How many.
        groups: u64,
    },
    /// A checkpoint is committed.
    Checkpointed(PolicyVersion),
}

/// How the wait for an update's groups stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// The update.
    pub update: PolicyVersion,
    /// The learner whose plan of it is waited for, if that is so; then all else is empty.
    pub leader: Option<Name>,
    /// Groups that are there for it.
    pub ready: u64,
    /// Groups it takes.
    pub wanted: u64,
    /// Records that came since the last update.
    pub records: u64,
    /// Groups refused since the last update, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Groups that lack parts.
    pub incomplete: u64,
    /// Groups that are there for other updates.
    pub later: u64,
}

/// Topics and channel a learner reports to.
pub struct Outlet {
    log: Option<(Producer, Topics)>,
    events: mpsc::UnboundedSender<LearnerEvent>,
}

impl Outlet {
    /// Announces and mirrors to the run's topics.
    pub fn new(
        producer: Producer,
        topics: Topics,
        events: mpsc::UnboundedSender<LearnerEvent>,
    ) -> Self {
        Self {
            log: Some((producer, topics)),
            events,
        }
    }

    /// Tells this process only: training from a recorded log needs no broker, and nobody samples
    /// from what it makes.
    pub fn without_log(events: mpsc::UnboundedSender<LearnerEvent>) -> Self {
        Self { log: None, events }
    }

    /// Tells producers of the newest version.
    pub async fn announce(&self, announcement: &PolicyAnnouncement) -> Result<()> {
        let key = announcement.policy.as_str().as_bytes();
        // One partition, however many the topic has by now: what was announced last stands last.
        self.publish(
            (Topics::policies, Some(Partition(0))),
            key,
            announcement,
            &announcement.policy,
            None,
        )
        .await
    }

    /// Mirrors what an update did. A re-run update is mirrored again: readers know it by learner
    /// and version.
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

    /// Mirrors a rejection of `plan`.
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

    /// Tells this process. Nobody listening is no fault.
    pub fn tell(&self, event: LearnerEvent) {
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
        let json = serde_json::to_vec(record)
            .map_err(|error| Error::Record(format!("writing a record for {topic}: {error}")))?;
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
