//! Whole runs of a learner on a recorded log, in this process.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use vintage_control::{PolicyVersion, RecordId, RejectReason, UpdateNumber};
use vintage_store::Store;
use vintage_trajectory::PolicySpan;

use super::fixture::{begin, live, log, open, outcome, run_in, run_process};
use crate::{
    error::{Error, Result},
    intake::fixture,
    source::Durability,
};

mod outside;
mod overlap;
mod reuse;
mod slots;
mod stops;
mod ways;

/// Checks that planning on a recorded log is a function of log and seed: a learner that is killed
/// at any await and restarted writes the plans, results and weights of one that was never killed.
#[test]
fn killed_between_any_two_steps_it_plans_what_it_would_have_planned() {
    let log = log();
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    let summary = run_process(whole.path(), usize::MAX, &log).unwrap();
    assert!(summary.finished && !summary.ended, "{summary:?}");
    let expected = outcome(whole.path());
    let reasons: Vec<_> = expected
        .0
        .iter()
        .flat_map(|plan| &plan.rejections)
        .collect();
    for reason in [
        RejectReason::Duplicate,
        RejectReason::BadHeaders,
        RejectReason::BadReward,
        RejectReason::BatchFull,
        RejectReason::TooStale,
        RejectReason::Incomplete,
    ] {
        let met = reasons.iter().any(|refused| refused.reason == reason);
        assert!(met, "{} did not occur: {reasons:#?}", reason.as_str());
    }
    let dies_at = |polls| {
        let folder = tempfile::tempdir().unwrap();
        run_in(begin(folder.path()));
        let died = run_process(folder.path(), polls, &log).is_none();
        if died {
            run_process(folder.path(), usize::MAX, &log).unwrap();
            assert!(
                outcome(folder.path()) == expected,
                "killed at point {polls}"
            );
        }
        died
    };
    // In parallel, because nearly all of the time is spent waiting for the disk.
    let mut polls = 1;
    loop {
        let died = std::thread::scope(|scope| {
            let processes = (polls..polls + 16).map(|polls| scope.spawn(move || dies_at(polls)));
            let processes: Vec<_> = processes.collect();
            let died = processes.into_iter().map(|process| process.join().unwrap());
            died.filter(|died| *died).count()
        });
        polls += died;
        if died < 16 {
            break;
        }
    }
    assert!(polls > 60, "only {polls} points");
}

/// Checks that processes in one folder, each of which dies one await later than the one before,
/// reach the outcome of a process that was never killed.
#[test]
fn killed_again_and_again_it_comes_to_the_same_end() {
    let log = log();
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_in(begin(whole.path()));
    run_in(begin(folder.path()));
    run_process(whole.path(), usize::MAX, &log).unwrap();
    let mut polls = 1;
    while run_process(folder.path(), polls, &log).is_none() {
        polls += 1;
    }
    assert!(outcome(folder.path()) == outcome(whole.path()));
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let left = run_in(store.list("checkpoints/lead")).unwrap();
    assert_eq!(left.len(), 2, "older checkpoints are pruned: {left:?}");
}

/// Checks that a recorded log that ends before all updates are done ends the learner, and that the
/// learner resumes once the log is longer and reads nothing twice.
#[test]
fn it_ends_with_the_log_and_goes_on_with_more_of_it() {
    let log = log();
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_in(begin(whole.path()));
    run_in(begin(folder.path()));
    run_process(whole.path(), usize::MAX, &log).unwrap();
    let first = run_process(folder.path(), usize::MAX, &log[..log.len() / 4]).unwrap();
    assert!(first.ended && !first.finished, "{first:?}");
    let second = run_process(folder.path(), usize::MAX, &log).unwrap();
    assert!(second.finished, "{second:?}");
    assert!(outcome(folder.path()) == outcome(whole.path()));
}

/// Checks that the lag of another policy's tokens is measured from the newest version read of that
/// policy.
#[test]
fn staleness_is_taken_within_the_lineage_that_sampled() {
    let log: Vec<_> = (0..6_u64)
        .map(|seq| {
            let mut rows = [fixture::row(seq, 0), fixture::row(seq, 1)];
            for row in &mut rows {
                row.policy = "other".to_owned();
                row.policy_spans = vec![PolicySpan {
                    start: 0,
                    version: PolicyVersion([40, 47, 41, 42, 50, 43][seq as usize]),
                }];
            }
            fixture::message(seq as i64, seq, (1, 1), &rows)
        })
        .collect();
    let mut settings = fixture::settings();
    settings.learner.lineages = vec!["other".parse().unwrap()];
    settings.learner.max_age = Some(8);
    let mut intake = crate::intake::Intake::new(settings, &[], &BTreeMap::new());
    for incoming in &log[..5] {
        intake
            .take(
                incoming.clone(),
                crate::intake::judge::PermittedVersions::Any,
            )
            .unwrap();
    }
    assert_eq!(intake.known()[0].version, PolicyVersion(50));
    let chosen = intake.choose(UpdateNumber(0), 2).unwrap();
    let oldest: Vec<_> = chosen.iter().map(|group| group.min_version().0).collect();
    assert_eq!(
        oldest,
        [47, 42],
        "40 and 41 are more than 8 updates older than 50"
    );
    let reasons: Vec<_> = intake.drain_refused().iter().map(|r| r.reason).collect();
    assert_eq!(reasons, [RejectReason::TooStale; 2]);
}
