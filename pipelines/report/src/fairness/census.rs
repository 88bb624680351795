//! Count of archived messages by producer and fate.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vintage_control::{PolicyVersion, RecordId, RejectReason, UpdateNumber};

use super::{
    Amount, Compared, Pair, ProducerFigures, Producers,
    bias::Bias,
    fates::{Fate, Fates, GroupKey, Planned, PlannedGroups, half},
    histogram::Histogram,
    moments::Moments,
};

/// Archived message as far as it is counted.
#[derive(Debug, Clone)]
pub(crate) struct Message<'a> {
    pub(crate) record: RecordId,
    pub(crate) producer: Option<&'a str>,
    pub(crate) seq: Option<u64>,
    pub(crate) group: Option<[u8; 16]>,
    /// Part i of n, from 1.
    pub(crate) part: (u32, u32),
    /// Policy that sampled the rollouts.
    pub(crate) policy: &'a str,
    /// Rollouts; empty if the message could not be decoded.
    pub(crate) rollouts: Vec<Rollout>,
}

/// Rollout as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rollout {
    /// Number of completion tokens.
    pub(crate) tokens: u64,
    pub(crate) reward: f64,
    /// Oldest version that sampled a token; `None` without tokens.
    pub(crate) oldest: Option<PolicyVersion>,
}

/// Counts of a run, filled by one pass over its archive.
///
/// Memory holds the fates of planned groups, the identity of undecided ones and about 10 KiB for
/// each producer, whatever the number of rollouts.
#[derive(Debug)]
pub(crate) struct Census {
    fates: Fates,
    counts: Vec<Counts>,
    /// Parts that were met of each undecided group.
    undecided: HashMap<GroupKey, BTreeSet<u32>>,
    /// Groups of several parts, of which some are still to come.
    partial: HashMap<GroupKey, Whole>,
}

/// Counts of one producer.
#[derive(Debug, Clone, Default)]
struct Counts {
    trained: Amount,
    rejected: BTreeMap<RejectReason, Amount>,
    in_flight: Amount,
    before_start: Amount,
    unarchived: u64,
    lengths: Pair<Histogram>,
    rewards: Pair<Moments>,
    staleness: Histogram,
    length_of_groups: Split,
    reward_of_groups: Split,
}

/// Means of groups, those trained apart from all others.
#[derive(Debug, Clone, Copy, Default)]
struct Split {
    trained: Moments,
    other: Moments,
}

/// Sums over the rollouts of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Whole {
    parts: u32,
    rollouts: u64,
    tokens: u64,
    reward: f64,
    trained: bool,
}

impl Census {
    /// Creates a census of the run whose plans gave `fates`.
    pub(crate) fn new(fates: Fates) -> Self {
        Self {
            fates,
            counts: Vec::new(),
            undecided: HashMap::new(),
            partial: HashMap::new(),
        }
    }

    /// Counts a message; returns its fate, or `None` if it is a second copy.
    pub(crate) fn add(&mut self, message: &Message<'_>) -> Option<Fate> {
        let named = self.fates.producer(message.producer);
        let key = message
            .seq
            .filter(|_| message.producer.is_some())
            .map(|seq| (named, seq, half(message.group)));
        let (fate, producer, first) = match self.fates.of(message.record) {
            Some(Planned::Copy) => return None,
            Some(Planned::Group {
                fate,
                producer,
                first,
            }) => (fate, producer, first),
            None => {
                let first = self.is_new(key, message.part.0)?;
                (self.fates.undecided(message.record), named, first)
            }
        };
        let amount = Amount {
            groups: u64::from(first),
            rollouts: message.rollouts.len() as u64,
            tokens: message.rollouts.iter().map(|rollout| rollout.tokens).sum(),
        };
        let counts = counts_of(&mut self.counts, producer);
        *counts.amount(fate) += amount;
        if fate != Fate::BeforeStart {
            for rollout in &message.rollouts {
                counts.compare(rollout, fate);
                if let (Fate::Trained(update), Some(oldest)) = (fate, rollout.oldest) {
                    let staleness = self.fates.staleness(update, message.policy, oldest);
                    counts.staleness.add(staleness.0);
                }
            }
            self.add_to_group(producer, key, message, fate);
        }
        Some(fate)
    }

    /// Returns true for the first message of an undecided group and false for a further part;
    /// `None` for a copy.
    fn is_new(&mut self, key: Option<GroupKey>, part: u32) -> Option<bool> {
        let Some(key) = key else { return Some(true) };
        if self.fates.decided(&key) {
            return None;
        }
        let parts = self.undecided.entry(key).or_default();
        let first = parts.is_empty();
        parts.insert(part).then_some(first)
    }

    /// Adds a message to the sums of its group, and the group's means once it is whole.
    fn add_to_group(
        &mut self,
        producer: u32,
        key: Option<GroupKey>,
        message: &Message<'_>,
        fate: Fate,
    ) {
        let parts = message.part.1;
        let key = key.filter(|_| parts > 1);
        let begun = key.and_then(|key| self.partial.remove(&key));
        let mut whole = begun.unwrap_or_default();
        whole.parts += 1;
        whole.trained = matches!(fate, Fate::Trained(_));
        for rollout in &message.rollouts {
            whole.rollouts += 1;
            whole.tokens += rollout.tokens;
            whole.reward += if plausible(fate) {
                rollout.reward
            } else {
                f64::NAN
            };
        }
        match key {
            Some(key) if whole.parts < parts => drop(self.partial.insert(key, whole)),
            _ => counts_of(&mut self.counts, producer).group(&whole),
        }
    }

