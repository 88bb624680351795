//! Groups that are being sampled.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use futures::{
    FutureExt as _, StreamExt as _,
    stream::{SelectAll, select_all},
};
use vintage_control::Lease;
use vintage_trajectory::GroupId;

use crate::{
    engine::{EngineError, Groups, Sample},
    prompts::prompt::Prompt,
};

/// Group that is being sampled.
pub(super) struct Begun {
    pub(super) id: GroupId,
    pub(super) lease: Lease,
    pub(super) prompt: Arc<Prompt>,
}

/// Group whose sampling has ended, with its completions or the failure.
pub(super) type Landed = (Begun, Result<Vec<Sample>, EngineError>);

/// Groups that are being sampled, over all calls of the engine that have not ended.
pub(super) struct Flight {
    streams: SelectAll<futures::stream::BoxStream<'static, (usize, Answer)>>,
    /// Groups by their numbers, in the order in which they were begun.
    begun: BTreeMap<usize, Begun>,
    /// Number of the next group.
    next: usize,
    /// Time of the last landing, or of the first start if none has landed since.
    since: Instant,
}

type Answer = Result<Vec<Sample>, EngineError>;

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            streams: select_all([]),
            begun: BTreeMap::new(),
            next: 0,
            since: Instant::now(),
        }
    }

    /// Number of groups that are being sampled.
    pub(super) fn len(&self) -> usize {
        self.begun.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Adds the groups of a call, in the order of its requests.
    pub(super) fn start(&mut self, groups: Vec<Begun>, answers: Groups) {
        if self.is_empty() {
            self.since = Instant::now();
        }
        let first = self.next;
        self.next += groups.len();
        self.begun.extend((first..).zip(groups));
        let answers = answers.map(move |(index, answer)| (first + index, answer));
        self.streams.push(answers.boxed());
    }

    /// Waits until a group has landed, and takes all that have by then. The result is empty if an
    /// engine has ended its answers without all groups; those stay in [`Flight::leases`].
    pub(super) async fn landed(&mut self) -> Vec<Landed> {
        let mut landed = Vec::new();
        let mut next = self.streams.next().await;
        while let Some((index, answer)) = next {
            if let Some(begun) = self.begun.remove(&index) {
                landed.push((index, (begun, answer)));
            }
            next = self.streams.next().now_or_never().flatten();
        }
        landed.sort_by_key(|(index, _)| *index);
        landed.into_iter().map(|(_, landed)| landed).collect()
    }

    /// Returns the time since the last call, or since sampling began, in seconds.
    pub(super) fn lap(&mut self) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        seconds
    }

    /// Cancels all groups and returns their leases.
    pub(super) fn abandon(&mut self) -> Vec<Lease> {
        self.streams = select_all([]);
        let begun = std::mem::take(&mut self.begun);
        begun.into_values().map(|begun| begun.lease).collect()
    }
}
