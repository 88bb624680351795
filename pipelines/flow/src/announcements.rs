//! Announcements and plans of the other learners of a run, as a learner reads them from log and
//! store.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use vintage_bus::{Consumer, ConsumerLimits, Event};
use vintage_control::{
    Name, Offset, Partition, Plan, PolicyAnnouncement, PolicyVersion, UpdateNumber,
};
use vintage_learner::{Leader, OtherPolicies};
use vintage_settings::RunConfig;
use vintage_store::{Records, Weights};

use crate::{
    broker::Log,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::RunFolder,
};

/// Time without an announcement after which is said what may be missing.
const HINT: Duration = Duration::from_secs(4);

/// Refuses to work on the topics of another run. A learner that did not make the newest announced
/// version of its own policy has the wrong folder or store: its rollouts would be mixed with that
/// run's, and both would announce.
pub(crate) async fn refuse_another_run(
    log: &Log,
    weights: &Weights,
    policy: &Name,
    records: &Records,
) -> Result<()> {
    // The embedded broker's log belongs to this process alone.
    if log.bus.is_embedded() {
        return Ok(());
    }
    let mut announcements = Announcements::open(log, "learner-own").await?;
    announcements.catch_up().await?;
    let Some(announced) = announcements.of(policy.as_str()) else {
        return Ok(());
    };
    let version = announced.version;
    let manifest = weights.manifest(version).await?;
    let mut own = manifest.map(|manifest| manifest.weights_sha256);
    // For a pruned version, the result of the update that made it still has the digest.
    if let (None, Some(update)) = (own, UpdateNumber::that_made(version)) {
        let result = records.result(update).await?;
        own = result.map(|result| result.weights_sha256);
    }
    if own == Some(announced.weights_sha256) {
        return Ok(());
    }
    Err(Error::AnotherRun {
        topic: log.topics.policies(),
        bootstrap: log.bus.bootstrap().to_owned(),
        policy: policy.clone(),
        version,
    })
}

/// Newest announcement of every policy, read from the run's log.
pub(crate) struct Announcements {
    bus: vintage_bus::Bus,
    topic: String,
    records: Consumer,
    /// First offset of each partition that has not been read.
    next: BTreeMap<Partition, Offset>,
    /// End of each partition when reading began.
    ends: BTreeMap<Partition, Offset>,
    newest: BTreeMap<String, PolicyAnnouncement>,
}

impl Announcements {
    /// Opens the run's announcements at the first one that the log holds.
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

    /// Returns the newest announcement read so far of a policy.
    fn of(&self, policy: &str) -> Option<&PolicyAnnouncement> {
        self.newest.get(policy)
    }

    /// Reads up to the end that the log has at the time of the call.
    async fn catch_up(&mut self) -> Result<()> {
        let marks = self.bus.watermarks(&self.topic).await?;
        let ends: Vec<_> = marks
            .into_iter()
            .filter(|(_, low, high)| low < high)
            .collect();
        // Compares offsets, not records: the last offsets may hold no record.
        while ends
            .iter()
            .any(|(at, _, high)| self.next.get(at).is_none_or(|next| next < high))
        {
            self.step().await?;
        }
        Ok(())
    }

    /// Waits for one record and reads it.
    async fn read(&mut self) -> Result<()> {
        while !self.step().await? {}
        Ok(())
    }

    /// Handles one event; returns true if it was a record, and false if it was an end or a change
    /// of assignment.
    async fn step(&mut self) -> Result<bool> {
        let record = match self.records.next().await? {
            Some(Event::Record(record)) => record,
            Some(Event::End { partition, next }) => {
                // An end event means that everything before the end known at opening has been
                // passed.
                let passed = self.ends.get(&partition).copied().unwrap_or_default();
                let known = self.next.entry(partition).or_default();
                *known = (*known).max(next).max(passed);
                return Ok(false);
            }
            Some(Event::Assigned(_) | Event::Revoked(_)) => return Ok(false),
            None => {
                let topic = self.topic.clone();
                return Err(Error::EndedByItself { topic });
            }
        };
        self.next.insert(record.partition, record.offset.next());
        let payload = record.payload.as_deref().unwrap_or_default();
        match PolicyAnnouncement::read(payload) {
            Ok(announced) => {
                if announced.replaces(self.newest.get(announced.policy.as_str())) {
                    self.newest.insert(announced.policy.to_string(), announced);
                }
            }
            Err(why) => tracing::warn!(
                topic = self.topic, partition = %record.partition, offset = %record.offset,
                "skipped an announcement: {why}"
            ),
        }
        Ok(true)
    }

