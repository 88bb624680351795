//! Continuous sampling with one model, on a blocking thread.

use std::time::Instant;

use vintage_model::{Ask, Batch, Completion, Decoder};

/// Owner of the completions of a continuous batch: it gives them, and gets them back.
pub trait Source: Send {
    /// Sign by which the source knows a completion again.
    type Key: Send;

    /// Returns completions that join a batch in which `sampling` are being sampled. If none are, and
    /// none are returned, sampling ends. Never waits.
    fn next(&mut self, sampling: usize) -> Vec<(Self::Key, Ask)>;

    /// Returns false for a completion that nobody waits for any more: it is given up.
    fn is_wanted(&self, key: &Self::Key) -> bool;

    /// Takes back a completion that cannot be sampled, for what is wrong with its ask.
    fn refused(&mut self, key: Self::Key, error: vintage_model::Error);

    /// Takes a completion that is finished. `seconds` is its share of the time: of every step, the
    /// same part as each of those that were sampled beside it.
    fn finished(&mut self, key: Self::Key, completion: Completion, seconds: f32);
}

/// Samples what `source` gives until it gives nothing more.
pub(crate) fn roll<S: Source>(
    decoder: &Decoder,
    source: &mut S,
) -> Result<(), vintage_model::Error> {
    let mut batch = Batch::new(decoder)?;
    // Seconds of a completion that had been sampled from the beginning.
    let mut share = 0.0_f64;
    loop {
        batch.retain(|(key, _)| source.is_wanted(key));
        let next = source.next(batch.len());
        if next.is_empty() && batch.is_empty() {
            return Ok(());
        }
        let mut more = Vec::with_capacity(next.len());
        for (key, ask) in next {
            match batch.check(&ask) {
                Ok(()) => more.push(((key, share), ask)),
                Err(error) => source.refused(key, error),
            }
        }
        let begun = Instant::now();
        let rows = (batch.len() + more.len()).max(1);
        if more.is_empty() {
            batch.step()?;
        } else {
            batch.admit(more)?;
        }
        share += begun.elapsed().as_secs_f64() / rows as f64;
        for ((key, since), completion) in batch.finished() {
            source.finished(key, completion, (share - since) as f32);
        }
    }
}
