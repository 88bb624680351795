use std::time::Instant;

use tokio::sync::{
    mpsc::{Sender, UnboundedSender},
    watch,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vintage_control::{Lease, Metric, PolicyAnnouncement, PolicyVersion};
use vintage_trajectory::GroupId;

use crate::{
    engine::{Engine, EngineError, Sample, SampleRequest, Sampling},
    error::Error,
    event::ProducerEvent,
    follow::ReceivedAnnouncement,
    lease_book::Admission,
    leasing::Leases,
    prompts::{
        PromptSet,
        prompt::{Form, Prompt},
    },
    select::{Selector, group_seed},
};

/// Sampled group that has no reward yet.
pub(super) struct SampledGroup {
    pub(super) id: GroupId,
    pub(super) lease: Lease,
    pub(super) prompt: Prompt,
    pub(super) samples: Vec<Sample>,
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
}

impl Sampler {
    /// Samples until the learner has finished or `stop` is triggered.
    pub(super) async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let mut closed = None;
        let outcome = self.sample_all(stop, &mut closed).await;
        self.note_waited(&mut closed, stop.is_cancelled());
        outcome
    }

    async fn sample_all(
        &mut self,
        stop: &CancellationToken,
        closed: &mut Option<Closed>,
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
                admission = self.leases.begin(record.version, self.concurrent_groups);
            }
            if let Some(admission) = admission {
                self.note_waited(closed, false);
                if !self.work(admission, stop).await? {
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
        Ok(())
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

    /// Loads the version, samples the groups and passes them on. Returns false if the next stage
    /// has ended, or if a stop came before anything was sampled.
    async fn work(
        &mut self,
        admission: Admission,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        let exact = admission.leases.iter().any(|lease| lease.batch >= 0);
        let loaded = self.load(admission.version, exact, stop).await;
        if !matches!(loaded, Ok(Some(_))) {
            self.leases.take_back(&admission.leases);
        }
        let Some(version) = loaded? else {
            return Ok(false);
        };
        let mut groups = Vec::with_capacity(admission.leases.len());
        let mut requests = Vec::with_capacity(admission.leases.len());
        for lease in admission.leases {
            let prompt = &self.prompts.prompts()[self.selector.prompt_of(lease.slot.0)];
            let id = GroupId(Uuid::now_v7().into_bytes());
            requests.push(SampleRequest {
                prompt_text: prompt.text.clone(),
                rendered: prompt.form == Form::Rendered,
                group: id,
                samples: self.group_size,
                seed: group_seed(self.seed, lease.slot.0),
                sampling: self.sampling,
            });
            groups.push((id, lease, prompt.clone()));
        }
        let start = Instant::now();
        self.send_event(ProducerEvent::Sampling {
            groups: groups.len() as u64,
        });
        let answers = match self.engine.sample(requests).await {
            Ok(answers) => answers,
            Err(source) => {
                let leases: Vec<_> = groups.iter().map(|(_, lease, _)| *lease).collect();
                self.leases.take_back(&leases);
                return Err(self.engine_error(format!("sample {} groups", groups.len()), source));
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        self.times.sampling += seconds;
        self.check_answers(&answers, groups.len())?;
        let samples = || answers.iter().flatten();
        self.send_event(ProducerEvent::Sampled {
            version,
            groups: groups.len() as u64,
            rows: samples().count() as u64,
            tokens: samples()
                .map(|sample| sample.completion_tokens.len() as u64)
                .sum(),
            seconds,
        });
        let created_at_us = jiff::Timestamp::now().as_microsecond();
        let engine = self.engine.name();
        let sampled = groups
            .into_iter()
            .zip(answers)
            .map(|((id, lease, prompt), samples)| SampledGroup {
                id,
                lease,
                prompt,
                samples,
                engine: engine.to_owned(),
                sampling: self.sampling,
                created_at_us,
            })
            .collect();
        Ok(self.sampled.send(sampled).await.is_ok())
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

    /// Refuses engine answers that cannot be made into groups.
    fn check_answers(&self, answers: &[Vec<Sample>], groups: usize) -> Result<(), Error> {
        let refuse = |found: String, expected: String| {
            Err(Error::EngineAnswer {
                engine: self.engine.name().to_owned(),
                found,
                expected,
            })
        };
        if answers.len() != groups {
            return refuse(format!("{} groups", answers.len()), format!("{groups}"));
        }
        for samples in answers {
            if samples.len() != usize::from(self.group_size) {
                return refuse(
                    format!("{} completions", samples.len()),
                    format!("{} a group", self.group_size),
                );
            }
            for sample in samples {
                let (tokens, logprobs) = (sample.completion_tokens.len(), sample.logprobs.len());
                if tokens != logprobs || tokens == 0 || sample.spans.is_empty() {
                    return refuse(
                        format!(
                            "{tokens} tokens, {logprobs} log-probs and {} policy spans",
                            sample.spans.len()
                        ),
                        "a log-prob for each of one or more tokens, and a span".to_owned(),
                    );
                }
            }
        }
        Ok(())
    }

    fn engine_error(&self, attempted: String, source: EngineError) -> Error {
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
