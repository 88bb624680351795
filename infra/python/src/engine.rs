//! Engine whose updates Python computes.
//!
//! The thread of the update waits in here until Python has committed. Meanwhile it answers what
//! Python asks for.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use tokio::sync::watch;

use vintage_control::{Fingerprint, Plan, UpdateResult};
use vintage_learner::{
    AdamW, Devices, Error, Moments, PackedBatch, Result,
    engine::{UpdateEngine, UpdateStats},
};
use vintage_losses::Stats;
use vintage_model::{Decoder, ParamSpec};
use vintage_settings::Device;

use crate::job::Outcome;

/// Message to the Python program.
pub(crate) enum News {
    /// The learner is open at its newest checkpoint.
    Opened,
    /// An update is planned and is to be computed.
    Update(Box<Handed>),
    /// An update is recorded, and announced if it is published.
    Done(Box<UpdateResult>),
    /// Warning to the user, or the reason for which the run stands still.
    Warning(String),
    /// The learner has ended.
    Ended(Box<Result<Outcome, vintage_flow::Error>>),
}

/// Update as it is handed to Python.
pub(crate) struct Handed {
    pub(crate) plan: Plan,
    pub(crate) batches: Vec<PackedBatch>,
    /// Names and shapes of the parameters, sorted by name.
    pub(crate) specs: Vec<ParamSpec>,
    /// Number of steps that the optimizer took before this update.
    pub(crate) steps: u64,
    /// True unless the parameters are those that Python committed last.
    pub(crate) changed: bool,
    pub(crate) asks: Sender<Ask>,
}

/// Question or answer of Python to the thread of an update.
pub(crate) enum Ask {
    /// Wants a copy of parameters and moments.
    State(Sender<State>),
    /// Ends the update.
    Commit(Box<Committed>),
}

/// Parameters and moments by name, row-major.
pub(crate) struct State {
    pub(crate) parameters: BTreeMap<String, Vec<f32>>,
    pub(crate) optimizer: AdamW,
}

/// Outcome of an update, checked against its plan.
pub(crate) struct Committed {
    pub(crate) parameters: BTreeMap<String, Vec<f32>>,
    pub(crate) moments: BTreeMap<String, Moments>,
    pub(crate) steps: u64,
    pub(crate) loss: f64,
    pub(crate) grad_norm: f64,
    pub(crate) entropy: f64,
    pub(crate) weigh_seconds: f64,
    pub(crate) stats: Stats,
}

/// Only device of a learner whose updates Python computes.
#[derive(Debug)]
pub(crate) struct PythonDevices {
    fingerprint: Fingerprint,
    news: Sender<News>,
    wanted: Arc<watch::Sender<bool>>,
}

impl PythonDevices {
    pub(crate) fn new(
        fingerprint: Fingerprint,
        news: Sender<News>,
        wanted: Arc<watch::Sender<bool>>,
    ) -> Self {
        Self {
            fingerprint,
            news,
            wanted,
        }
    }
}

impl Devices for PythonDevices {
    fn open(&self, _: Device, optimizer: AdamW) -> Result<Box<dyn UpdateEngine>> {
        let _closed = self.news.send(News::Opened);
        Ok(Box::new(PythonEngine {
            fingerprint: self.fingerprint.clone(),
            news: self.news.clone(),
            wanted: Arc::clone(&self.wanted),
            optimizer,
            changed: true,
        }))
    }

    fn wanted(&self) -> Option<watch::Receiver<bool>> {
        Some(self.wanted.subscribe())
    }
}

/// Engine that hands every update to Python.
#[derive(Debug)]
struct PythonEngine {
    fingerprint: Fingerprint,
    news: Sender<News>,
    /// True while Python waits for an update.
    wanted: Arc<watch::Sender<bool>>,
    optimizer: AdamW,
    /// True unless Python holds the parameters of the decoder.
    changed: bool,
}

impl UpdateEngine for PythonEngine {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn shares_prompts(&self) -> bool {
        // Arrays of whole sequences, as attention kernels for PyTorch take them.
        false
    }

    fn update(
        &mut self,
        decoder: &mut Decoder,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<()> {
        if !batches
            .iter()
            .flat_map(|batch| &batch.valid)
            .any(|&valid| valid)
        {
            outcome.skipped = Some("the batch has no valid token".to_owned());
            return Ok(());
        }
        let lost = |reason: &str| Error::NotComputed {
            update: plan.update(),
            reason: reason.to_owned(),
        };
        let (asks, asked) = channel();
        let handed = Handed {
            plan: plan.clone(),
            batches: batches.to_vec(),
            specs: decoder.params().specs().to_vec(),
            steps: self.optimizer.steps(),
            changed: self.changed,
            asks,
        };
        self.wanted.send_replace(false);
        let sent = self.news.send(News::Update(Box::new(handed)));
        sent.map_err(|_| lost("the Python program has closed its learner"))?;
        let committed = self
            .answer(decoder, &asked)
            .ok_or_else(|| lost("the Python program did not commit it"))?;
        self.take(decoder, *committed, outcome)
    }

    fn optimizer(&self) -> Result<Cow<'_, AdamW>> {
        Ok(Cow::Borrowed(&self.optimizer))
    }

    fn forget_parameters(&mut self) -> Result<()> {
        self.changed = true;
        Ok(())
    }
}

impl PythonEngine {
    /// Answers until the update is committed; `None` if it never will be.
    fn answer(&self, decoder: &Decoder, asked: &Receiver<Ask>) -> Option<Box<Committed>> {
        loop {
            match asked.recv().ok()? {
                Ask::State(reply) => {
                    let _no_longer_wanted = reply.send(self.state(decoder));
                }
                Ask::Commit(committed) => return Some(committed),
            }
        }
    }

    fn state(&self, decoder: &Decoder) -> State {
        let params = decoder.params();
        let values = params.specs().iter().filter_map(|spec| {
            let values = params.values(spec.name())?;
            Some((spec.name().to_owned(), values.to_vec()))
        });
        State {
            parameters: values.collect(),
            optimizer: self.optimizer.clone(),
        }
    }

    fn take(
        &mut self,
        decoder: &mut Decoder,
        committed: Committed,
        outcome: &mut UpdateStats,
    ) -> Result<()> {
        let Committed {
            parameters,
            moments,
            steps,
            loss,
            grad_norm,
            entropy,
            weigh_seconds,
            stats,
        } = committed;
        decoder.params_mut().update(|name, _, values| {
            // Names and lengths were compared when it was committed.
            if let Some(new) = parameters.get(name).filter(|new| new.len() == values.len()) {
                values.copy_from_slice(new);
            }
        })?;
        self.optimizer = AdamW::from_moments(steps, moments);
        self.changed = false;
        outcome.loss = loss;
        outcome.grad_norm = grad_norm;
        outcome.entropy = entropy;
        outcome.weigh_seconds = weigh_seconds;
        outcome.stats = stats;
        Ok(())
    }
}
