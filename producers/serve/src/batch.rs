//! Rows of the batch in hand: what joins it from the queue, and the answers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use vintage_local::{Error, LocalModel, Source};
use vintage_model::{Ask, Completion};

use crate::queue::{Outcome, Queue, Row, Sampled};

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds a lock half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows of the batch in hand.
pub(crate) struct Rows {
    /// Model that samples.
    pub(crate) model: LocalModel,
    /// Rows that wait.
    pub(crate) queue: Arc<Mutex<Queue>>,
    /// Label of the weights.
    pub(crate) label: Arc<Mutex<String>>,
    /// Number of completions sampled so far.
    pub(crate) sampled: Arc<AtomicU64>,
    /// Largest number of tokens of the batch.
    pub(crate) most: usize,
    /// Rows by their numbers, with the label that the weights had when they joined.
    pub(crate) open: HashMap<u64, (Row, String)>,
    /// Number of rows that have joined.
    pub(crate) begun: u64,
}

impl Rows {
    /// Answers all rows after a failure.
    pub(crate) fn fail(mut self, error: &Error) {
        tracing::error!("{} completions failed: {error}", self.open.len());
        self.answer(&error.to_string());
    }

    fn answer(&mut self, failure: &str) {
        for (_, (row, _)) in self.open.drain() {
            let _gone = row.reply.send(Outcome::Failed(failure.to_owned()));
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.answer("the sampler panicked; this is a bug, please report it");
        }
    }
}

impl Source for Rows {
    type Key = u64;

    fn next(&mut self, sampling: usize) -> Vec<(u64, Ask)> {
        self.open.retain(|_, (row, _)| !row.reply.is_closed());
        let aborted = |_: &u64, (row, _): &mut (Row, String)| row.aborted.load(Ordering::Relaxed);
        for (_, (row, _)) in self.open.extract_if(aborted) {
            let _gone = row.reply.send(Outcome::Aborted);
        }
        let held: usize = self.open.values().map(|(row, _)| row.tokens()).sum();
        let room = self.most.saturating_sub(held);
        let taken = locked(&self.queue).take(room, sampling == 0);
        let label = locked(&self.label).clone();
        let mut more = Vec::with_capacity(taken.len());
        for row in taken {
            let ask = Ask {
                prompt: row.prompt.clone(),
                params: Arc::clone(&row.params),
                seed: row.seed,
            };
            more.push((self.begun, ask));
            self.open.insert(self.begun, (row, label.clone()));
            self.begun += 1;
        }
        more
    }

    fn is_wanted(&self, number: &u64) -> bool {
        let row = self.open.get(number);
        row.is_some_and(|(row, _)| !row.reply.is_closed() && !row.aborted.load(Ordering::Relaxed))
    }

    fn refused(&mut self, number: u64, error: vintage_model::Error) {
        if let Some((row, _)) = self.open.remove(&number) {
            let _gone = row.reply.send(Outcome::Failed(error.to_string()));
        }
    }

    fn finished(&mut self, number: u64, completion: Completion, _seconds: f32) {
        // The row stays open meanwhile, so that a panic is answered too.
        let Some((row, _)) = self.open.get(&number) else {
            return;
        };
        let temperature = match row.params.temperature {
            0.0 => 1.0,
            temperature => temperature,
        };
        let likeliest = if row.likeliest == 0 {
            Ok(Vec::new())
        } else {
            let (prompt, tokens) = (&row.prompt, &completion.tokens);
            self.model
                .likeliest(prompt, tokens, temperature, row.likeliest)
        };
        let Some((row, label)) = self.open.remove(&number) else {
            return;
        };
        let outcome = match likeliest {
            Ok(likeliest) => Outcome::Sampled(Box::new(Sampled {
                completion,
                likeliest,
                label,
            })),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.sampled.fetch_add(1, Ordering::Relaxed);
        let _gone = row.reply.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Notify, oneshot, oneshot::error::TryRecvError};
    use vintage_model::{
        DecoderConfig, FinishReason, ModelFolder, ParamSet, SamplingParams, Tokenizer,
    };

    use super::*;
    use crate::engine::Change;

    async fn rows() -> (Rows, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::characters(&"0123456789+=".chars().collect()).unwrap();
        let config = DecoderConfig::tiny(tokenizer.vocab_size());
        let params = ParamSet::init(&config, 1).unwrap();
        let whole = ModelFolder::new(config, tokenizer, params).unwrap();
        whole.save(folder.path()).unwrap();
        let model = LocalModel::open(folder.path().to_owned(), "lead".parse().unwrap()).await;
        let rows = Rows {
            model: model.unwrap(),
            queue: Arc::default(),
            label: Arc::new(Mutex::new("one".to_owned())),
            sampled: Arc::default(),
            most: 25,
            open: HashMap::new(),
            begun: 0,
        };
        (rows, folder)
    }

    fn ask(rows: &Rows, max_tokens: usize, likeliest: usize) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        let params = Arc::new(SamplingParams {
            max_tokens,
            ..SamplingParams::default()
        });
        let row = Row {
            prompt: vec![1, 2],
            params,
            seed: 0,
            likeliest,
            request: "a".to_owned(),
            aborted: Arc::default(),
            reply,
        };
        assert!(locked(&rows.queue).append(vec![row]));
        outcome
    }

