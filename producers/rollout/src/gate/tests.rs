use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use vintage_control::{PolicyVersion, UpdateNumber};

use super::{Announced, Filled, Gate, GateBase, GateRule, Slot, slot_number};

fn announced(version: u64, rejected: u64) -> Announced {
    Announced {
        version: PolicyVersion(version),
        rejected,
        refused: BTreeMap::new(),
        updates: None,
    }
}

fn wait(max_staleness: u64, batch: u64, base: u64) -> Gate {
    let base = GateBase {
        published_before: base,
        ..GateBase::default()
    };
    Gate::new(GateRule::Wait { max_staleness }, batch, 1, None, base).unwrap()
}

fn exact(k: u64, batch: u64, updates: Option<u64>, filled: &[(i64, u64)]) -> Gate {
    let first = |groups| (0..groups).collect::<Vec<_>>();
    let filled: Vec<_> = filled.iter().map(|&(b, n)| (b, first(n))).collect();
    exact_after(k, batch, updates, &filled)
}

/// Exact gate after producers that filled the given places of the given batches.
fn exact_after(k: u64, batch: u64, updates: Option<u64>, filled: &[(i64, Vec<u64>)]) -> Gate {
    let places = |(b, places): &(i64, Vec<u64>)| {
        let slots = places.iter();
        let filled = Filled {
            groups: places.len() as u64,
            slots: slots
                .map(|place| slot_number(*b as u64, batch, *place))
                .collect(),
        };
        (*b, filled)
    };
    let base = GateBase {
        filled: filled.iter().map(places).collect(),
        ..GateBase::default()
    };
    Gate::new(GateRule::Exact { k }, batch, 1, updates, base).unwrap()
}

#[test]
fn the_formula() {
    // (version + max_staleness + 1) * batch + rejected - published - running
    let mut gate = wait(2, 8, 0);
    assert_eq!(gate.admit(&announced(0, 0), 100).slots.len(), 24);
    assert_eq!(gate.admit(&announced(0, 0), 100).slots.len(), 0);
    assert_eq!(gate.admit(&announced(1, 3), 100).slots.len(), 11);
    gate.abandon(Slot {
        number: 3,
        batch: -1,
    });
    gate.abandon(Slot {
        number: 4,
        batch: -1,
    });
    let admission = gate.admit(&announced(1, 3), 100);
    assert_eq!(admission.version, PolicyVersion(1));
    // A replacement gets a new slot.
    assert_eq!(
        admission.slots,
        [
            Slot {
                number: 35,
                batch: -1
            },
            Slot {
                number: 36,
                batch: -1
            }
        ]
    );
}

#[test]
fn a_restart_counts_what_was_published_before() {
    let mut gate = wait(0, 8, 5);
    let admission = gate.admit(&announced(0, 0), 100);
    assert_eq!(admission.slots.len(), 3);
    assert_eq!(admission.slots[0].number, 5);
    assert_eq!(wait(0, 8, 80).admit(&announced(3, 0), 100).slots.len(), 0);
}

#[test]
fn nothing_is_sampled_for_updates_that_never_come() {
    let base = GateBase::default();
    let mut gate = Gate::new(GateRule::Wait { max_staleness: 16 }, 4, 1, Some(3), base).unwrap();
    assert_eq!(gate.admit(&announced(0, 0), 100).slots.len(), 12);
    assert_eq!(gate.admit(&announced(2, 0), 100).slots.len(), 0);
    assert_eq!(gate.admit(&announced(2, 2), 100).slots.len(), 2);
}

#[test]
fn the_learner_knows_best_how_long_the_run_is() {
    let base = GateBase::default;
    let announced_with = |version, updates| Announced {
        updates: Some(updates),
        ..announced(version, 0)
    };
    let rule = GateRule::Wait { max_staleness: 16 };
    let mut gate = Gate::new(rule, 4, 1, Some(400), base()).unwrap();
    assert_eq!(gate.admit(&announced_with(0, 3), 100).slots.len(), 12);
    // The learner was started again with more updates to do.
    assert_eq!(gate.admit(&announced_with(3, 5), 100).slots.len(), 8);
    let mut gate = Gate::new(GateRule::Exact { k: 16 }, 4, 1, Some(400), base()).unwrap();
    assert_eq!(gate.admit(&announced_with(0, 3), 100).slots.len(), 12);
}

#[test]
fn settings_that_would_starve_are_refused() {
    let base = GateBase::default;
    let refusal = |rule, publish_every| {
        Gate::new(rule, 8, publish_every, None, base())
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(GateRule::Wait { max_staleness: 2 }, 4).contains("to at least 3"));
    assert!(refusal(GateRule::Exact { k: 4 }, 2).contains("publish_every = 1"));
    assert!(Gate::new(GateRule::Wait { max_staleness: 3 }, 8, 4, None, base()).is_ok());
    assert!(Gate::new(GateRule::Wait { max_staleness: 3 }, 0, 1, None, base()).is_err());
}

