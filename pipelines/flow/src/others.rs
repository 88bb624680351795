//! What a learner hears of the other learners of its run: the versions they announce, the plans
//! they write.

use std::collections::BTreeMap;

use async_trait::async_trait;
use vintage_bus::{Consumer, ConsumerLimits, Event};
use vintage_control::{Name, Offset, Partition, Plan, PolicyAnnouncement, PolicyVersion};
use vintage_learner::{Leader, Lineages};
use vintage_store::{Records, Weights};

use crate::{
    Error, Result,
    broker::Log,
    event::{Events, RunEvent},
};

/// Refuses the topics of another run: a learner that has not made the newest version they announce
/// of its lineage has another folder, or another store. Its rollouts would be mixed up with that
/// run's, and both would announce.
pub(crate) async fn refuse_another_run(
    log: &Log,
    weights: &Weights,
    policy: &Name,
    records: &Records,
) -> Result<()> {
    // The embedded broker's log is this process's own.
    if log.bus.is_embedded() {
        return Ok(());
    }
    let mut announcements = Announcements::open(log, "learner-own").await?;
    announcements.catch_up().await?;
    let Some(told) = announcements.of(policy.as_str()) else {
        return Ok(());
    };
    let version = told.version;
    let manifest = weights.manifest(version).await?;
    let mut own = manifest.map(|manifest| manifest.weights_sha256);
    // Of a version that was pruned its update's result is left.
    if let (None, Some(update)) = (own, version.0.checked_sub(1)) {
        let result = records.result(PolicyVersion(update)).await?;
        own = result.map(|result| result.weights_sha256);
    }
    if own == Some(told.weights_sha256) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "topic {} on {} is another run's: it announces version {version} of policy \
         {policy}, which this folder's learner did not make; give this run a name of its own with \
         --set run=NAME, or go on with the other run in its folder",
        log.topics.policies(),
        log.bus.bootstrap(),
    )))
}

/// The newest announcement of every lineage, read from the run's log.
pub(crate) struct Announcements {
    bus: vintage_bus::Bus,
    topic: String,
    records: Consumer,
    /// First offsets not read.
    next: BTreeMap<Partition, Offset>,
    /// Where the log ended before reading began.
    ends: BTreeMap<Partition, Offset>,
    newest: BTreeMap<String, PolicyAnnouncement>,
}

impl Announcements {
    /// Follows the run's announcements from the first one the log holds.
    pub(crate) async fn open(log: &Log, client: &str) -> Result<Self> {
        let topic = log.topics.policies();
        let marks = log.bus.watermarks(&topic).await?;
        let ends = marks.iter().map(|&(at, _, high)| (at, high)).collect();
        let start: Vec<_> = marks.into_iter().map(|(at, low, _)| (at, low)).collect();
        let next = start.iter().copied().collect();
        let limits = ConsumerLimits::default();
        Ok(Self {
            bus: log.bus.clone(),
            records: log.bus.consumer(client, &topic, start, limits)?,
            topic,
            next,
            ends,
            newest: BTreeMap::new(),
        })
    }

    /// The newest one read of a lineage.
    fn of(&self, policy: &str) -> Option<&PolicyAnnouncement> {
        self.newest.get(policy)
    }

    /// Reads to where the log ended when this was called.
    async fn catch_up(&mut self) -> Result<()> {
        let marks = self.bus.watermarks(&self.topic).await?;
        let ends: Vec<_> = marks
            .into_iter()
            .filter(|(_, low, high)| low < high)
            .collect();
        // Not the last record: the last offsets may hold none.
        while ends
            .iter()
            .any(|(at, _, high)| self.next.get(at).is_none_or(|next| next < high))
        {
            self.step().await?;
        }
        Ok(())
    }

    /// Reads one record, waiting for it.
    async fn read(&mut self) -> Result<()> {
        while !self.step().await? {}
        Ok(())
    }

    /// Reads on; whether a record came, and not only the end.
    async fn step(&mut self) -> Result<bool> {
        let record = match self.records.next().await? {
            Some(Event::Record(record)) => record,
            Some(Event::End { partition, next }) => {
                // What ended here before reading began has been passed.
                let passed = self.ends.get(&partition).copied().unwrap_or_default();
                let known = self.next.entry(partition).or_default();
                *known = (*known).max(next).max(passed);
                return Ok(false);
            }
            Some(Event::Assigned(_) | Event::Revoked(_)) => return Ok(false),
            None => {
                let topic = &self.topic;
                return Err(Error::Role(format!("reading {topic} ended by itself")));
            }
        };
        self.next.insert(record.partition, record.offset.next());
        let payload = record.payload.as_deref().unwrap_or_default();
        match PolicyAnnouncement::read(payload) {
            Ok(told) => {
                if told.replaces(self.newest.get(told.policy.as_str())) {
                    self.newest.insert(told.policy.to_string(), told);
                }
            }
            Err(why) => tracing::warn!(
                topic = self.topic, partition = %record.partition, offset = %record.offset,
                "skipped an announcement: {why}"
            ),
        }
        Ok(true)
    }

    /// Returns once a version of the lineage is announced, and says that it waits.
    pub(crate) async fn first_of(&mut self, policy: &Name, events: &Events) -> Result<()> {
        let waiting = format!("waiting for the first announcement of policy {policy}");
        let _nobody_listens = events.send(RunEvent::Phase(waiting));
        while self.of(policy.as_str()).is_none() {
            self.read().await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Lineages for Announcements {
    async fn newest(
        &mut self,
        policy: &str,
        at_least: PolicyVersion,
    ) -> vintage_learner::Result<Option<PolicyVersion>> {
        let known = |this: &Self| this.of(policy).map(|told| told.version);
        if known(self).is_none_or(|known| known < at_least) {
            self.catch_up()
                .await
                .map_err(vintage_learner::Error::source_failed)?;
        }
        Ok(known(self))
    }
}

/// The plans of a learner, as it writes them.
pub(crate) struct PlansOf {
    records: Records,
    /// Its lineage.
    policy: Name,
    /// Tells when there may be another plan; `None`: what is there is all.
    announcements: Option<Announcements>,
}

impl PlansOf {
    pub(crate) async fn open(
        records: Records,
        policy: Name,
        mut announcements: Option<Announcements>,
    ) -> Result<Self> {
        if let Some(announcements) = &mut announcements {
            announcements.catch_up().await?;
        }
        Ok(Self {
            records,
            policy,
            announcements,
        })
    }
}

#[async_trait]
impl Leader for PlansOf {
    fn name(&self) -> &Name {
        self.records.learner()
    }

    async fn plan(&mut self, version: PolicyVersion) -> vintage_learner::Result<Option<Plan>> {
        loop {
            let told = self.announcements.as_ref();
            let told = told.and_then(|told| told.of(self.policy.as_str()));
            // Asked before the look at the plans: it announces its end after its last one.
            let finished = told.is_some_and(|told| told.finished);
            if let Some(plan) = self.records.plan(version).await? {
                return Ok(Some(plan));
            }
            let Some(announcements) = self.announcements.as_mut().filter(|_| !finished) else {
                return Ok(None);
            };
            // Plan N is written before the result of update N is announced.
            announcements
                .read()
                .await
                .map_err(vintage_learner::Error::source_failed)?;
        }
    }
}