    /// Waits until a version of the policy is announced, and reports the wait as an event.
    pub(crate) async fn first_of(&mut self, policy: &Name, events: &Events) -> Result<()> {
        let tell = |text: String| {
            let _nobody_listens = events.send(RunEvent::Phase(text));
        };
        tell(format!(
            "waiting for the first announcement of policy {policy}"
        ));
        let begun = tokio::time::Instant::now();
        let mut next = HINT;
        while self.of(policy.as_str()).is_none() {
            tokio::select! {
                read = self.read() => read?,
                () = tokio::time::sleep_until(begun + next) => {
                    tell(self.hint(policy));
                    next *= 4;
                }
            }
        }
        Ok(())
    }

    /// Waits for the next announcement of a policy; returns whether its learner has finished.
    pub(crate) async fn next_of(&mut self, policy: &Name) -> Result<bool> {
        loop {
            self.read().await?;
            if let Some(announced) = self.of(policy.as_str()) {
                return Ok(announced.finished);
            }
        }
    }

    /// Words what is missing while no version of the policy is announced.
    fn hint(&self, policy: &Name) -> String {
        let Self { bus, topic, .. } = self;
        let others: Vec<_> = self.newest.keys().map(String::as_str).collect();
        let others = match &others[..] {
            [] => "nothing is announced there".to_owned(),
            some => format!(
                "announced there are {} (set learner.policy to the one to sample from)",
                some.join(", ")
            ),
        };
        format!(
            "waiting for the first announcement of policy {policy} in topic {topic} on {}: {others}; is \
             the run's learner started (`vintage learn`), and are the names right (run, namespace)?",
            bus.bootstrap()
        )
    }

    /// Refuses a store to which the learner of the announced versions does not write.
    pub(crate) async fn hold_store(&self, config: &RunConfig, folder: &RunFolder) -> Result<()> {
        let policy = &config.learner.policy;
        let Some(announced) = self.of(policy.as_str()) else {
            return Ok(());
        };
        let weights = folder.weights(policy);
        let refuse = |reason: String| Error::OtherStore {
            setting: match &config.store {
                Some(store) => format!("store = {store:?}"),
                None => format!(
                    "store is not set, so that {} is read",
                    folder.path().display()
                ),
            },
            reason,
        };
        if weights.manifest(PolicyVersion::ZERO).await?.is_none() {
            return Err(refuse(format!(
                "holds no version 0 of policy {policy}, of which {} announces version {}",
                self.topic, announced.version
            )));
        }
        let version = announced.version;
        match weights.manifest(version).await? {
            Some(there) if there.weights_sha256 != announced.weights_sha256 => {
                Err(refuse(format!(
                    "holds other weights as version {version} of policy {policy} than {} announces",
                    self.topic
                )))
            }
            // A version is deleted once newer ones are there.
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl OtherPolicies for Announcements {
    async fn newest(
        &mut self,
        policy: &str,
        at_least: PolicyVersion,
    ) -> vintage_learner::Result<Option<PolicyVersion>> {
        let known = |this: &Self| this.of(policy).map(|announced| announced.version);
        if known(self).is_none_or(|known| known < at_least) {
            self.catch_up()
                .await
                .map_err(vintage_learner::Error::source_failed)?;
        }
        Ok(known(self))
    }
}

/// Plans of the learner that is followed, in the order in which it writes them.
pub(crate) struct PlansOf {
    records: Records,
    /// Policy of the followed learner.
    policy: Name,
    /// Announcements, which signal that there may be another plan; `None` if no further plan can
    /// come.
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

    async fn plan(&mut self, update: UpdateNumber) -> vintage_learner::Result<Option<Plan>> {
        loop {
            let announced = self.announcements.as_ref();
            let announced = announced.and_then(|announced| announced.of(self.policy.as_str()));
            // Read before the plans: the learner announces its end after writing its last plan.
            let finished = announced.is_some_and(|announced| announced.finished);
            if let Some(plan) = self.records.plan(update).await? {
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
