use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::sync::{
    mpsc::{Sender, UnboundedSender},
    watch,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vintage_control::{Lease, Metric, PolicyAnnouncement, PolicyVersion};
use vintage_trajectory::GroupId;

use crate::{
    engine::{Engine, EngineError, Overlap, Sample, SampleRequest, Sampling},
    error::Error,
    event::ProducerEvent,
    follow::ReceivedAnnouncement,
    lease_book::Admission,
    leasing::Leases,
    prompts::{PromptSet, prompt::Prompt},
    reward::RewardFailure,
    select::{Selector, group_seed},
    worker::flight::{Begun, Flight, Landed},
};

/// Number of groups in a row that an engine may fail to sample.
const FAILED_IN_A_ROW: u64 = 8;

/// Sampled group that has no reward yet.
pub(super) struct SampledGroup {
    pub(super) id: GroupId,
    pub(super) lease: Lease,
    pub(super) prompt: Arc<Prompt>,
    /// Completions, or the failure of an episode.
    pub(super) samples: Result<Vec<Sample>, RewardFailure>,
    pub(super) engine: String,
    pub(super) sampling: Sampling,
    pub(super) created_at_us: i64,
}

/// Time spent on each activity, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) sampling: f64,
    pub(super) loading: f64,
    pub(super) waiting: f64,
}

/// Wait for leases.
#[derive(Debug, Clone, Copy)]
struct Closed {
    since: Instant,
    /// Newest version announced when the closed gate was last reported.
    version: Option<PolicyVersion>,
}

/// First stage of the pipeline: waits for leases, and samples their groups.
pub(super) struct Sampler {
    pub(super) leases: Leases,
    /// Changes when grants were read.
    pub(super) granted: watch::Receiver<u64>,
    pub(super) selector: Selector,
    pub(super) engine: Box<dyn Engine>,
    pub(super) prompts: PromptSet,
    pub(super) sampling: Sampling,
    pub(super) group_size: u16,
    pub(super) concurrent_groups: usize,
    pub(super) groups_per_update: u64,
    pub(super) updates: Option<u64>,
    pub(super) updates_of_run: bool,
    pub(super) seed: u64,
    pub(super) policies: watch::Receiver<Option<ReceivedAnnouncement>>,
    pub(super) sampled: Sender<Vec<SampledGroup>>,
    pub(super) events: UnboundedSender<ProducerEvent>,
    pub(super) times: Times,
    /// Groups that the engine could not sample, by reason.
    pub(super) failed: BTreeMap<&'static str, u64>,
    /// Groups among them since one was sampled.
    pub(super) failed_in_a_row: u64,
}

