//! Continuous batch of the groups that one version samples.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, task::spawn_blocking};
use vintage_model::{Ask, Completion, Decoder};

use crate::{
    error::Error,
    roll::{Source, roll},
    texts::model,
};

/// Completions of a group in the order of its asks, each with its share of the time in seconds.
pub(super) type Rows = Vec<(Completion, f32)>;

/// Group whose completions are asked for.
struct Asked {
    asks: Vec<Ask>,
    reply: oneshot::Sender<Result<Rows, Error>>,
}

/// Groups that wait for the next step of the batch.
#[derive(Default)]
struct Waiting {
    groups: Vec<Asked>,
    /// True while a thread samples.
    running: bool,
}

/// Continuous batch of one decoder. A thread samples it while there is something to sample.
pub(super) struct Rolling {
    decoder: Arc<Decoder>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Rolling {
    pub(super) fn new(decoder: Arc<Decoder>) -> Self {
        Self {
            decoder,
            waiting: Arc::default(),
        }
    }

    /// Adds groups, which join the batch together; returns where the completions of each come. They
    /// are given up when nobody waits there any more.
    pub(super) fn sample(
        &self,
        groups: Vec<Vec<Ask>>,
    ) -> Vec<oneshot::Receiver<Result<Rows, Error>>> {
        let (asked, replies): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .map(|asks| {
                let (reply, rows) = oneshot::channel();
                (Asked { asks, reply }, rows)
            })
            .unzip();
        let mut waiting = lock(&self.waiting);
        waiting.groups.extend(asked);
        if !waiting.running && !waiting.groups.is_empty() {
            waiting.running = true;
            let (decoder, waiting) = (Arc::clone(&self.decoder), Arc::clone(&self.waiting));
            spawn_blocking(move || Groups::new(waiting).run(&decoder));
        }
        replies
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // No code panics while it holds the lock half-way through a change.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Group of which completions are being sampled.
struct Open {
    rows: Vec<Option<(Completion, f32)>>,
    left: usize,
    reply: oneshot::Sender<Result<Rows, Error>>,
}

/// Groups of a thread that samples.
struct Groups {
    waiting: Arc<Mutex<Waiting>>,
    open: HashMap<u64, Open>,
    begun: u64,
    /// True once the thread has said that it ends.
    ended: bool,
}

impl Groups {
    fn new(waiting: Arc<Mutex<Waiting>>) -> Self {
        Self {
            waiting,
            open: HashMap::new(),
            begun: 0,
            ended: false,
        }
    }

    fn run(mut self, decoder: &Decoder) {
        let Err(source) = roll(decoder, &mut self) else {
            return;
        };
        // One group carries the error; the others end without an answer.
        let group = self.open.keys().min().copied();
        if let Some(open) = group.and_then(|group| self.open.remove(&group)) {
            let _gone = open.reply.send(Err(model("sample")(source)));
        }
    }
}

/// Key of a completion: its group, and its place there.
impl Source for Groups {
    type Key = (u64, usize);

    fn next(&mut self, sampling: usize) -> Vec<(Self::Key, Ask)> {
        self.open.retain(|_, open| !open.reply.is_closed());
        let mut waiting = lock(&self.waiting);
        let mut more = Vec::new();
        for Asked { asks, reply } in waiting.groups.drain(..) {
            if asks.is_empty() {
                let _gone = reply.send(Ok(Vec::new()));
                continue;
            }
            let group = self.begun;
            self.begun += 1;
            let open = Open {
                rows: vec![None; asks.len()],
                left: asks.len(),
                reply,
            };
            self.open.insert(group, open);
            let asks = asks.into_iter().enumerate();
            more.extend(asks.map(|(place, ask)| ((group, place), ask)));
        }
        if sampling == 0 && more.is_empty() {
            waiting.running = false;
            self.ended = true;
        }
        more
    }

    fn is_wanted(&self, (group, _): &Self::Key) -> bool {
        self.open
            .get(group)
            .is_some_and(|open| !open.reply.is_closed())
    }

    fn finished(&mut self, (group, place): Self::Key, completion: Completion, seconds: f32) {
        let Some(open) = self.open.get_mut(&group) else {
            return;
        };
        open.rows[place] = Some((completion, seconds));
        open.left -= 1;
        if open.left == 0
            && let Some(open) = self.open.remove(&group)
        {
            let rows = open.rows.into_iter().flatten().collect();
            let _gone = open.reply.send(Ok(rows));
        }
    }
}

impl Drop for Groups {
    /// After a failure or a panic, those that wait end without an answer, and the next call samples
    /// anew.
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = lock(&self.waiting);
            waiting.groups.clear();
            waiting.running = false;
        }
    }
}