    /// Completes the count: returns the figures of all producers.
    pub(crate) fn close(mut self, unreadable_files: u64) -> Producers {
        for ((producer, ..), whole) in std::mem::take(&mut self.partial) {
            counts_of(&mut self.counts, producer).group(&whole);
        }
        let blended = self.fates.blended();
        let mut total = Counts::default();
        let mut by_producer = BTreeMap::new();
        let mut all = self.counts.into_iter();
        for (name, planned) in self.fates.into_producers() {
            let mut counts = all.next().unwrap_or_default();
            counts.hold(&planned);
            total.merge(&counts);
            by_producer.insert(name, counts.figures());
        }
        by_producer.retain(|_, figures| figures.produced.groups > 0);
        Producers {
            total: total.figures(),
            by_producer,
            blended,
            unreadable_files,
            lengths: total.lengths,
        }
    }

    /// Returns the staleness of a rollout that `update` trained.
    pub(crate) fn staleness(
        &self,
        update: UpdateNumber,
        policy: &str,
        oldest: PolicyVersion,
    ) -> u64 {
        self.fates.staleness(update, policy, oldest).0
    }
}

/// Returns false for groups that were refused for their rewards, which are no numbers to average.
fn plausible(fate: Fate) -> bool {
    fate != Fate::Rejected(RejectReason::BadReward)
}

fn counts_of(counts: &mut Vec<Counts>, producer: u32) -> &mut Counts {
    let producer = producer as usize;
    if counts.len() <= producer {
        counts.resize_with(producer + 1, Counts::default);
    }
    &mut counts[producer]
}

impl Counts {
    fn amount(&mut self, fate: Fate) -> &mut Amount {
        match fate {
            Fate::Trained(_) => &mut self.trained,
            Fate::Rejected(reason) => self.rejected.entry(reason).or_default(),
            Fate::InFlight => &mut self.in_flight,
            Fate::BeforeStart => &mut self.before_start,
        }
    }

    fn compare(&mut self, rollout: &Rollout, fate: Fate) {
        self.lengths.produced.add(rollout.tokens);
        if plausible(fate) {
            self.rewards.produced.add(rollout.reward);
        }
        if let Fate::Trained(_) = fate {
            self.lengths.trained.add(rollout.tokens);
            self.rewards.trained.add(rollout.reward);
        }
    }

    fn group(&mut self, whole: &Whole) {
        if whole.rollouts == 0 {
            return;
        }
        let rollouts = whole.rollouts as f64;
        let side = |split: &mut Split, mean: f64| {
            if whole.trained {
                split.trained.add(mean);
            } else {
                split.other.add(mean);
            }
        };
        side(&mut self.length_of_groups, whole.tokens as f64 / rollouts);
        side(&mut self.reward_of_groups, whole.reward / rollouts);
    }

    /// Adds the groups that plans name and the archive did not show.
    fn hold(&mut self, planned: &PlannedGroups) {
        let mut hold = |amount: &mut Amount, groups: u64| {
            self.unarchived += groups.saturating_sub(amount.groups);
            amount.groups = amount.groups.max(groups);
        };
        hold(&mut self.trained, planned.trained);
        for (reason, groups) in &planned.rejected {
            hold(self.rejected.entry(*reason).or_default(), *groups);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.trained += other.trained;
        for (reason, amount) in &other.rejected {
            *self.rejected.entry(*reason).or_default() += *amount;
        }
        self.in_flight += other.in_flight;
        self.before_start += other.before_start;
        self.unarchived += other.unarchived;
        self.lengths.produced.merge(&other.lengths.produced);
        self.lengths.trained.merge(&other.lengths.trained);
        self.rewards.produced.merge(&other.rewards.produced);
        self.rewards.trained.merge(&other.rewards.trained);
        self.staleness.merge(&other.staleness);
        for (own, more) in [
            (&mut self.length_of_groups, &other.length_of_groups),
            (&mut self.reward_of_groups, &other.reward_of_groups),
        ] {
            own.trained.merge(&more.trained);
            own.other.merge(&more.other);
        }
    }

    fn figures(&self) -> ProducerFigures {
        let mut produced = self.trained;
        self.rejected
            .values()
            .for_each(|amount| produced += *amount);
        produced += self.in_flight;
        produced += self.before_start;
        let lengths = &self.lengths;
        let rewards = (self.rewards.produced.mean(), self.rewards.trained.mean());
        let bias = |means, split: &Split| Bias::between(means, &split.trained, &split.other);
        let rejected = self.rejected.iter();
        ProducerFigures {
            produced,
            trained: self.trained,
            rejected: rejected
                .map(|(reason, amount)| (reason.as_str(), *amount))
                .collect(),
            in_flight: self.in_flight,
            before_start: self.before_start,
            unarchived: self.unarchived,
            trained_share: (produced.groups > 0)
                .then(|| self.trained.groups as f64 / produced.groups as f64),
            length: Compared {
                produced: lengths.produced.distribution(),
                trained: lengths.trained.distribution(),
                bias: bias(
                    (lengths.produced.mean(), lengths.trained.mean()),
                    &self.length_of_groups,
                ),
            },
            reward: Compared {
                produced: rewards.0,
                trained: rewards.1,
                bias: bias(rewards, &self.reward_of_groups),
            },
            staleness: self.staleness.distribution(),
        }
    }
}
