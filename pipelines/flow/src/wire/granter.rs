//! Granter of slots beside the lead learner: it hears producers and learner, and grants.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use vintage_archive::Reader;
use vintage_bus::{Bus, Consumer, ConsumerLimits, Event, Header, Outgoing, Producer};
use vintage_control::{
    CONTROL_FORMAT, Grants, Heartbeat, Incarnation, Metric, Offset, Partition, PartitionResume,
    SlotNumber, Topics, UpdateNumber,
};
use vintage_grants::{CHECK_EVERY, GateRule, Granter, Limits, Patience, Tick};
use vintage_learner::{Learner, LearnerProgress};
use vintage_settings::RunConfig;
use vintage_trajectory::Identity;

use crate::{
    broker::{self, Log},
    error::{Error, Result},
    event::{Events, RunEvent},
};

/// Minimum interval between two reports of the producers to the listener.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Maximum number of reports that are taken between two grants, so that a flood of them delays grants
/// and does not end them. A fleet of thousands reports less within a second.
const AT_ONCE: usize = 10_000;

/// Inputs of a granter.
pub(crate) struct GranterParts<'a> {
    /// Settings of the run.
    pub(crate) config: &'a RunConfig,
    /// Broker and topics.
    pub(crate) log: &'a Log,
    /// Archive of the run's log.
    pub(crate) archive: &'a Reader,
    /// Learner whose slots are granted.
    pub(crate) learner: &'a Learner,
    /// Producers that have certainly ended: their leases are free at once.
    pub(crate) ended: BTreeSet<String>,
    /// Reports of the learner.
    pub(crate) progress: mpsc::UnboundedReceiver<LearnerProgress>,
    /// Listener that hears of the producers.
    pub(crate) events: Events,
}

/// Opens the granter and runs it in a task, which ends when the learner does.
pub(crate) async fn start(parts: GranterParts<'_>) -> Result<JoinHandle<Result<()>>> {
    let GranterParts {
        config,
        log,
        archive,
        learner,
        ended,
        progress,
        events,
    } = parts;
    let limits = Limits {
        rule: GateRule::from(&config.gate),
        groups_per_update: config.learner.live_groups() as u64,
        updates: config.learner.steps,
    };
    limits.check(config.learner.publish_every)?;
    let policy = config.learner.policy.clone();
    let gauge =
        |metric: Metric| metrics::gauge!(metric.name, "learner" => config.learner.name.to_string());
    let bound = limits.rule.bound();
    gauge(Metric::STALENESS_BOUND).set(bound as f64);
    gauge(Metric::SLOTS_BOUND).set(((bound + 1) * limits.groups_per_update) as f64);
    let ungranted = gauge(Metric::SLOTS_UNGRANTED);
    let lead = learner.writer().to_owned();
    let done = learner.finished_slots().clone();
    let mut granter = Granter::new(policy, lead, limits, Patience::default(), done, None)
        .of_run(config.seed, config.rollout.group_size);
    let started = Instant::now();
    // The consumer exists before anything is read, so that no report is missed.
    let reports = reports(&log.bus, &log.topics).await?;
    for (slot, batch) in logged(log, archive, &learner.resume_points()).await? {
        granter.logged(slot, batch);
    }
    for grants in earlier(&log.bus, &log.topics).await? {
        if ended.contains(&grants.producer) {
            granter.succeed(&grants);
        } else {
            granter.restore(Tick(0), &grants);
        }
    }
    let service = Service {
        granter,
        ungranted,
        started,
        producer: log.bus.producer("granter")?,
        topics: log.topics.clone(),
        reports,
        progress,
        ready: false,
        events,
        told: None,
    };
    Ok(tokio::spawn(service.run()))
}

/// Returns the newest record of grants of each producer.
async fn earlier(bus: &Bus, topics: &Topics) -> Result<impl Iterator<Item = Grants>> {
    let topic = topics.grants();
    let mut newest = BTreeMap::new();
    let read = bus.read_whole(&topic, "granter", |record| {
        match record.payload.as_ref().map(|payload| Grants::read(payload)) {
            Some(Ok(grants)) if grants.is_presence() => {}
            Some(Ok(grants)) => {
                newest.insert(grants.producer.clone(), grants);
            }
            Some(Err(reason)) => tracing::warn!(
                topic, partition = %record.partition, offset = %record.offset,
                "skipped a record of grants: {reason}"
            ),
            None => {}
        }
    });
    let _marks = read.await?;
    Ok(newest.into_values())
}

/// Opens the reports that producers send from now on.
async fn reports(bus: &Bus, topics: &Topics) -> Result<Consumer> {
    let topic = topics.producers();
    let ends = bus.watermarks(&topic).await?;
    let ends = ends
        .into_iter()
        .map(|(partition, _, high)| (partition, high));
    Ok(bus.consumer(
        "granter-reports",
        &topic,
        ends.collect(),
        ConsumerLimits::default(),
    )?)
}

