//! Tests of learners that train groups again: killed, started again, replayed.

use std::collections::BTreeSet;

use vintage_control::{Reuse, Sampler};
use vintage_settings::{KlConfig, LearnerConfig, ReincarnationConfig, ReplayConfig, SourceKind};

use super::ways::elsewhere;
use crate::devices::CpuOnly;
use crate::learner::fixture::{
    Logs, RunRecords, STEPS, begin, killed_at_every, log, outcome, replayed, run_in, run_process,
};

/// Update from which nothing is used again.
const REBORN: u64 = 3;

/// Settings that use a group of every update again, twice in each, under a penalty, up to
/// [`REBORN`].
fn remix(learner: &mut LearnerConfig) {
    learner.replay = ReplayConfig {
        share: 1.0 / 3.0,
        window: 2,
        sampler: Sampler::Uniform,
    };
    learner.reuse = 2;
    learner.kl = KlConfig {
        beta: 0.1,
        decay_from: 1,
        decay_every: 1,
        ..KlConfig::default()
    };
    learner.reincarnation = ReincarnationConfig {
        at: Some(REBORN),
        reset_optimizer: true,
    };
}

/// Returns what a learner leaves that was not killed.
fn run_with(adjust: fn(&mut LearnerConfig)) -> RunRecords {
    let log = log();
    let folder = tempfile::tempdir().unwrap();
    run_in(begin(folder.path()));
    let logs = Logs {
        adjust,
        ..log.as_slice().into()
    };
    run_process(folder.path(), usize::MAX, logs).unwrap();
    outcome(folder.path())
}

#[test]
fn killed_while_it_trains_groups_again_it_trains_those_it_would_have_trained() {
    let log = log();
    let logs = || Logs {
        adjust: remix,
        ..log.as_slice().into()
    };
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    let summary = run_process(whole.path(), usize::MAX, logs()).unwrap();
    assert!(summary.finished, "{summary:?}");
    let expected = outcome(whole.path());
    let plans = &expected.0;
    let reused: Vec<_> = plans.iter().map(|plan| plan.reused.len()).collect();
    assert_eq!(reused, [0, 1, 1, 0, 0], "none before the first, none after");
    assert_eq!(summary.groups_trained, 2 * STEPS, "once each");
    for (update, plan) in (0..).zip(plans) {
        let reuse = &plan.reuse;
        assert_eq!(reuse.passes, if update < REBORN { 2 } else { 1 });
        assert_eq!(reuse.reset_optimizer, update == REBORN);
        let kl = reuse.kl.unwrap();
        let reference = if update < REBORN { 0 } else { REBORN };
        let previous = u64::saturating_sub(update, 1);
        assert_eq!((kl.reference.0, kl.previous.0), (reference, previous));
        for again in &plan.reused {
            let first = &plans[again.first_trained.0 as usize];
            assert!(first.groups.contains(&again.group), "{again:?}");
            assert!(plan.update().0 - again.first_trained.0 <= 2, "{again:?}");
        }
    }
    for (plan, result) in plans.iter().zip(&expected.1) {
        assert_eq!(result.rows, plan.rows());
        assert_eq!(result.reused_groups, plan.reused.len() as u64);
    }
    killed_at_every(3, &expected, logs, |_| {});

    let replay = replayed(whole.path(), &log, &CpuOnly);
    assert_eq!((replay.updates, &replay.deviation), (STEPS, &None));
    assert_eq!(&replay.weights[..], &expected.2[..]);
}

/// Checks that the settings of reuse change the weights, each by itself.
#[test]
fn every_way_to_use_data_again_has_an_effect() {
    let ways: [fn(&mut LearnerConfig); 5] = [
        |_| {},
        |learner| learner.reuse = 2,
        |learner| learner.replay.share = 1.0 / 3.0,
        |learner| learner.kl.beta = 0.1,
        |learner| {
            learner.reincarnation = ReincarnationConfig {
                at: Some(2),
                reset_optimizer: true,
            };
        },
    ];
    let weights = ways.map(|adjust| run_with(adjust).2);
    let different: BTreeSet<_> = weights.iter().collect();
    assert_eq!(different.len(), ways.len());
}

/// Returns a rule that takes one of three groups from the latest three updates.
fn third(sampler: Sampler) -> ReplayConfig {
    ReplayConfig {
        share: 1.0 / 3.0,
        window: 3,
        sampler,
    }
}

/// Checks that samplers keep to the window and choose as they say.
#[test]
fn samplers_choose_from_the_window() {
    let plans_of = |adjust: fn(&mut LearnerConfig)| run_with(adjust).0;
    let newest = plans_of(|learner| learner.replay = third(Sampler::Newest));
    for plan in &newest[1..] {
        let [again] = &plan.reused[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(again.first_trained.next(), plan.update());
    }
    let by_priority = |learner: &mut LearnerConfig| learner.replay = third(Sampler::Priority);
    let by_spread = |learner: &mut LearnerConfig| learner.replay = third(Sampler::Spread);
    for plans in [plans_of(by_priority), plans_of(by_spread)] {
        assert!(plans[1..].iter().all(|plan| plan.reused.len() == 1));
        assert!(plans[0].reuse != Reuse::default());
    }
}

/// Checks that the archive's groups come in an order that the seed draws, the same after a kill.
#[test]
fn killed_while_it_draws_from_an_archive_it_draws_what_it_would_have_drawn() {
    let own = log();
    let archive = elsewhere();
    let logs = || Logs {
        own: &own,
        blended: Some(&archive),
        adjust: |learner| {
            learner.source = SourceKind::Hybrid;
            learner.archive_ahead = 3;
            // Groups that are read ahead make older ones staler.
            learner.max_age = None;
        },
        ..own.as_slice().into()
    };
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    run_process(whole.path(), usize::MAX, logs()).unwrap();
    let expected = outcome(whole.path());
    let drawn = expected.0.iter().flat_map(|plan| {
        let archived = plan.groups.iter().filter(|group| group.source.is_some());
        archived.map(|group| group.producer_seq)
    });
    let drawn: Vec<_> = drawn.collect();
    let mut sorted = drawn.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [100, 102, 103], "each once");
    assert_ne!(drawn, sorted, "with this seed in another order");
    killed_at_every(5, &expected, logs, |_| {});
}
