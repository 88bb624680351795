//! The model behind the endpoints: one continuous batch, and changes of weights when it is empty.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::{Notify, oneshot};
use vintage_local::{Error, LocalModel, Texts};

use crate::{
    ask::Ask,
    batch::{Rows, locked},
    queue::{Outcome, Queue, Row},
    refusal::Refusal,
};

/// Label of weights that were loaded and not labelled yet.
const UNLABELLED: &str = "unlabelled";

/// Model with its queue.
pub(crate) struct Engine {
    /// Model as it was opened, for tokens and texts.
    first: LocalModel,
    queue: Arc<Mutex<Queue>>,
    /// Wakes the sampling task.
    changed: Notify,
    /// Model that samples. A batch holds the lock until it is empty, and so does a change of weights.
    held: tokio::sync::Mutex<LocalModel>,
    /// Label of the weights that sample.
    label: Arc<Mutex<String>>,
    /// Largest number of tokens of a batch.
    batch_tokens: usize,
    sampled: Arc<AtomicU64>,
}

impl Engine {
    pub(crate) fn new(model: LocalModel, label: String, batch_tokens: usize) -> Self {
        Self {
            first: model.clone(),
            queue: Arc::default(),
            changed: Notify::new(),
            held: tokio::sync::Mutex::new(model),
            label: Arc::new(Mutex::new(label)),
            batch_tokens,
            sampled: Arc::default(),
        }
    }

    pub(crate) fn texts(&self) -> &Texts {
        self.first.texts()
    }

    /// Number of completions sampled so far.
    pub(crate) fn sampled(&self) -> u64 {
        self.sampled.load(Ordering::Relaxed)
    }

    /// Number of completions that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue().len()
    }

    /// Puts the rows of a request into the queue, and returns where their outcomes come.
    pub(crate) fn ask(
        &self,
        ask: &Ask,
        request: &str,
    ) -> Result<Vec<oneshot::Receiver<Outcome>>, Refusal> {
        let (mut rows, mut outcomes) = (Vec::new(), Vec::new());
        let seeds = ask.seeds(StdRng::from_os_rng().random());
        let params = Arc::new(ask.params.clone());
        let aborted = Arc::default();
        let prompts = ask
            .prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt, ask.completions));
        for (prompt, seed) in prompts.zip(seeds) {
            let (reply, outcome) = oneshot::channel();
            outcomes.push(outcome);
            rows.push(Row {
                prompt: prompt.clone(),
                params: Arc::clone(&params),
                seed,
                likeliest: ask.logprobs.unwrap_or(0),
                request: request.to_owned(),
                aborted: Arc::clone(&aborted),
                reply,
            });
        }
        if self.queue().append(rows) {
            self.changed.notify_one();
            Ok(outcomes)
        } else {
            Err(Refusal::new(
                503,
                "too many completions wait already; send this one again later",
            ))
        }
    }

    /// Samples what the queue holds, for ever.
    pub(crate) async fn sample_all(&self) {
        loop {
            while !self.queue().is_due() {
                self.changed.notified().await;
            }
            let model = self.held.lock().await;
            let rows = Rows {
                model: model.clone(),
                queue: Arc::clone(&self.queue),
                label: Arc::clone(&self.label),
                sampled: Arc::clone(&self.sampled),
                most: self.batch_tokens,
                open: HashMap::new(),
                begun: 0,
            };
            match model.sample(rows).await {
                Ok((rows, Err(error))) => rows.fail(&error),
                Ok((_, Ok(()))) => {}
                // `Rows` has answered its clients.
                Err(error) => tracing::error!("completions failed: {error}"),
            }
        }
    }

    /// Gives up requests that wait or are being sampled; returns their number.
    pub(crate) fn abort(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        self.queue().abort(is_meant)
    }

    /// Gives up all requests that wait.
    pub(crate) fn abort_waiting(&self) {
        self.queue().abort_waiting(|_| true);
    }

    /// Lets nothing join the batch any more, and returns once it has ended, even if another client
    /// resumes meanwhile.
    pub(crate) async fn pause(&self) {
        self.queue().paused = true;
        let _change = Change::begin(&self.queue, &self.changed);
        let _between_batches = self.held.lock().await;
    }

    pub(crate) fn resume(&self) {
        self.queue().paused = false;
        self.changed.notify_one();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.queue().paused
    }

    /// Loads the weights of a folder as soon as what is being sampled has ended. Until they are given a
    /// label, they have one that no version has.
    ///
    /// # Errors
    /// The folder cannot be used; the old weights stay.
    pub(crate) async fn load(&self, folder: PathBuf) -> Result<(), Error> {
        let _change = Change::begin(&self.queue, &self.changed);
        let mut held = self.held.lock().await;
        *held = held.with_weights_of(folder).await?;
        self.set_label(UNLABELLED.to_owned());
        Ok(())
    }

    pub(crate) fn label(&self) -> String {
        locked(&self.label).clone()
    }

    /// Labels the weights.
    pub(crate) fn set_label(&self, label: String) {
        *locked(&self.label) = label;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }
}

/// Change of weights: nothing joins the batch until it is over, or has been given up.
pub(crate) struct Change<'a> {
    queue: &'a Mutex<Queue>,
    changed: &'a Notify,
}

impl<'a> Change<'a> {
    pub(crate) fn begin(queue: &'a Mutex<Queue>, changed: &'a Notify) -> Self {
        locked(queue).changes += 1;
        Self { queue, changed }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        locked(self.queue).changes -= 1;
        self.changed.notify_one();
    }
}