#[test]
fn exact_batches_are_sampled_by_the_version_k_before() {
    let mut gate = exact(2, 2, Some(5), &[]);
    let take = |gate: &mut Gate, version, at_most| {
        let admission = gate.admit(&announced(version, 0), at_most);
        let batches: Vec<_> = admission.slots.iter().map(|slot| slot.batch).collect();
        (admission.version.0, batches)
    };
    // Version 0 samples batches 0 to 2, which may share a call.
    assert_eq!(take(&mut gate, 0, 5), (0, vec![0, 0, 1, 1, 2]));
    assert_eq!(take(&mut gate, 0, 5), (0, vec![2]));
    assert_eq!(take(&mut gate, 0, 5).1, Vec::<i64>::new());
    // Two versions are announced at once and need one call each.
    assert_eq!(take(&mut gate, 2, 5), (1, vec![3, 3]));
    assert_eq!(take(&mut gate, 2, 5), (2, vec![4, 4]));
    // The run has five updates.
    assert_eq!(take(&mut gate, 4, 5).1, Vec::<i64>::new());
}

#[test]
fn exact_restarts_where_the_log_ends() {
    let mut gate = exact(1, 4, None, &[(3, 4), (4, 1), (5, 9)]);
    let slots = gate.admit(&announced(3, 0), 10).slots;
    let numbers: Vec<_> = slots.iter().map(|slot| (slot.batch, slot.number)).collect();
    assert_eq!(numbers, [(4, 17), (4, 18), (4, 19)]);
    assert_eq!(gate.admit(&announced(4, 0), 10).slots.len(), 0);
    assert_eq!(
        gate.admit(&announced(5, 0), 10).slots[0],
        Slot {
            number: 24,
            batch: 6
        }
    );
}

#[test]
fn exact_fills_the_holes_of_a_killed_life_and_repeats_no_slot() {
    // The second of batch 3's slots 12 to 15 was never published, and the third was refused.
    let mut gate = exact_after(0, 4, None, &[(3, vec![0, 2, 3])]);
    let mut news = announced(3, 1);
    news.refused = BTreeMap::from([(UpdateNumber(3), 1)]);
    let slots = gate.admit(&news, 10).slots;
    let numbers: Vec<_> = slots.iter().map(|slot| slot.number).collect();
    assert_eq!(
        numbers,
        [13, (1 << 40) + 12],
        "one that is missing, one to make up for the refused"
    );
    assert!(gate.admit(&news, 10).slots.is_empty());
}

#[test]
fn exact_makes_up_for_groups_that_were_refused_or_abandoned() {
    let mut gate = exact(2, 2, Some(4), &[(1, 2)]);
    let taken = gate.admit(&announced(0, 0), 100).slots;
    assert_eq!(
        taken.iter().map(|slot| slot.batch).collect::<Vec<_>>(),
        [0, 0, 2, 2]
    );
    gate.abandon(taken[1]);
    let mut news = announced(0, 3);
    news.refused = BTreeMap::from([(UpdateNumber(1), 1), (UpdateNumber(2), 2)]);
    let made_up = gate.admit(&news, 100);
    assert_eq!(made_up.version, PolicyVersion(0));
    assert_eq!(
        made_up
            .slots
            .iter()
            .map(|slot| slot.batch)
            .collect::<Vec<_>>(),
        [0, 1, 2, 2]
    );
    // The replacements have new slots, or the same groups would be sampled again.
    let mut numbers: Vec<_> = taken
        .iter()
        .chain(&made_up.slots)
        .map(|slot| slot.number)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8);
    assert!(gate.admit(&news, 100).slots.is_empty());
}

/// One step of a random schedule of producer and learner.
#[derive(Debug, Clone)]
enum Step {
    Start(u64),
    Finish(usize),
    Abandon(usize),
    Train,
    Reject(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..20).prop_map(Step::Start),
        3 => (1_usize..20).prop_map(Step::Finish),
        1 => (1_usize..3).prop_map(Step::Abandon),
        3 => Just(Step::Train),
        1 => (1_usize..3).prop_map(Step::Reject),
        1 => Just(Step::Restart),
    ]
}

/// Model of a run: each group is represented by the version that was announced when it was
/// admitted.
#[derive(Clone)]
struct Run {
    max_staleness: u64,
    batch: u64,
    publish_every: u64,
    gate: Gate,
    running: VecDeque<u64>,
    log: VecDeque<u64>,
    published: u64,
    version: u64,
    rejected: u64,
    announced: Announced,
    worst: u64,
}

impl Run {
    fn new(max_staleness: u64, batch: u64, publish_every: u64) -> Self {
        Self {
            max_staleness,
            batch,
            publish_every,
            gate: Self::gate(max_staleness, batch, publish_every, 0),
            running: VecDeque::new(),
            log: VecDeque::new(),
            published: 0,
            version: 0,
            rejected: 0,
            announced: announced(0, 0),
            worst: 0,
        }
    }

