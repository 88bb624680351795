//! Which rollouts trained an update, and what became of one of them.

use std::{fmt, str::FromStr};

use serde::Serialize;
use vintage_control::{Plan, PlannedGroup, PolicyVersion, RecordId, Rejection};
use vintage_store::Store;

use super::{
    books::{Books, Group},
    ledger::{Fate, Ledger},
    records::Listing,
};
use crate::Result;

/// What may be asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// Which rollouts trained this update.
    Update(PolicyVersion),
    /// What became of this group.
    Rollout(Rollout),
}

/// How a group is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// Its producer, and the number it gave.
    Number(String, u64),
    /// Its group id.
    Id([u8; 16]),
}

/// A text that names no group.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} names no group: give PRODUCER/NUMBER, or a group id of 32 hexadecimal digits")]
pub struct BadRollout(String);

impl FromStr for Rollout {
    type Err = BadRollout;

    fn from_str(text: &str) -> Result<Self, BadRollout> {
        let refuse = || BadRollout(text.to_owned());
        if let Some((producer, number)) = text.rsplit_once('/') {
            let number = number.parse().map_err(|_| refuse())?;
            return Ok(Self::Number(producer.to_owned(), number));
        }
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| refuse())?;
        Ok(Self::Id(id))
    }
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(producer, number) => write!(f, "{producer}/{number}"),
            Self::Id(id) => f.write_str(&hex::encode(id)),
        }
    }
}

/// What a learner's records answer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The batch of an update.
    Update {
        /// Whose.
        learner: String,
        /// The update.
        update: PolicyVersion,
        /// Groups it trained, in order.
        groups: Vec<PlannedGroup>,
        /// Groups refused since the update before.
        rejections: Vec<Rejection>,
    },
    /// The fate of a group.
    Rollout {
        /// To whom.
        learner: String,
        /// The group, as it was asked for.
        rollout: String,
        /// `trained`, `rejected`, `in_flight`, `before_start`, `lost` or `unknown`.
        fate: &'static str,
        /// The update that trained it, or whose plan rejects it.
        #[serde(skip_serializing_if = "Option::is_none")]
        update: Option<PolicyVersion>,
        /// As a class to count by, if it was rejected.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        /// In words.
        detail: String,
        /// Its first record in archive or log.
        #[serde(skip_serializing_if = "Option::is_none")]
        record: Option<RecordId>,
    },
}

impl Answer {
    /// Whether there was anything to tell.
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
    /// What one learner's records say.
    pub(super) async fn ask(
        &self,
        store: &Store,
        listing: &Listing,
        books: &Books,
        ledger: &Ledger<'_>,
    ) -> Result<Option<Answer>> {
        let learner = listing.name.to_string();
        match self {
            Self::Update(update) => {
                let plan: Option<Plan> = store.get_json(&plan_of(listing, *update)).await?;
                Ok(plan.map(|plan| Answer::Update {
                    learner,
                    update: *update,
                    groups: plan.groups,
                    rejections: plan.rejections,
                }))
            }
            Self::Rollout(rollout) => {
                let found = find(books, rollout);
                let fate = match found {
                    Some((number, _)) => ledger.fate(number),
                    None => match rollout {
                        Rollout::Number(producer, number) => ledger.vouched(producer, *number),
                        Rollout::Id(_) => Fate::Open,
                    },
                };
                let group = found.map(|(_, group)| group);
                let told = tell(store, listing, books, ledger, group, fate).await?;
                Ok(Some(Answer::Rollout {
                    learner,
                    rollout: rollout.to_string(),
                    fate: told.fate,
                    update: told.update,
                    reason: told.reason,
                    detail: told.detail,
                    record: group
                        .and_then(|group| group.records)
                        .map(|(first, _)| first),
                }))
            }
        }
    }
}

struct Told {
    fate: &'static str,
    update: Option<PolicyVersion>,
    reason: Option<&'static str>,
    detail: String,
}

async fn tell(
    store: &Store,
    listing: &Listing,
    books: &Books,
    ledger: &Ledger<'_>,
    group: Option<&Group>,
    fate: Fate,
) -> Result<Told> {
    let simple = |fate, detail: String| Told {
        fate,
        update: None,
        reason: None,
        detail,
    };
    Ok(match (fate, group) {
        (Fate::Trained(update), _) => Told {
            update: Some(update),
            ..simple("trained", format!("update {update} trained it"))
        },
        (Fate::Rejected(update, reason), _) => {
            let plan: Option<Plan> = store.get_json(&plan_of(listing, update)).await?;
            let of = |rejection: &&Rejection| match group {
                Some(group) => {
                    rejection.producer.as_deref() == books.producer_of(group)
                        && rejection.producer_seq == Some(group.seq)
                        && rejection.reason == reason
                }
                None => false,
            };
            let detail = plan
                .as_ref()
                .and_then(|plan| plan.rejections.iter().find(of));
            Told {
                update: Some(update),
                reason: Some(reason.as_str()),
                ..simple(
                    "rejected",
                    detail.map_or_else(String::new, |rejection| rejection.detail.clone()),
                )
            }
        }
        (Fate::Open, None) => simple(
            "unknown",
            "no journal, log, archive or plan knows it".to_owned(),
        ),
        (Fate::Open, Some(group)) => match group.records {
            None => simple(
                "lost",
                "its producer's journal says the log acknowledged it; neither log nor archive \
                 holds it"
                    .to_owned(),
            ),
            Some((_, last)) if ledger.is_before_start(last) => simple(
                "before_start",
                "it stands before the place where this learner began to read".to_owned(),
            ),
            Some((_, last)) => {
                let (copies, parts) = (group.copies, books.parts_at(last));
                let detail = if copies < parts {
                    format!("{copies} of its {parts} parts are there; it cannot be trained yet")
                } else {
                    "it is whole, and no plan has taken it yet".to_owned()
                };
                simple("in_flight", detail)
            }
        },
    })
}

fn find<'a>(books: &'a Books, rollout: &Rollout) -> Option<(u32, &'a Group)> {
    let number = match rollout {
        Rollout::Number(producer, number) => books.number(producer, *number)?,
        Rollout::Id(id) => {
            let of = |group: &Group| group.id.as_ref() == Some(id);
            books.groups().iter().position(of)? as u32
        }
    };
    Some((number, &books.groups()[number as usize]))
}

fn plan_of(listing: &Listing, update: PolicyVersion) -> String {
    format!("plans/{}/{update}.json", listing.name)
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
        for bad in ["", "7", "local-1a/", "local-1a/x", "00112233"] {
            assert!(bad.parse::<Rollout>().is_err(), "{bad:?}");
        }
    }
}