    fn completion() -> Completion {
        Completion {
            tokens: vec![3],
            logprobs: vec![-1.0],
            finish_reason: FinishReason::Length,
        }
    }

    fn numbers(more: &[(u64, Ask)]) -> Vec<u64> {
        more.iter().map(|(number, _)| *number).collect()
    }

    /// Rows that come while others are sampled join them as far as there is room, with the label that
    /// the weights have then; those that a client has left make room.
    #[tokio::test]
    async fn what_comes_joins_the_batch_in_hand() {
        let (mut rows, _folder) = rows().await;
        let (mut first, second) = (ask(&rows, 8, 2), ask(&rows, 8, 0));
        let mut third = ask(&rows, 8, 0);
        assert_eq!(numbers(&rows.next(0)), [0, 1], "two rows of ten tokens");
        assert!(rows.next(2).is_empty());
        drop(second);
        assert!(!rows.is_wanted(&1) && rows.is_wanted(&0));
        "two".clone_into(&mut locked(&rows.label));
        assert_eq!(numbers(&rows.next(1)), [2]);
        rows.finished(0, completion(), 0.0);
        rows.finished(2, completion(), 0.0);
        for (outcome, label, likeliest) in [(&mut first, "one", 1), (&mut third, "two", 0)] {
            let Ok(Outcome::Sampled(sampled)) = outcome.try_recv() else {
                panic!("a finished row is answered");
            };
            assert_eq!(
                (&*sampled.label, sampled.likeliest.len()),
                (label, likeliest)
            );
        }
        assert_eq!(rows.sampled.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_refused_row_and_those_of_a_panic_are_answered() {
        let (mut rows, _folder) = rows().await;
        let (mut refused, mut other) = (ask(&rows, 8, 0), ask(&rows, 8, 0));
        assert_eq!(rows.next(0).len(), 2);
        rows.refused(0, vintage_model::Error::Input("a test".to_owned()));
        assert!(matches!(refused.try_recv(), Ok(Outcome::Failed(why)) if why.contains("a test")));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _rows = rows;
            panic!("a test");
        }));
        assert!(panicked.is_err());
        assert!(matches!(other.try_recv(), Ok(Outcome::Failed(why)) if why.contains("panicked")));
    }

    #[tokio::test]
    async fn what_is_aborted_is_sampled_no_more() {
        let (mut rows, _folder) = rows().await;
        let mut outcome = ask(&rows, 8, 0);
        assert_eq!(rows.next(0).len(), 1);
        assert_eq!(locked(&rows.queue).abort(|request| request == "b"), 0);
        assert_eq!(locked(&rows.queue).abort(|request| request == "a"), 1);
        assert!(
            !rows.is_wanted(&0),
            "its place is free before another row joins"
        );
        assert!(rows.next(0).is_empty());
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Aborted)));
        drop(rows.next(0));
        assert_eq!(locked(&rows.queue).abort(|_| true), 0, "it is gone");
    }

    /// A change of weights lets nothing more in, ends, and wakes the sampling task; a failed batch
    /// answers its rows.
    #[tokio::test]
    async fn a_change_of_weights_closes_the_door() {
        let (mut rows, _folder) = rows().await;
        let mut held = ask(&rows, 8, 0);
        assert_eq!(rows.next(0).len(), 1);
        let mut later = ask(&rows, 8, 0);
        let (queue, changed) = (Arc::clone(&rows.queue), Notify::new());
        let change = Change::begin(&queue, &changed);
        assert!(rows.next(1).is_empty());
        drop(change);
        changed.notified().await;
        assert!(locked(&queue).is_due());
        rows.fail(&Error::Batch("a test".to_owned()));
        assert!(matches!(held.try_recv(), Ok(Outcome::Failed(_))));
        assert!(matches!(later.try_recv(), Err(TryRecvError::Empty)));
    }
}
