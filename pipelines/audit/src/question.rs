//! Questions of an audit: which groups an update trained on, and what became of a given group.

use std::{fmt, str::FromStr};

use serde::Serialize;
use vintage_control::{
    Incarnation, Offset, Partition, Plan, PlannedGroup, RecordId, RejectReason, Rejection,
    UpdateNumber,
};
use vintage_store::Store;

use crate::{
    error::Result,
    fate::Fate,
    inventory::{Group, Inventory, partition_records::RecordState},
    ledger::Ledger,
    records::Listing,
};

/// Question to an audit.
#[derive(Debug, Clone)]
pub enum Question {
    /// Groups that this update trained on. Updates are numbered from 0; update N makes version N + 1.
    Update(UpdateNumber),
    /// Fate of this group.
    Rollout(Rollout),
}

/// Name of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// Producer, and the number it gave to the group.
    Number(String, u64),
    /// Group id.
    Id([u8; 16]),
    /// Position of one of the group's records.
    Record(RecordId),
}

/// Error of a text that names no group.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} names no group: give PRODUCER/NUMBER, a group id of 32 hexadecimal digits or a UUID, or a \
     record as INCARNATION/PARTITION/OFFSET"
)]
pub struct BadRollout(String);

impl FromStr for Rollout {
    type Err = BadRollout;

    fn from_str(text: &str) -> Result<Self, BadRollout> {
        let refuse = || BadRollout(text.to_owned());
        if let Some(record) = record(text) {
            return Ok(Self::Record(record));
        }
        if let Some((producer, number)) = text.rsplit_once('/') {
            let number = number.parse().map_err(|_| refuse())?;
            return Ok(Self::Number(producer.to_owned(), number));
        }
        let mut id = [0; 16];
        hex::decode_to_slice(text.replace('-', ""), &mut id).map_err(|_| refuse())?;
        Ok(Self::Id(id))
    }
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(producer, number) => write!(f, "{producer}/{number}"),
            Self::Id(id) => f.write_str(&hex::encode(id)),
            Self::Record(record) => write!(
                f,
                "{}/{}/{}",
                record.incarnation, record.partition, record.offset
            ),
        }
    }
}

/// Parses `INCARNATION/PARTITION/OFFSET`; no producer of this program has a name of two numbers.
fn record(text: &str) -> Option<RecordId> {
    let mut numbers = text.split('/');
    let mut next = || {
        numbers
            .next()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
    };
    let (incarnation, partition, offset) = (next()?, next()?, next()?);
    let record = RecordId {
        incarnation: Incarnation(incarnation.parse().ok()?),
        partition: Partition(partition.parse().ok()?),
        offset: Offset(offset.parse().ok()?),
    };
    numbers.next().is_none().then_some(record)
}

/// Answer from a learner's records.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Batch of an update.
    Update {
        /// Name of the learner.
        learner: String,
        /// Number of the update, from 0.
        update: UpdateNumber,
        /// Groups that the update trained, in order.
        groups: Vec<PlannedGroup>,
        /// Groups refused since the update before.
        rejections: Vec<Rejection>,
    },
    /// Fate of a group.
    Rollout {
        /// Name of the learner.
        learner: String,
        /// Name of the group, as it was given.
        rollout: String,
        /// Fate: `trained`, `rejected`, `in_flight`, `before_start`, `lost` or `unknown`.
        fate: &'static str,
        /// Update that trained the group, or whose plan rejects it.
        #[serde(skip_serializing_if = "Option::is_none")]
        update: Option<UpdateNumber>,
        /// Reason of a rejection, as a class to count by.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        /// Explanation in words.
        detail: String,
        /// Position of the group's first record in archive or log.
        #[serde(skip_serializing_if = "Option::is_none")]
        record: Option<RecordId>,
    },
}

impl Answer {
    /// Returns true unless the fate of the group is unknown.
    pub fn is_known(&self) -> bool {
        !matches!(
            self,
            Self::Rollout {
                fate: "unknown",
                ..
            }
        )
    }
}

