//! Completions that wait for the engine, in the order in which they came.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::oneshot;
use vintage_local::Likeliest;
use vintage_model::{Completion, SamplingParams};

/// Largest number of tokens, prompts and longest completions together, that may wait.
const WAITING: usize = 1 << 22;

/// One completion that is wanted.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) prompt: Vec<u32>,
    pub(crate) params: Arc<SamplingParams>,
    pub(crate) seed: u64,
    /// Number of likeliest tokens beside each sampled one; 0 computes none.
    pub(crate) likeliest: usize,
    /// Id of its request.
    pub(crate) request: String,
    /// Set if the request is aborted while its rows are sampled.
    pub(crate) aborted: Arc<AtomicBool>,
    /// Sender of the outcome; closed if the client is gone.
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// End of a row.
#[derive(Debug)]
pub(crate) enum Outcome {
    Sampled(Box<Sampled>),
    /// Given up at a client's wish.
    Aborted,
    Failed(String),
}

/// Completion with the weights that sampled it.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub(crate) completion: Completion,
    pub(crate) likeliest: Vec<Likeliest>,
    pub(crate) label: String,
}

impl Row {
    pub(crate) fn tokens(&self) -> usize {
        self.prompt.len() + self.params.max_tokens
    }
}

/// Queue of rows.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    rows: VecDeque<Row>,
    tokens: usize,
    /// True if a client has stopped the engine.
    pub(crate) paused: bool,
    /// Number of changes of weights that wait for the batch in hand to end.
    pub(crate) changes: usize,
    /// Requests of the rows that were taken, as long as they are sampled.
    in_hand: Vec<(String, Weak<AtomicBool>)>,
}

impl Queue {
    /// Appends rows, all or none; returns false if there is no room for them.
    pub(crate) fn append(&mut self, rows: Vec<Row>) -> bool {
        let more: usize = rows.iter().map(Row::tokens).sum();
        if self.tokens + more > WAITING {
            self.rows.retain(|row| !row.reply.is_closed());
            self.tokens = self.rows.iter().map(Row::tokens).sum();
        }
        if !self.rows.is_empty() && self.tokens + more > WAITING {
            return false;
        }
        self.tokens += more;
        self.rows.extend(rows);
        true
    }

    /// Number of rows that wait, those of clients that are gone included.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if a row may be sampled now.
    pub(crate) fn is_due(&self) -> bool {
        !self.paused && self.changes == 0 && !self.rows.is_empty()
    }

    /// Takes rows in their order, as far as they have at most `room` tokens together; a row that is
    /// longer is taken only if it would be `alone`. Rows whose client is gone are dropped.
    pub(crate) fn take(&mut self, room: usize, alone: bool) -> Vec<Row> {
        let (mut taken, mut tokens) = (Vec::<Row>::new(), 0);
        while self.is_due() {
            let gone = self.rows.front().is_some_and(|row| row.reply.is_closed());
            let next = self.rows.front().map_or(0, Row::tokens);
            let fits = tokens + next <= room || (alone && taken.is_empty());
            if !gone && !fits {
                break;
            }
            self.tokens -= next;
            if let Some(row) = self.rows.pop_front().filter(|_| !gone) {
                tokens += next;
                taken.push(row);
            }
        }
        self.in_hand
            .retain(|(_, aborted)| aborted.strong_count() > 0);
        let begun = taken.iter();
        self.in_hand
            .extend(begun.map(|row| (row.request.clone(), Arc::downgrade(&row.aborted))));
        taken
    }

    /// Takes out rows by their requests; returns the requests.
    pub(crate) fn abort_waiting(&mut self, is_meant: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let (mut left, mut requests) = (VecDeque::new(), BTreeSet::new());
        for row in self.rows.drain(..) {
            if is_meant(&row.request) {
                requests.insert(row.request);
                let _gone = row.reply.send(Outcome::Aborted);
            } else {
                left.push_back(row);
            }
        }
        self.tokens = left.iter().map(Row::tokens).sum();
        self.rows = left;
        requests
    }

    /// Takes out rows by their requests, and marks those that are being sampled; returns the number of
    /// requests.
    pub(crate) fn abort(&mut self, is_meant: impl Fn(&str) -> bool) -> usize {
        let mut requests = self.abort_waiting(&is_meant);
        for (request, aborted) in &self.in_hand {
            if is_meant(request)
                && let Some(aborted) = aborted.upgrade()
            {
                aborted.store(true, Ordering::Relaxed);
                requests.insert(request.clone());
            }
        }
        requests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(request: &str, max_tokens: usize) -> (Row, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let params = SamplingParams {
            max_tokens,
            ..SamplingParams::default()
        };
        let row = Row {
            prompt: vec![1, 2],
            params: Arc::new(params),
            seed: 0,
            likeliest: 0,
            request: request.to_owned(),
            aborted: Arc::default(),
            reply,
        };
        (row, outcome)
    }

    fn requests(batch: &[Row]) -> Vec<&str> {
        batch.iter().map(|row| row.request.as_str()).collect()
    }

    #[test]
    fn rows_are_taken_in_their_order_as_far_as_there_is_room() {
        let mut queue = Queue::default();
        let asked = [("a", 8), ("gone", 8), ("b", 4), ("c", 8), ("d", 8)];
        let (rows, mut outcomes): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .map(|(name, most)| row(name, most))
            .unzip();
        outcomes.remove(1);
        assert!(queue.append(rows));
        queue.paused = true;
        assert!(!queue.is_due() && queue.take(100, true).is_empty());
        queue.paused = false;
        queue.changes = 1;
        assert!(!queue.is_due() && queue.take(100, true).is_empty());
        queue.changes = 0;
        // Rows of 10 and 6 tokens fit; no later one overtakes the next, which does not.
        assert_eq!(requests(&queue.take(17, true)), ["a", "b"]);
        assert!(queue.take(9, false).is_empty());
        // A row that is longer than all the room runs alone.
        assert_eq!(requests(&queue.take(9, true)), ["c"]);
        assert_eq!(requests(&queue.take(10, false)), ["d"]);
        assert!(!queue.is_due());
        assert_eq!(queue.tokens, 0);
    }

    #[test]
    fn what_is_aborted_waits_no_more() {
        let mut queue = Queue::default();
        let (rows, mut outcomes): (Vec<_>, Vec<_>) =
            ["a", "a", "b"].map(|name| row(name, 8)).into_iter().unzip();
        assert!(queue.append(rows));
        assert_eq!(queue.abort(|request| request == "a"), 1);
        assert!(matches!(outcomes[1].try_recv(), Ok(Outcome::Aborted)));
        assert!(outcomes[2].try_recv().is_err());
        assert_eq!(requests(&queue.take(100, true)), ["b"]);
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut queue = Queue::default();
        let (large, kept) = row("a", WAITING);
        assert!(queue.append(vec![large]), "alone, anything fits");
        let (more, _kept) = row("b", 8);
        assert!(!queue.append(vec![more]));
        drop(kept);
        let (more, _kept) = row("b", 8);
        assert!(queue.append(vec![more]), "a client that is gone makes room");
    }
}
