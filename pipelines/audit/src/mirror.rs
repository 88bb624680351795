//! Comparison of what learners published to the run's topics with what they recorded.

use std::collections::BTreeMap;

use vintage_bus::{Bus, Record};
use vintage_control::{
    Grants, NumberSet, PolicyAnnouncement, Rejection, Topics, UpdateNumber, UpdateResult,
};

use crate::{
    error::Result,
    findings::{Findings, ranges},
    ledger::Ledger,
    records::Listing,
};

/// Announcements, and published copies of results and rejections.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    announced: Vec<PolicyAnnouncement>,
    updated: Vec<UpdateResult>,
    /// Rejections, each with the learner named in its message's header.
    rejected: Vec<(String, Rejection)>,
    /// Slots taken away from each producer that fell silent and did not report again.
    withdrawn: BTreeMap<String, NumberSet>,
}

impl Mirrors {
    /// Reads the four topics; skips records that are not of the expected format.
    pub(super) async fn read(bus: &Bus, topics: &Topics) -> Result<Self> {
        let mut read = Self::default();
        bus.read_whole(&topics.policies(), "audit-policies", |record| {
            read.announced.extend(parse(record));
        })
        .await?;
        bus.read_whole(&topics.steps(), "audit-steps", |record| {
            read.updated.extend(parse(record));
        })
        .await?;
        bus.read_whole(&topics.rejects(), "audit-rejects", |record| {
            let learner = record.headers.iter().find(|header| header.key == "learner");
            let learner = learner.and_then(|header| header.value.as_deref());
            if let (Some(learner), Some(rejection)) = (learner, parse(record)) {
                let learner = String::from_utf8_lossy(learner).into_owned();
                read.rejected.push((learner, rejection));
            }
        })
        .await?;
        // A run made before slots were granted has no such topic.
        let grants = topics.grants();
        match bus
            .read_whole(&grants, "audit-grants", |record| {
                if let Some(Ok(grants)) = record.payload.as_deref().map(Grants::read) {
                    let slots = NumberSet::from(&grants.withdrawn);
                    read.withdrawn.insert(grants.producer, slots);
                }
            })
            .await
        {
            Ok(_) | Err(vintage_bus::Error::NoSuchTopic { .. }) => Ok(read),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes the producers that fell silent, with the slots that were taken away from them.
    pub(super) fn silent(&self, findings: &mut Findings) {
        let silent = self.withdrawn.iter().filter(|(_, slots)| !slots.is_empty());
        for (producer, slots) in silent {
            findings.note("silent producers", || {
                format!(
                    "producer {producer} fell silent with {} slots in hand, which were free for \
                     others from then on: {}",
                    slots.len(),
                    ranges(slots.runs())
                )
            });
        }
    }

    /// Compares what one learner published with its plans.
    pub(super) fn compare(&self, listing: &Listing, ledger: &Ledger<'_>, findings: &mut Findings) {
        let name = listing.name.as_str();
        let own = self.announced.iter();
        for announced in own.filter(|announced| Some(announced.policy.as_str()) == ledger.policy())
        {
            let (policy, version) = (announced.policy.as_str(), announced.version);
            findings.digest(
                policy,
                version,
                announced.weights_sha256,
                "its announcement",
            );
            let made_by = UpdateNumber::that_made(version);
            if made_by.is_some_and(|update| !listing.plans.contains(&update.0)) {
                findings.breach("versions announced without a plan", || {
                    format!("version {version} of {policy} was announced, and no plan made it")
                });
            }
        }
        for result in self
            .updated
            .iter()
            .filter(|result| result.learner.as_str() == name)
        {
            let made = result.update().version_after();
            findings.digest(
                result.policy.as_str(),
                made,
                result.weights_sha256,
                "the steps' topic",
            );
            if !listing.plans.contains(&result.update().0) {
                findings.breach("updates published without a plan", || {
                    format!(
                        "learner {name} published update {}, and there is no plan of it",
                        result.update()
                    )
                });
            }
        }
        for (learner, rejection) in &self.rejected {
            if learner == name && rejection.source.is_none() {
                ledger.mirrored(rejection, findings);
            }
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(record: &Record) -> Option<T> {
    serde_json::from_slice(record.payload.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_producer_is_named_with_its_slots() {
        let mut mirrors = Mirrors::default();
        let sets = [("a", vec![3, 7, 8, 9]), ("b", vec![])];
        for (producer, slots) in sets {
            let slots = slots.into_iter().collect();
            mirrors.withdrawn.insert(producer.to_owned(), slots);
        }
        let mut findings = Findings::default();
        mirrors.silent(&mut findings);
        let (breaches, notes) = findings.into_lines();
        assert!(breaches.is_empty());
        let expected = "producer a fell silent with 4 slots in hand, which were free for others \
                        from then on: 3, 7 to 9";
        assert_eq!(notes, [expected]);
    }
}