impl Question {
    /// Answers from the records of one learner, or from the inventory alone if there is no learner.
    pub(super) async fn ask(
        &self,
        store: &Store,
        learner: &str,
        listing: Option<&Listing>,
        inventory: &Inventory,
        ledger: &Ledger<'_>,
    ) -> Result<Vec<Answer>> {
        match self {
            Self::Update(update) => {
                let plan: Option<Plan> = store.get_json(&plan_of(learner, *update)).await?;
                let answer = plan.map(|plan| Answer::Update {
                    learner: learner.to_owned(),
                    update: *update,
                    groups: plan.groups,
                    rejections: plan.rejections,
                });
                Ok(answer.into_iter().collect())
            }
            Self::Rollout(rollout) => {
                let answer = |report: FateReport, record| Answer::Rollout {
                    learner: learner.to_owned(),
                    rollout: rollout.to_string(),
                    fate: report.fate,
                    update: report.update,
                    reason: report.reason,
                    detail: report.detail,
                    record,
                };
                let mut answers = Vec::new();
                for number in rollout.found(inventory) {
                    let group = &inventory.groups()[number as usize];
                    let fate = ledger.fate(number);
                    let report = fate_of(store, learner, inventory, ledger, group, fate).await?;
                    answers.push(answer(report, group.records.map(|(first, _)| first)));
                }
                if answers.is_empty() {
                    let planned = match listing {
                        Some(listing) => rollout.planned(store, listing).await?,
                        None => None,
                    };
                    let (report, record) = planned.unwrap_or_else(|| (unknown(), None));
                    answers.push(answer(report, record));
                }
                Ok(answers)
            }
        }
    }
}

impl Rollout {
    /// Returns the groups in the inventory that this names; several if the producer restarted its
    /// numbering.
    fn found(&self, inventory: &Inventory) -> Vec<u32> {
        match self {
            Self::Number(producer, seq) => inventory.find(|group| {
                group.seq == *seq && inventory.producer_of(group) == Some(producer.as_str())
            }),
            Self::Id(id) => inventory.find(|group| group.id.as_ref() == Some(id)),
            Self::Record(record) => match inventory.state_of(*record) {
                RecordState::Present(_, record) => vec![record.group],
                _ => Vec::new(),
            },
        }
    }

    fn names(
        &self,
        number: (Option<&String>, Option<u64>),
        group: Option<&String>,
        records: &[RecordId],
    ) -> bool {
        match self {
            Self::Number(producer, seq) => number == (Some(producer), Some(*seq)),
            Self::Id(id) => group.is_some_and(|group| *group == hex::encode(id)),
            Self::Record(record) => records.contains(record),
        }
    }

    /// Searches the plans for a group that neither log nor archive holds any more, or that comes
    /// from another run's archive.
    async fn planned(
        &self,
        store: &Store,
        listing: &Listing,
    ) -> Result<Option<(FateReport, Option<RecordId>)>> {
        let learner = listing.name.as_str();
        for &update in &listing.plans {
            let update = UpdateNumber(update);
            // A plan that cannot be read is reported as a breach.
            let Ok(Some(plan)) = store.get_json::<Plan>(&plan_of(learner, update)).await else {
                continue;
            };
            let out_of = |source: &Option<String>| match source {
                Some(topic) => format!(", out of the archive of {topic}"),
                None => "; neither log nor archive holds it any more".to_owned(),
            };
            for group in &plan.groups {
                let number = (Some(&group.producer), Some(group.producer_seq));
                if self.names(number, Some(&group.group), &group.records) {
                    let detail = format!("update {update} trained it{}", out_of(&group.source));
                    let report = FateReport {
                        update: Some(update),
                        ..FateReport::simple("trained", detail)
                    };
                    return Ok(Some((report, group.records.first().copied())));
                }
            }
            for refused in &plan.rejections {
                let number = (refused.producer.as_ref(), refused.producer_seq);
                if refused.reason != RejectReason::Duplicate
                    && self.names(number, refused.group.as_ref(), &refused.records)
                {
                    let report = FateReport {
                        update: Some(update),
                        reason: Some(refused.reason.as_str()),
                        ..FateReport::simple("rejected", refused.detail.clone())
                    };
                    return Ok(Some((report, refused.records.first().copied())));
                }
            }
        }
        Ok(None)
    }
}

