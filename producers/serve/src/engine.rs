//! The model behind the endpoints: one batch of rows at a time, and changes of weights between two
//! batches.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::{Notify, oneshot};
use vintage_local::{Error, LocalModel, Texts};

use crate::{
    ask::Ask,
    queue::{Outcome, Queue, Row, Sampled},
    refusal::Refusal,
};

/// Label of weights that were loaded and not labelled yet.
const UNLABELLED: &str = "unlabelled";

/// Model with its queue.
pub(crate) struct Engine {
    /// Model as it was opened, for tokens and texts.
    first: LocalModel,
    queue: Mutex<Queue>,
    /// Wakes the sampling task.
    changed: Notify,
    /// Model that samples. A batch holds the lock, and so does a change of weights.
    held: tokio::sync::Mutex<LocalModel>,
    /// Label of the weights that sample.
    label: Mutex<String>,
    /// Largest number of tokens of a batch.
    batch_tokens: usize,
    sampled: AtomicU64,
}

impl Engine {
    pub(crate) fn new(model: LocalModel, label: String, batch_tokens: usize) -> Self {
        Self {
            first: model.clone(),
            queue: Mutex::default(),
            changed: Notify::new(),
            held: tokio::sync::Mutex::new(model),
            label: Mutex::new(label),
            batch_tokens,
            sampled: AtomicU64::new(0),
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
        let prompts = ask
            .prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt, ask.completions));
        for (prompt, seed) in prompts.zip(seeds) {
            let (reply, outcome) = oneshot::channel();
            outcomes.push(outcome);
            rows.push(Row {
                prompt: prompt.clone(),
                params: ask.params.clone(),
                seed,
                likeliest: ask.logprobs.unwrap_or(0),
                request: request.to_owned(),
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
            // A pause may have come while the lock was waited for.
            let batch = self.queue().batch(self.batch_tokens);
            if !batch.is_empty() {
                let label = self.label();
                self.sample(&model, &label, batch).await;
            }
        }
    }

    async fn sample(&self, model: &LocalModel, label: &str, batch: Vec<Row>) {
        let prompts = batch.iter().map(|row| row.prompt.clone()).collect();
        let seeds = batch.iter().map(|row| row.seed).collect();
        let params = batch[0].params.clone();
        let temperature = match params.temperature {
            0.0 => 1.0,
            temperature => temperature,
        };
        let completions = match model.complete(prompts, params, seeds).await {
            Ok(completions) => completions,
            Err(error) => {
                tracing::error!("{} completions failed: {error}", batch.len());
                for row in batch {
                    let _gone = row.reply.send(Outcome::Failed(error.to_string()));
                }
                return;
            }
        };
        for (row, completion) in batch.into_iter().zip(completions) {
            let likeliest = if row.likeliest == 0 || row.reply.is_closed() {
                Ok(Vec::new())
            } else {
                let tokens = &completion.tokens;
                let found = model.likeliest(&row.prompt, tokens, temperature, row.likeliest);
                found.await
            };
            let outcome = match likeliest {
                Ok(likeliest) => Outcome::Sampled(Box::new(Sampled {
                    completion,
                    likeliest,
                    label: label.to_owned(),
                })),
                Err(error) => Outcome::Failed(error.to_string()),
            };
            self.sampled.fetch_add(1, Ordering::Relaxed);
            let _gone = row.reply.send(outcome);
        }
    }

    /// Takes requests out of the queue; returns their number. A batch in hand is finished.
    pub(crate) fn abort(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        self.queue().abort(is_meant)
    }

    /// Begins no batch any more, and returns once none is in hand.
    pub(crate) async fn pause(&self) {
        self.queue().paused = true;
        let _between_batches = self.held.lock().await;
    }

    pub(crate) fn resume(&self) {
        self.queue().paused = false;
        self.changed.notify_one();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.queue().paused
    }

    /// Loads the weights of a folder between two batches. Until they are given a label, they have one
    /// that no version has.
    ///
    /// # Errors
    /// The folder cannot be used; the old weights stay.
    pub(crate) async fn load(&self, folder: PathBuf) -> Result<(), Error> {
        let mut held = self.held.lock().await;
        *held = held.with_weights_of(folder).await?;
        self.set_label(UNLABELLED.to_owned());
        Ok(())
    }

    pub(crate) fn label(&self) -> String {
        let label = self.label.lock();
        label.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Labels the weights.
    pub(crate) fn set_label(&self, label: String) {
        *self.label.lock().unwrap_or_else(PoisonError::into_inner) = label;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds the lock half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