impl Sampler {
    /// Samples until the learner has finished or `stop` is triggered.
    pub(super) async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let mut closed = None;
        let mut flight = Flight::new();
        let outcome = self.sample_all(stop, &mut closed, &mut flight).await;
        self.leases.take_back(&flight.abandon());
        self.note_waited(&mut closed, stop.is_cancelled());
        outcome
    }

    async fn sample_all(
        &mut self,
        stop: &CancellationToken,
        closed: &mut Option<Closed>,
        flight: &mut Flight,
    ) -> Result<(), Error> {
        while !stop.is_cancelled() {
            self.granted.mark_unchanged();
            if let Some(reason) = self.leases.refused() {
                return Err(Error::Refused { reason });
            }
            let announcement = self.policies.borrow_and_update().clone();
            let mut admission = None;
            if let Some(ReceivedAnnouncement { record, fresh }) = &announcement {
                if self.has_finished(record, *fresh) {
                    return Ok(());
                }
                self.check(record)?;
                let room = self.room(flight, record.version);
                if room > 0 {
                    admission = self.leases.begin(record.version, room);
                }
            }
            if let Some(admission) = admission {
                self.note_waited(closed, false);
                if !self.begin(admission, stop, flight).await? {
                    return Ok(());
                }
            } else if !flight.is_empty() {
                if !self.watch(stop, flight).await? {
                    return Ok(());
                }
            } else {
                let version = announcement.map(|news| news.record.version);
                if closed.is_none_or(|closed| closed.version != version) {
                    let since = closed.map_or_else(Instant::now, |closed| closed.since);
                    *closed = Some(Closed { since, version });
                    self.send_event(ProducerEvent::Waiting { version });
                }
                if !self.wait(stop).await {
                    return Ok(());
                }
            }
        }
        // Groups that are being sampled at a stop are still finished.
        while !flight.is_empty() {
            if !self.land(flight).await? {
                break;
            }
        }
        Ok(())
    }

    /// Number of groups that may be begun now, with the `newest` version announced.
    fn room(&self, flight: &Flight, newest: PolicyVersion) -> usize {
        let may_join = match self.engine.overlap() {
            _ if flight.is_empty() => true,
            Overlap::Nothing => false,
            Overlap::SameVersion => self.engine.version() == newest,
            Overlap::Versions => true,
        };
        if may_join {
            self.concurrent_groups.saturating_sub(flight.len())
        } else {
            0
        }
    }

    /// Waits for an announcement or for grants; returns false if none will come.
    async fn wait(&mut self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            // The followers end before the sampler only if they failed.
            news = self.policies.changed() => news.is_ok(),
            granted = self.granted.changed() => granted.is_ok(),
        }
    }

    /// Waits for groups in flight, or for news if there is room for more; returns false if nothing
    /// more can be passed on.
    async fn watch(
        &mut self,
        stop: &CancellationToken,
        flight: &mut Flight,
    ) -> Result<bool, Error> {
        let newest = self
            .policies
            .borrow()
            .as_ref()
            .map(|news| news.record.version);
        let hungry = newest.is_none_or(|newest| self.room(flight, newest) > 0);
        let landed = tokio::select! {
            landed = flight.landed() => landed,
            open = self.wait(stop), if hungry => return Ok(open || stop.is_cancelled()),
        };
        self.pass_on(landed, flight).await
    }

    /// Waits for groups in flight and passes them on; returns false if the next stage has ended.
    async fn land(&mut self, flight: &mut Flight) -> Result<bool, Error> {
        let landed = flight.landed().await;
        self.pass_on(landed, flight).await
    }

    /// Loads the version and has the groups sampled. Returns false if the next stage has ended, or
    /// if a stop came before anything was sampled.
    async fn begin(
        &mut self,
        admission: Admission,
        stop: &CancellationToken,
        flight: &mut Flight,
    ) -> Result<bool, Error> {
        let exact = admission.leases.iter().any(|lease| lease.batch >= 0);
        let mut passed_on = Ok(true);
        // A batch of one version must not see another in the middle of a completion.
        let alone = exact || self.engine.overlap() != Overlap::Versions;
        while alone && self.engine.version() != admission.version && !flight.is_empty() {
            passed_on = self.land(flight).await;
            if !matches!(passed_on, Ok(true)) {
                self.leases.take_back(&admission.leases);
                return passed_on;
            }
        }
        let loaded = self.load(admission.version, exact, stop).await;
        if !matches!(loaded, Ok(Some(_))) {
            self.leases.take_back(&admission.leases);
        }
        if loaded?.is_none() {
            return Ok(false);
        }
        let mut begun = Vec::with_capacity(admission.leases.len());
        let mut requests = Vec::with_capacity(admission.leases.len());
        for lease in admission.leases {
            let prompt = &self.prompts.prompts()[self.selector.prompt_of(lease.slot.0)];
            let prompt = Arc::new(prompt.clone());
            let id = GroupId(Uuid::now_v7().into_bytes());
            requests.push(SampleRequest {
                prompt: Arc::clone(&prompt),
                turn: None,
                group: id,
                samples: self.group_size,
                seed: group_seed(self.seed, lease.slot.0),
                sampling: self.sampling,
            });
            begun.push(Begun { id, lease, prompt });
        }
        let answers = self.engine.sample(requests);
        flight.start(begun, answers);
        self.send_event(ProducerEvent::Sampling {
            groups: flight.len() as u64,
        });
        passed_on
    }

    /// Passes groups on that have landed. Returns false if the next stage has ended.
    async fn pass_on(&mut self, landed: Vec<Landed>, flight: &mut Flight) -> Result<bool, Error> {
        let asked = flight.len() + landed.len();
        if landed.is_empty() {
            return Err(self.wrong_answer("no answer".to_owned(), format!("{asked} groups")));
        }
        let seconds = flight.lap();
        self.times.sampling += seconds;
        let created_at_us = jiff::Timestamp::now().as_microsecond();
        let mut sampled = Vec::with_capacity(landed.len());
        let mut landed = landed.into_iter();
        while let Some((begun, answer)) = landed.next() {
            let outcome = match answer {
                Ok(samples) => self.check_answer(&samples).map(|()| Some(Ok(samples))),
                Err(EngineError::EpisodeFailed(failure)) => Ok(Some(Err(failure))),
                Err(EngineError::GivenBack) => {
                    self.leases.take_back(&[begun.lease]);
                    Ok(None)
                }
                Err(EngineError::GroupFailed { reason, detail }) => {
                    self.give_up(&begun, reason, detail).map(|()| None)
                }
                Err(source) => Err(self.engine_error(format!("sample {asked} groups"), source)),
            };
            match outcome {
                Ok(Some(samples)) => {
                    self.failed_in_a_row = 0;
                    sampled.push(SampledGroup {
                        id: begun.id,
                        lease: begun.lease,
                        prompt: begun.prompt,
                        samples,
                        engine: self.engine.name().to_owned(),
                        sampling: self.sampling,
                        created_at_us,
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    let unused = landed.map(|(begun, _)| begun.lease).chain([begun.lease]);
                    let unused: Vec<_> = unused
                        .chain(sampled.iter().map(|group| group.lease))
                        .collect();
                    self.leases.take_back(&unused);
                    return Err(error);
                }
            }
        }
        let samples = || sampled.iter().flat_map(|group| &group.samples).flatten();
        self.send_event(ProducerEvent::Sampled {
            version: self.engine.version(),
            groups: sampled.len() as u64,
            rows: samples().count() as u64,
            tokens: samples().map(|sample| sample.sampled_tokens() as u64).sum(),
            seconds,
        });
        if !flight.is_empty() {
            self.send_event(ProducerEvent::Sampling {
                groups: flight.len() as u64,
            });
        }
        Ok(sampled.is_empty() || self.sampled.send(sampled).await.is_ok())
    }

    /// Gives up a group that the engine could not sample, so that another slot is granted.
    fn give_up(
        &mut self,
        begun: &Begun,
        reason: &'static str,
        detail: String,
    ) -> Result<(), Error> {
        let prompt_id = begun.prompt.id.clone();
        tracing::warn!(prompt = prompt_id, "a group was not sampled: {detail}");
        self.leases.failed(begun.lease.slot);
        *self.failed.entry(reason).or_default() += 1;
        self.failed_in_a_row += 1;
        self.send_event(ProducerEvent::SamplingFailed {
            prompt_id,
            reason,
            detail: detail.clone(),
        });
        if self.failed_in_a_row < FAILED_IN_A_ROW {
            return Ok(());
        }
        Err(Error::EngineGaveUp {
            engine: self.engine.name().to_owned(),
            groups: self.failed_in_a_row,
            last: detail,
        })
    }

    /// Makes the engine hold `version`. If that version is pruned already, a newer one is loaded
    /// instead, unless `exact` forbids it. Returns `None` on a stop.
    async fn load(
        &mut self,
        mut version: PolicyVersion,
        exact: bool,
        stop: &CancellationToken,
    ) -> Result<Option<PolicyVersion>, Error> {
        while self.engine.version() != version {
            let start = Instant::now();
            let outcome = self.engine.load(version).await;
            let seconds = start.elapsed().as_secs_f64();
            self.times.loading += seconds;
            match outcome {
                Ok(()) => {
                    self.send_event(ProducerEvent::Loaded { version, seconds });
                    break;
                }
                Err(EngineError::VersionGone { .. }) if !exact => {
                    tracing::info!(%version, "version was pruned before it was loaded; taking a newer one");
                    let newer = |news: &Option<ReceivedAnnouncement>| {
                        news.as_ref()
                            .is_some_and(|news| news.record.version > version)
                    };
                    let news = tokio::select! {
                        () = stop.cancelled() => return Ok(None),
                        news = self.policies.wait_for(newer) => news.ok().and_then(|news| news.clone()),
                    };
                    let Some(news) = news else { return Ok(None) };
                    version = news.record.version;
                }
                Err(source) if stop.is_cancelled() => {
                    // A stop ends the wait for a store that is away.
                    tracing::warn!(%version, "stopped before the version was loaded: {source}");
                    return Ok(None);
                }
                Err(source) => {
                    return Err(self.engine_error(format!("load version {version}"), source));
                }
            }
        }
        Ok(Some(version))
    }

    /// Returns true if the learner has done its last update. A record from before this producer
    /// started counts only at the version of the last update, if that is known, because the run may
    /// be longer now. Which one is the last, the record itself says better than settings that are
    /// not the run's.
    fn has_finished(&self, record: &PolicyAnnouncement, fresh: bool) -> bool {
        let announced = record.steps.filter(|_| !self.updates_of_run);
        let last = announced.or(self.updates);
        record.finished && (fresh || last.is_none_or(|last| record.version.0 >= last))
    }

    fn check(&self, record: &PolicyAnnouncement) -> Result<(), Error> {
        if record.groups_per_update == self.groups_per_update {
            return Ok(());
        }
        Err(Error::GroupsPerUpdate {
            policy: record.policy.to_string(),
            announced: record.groups_per_update,
            configured: self.groups_per_update,
        })
    }

    /// Refuses completions that cannot be made into a group.
    fn check_answer(&self, samples: &[Sample]) -> Result<(), Error> {
        if samples.len() != usize::from(self.group_size) {
            return Err(self.wrong_answer(
                format!("{} completions", samples.len()),
                format!("{} a group", self.group_size),
            ));
        }
        for sample in samples {
            let (tokens, logprobs) = (sample.completion_tokens.len(), sample.logprobs.len());
            let masked = sample.episode.as_ref();
            let masked = masked.is_none_or(|episode| episode.sampled.len() == tokens);
            if tokens != logprobs || tokens == 0 || sample.spans.is_empty() || !masked {
                return Err(self.wrong_answer(
                    format!(
                        "{tokens} tokens, {logprobs} log-probs and {} policy spans",
                        sample.spans.len()
                    ),
                    "a log-prob for each of one or more tokens, and a span".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn wrong_answer(&self, found: String, expected: String) -> Error {
        Error::EngineAnswer {
            engine: self.engine.name().to_owned(),
            found,
            expected,
        }
    }

    fn engine_error(&self, attempted: String, source: EngineError) -> Error {
        let source = match source {
            EngineError::Environment(error) => return *error,
            source => source,
        };
        Error::Engine {
            engine: self.engine.name().to_owned(),
            attempted,
            source,
        }
    }

    fn note_waited(&mut self, closed: &mut Option<Closed>, stopped: bool) {
        if let Some(Closed { since, .. }) = closed.take() {
            let seconds = since.elapsed().as_secs_f64();
            self.times.waiting += seconds;
            metrics::counter!(Metric::WAITING_SECONDS.name).absolute(self.times.waiting as u64);
            self.send_event(ProducerEvent::Waited { seconds, stopped });
        }
    }

    fn send_event(&self, event: ProducerEvent) {
        // The receiver may be gone, because watching is optional.
        let _ = self.events.send(event);
    }
}