fn unknown() -> FateReport {
    FateReport::simple(
        "unknown",
        "no journal, log, archive or plan knows it".to_owned(),
    )
}

/// Fate of a group, and the learner's record of it.
struct FateReport {
    fate: &'static str,
    update: Option<UpdateNumber>,
    reason: Option<&'static str>,
    detail: String,
}

impl FateReport {
    fn simple(fate: &'static str, detail: String) -> Self {
        Self {
            fate,
            update: None,
            reason: None,
            detail,
        }
    }
}

/// Reports the fate of a group in the inventory.
async fn fate_of(
    store: &Store,
    learner: &str,
    inventory: &Inventory,
    ledger: &Ledger<'_>,
    group: &Group,
    fate: Fate,
) -> Result<FateReport> {
    Ok(match fate {
        Fate::Trained(update) => FateReport {
            update: Some(update),
            ..FateReport::simple("trained", format!("update {update} trained it"))
        },
        Fate::Rejected(update, reason) => {
            let plan: Option<Plan> = store.get_json(&plan_of(learner, update)).await?;
            let (first, last) = group.records.unzip();
            let of = |rejection: &&Rejection| {
                let named = rejection.records.iter();
                let mut named = named.map(|record| Some(*record));
                let here = named.any(|record| record == first || record == last);
                let number = rejection.producer.as_deref() == inventory.producer_of(group)
                    && rejection.producer_seq == Some(group.seq);
                rejection.reason == reason && (here || (number && first.is_none()))
            };
            let refused = plan.as_ref();
            let refused = refused.and_then(|plan| plan.rejections.iter().find(of));
            let detail = refused.map_or_else(String::new, |refused| refused.detail.clone());
            FateReport {
                update: Some(update),
                reason: Some(reason.as_str()),
                ..FateReport::simple("rejected", detail)
            }
        }
        Fate::Open => match group.records {
            None => FateReport::simple(
                "lost",
                "its producer's journal says the log acknowledged it; neither log nor archive \
                 holds it"
                    .to_owned(),
            ),
            Some((_, last)) if ledger.is_before_start(last) => FateReport::simple(
                "before_start",
                "it precedes the offset at which this learner began to read".to_owned(),
            ),
            Some((_, last)) => {
                let (copies, parts) = (group.copies, inventory.parts_at(last));
                let detail = if copies < parts {
                    format!("{copies} of its {parts} parts are there; it cannot be trained yet")
                } else {
                    "it is whole, and no plan has taken it yet".to_owned()
                };
                FateReport::simple("in_flight", detail)
            }
        },
    })
}

fn plan_of(learner: &str, update: UpdateNumber) -> String {
    format!("plans/{learner}/{update}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_number_or_id() {
        let number: Rollout = "local-1a/7".parse().unwrap();
        assert_eq!(number, Rollout::Number("local-1a".to_owned(), 7));
        let id = "00112233445566778899aabbccddeeff";
        assert_eq!(id.parse::<Rollout>().unwrap().to_string(), id);
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(uuid.parse::<Rollout>().unwrap().to_string(), id);
        let record: Rollout = "1/2/40".parse().unwrap();
        assert!(matches!(record, Rollout::Record(at) if at.offset == Offset(40)));
        assert_eq!(record.to_string(), "1/2/40");
        assert_eq!(
            "a/2/40".parse::<Rollout>().unwrap(),
            Rollout::Number("a/2".to_owned(), 40)
        );
        for bad in ["", "7", "local-1a/", "local-1a/x", "00112233"] {
            assert!(bad.parse::<Rollout>().is_err(), "{bad:?}");
        }
    }
}
