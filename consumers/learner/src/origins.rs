//! Groups that had a producer's numbers, according to the learner's own plans.
//!
//! A checkpoint holds the finished numbers and no group ids, which would grow with the run. Plans
//! hold both. They are read when a number comes again whose groups are not remembered, so that a
//! copy can be distinguished from another group, whichever process saw the first one.

use std::collections::HashMap;
use vintage_store::Records;

use vintage_control::{Plan, UpdateNumber};
use vintage_trajectory::GroupId;

use crate::{
    error::Result,
    intake::{Intake, judge::PermittedVersions},
    source::Incoming,
};

/// Log (the run's own is `None`, else an archived topic) and the name of one of its producers.
type Producer = (Option<String>, String);

pub(crate) struct Origins {
    records: Records,
    known: HashMap<Producer, Known>,
}

/// Groups of one producer's numbers, as far as the plans were read.
#[derive(Default)]
struct Known {
    /// First plan that was not read yet.
    next: UpdateNumber,
    groups: HashMap<u64, Vec<GroupId>>,
}

impl Origins {
    pub(crate) fn new(records: Records) -> Self {
        Self {
            records,
            known: HashMap::new(),
        }
    }

    /// Has the intake take a record, and recalls to it before which groups had the record's number,
    /// if it does not remember them.
    pub(crate) async fn take(
        &mut self,
        intake: &mut Intake,
        incoming: Incoming,
        announced: PermittedVersions,
    ) -> Result<()> {
        self.recall(intake, &incoming).await?;
        intake.take(incoming, announced)
    }

    async fn recall(&mut self, intake: &mut Intake, incoming: &Incoming) -> Result<()> {
        let Some((producer, seq)) = intake.needs_recall(incoming) else {
            return Ok(());
        };
        let key = (intake.source().map(str::to_owned), producer);
        let known = self.known.entry(key.clone()).or_default();
        let mut plans = self.records.plans(known.next);
        while let Some(plan) = plans.next().await? {
            known.note(&plan, &key);
            known.next = known.next.next();
        }
        let groups = known.groups.get(&seq).map_or(&[][..], Vec::as_slice);
        intake.recall(&key.1, seq, groups);
        Ok(())
    }
}

impl Known {
    fn note(&mut self, plan: &Plan, (source, producer): &Producer) {
        let trained = plan.groups.iter().map(|group| {
            let number = (Some(&group.producer), Some(group.producer_seq));
            (&group.source, number, Some(&group.group))
        });
        let refused = plan.rejections.iter().map(|refused| {
            let number = (refused.producer.as_ref(), refused.producer_seq);
            (&refused.source, number, refused.group.as_ref())
        });
        for (of, (name, seq), group) in trained.chain(refused) {
            if of == source
                && name == Some(producer)
                && let (Some(seq), Some(group)) = (seq, group.and_then(|group| group.parse().ok()))
            {
                let groups = self.groups.entry(seq).or_default();
                groups.extend((!groups.contains(&group)).then_some(group));
            }
        }
    }
}
