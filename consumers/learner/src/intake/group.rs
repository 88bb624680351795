//! Groups whose parts are complete.

use vintage_control::{PlannedGroup, UpdateNumber};
use vintage_trajectory::{Headers, Identity, Part, Rows, content_sha256, sampled_sha256};

use super::{Intake, ReadyGroup};

impl Intake {
    /// Returns true for groups of an archive, and of other policies.
    pub(super) fn is_foreign(&self, policy: &str) -> bool {
        self.source.is_some() || policy != self.settings.learner.policy.as_str()
    }

    /// Makes a group of its parts, which are complete and in order.
    pub(super) fn group_of(&self, headers: Headers, parts: Vec<Part<Rows>>) -> ReadyGroup {
        let foreign = self.is_foreign(&headers.policy);
        let records = parts.iter().map(|part| part.record).collect();
        let slot = self.slot(&Identity::from(&headers));
        let parts: Vec<_> = parts.into_iter().map(|part| part.body).collect();
        ReadyGroup {
            planned: PlannedGroup {
                group: headers.group.to_string(),
                rows: parts.iter().map(|rows| rows.len() as u32).sum(),
                records,
                producer: headers.producer,
                producer_seq: headers.producer_seq,
                content_sha256: content_sha256(&parts),
                source: self.source.clone(),
            },
            policy: headers.policy,
            // Update numbers belong to a policy; those of another policy mean nothing here.
            sampled_for: UpdateNumber::from_batch(headers.batch).filter(|_| !foreign),
            slot,
            sampled: self.source.is_some().then(|| sampled_sha256(&parts)),
            own: !foreign && headers.replay_of.is_none(),
            parts,
        }
    }
}
