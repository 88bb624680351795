use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Topics of one run: `<ns>.<run>.rollouts.v1`, and `policies`, `grants`, `producers`, `steps` and
/// `rejects` likewise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// Namespace shared by the runs of one installation.
    pub namespace: Name,
    /// Name of the run.
    pub run: Name,
}

/// Error for a topic name that is not `<ns>.<run>.<kind>.v1`.
#[derive(Debug, thiserror::Error)]
#[error("not a topic of a run: {0:?}; expected <namespace>.<run>.rollouts.v1")]
pub struct BadTopic(String);

impl Topics {
    /// Returns the topic of rollouts. One message is one prompt group or a part of one, keyed by
    /// group id.
    pub fn rollouts(&self) -> String {
        self.topic("rollouts")
    }

    /// Returns the topic of policy announcements, which is compacted and keyed by policy.
    pub fn policies(&self) -> String {
        self.topic("policies")
    }

    /// Returns the topic of grants to producers, which is compacted and keyed by producer.
    pub fn grants(&self) -> String {
        self.topic("grants")
    }

    /// Returns the topic of producers' reports, which is compacted and keyed by producer.
    pub fn producers(&self) -> String {
        self.topic("producers")
    }

    /// Returns the topic that mirrors update results.
    pub fn steps(&self) -> String {
        self.topic("steps")
    }

    /// Returns the topic that mirrors rejections.
    pub fn rejects(&self) -> String {
        self.topic("rejects")
    }

    /// Returns the names of all topics, rollouts first.
    pub fn all(&self) -> [String; 6] {
        [
            self.rollouts(),
            self.policies(),
            self.grants(),
            self.producers(),
            self.steps(),
            self.rejects(),
        ]
    }

    /// Parses the namespace and run out of a topic name.
    pub fn of_topic(topic: &str) -> Result<Self, BadTopic> {
        let parts: Vec<_> = topic.split('.').collect();
        let [
            namespace,
            run,
            "rollouts" | "policies" | "grants" | "producers" | "steps" | "rejects",
            "v1",
        ] = parts[..]
        else {
            return Err(BadTopic(topic.to_owned()));
        };
        let refuse = |_| BadTopic(topic.to_owned());
        Ok(Self {
            namespace: namespace.parse().map_err(refuse)?,
            run: run.parse().map_err(refuse)?,
        })
    }

    fn topic(&self, kind: &str) -> String {
        format!("{}.{}.{kind}.v1", self.namespace, self.run)
    }
}