/// Returns the slots of the groups that log and archive hold from the resume points on, each with
/// the update that its group is for: nobody has to sample them again.
async fn logged(
    log: &Log,
    archive: &Reader,
    resume: &[PartitionResume],
) -> Result<Vec<(SlotNumber, i64)>> {
    let first = |incarnation: Incarnation, partition: Partition| {
        let at = resume
            .iter()
            .find(|at| at.incarnation == incarnation && at.partition == partition);
        at.map_or(Offset(0), |at| at.resume)
    };
    let mut slots = Vec::new();
    let mut note = |identity: &Identity| {
        slots.extend(
            identity
                .slot
                .map(|slot| (slot, identity.batch.unwrap_or(-1))),
        );
    };
    for incarnation in archive.incarnations().await? {
        for partition in archive.partitions(incarnation).await? {
            let from = first(incarnation, partition);
            let mut heads = archive.heads(incarnation, partition, from).await?;
            while let Some(head) = heads.next().await? {
                note(&head.identity);
            }
        }
    }
    if !log.volatile {
        let from = |partition, low: Offset, _| Some(low.max(first(log.incarnation, partition)));
        let topic = log.topics.rollouts();
        let mut reading = log.bus.snapshot("granter-log", &topic, from).await?;
        while let Some(record) = reading.next_within(broker::PATIENCE).await? {
            let pairs = record.headers.iter();
            let pairs = pairs.map(|header| (header.key.as_str(), header.value.as_deref()));
            note(&Identity::read(pairs));
        }
    }
    Ok(slots)
}

/// Granter with its topics and channels.
struct Service {
    granter: Granter,
    /// Metric of the slots for which no producer has room.
    ungranted: metrics::Gauge,
    started: Instant,
    producer: Producer,
    topics: Topics,
    reports: Consumer,
    progress: mpsc::UnboundedReceiver<LearnerProgress>,
    /// True once the learner has reported where it is.
    ready: bool,
    events: Events,
    /// Time at which the listener last heard of the producers.
    told: Option<Instant>,
}

impl Service {
    async fn run(mut self) -> Result<()> {
        loop {
            let check = tokio::time::sleep(CHECK_EVERY);
            tokio::select! {
                report = self.progress.recv() => match report {
                    None => break,
                    Some(report) => self.learn(report),
                },
                event = self.reports.next() => match event? {
                    None => break,
                    Some(event) => self.hear(event),
                },
                () = check => {}
            }
            // What is there already is taken before the next grants.
            while let Ok(report) = self.progress.try_recv() {
                self.learn(report);
            }
            for _ in 0..AT_ONCE {
                let Some(event) = self.reports.try_next()? else {
                    break;
                };
                self.hear(event);
            }
            if self.ready {
                self.grant().await?;
            }
            self.tell();
        }
        self.reports.close();
        Ok(())
    }

    /// Reports the producers, at most once per [`TELL_EVERY`].
    fn tell(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let producers = self.granter.producers(self.now());
        let _nobody_listens = self.events.send(RunEvent::Fleet(producers));
    }

    fn now(&self) -> Tick {
        Tick(self.started.elapsed().as_millis() as u64)
    }

    fn learn(&mut self, report: LearnerProgress) {
        let now = self.now();
        for (slot, sampled_for) in report.seen {
            self.granter
                .seen(now, slot, sampled_for.map_or(-1, UpdateNumber::to_batch));
        }
        for (producer, reason) in report.distrusted {
            self.granter.refuse(&producer, reason);
        }
        self.granter.advance(now, report.progress);
        self.ready = true;
    }

    fn hear(&mut self, event: Event) {
        let Event::Record(record) = event else { return };
        let Some(payload) = &record.payload else {
            return;
        };
        match Heartbeat::read(payload) {
            Ok(heartbeat) => self.granter.hear(self.now(), &heartbeat),
            Err(reason) => tracing::warn!(
                topic = self.topics.producers(), partition = %record.partition,
                offset = %record.offset, "skipped a report of a producer: {reason}"
            ),
        }
    }

    async fn grant(&mut self) -> Result<()> {
        let records = self.granter.grant(self.now());
        let sent = records.iter().map(|grants| self.publish(grants));
        futures::future::try_join_all(sent).await?;
        self.ungranted.set(self.granter.ungranted() as f64);
        Ok(())
    }

    async fn publish(&self, grants: &Grants) -> Result<()> {
        let topic = self.topics.grants();
        let json = serde_json::to_vec(grants)
            .map_err(|error| Error::Bug(format!("writing a record for {topic}: {error}")))?;
        let term = grants.number.term.to_string();
        let texts = [
            ("schema", CONTROL_FORMAT),
            ("content-type", "application/json"),
            ("run", self.topics.run.as_str()),
            ("policy", grants.policy.as_str()),
            // By key, policy and term the other producers are done with the record.
            (Grants::TERM_HEADER, &term),
        ];
        let headers = texts.into_iter().map(|(name, text)| Header {
            key: name.to_owned(),
            value: Some(Bytes::copy_from_slice(text.as_bytes())),
        });
        let record = Outgoing {
            partition: Some(Partition(0)),
            timestamp_ms: None,
            key: Some(Bytes::copy_from_slice(grants.producer.as_bytes())),
            headers: headers.collect(),
            payload: Some(Bytes::from(json)),
        };
        self.producer.append(&topic, record).await?;
        Ok(())
    }
}
