//! Tests of the window and of the choice from it.

use std::collections::BTreeMap;

use vintage_control::{Plan, PolicyVersion, ReplayRule, Reuse, Sampler, UpdateNumber};

use super::{ReuseWindow, WindowChange};
use crate::{
    error::Error,
    intake::ReadyGroup,
    update::fixture::{groups_of, plan},
};

fn rule(sampler: Sampler, window: u64) -> ReplayRule {
    ReplayRule { sampler, window }
}

/// Returns the plan of an update that trains one group and keeps those of the latest `window`.
fn one(update: u64, groups: &[ReadyGroup], window: u64) -> (Plan, Vec<ReadyGroup>) {
    let group = groups[update as usize].clone();
    let of_one = [group];
    let plan = Plan {
        version: PolicyVersion(update),
        reuse: Reuse {
            replay: (window > 0).then(|| rule(Sampler::Uniform, window)),
            ..Reuse::default()
        },
        ..plan(&of_one, 64)
    };
    (plan, of_one.to_vec())
}

#[test]
fn groups_leave_when_they_are_too_old_and_all_at_once_when_nothing_is_replayed() {
    let groups = groups_of(5, |_| {});
    let records = |update: usize| groups[update].planned.records.clone();
    let mut window = ReuseWindow::default();
    let mut advance = |update, reach| {
        let (plan, trained) = one(update, &groups, reach);
        let change = window.advance(&plan, &trained);
        let WindowChange { enter, leave } = change;
        (enter, leave)
    };
    assert_eq!(advance(0, 2), (records(0), vec![]));
    assert_eq!(advance(1, 2), (records(1), vec![]));
    assert_eq!(advance(2, 2), (records(2), records(0)));
    assert_eq!(advance(3, 0), (vec![], [records(1), records(2)].concat()));
}

#[test]
fn a_plan_that_names_what_is_not_there_or_other_content_is_refused() {
    let groups = groups_of(3, |_| {});
    let mut window = ReuseWindow::default();
    let (first, trained) = one(0, &groups, 2);
    window.advance(&first, &trained);
    let (mut second, _) = one(1, &groups, 2);
    let chosen = window.choose(UpdateNumber(1), 1, rule(Sampler::Newest, 2), 0);
    second.reused = chosen.into_iter().map(|(reused, _)| reused).collect();
    assert_eq!(window.take(&second).unwrap().len(), 1);
    let mut changed = second.clone();
    changed.reused[0].group.content_sha256.0[0] ^= 1;
    let error = window.take(&changed).unwrap_err();
    assert!(matches!(error, Error::ContentChanged { .. }), "{error}");
    second.reused[0].group.records = groups[2].planned.records.clone();
    let error = window.take(&second).unwrap_err();
    assert!(matches!(error, Error::RecordMissing { .. }), "{error}");
}

/// Returns how often each of the groups is chosen over many updates, by the update that trained it.
fn counts(sampler: Sampler, wanted: usize) -> BTreeMap<u64, u64> {
    // Rewards of the two rows are 0 and 4, but for the last group: 0 and 1.
    let groups = groups_of(4, |row| {
        let last = row.group_id.0[0] == 3;
        row.reward *= if last { 1.0 } else { 4.0 };
    });
    let mut window = ReuseWindow::default();
    for update in 0..4 {
        let (plan, trained) = one(update, &groups, 1000);
        window.advance(&plan, &trained);
    }
    let mut counts = BTreeMap::new();
    for seed in 0..4000 {
        let chosen = window.choose(UpdateNumber(4), wanted, rule(sampler, 4), seed);
        assert_eq!(chosen.len(), wanted);
        let again = window.choose(UpdateNumber(4), wanted, rule(sampler, 4), seed);
        let names = |chosen: &[(vintage_control::ReusedGroup, ReadyGroup)]| {
            let firsts = chosen.iter().map(|(reused, _)| reused.first_trained);
            firsts.collect::<Vec<_>>()
        };
        assert_eq!(names(&chosen), names(&again), "the same seed");
        for first in names(&chosen) {
            *counts.entry(first.0).or_default() += 1;
        }
    }
    counts
}

#[test]
fn the_uniform_sampler_takes_every_group_alike() {
    for (wanted, expected) in [(1, 1000.0), (2, 2000.0)] {
        for (first, count) in counts(Sampler::Uniform, wanted) {
            // Within five standard deviations.
            let off = (count as f64 - expected).abs();
            assert!(off < 160.0, "update {first}: {count} of {expected}");
        }
    }
    let all = counts(Sampler::Uniform, 4);
    assert!(all.values().all(|count| *count == 4000), "{all:?}");
}

/// Checks the weights |mean reward| · exp(−age / 2) of a window of four: ages 4 to 1, mean rewards
/// 2, 2, 2 and 0.5.
#[test]
fn the_priority_sampler_weighs_by_reward_and_age() {
    let weights = [(4.0, 2.0), (3.0, 2.0), (2.0, 2.0), (1.0, 0.5)];
    let weights = weights.map(|(age, reward): (f64, f64)| reward * (-age / 2.0).exp());
    let sum: f64 = weights.iter().sum();
    let counts = counts(Sampler::Priority, 1);
    for (first, weight) in (0..).zip(weights) {
        let expected = 4000.0 * weight / sum;
        let off = (counts[&first] as f64 - expected).abs();
        assert!(off < 5.0 * expected.sqrt(), "{first}: {counts:?}");
    }
}

/// Checks the weights, the mean of |reward − mean reward|: 2 for three groups, 0.5 for the last.
#[test]
fn the_spread_sampler_weighs_by_the_distance_from_the_mean() {
    let counts = counts(Sampler::Spread, 1);
    for (first, weight) in (0..).zip([4.0, 4.0, 4.0, 1.0]) {
        let expected = 4000.0 * weight / 13.0;
        let off = (counts[&first] as f64 - expected).abs();
        assert!(off < 5.0 * f64::sqrt(expected), "{first}: {counts:?}");
    }
}

/// Checks that a restarted learner has the window of one that went on, whatever the order is in which
/// its records arrive: the same groups in the same order, with the same numbers of uses.
#[test]
fn a_restored_window_is_the_one_that_was_lost() {
    let groups = groups_of(6, |_| {});
    let mut window = ReuseWindow::default();
    let mut plans: Vec<Plan> = Vec::new();
    for update in 0..3 {
        let trained = groups[2 * update..2 * update + 2].to_vec();
        let mut plan = Plan {
            version: PolicyVersion(update as u64),
            ..one(0, &groups, 2).0
        };
        plan.groups = trained.iter().map(|group| group.planned.clone()).collect();
        let chosen = window.choose(plan.update(), 1, rule(Sampler::Newest, 2), 0);
        plan.reused = chosen.into_iter().map(|(reused, _)| reused).collect();
        window.advance(&plan, &trained);
        plans.push(plan);
    }
    let held = |window: &ReuseWindow| -> Vec<_> {
        let kept = window.kept.iter();
        kept.map(|kept| (kept.order(), kept.uses, kept.group.planned.group.clone()))
            .collect()
    };
    assert_eq!(held(&window).len(), 4);
    assert!(held(&window).iter().any(|(_, uses, _)| *uses > 0));
    let mut restored = ReuseWindow::after(&plans);
    for group in groups.iter().rev() {
        restored.restore(group.clone());
    }
    assert!(restored.awaited.is_empty());
    assert_eq!(held(&restored), held(&window));
}
