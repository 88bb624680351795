//! Fates of samples: trained, refused, or neither.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use vintage_control::{Plan, UpdateNumber};
use vintage_store::Records;

use super::sample::Sample;
use crate::error::Result;

/// Plans that are read at the same time: a bucket takes tens of milliseconds for each.
const READ_AHEAD: usize = 16;

/// Decision of a learner about a rollout's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// Trained.
    Trained {
        /// Update that trained it.
        update: UpdateNumber,
        /// Staleness of its oldest token, in updates.
        staleness: u64,
    },
    /// Refused.
    Rejected {
        /// Update whose plan records the refusal.
        update: UpdateNumber,
        /// Reason of the refusal.
        reason: String,
    },
    /// Neither trained nor refused so far.
    Pending,
}

/// Enters the fates of samples, from the newest plan to the oldest, until all are known. If
/// `update` is given, all are of its plan.
pub(super) async fn plans_of(
    records: &Records,
    update: Option<UpdateNumber>,
    samples: &mut [Sample],
) -> Result<()> {
    let updates = match update {
        Some(update) => update.0..update.0 + 1,
        None => 0..records.next_plan().await?.0,
    };
    let mut open: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, sample) in samples.iter().enumerate() {
        open.entry(sample.group.clone()).or_default().push(index);
    }
    let read = |update| records.plan(UpdateNumber(update));
    let mut plans = stream::iter(updates.rev()).map(read).buffered(READ_AHEAD);
    while !open.is_empty()
        && let Some(plan) = plans.try_next().await?
    {
        // A pruned plan leaves the fate open.
        let Some(plan) = plan else { continue };
        enter(&plan, &mut open, samples);
    }
    Ok(())
}

fn enter(plan: &Plan, open: &mut HashMap<String, Vec<usize>>, samples: &mut [Sample]) {
    for group in plan.groups.iter().filter(|group| group.source.is_none()) {
        for index in open.remove(&group.group).unwrap_or_default() {
            let sample = &mut samples[index];
            let newest = plan.newest_of(None, &sample.policy);
            let oldest = sample.oldest_version.unwrap_or(newest);
            sample.fate = Fate::Trained {
                update: plan.update(),
                staleness: newest.0.saturating_sub(oldest.0),
            };
        }
    }
    for rejection in &plan.rejections {
        let Some(group) = &rejection.group else {
            continue;
        };
        // A copy of a group is refused after the group was trained: what trained is what counts.
        for index in open.get(group).into_iter().flatten() {
            samples[*index].fate = Fate::Rejected {
                update: plan.update(),
                reason: rejection.reason.as_str().to_owned(),
            };
        }
    }
}
