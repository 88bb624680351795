use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use vintage_control::PolicyVersion;
use vintage_local::Texts;
use vintage_rollout::{EngineError, Prompt, Sample, Sampling};
use vintage_trajectory::GroupId;

use crate::{
    check::{Completion, Expected, checked},
    error::Error,
};

/// Slot that a program is to sample: one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Id of the group.
    pub group: GroupId,
    /// Prompt to complete.
    pub prompt: Arc<Prompt>,
    /// Tokens of the prompt, as the run's tokenizer encodes it.
    pub prompt_tokens: Vec<i32>,
    /// Seed of each completion; their number is that of the completions.
    pub seeds: Vec<u64>,
    /// Sampling settings.
    pub sampling: Sampling,
    /// Version that is to sample: the newest that the producer knows.
    pub version: PolicyVersion,
    /// True if no other version may.
    pub exact: bool,
}

/// Outcome of a wait at a [`Desk`].
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Time is over; the producer has not joined its run yet.
    Joining,
    /// Time is over, and there is no slot.
    Waiting,
    /// Slot to sample.
    Slot(Box<Slot>),
    /// No slot will come any more.
    Ended,
}

/// Place where a program takes slots and answers them. Clones are the same desk; threads may share
/// it.
#[derive(Clone, Default)]
pub struct Desk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Facts of the run, once the engine is open.
    run: Option<Facts>,
    /// Slots that were not taken.
    queue: VecDeque<GroupId>,
    /// Slots that were not answered, taken or not.
    open: BTreeMap<GroupId, Open>,
    newest: PolicyVersion,
    ended: bool,
}

/// Facts of a run that answers are checked against.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) texts: Arc<Texts>,
    /// True if the run's own reward scores what comes without a reward.
    pub(crate) scores: bool,
}

struct Open {
    slot: Slot,
    reply: oneshot::Sender<Answer>,
}

/// Completions of a group, or the reason for which there are none.
pub(crate) type Answer = Result<Vec<Sample>, EngineError>;

impl Desk {
    /// Waits until the producer has joined its run; returns [`Stage::Waiting`] once it has.
    pub fn joined(&self, longest: Duration) -> Stage {
        let state = self.wait(longest, |state| state.ended || state.run.is_some());
        state.idle()
    }

    /// Takes a slot, and waits for one.
    pub fn take(&self, longest: Duration) -> Stage {
        let mut state = self.wait(longest, |state| {
            state.forget_unwanted();
            state.ended || !state.queue.is_empty()
        });
        let newest = state.newest;
        let Some(group) = state.queue.pop_front() else {
            return state.idle();
        };
        let Some(open) = state.open.get_mut(&group) else {
            return state.idle();
        };
        if !open.slot.exact {
            open.slot.version = newest;
        }
        Stage::Slot(Box::new(open.slot.clone()))
    }

    /// Answers a slot. Returns false if the group is no longer wanted, because the run has finished
    /// or the producer has ended.
    ///
    /// # Errors
    /// A value does not fit; the slot stays open. Or the slot is not open.
    pub fn answer(&self, group: GroupId, completions: Vec<Completion>) -> Result<bool, Error> {
        let (facts, slot, newest) = {
            let state = self.state();
            let Some(open) = state.open.get(&group) else {
                return not_open(&state, group);
            };
            let Some(facts) = state.run.clone() else {
                return Ok(false);
            };
            (facts, open.slot.clone(), state.newest)
        };
        let expected = Expected {
            slot: &slot,
            newest,
            facts: &facts,
        };
        let samples = checked(&expected, completions)?;
        let mut state = self.state();
        match state.open.remove(&group) {
            Some(open) => Ok(open.reply.send(Ok(samples)).is_ok()),
            None => not_open(&state, group),
        }
    }

    /// Gives up a slot, so that the lead grants another; `detail` says why.
    ///
    /// # Errors
    /// The slot is not open.
    pub fn give_up(&self, group: GroupId, detail: String) -> Result<bool, Error> {
        let mut state = self.state();
        let failed = EngineError::GroupFailed {
            reason: "given_up",
            detail,
        };
        match state.open.remove(&group) {
            Some(open) => Ok(open.reply.send(Err(failed)).is_ok()),
            None => not_open(&state, group),
        }
    }

    /// Gives back every slot that was not answered, and hands out none any more. The worker must be
    /// stopped before, or it begins the same leases again.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.queue.clear();
        state.open.clear();
        drop(state);
        self.0.changed.notify_all();
    }

    /// Notes that the producer has joined its run.
    pub(crate) fn join(&self, facts: Facts) {
        self.state().run = Some(facts);
        self.0.changed.notify_all();
    }

    /// Notes the newest version that may sample.
    pub(crate) fn heed(&self, version: PolicyVersion) {
        self.state().newest = version;
    }

    /// Puts a slot on the desk; `None` if it has ended.
    pub(crate) fn put(&self, slot: Slot) -> Option<oneshot::Receiver<Answer>> {
        let mut state = self.state();
        if state.ended {
            return None;
        }
        let (reply, answered) = oneshot::channel();
        let group = slot.group;
        state.open.insert(group, Open { slot, reply });
        state.queue.push_back(group);
        drop(state);
        self.0.changed.notify_all();
        Some(answered)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock half-way through a change.
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done`, or for the longest.
    fn wait(&self, longest: Duration, done: impl Fn(&mut State) -> bool) -> MutexGuard<'_, State> {
        let until = Instant::now().checked_add(longest);
        let mut state = self.state();
        loop {
            if done(&mut state) {
                return state;
            }
            let left = until.map_or(longest, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return state;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Returns the outcome of a wait that gave no slot.
    fn idle(&self) -> Stage {
        match (self.ended, &self.run) {
            (true, _) => Stage::Ended,
            (false, None) => Stage::Joining,
            (false, Some(_)) => Stage::Waiting,
        }
    }

    /// Forgets slots whose worker no longer waits for them.
    fn forget_unwanted(&mut self) {
        let Self { queue, open, .. } = self;
        open.retain(|_, open| !open.reply.is_closed());
        queue.retain(|group| open.contains_key(group));
    }
}

/// Returns the outcome of an answer to a slot that is not open: if the desk has ended, it is not wanted.
fn not_open(state: &State, group: GroupId) -> Result<bool, Error> {
    if state.ended {
        return Ok(false);
    }
    Err(Error::NotOpen {
        group: group.to_string(),
    })
}