    fn gate(max_staleness: u64, batch: u64, publish_every: u64, before: u64) -> Gate {
        let base = GateBase {
            published_before: before,
            ..GateBase::default()
        };
        Gate::new(
            GateRule::Wait { max_staleness },
            batch,
            publish_every,
            None,
            base,
        )
        .unwrap()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Start(at_most) => {
                let admission = self.gate.admit(&self.announced, at_most);
                self.running
                    .extend(admission.slots.iter().map(|_| admission.version.0));
            }
            Step::Finish(groups) => {
                for _ in 0..groups.min(self.running.len()) {
                    self.log.extend(self.running.pop_front());
                    self.published += 1;
                }
            }
            Step::Abandon(groups) => {
                let groups = groups.min(self.running.len());
                self.running.drain(..groups);
                for _ in 0..groups {
                    self.gate.abandon(Slot {
                        number: 0,
                        batch: -1,
                    });
                }
            }
            Step::Train => {
                if self.log.len() as u64 >= self.batch {
                    for sampled in self.log.drain(..self.batch as usize) {
                        self.worst = self.worst.max(self.version - sampled);
                    }
                    self.version += 1;
                    if self.version.is_multiple_of(self.publish_every) {
                        self.announced = announced(self.version, self.rejected);
                    }
                }
            }
            Step::Reject(groups) => {
                let groups = groups.min(self.log.len());
                self.log.drain(..groups);
                self.rejected += groups as u64;
                // The learner announces the published version again when it refuses groups.
                self.announced.rejected = self.rejected;
            }
            Step::Restart => {
                // Running groups are lost with the producer; published ones stay in the log.
                self.running.clear();
                self.gate = Self::gate(
                    self.max_staleness,
                    self.batch,
                    self.publish_every,
                    self.published,
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn no_group_is_ever_staler_than_allowed(
        max_staleness in 0_u64..6, batch in 1_u64..6, slack in 0_u64..6,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let publish_every = (max_staleness + 1).saturating_sub(slack).max(1);
        let mut run = Run::new(max_staleness, batch, publish_every);
        for step in &steps {
            run.take(step);
            prop_assert!(run.worst <= max_staleness, "{step:?}: {} updates", run.worst);
            let admitted = run.published + run.running.len() as u64;
            let bound = (run.announced.version.0 + max_staleness + 1) * batch + run.rejected;
            prop_assert!(admitted <= bound);
        }
    }

    #[test]
    fn the_learner_never_starves(
        max_staleness in 0_u64..6, batch in 1_u64..6, slack in 0_u64..6,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let publish_every = (max_staleness + 1).saturating_sub(slack).max(1);
        let mut run = Run::new(max_staleness, batch, publish_every);
        for step in &steps {
            run.take(step);
            // From every reachable state, ordinary work makes progress.
            let target = run.version + 1;
            let mut probe = run.clone();
            for _ in 0..batch {
                probe.take(&Step::Start(batch));
                probe.take(&Step::Finish(usize::MAX));
            }
            probe.take(&Step::Train);
            prop_assert!(probe.version >= target, "stuck at {} after {step:?}", probe.version);
        }
    }

    #[test]
    fn exact_hands_out_every_slot_once(
        k in 0_u64..5, batch in 1_u64..5, updates in 1_u64..12,
        pace in prop::collection::vec((1_u64..9, 0_u64..3), 1..60),
        filled in prop::collection::btree_map(
            0_i64..12, prop::collection::btree_set(0_u64..5, 0..6), 0..4,
        ),
    ) {
        let in_batch = |places: &BTreeSet<u64>| places.range(..batch).copied().collect();
        let pairs: Vec<_> = filled.iter().map(|(&b, places)| (b, in_batch(places))).collect();
        let mut gate = exact_after(k, batch, Some(updates), &pairs);
        let done = |b: u64, j: u64| filled.get(&(b as i64)).is_some_and(|f| f.contains(&j));
        let mut version = 0;
        let mut seen = BTreeMap::new();
        let finish = (0..updates).flat_map(|v| std::iter::repeat_n((100, v), 8));
        for (at_most, step) in pace.into_iter().map(|(n, d)| (n, Err(d)))
            .chain(finish.map(|(n, v)| (n, Ok(v))))
        {
            // A learner trains a batch only once it is full.
            let trainable = |b: u64| (0..batch).all(|j| {
                done(b, j) || seen.contains_key(&(b * batch + j))
            });
            let goal = match step { Err(steps) => version + steps, Ok(v) => v.max(version) };
            while version < goal && version < updates && trainable(version) { version += 1; }
            let admission = gate.admit(&announced(version, 0), at_most);
            for slot in admission.slots {
                prop_assert_eq!(slot.batch as u64, slot.number / batch);
                prop_assert_eq!(admission.version.0, (slot.batch as u64).saturating_sub(k));
                prop_assert!(admission.version.0 <= version);
                prop_assert!(seen.insert(slot.number, admission.version.0).is_none());
            }
        }
        let expected: Vec<u64> = (0..updates)
            .flat_map(|b| (0..batch).filter(move |&j| !done(b, j)).map(move |j| b * batch + j))
            .collect();
        prop_assert_eq!(seen.into_keys().collect::<Vec<_>>(), expected);
    }
}
