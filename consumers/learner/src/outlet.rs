//! What the rest of the run hears of a learner: topics for other processes, events for this one.

use bytes::Bytes;
use tokio::sync::mpsc;
use vintage_bus::Producer;
use vintage_control::{
    CONTROL_FORMAT, Name, PolicyAnnouncement, PolicyVersion, Rejection, Topics, UpdateResult,
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

/// Topics and channel a learner reports to.
pub struct Outlet {
    /// Producer for announcements and mirrors.
    pub producer: Producer,
    /// The run's topics.
    pub topics: Topics,
    /// Listener in this process.
    pub events: mpsc::UnboundedSender<LearnerEvent>,
}

impl Outlet {
    /// Tells producers of the newest version.
    pub async fn announce(&self, announcement: &PolicyAnnouncement) -> Result<()> {
        let key = announcement.policy.as_str().as_bytes();
        self.publish(
            &self.topics.policies(),
            key,
            announcement,
            &announcement.policy,
        )
        .await
    }

    /// Mirrors what an update did.
    pub async fn mirror_result(&self, result: &UpdateResult) -> Result<()> {
        let key = result.learner.as_str().as_bytes();
        self.publish(&self.topics.steps(), key, result, &result.policy)
            .await
    }

    /// Mirrors a rejection.
    pub async fn mirror_rejection(&self, policy: &Name, rejection: &Rejection) -> Result<()> {
        let key = rejection.group.as_deref().unwrap_or_default().as_bytes();
        self.publish(&self.topics.rejects(), key, rejection, policy)
            .await
    }

    /// Tells this process. Nobody listening is no fault.
    pub fn tell(&self, event: LearnerEvent) {
        let _nobody_listens = self.events.send(event);
    }

    async fn publish(
        &self,
        topic: &str,
        key: &[u8],
        record: &impl serde::Serialize,
        policy: &Name,
    ) -> Result<()> {
        let json = serde_json::to_vec(record)
            .map_err(|error| Error::Record(format!("writing a record for {topic}: {error}")))?;
        let headers = vec![
            ("schema".to_owned(), CONTROL_FORMAT.as_bytes().to_vec()),
            ("content-type".to_owned(), b"application/json".to_vec()),
            (
                "run".to_owned(),
                self.topics.run.as_str().as_bytes().to_vec(),
            ),
            ("policy".to_owned(), policy.as_str().as_bytes().to_vec()),
        ];
        self.producer
            .publish(topic, key, headers, Bytes::from(json))
            .await?;
        Ok(())
    }
}
