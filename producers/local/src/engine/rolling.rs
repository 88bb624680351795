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
            spawn_blocking(move || OpenGroups::new(waiting).run(&decoder));
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
struct OpenGroups {
    waiting: Arc<Mutex<Waiting>>,
    open: HashMap<u64, Open>,
    begun: u64,
    /// True once the thread has said that it ends.
    ended: bool,
    /// Reason for which the batch broke off.
    failure: Option<vintage_model::Error>,
}

impl OpenGroups {
    fn new(waiting: Arc<Mutex<Waiting>>) -> Self {
        Self {
            waiting,
            open: HashMap::new(),
            begun: 0,
            ended: false,
            failure: None,
        }
    }

    fn run(mut self, decoder: &Decoder) {
        self.failure = roll(decoder, &mut self).err();
    }
}

impl Source for OpenGroups {
    /// Group of a completion, and its place there.
    type Key = (u64, usize);

    fn next(&mut self, sampling: usize) -> Vec<(Self::Key, Ask)> {
        self.open.retain(|_, open| !open.reply.is_closed());
        let mut waiting = lock(&self.waiting);
        let mut more = Vec::new();
        for Asked { asks, reply } in waiting.groups.drain(..) {
            if reply.is_closed() {
                continue;
            }
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

    fn refused(&mut self, (group, _): Self::Key, error: vintage_model::Error) {
        if let Some(open) = self.open.remove(&group) {
            let _gone = open.reply.send(Err(model("sample")(error)));
        }
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

impl Drop for OpenGroups {
    /// After a failure or a panic, tells all that wait; the next call samples anew.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let reason = match &self.failure {
            Some(error) => error.to_string(),
            None => "the sampler panicked; this is a bug, please report it".to_owned(),
        };
        let mut waiting = lock(&self.waiting);
        waiting.running = false;
        let waiting = waiting.groups.drain(..).map(|asked| asked.reply);
        let open = self.open.drain().map(|(_, open)| open.reply);
        for reply in open.chain(waiting) {
            let _gone = reply.send(Err(Error::Batch(reason.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_breaks_off_tells_all_that_wait() {
        for failure in [None, Some(vintage_model::Error::Input("broken".to_owned()))] {
            let reason = if failure.is_some() {
                "broken"
            } else {
                "panicked"
            };
            let waiting = Arc::new(Mutex::new(Waiting::default()));
            let mut groups = OpenGroups::new(Arc::clone(&waiting));
            let ask = Ask {
                prompt: vec![1],
                params: Arc::default(),
                seed: 0,
            };
            let mut replies = Vec::new();
            for number in 0..2 {
                let (reply, rows) = oneshot::channel();
                replies.push(rows);
                lock(&waiting).running = true;
                lock(&waiting).groups.push(Asked {
                    asks: vec![ask.clone()],
                    reply,
                });
                // The first one is being sampled, the second one waits.
                if number == 0 {
                    assert_eq!(groups.next(0).len(), 1);
                }
            }
            groups.failure = failure;
            drop(groups);
            for mut rows in replies {
                let told = rows.try_recv().unwrap().unwrap_err().to_string();
                assert!(told.contains(reason), "{told}");
            }
            assert!(!lock(&waiting).running, "the next call samples anew");
        }
    }
}
