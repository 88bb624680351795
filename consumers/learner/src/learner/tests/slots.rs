//! Tests of what a learner keeps and reports of granted slots.

use std::{collections::BTreeSet, path::Path};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vintage_control::{
    CheckpointManifest, NumberSet, PolicyVersion, ProducerWindow, RecordId, RejectReason,
    SlotNumber,
};
use vintage_settings::SourceKind;
use vintage_store::{Records, Store, Weights};

use crate::{
    learner::{
        fixture::{STEPS, begin, log, open, outcome, run_in, run_process, settings},
        granted_before,
    },
    outlet::{LearnerProgress, Outlet},
    settings::LearnerSettings,
    source::Incoming,
};

/// Returns the log of the other tests with a slot in every message, and second groups of some slots.
fn granted_log() -> Vec<Incoming> {
    let slot_of = |seq: u64| if seq % 9 == 5 { seq - 4 } else { seq };
    let mut log = log();
    for incoming in &mut log {
        if let Ok((headers, _)) = &mut incoming.message {
            headers.slot = Some(SlotNumber(slot_of(headers.producer_seq)));
        }
    }
    log
}

fn newest_manifest(folder: &Path) -> CheckpointManifest {
    run_in(async {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let name: vintage_control::Name = "lead".parse().unwrap();
        let weights = Weights::new(store.clone(), name.clone());
        let checkpoint = Records::new(store, name).newest_checkpoint(&weights).await;
        checkpoint.unwrap().unwrap().manifest
    })
}

/// Checks that the last checkpoint of a learner that was killed at any await holds the slots of one
/// that was never killed, and that no slot is trained twice.
#[test]
fn killed_anywhere_it_keeps_the_slots_that_are_finished() {
    let log = granted_log();
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    run_process(whole.path(), usize::MAX, &log).unwrap();
    let expected = outcome(whole.path());
    let slots = newest_manifest(whole.path()).slots;
    assert!(!slots.is_empty());

    let slot = |record: &RecordId| {
        let of = log.iter().find(|incoming| incoming.record == *record);
        of.and_then(|of| of.message.as_ref().ok()?.0.slot)
    };
    let trained = expected.0.iter().flat_map(|plan| &plan.groups);
    let trained: Vec<_> = trained
        .filter_map(|group| slot(&group.records[0]))
        .collect();
    let once: BTreeSet<_> = trained.iter().copied().collect();
    assert_eq!(
        once.len(),
        trained.len(),
        "a slot is trained twice: {trained:?}"
    );
    let finished = NumberSet::from(&slots);
    assert!(trained.iter().all(|slot| finished.contains(slot.0)));
    let refused = expected.0.iter().flat_map(|plan| &plan.rejections);
    let taken = refused.filter(|refused| refused.reason == RejectReason::SlotTaken);
    assert!(taken.count() > 0);

    let mut polls = 1;
    loop {
        let folder = tempfile::tempdir().unwrap();
        run_in(begin(folder.path()));
        if run_process(folder.path(), polls, &log).is_some() {
            break;
        }
        run_process(folder.path(), usize::MAX, &log).unwrap();
        assert!(outcome(folder.path()) == expected, "killed at {polls}");
        let again = newest_manifest(folder.path()).slots;
        assert_eq!(again, slots, "killed at {polls}");
        polls += 7;
    }
}

/// Checks that the granter hears of each slot once, and of every slot that is not finished again
/// after a restart.
#[test]
fn the_granter_hears_of_every_slot() {
    let log = granted_log();
    let folder = tempfile::tempdir().unwrap();
    let hear = |log: &[Incoming]| -> (NumberSet, Vec<LearnerProgress>) {
        run_in(async {
            let store = Store::open(folder.path().to_str().unwrap()).unwrap();
            let (mut learner, inputs) = open(store, format!("w-{}", log.len()), log.into())
                .await
                .unwrap();
            let finished = learner.finished_slots().clone();
            let (tell, mut heard) = mpsc::unbounded_channel();
            let (events, _unheard) = mpsc::unbounded_channel();
            learner.outlet = Outlet::without_log(events).with_granter(tell);
            learner
                .run(inputs, &CancellationToken::new())
                .await
                .unwrap();
            let mut reports = Vec::new();
            while let Ok(report) = heard.try_recv() {
                reports.push(report);
            }
            (finished, reports)
        })
    };
    let slots_of = |reports: &[LearnerProgress]| {
        let seen = reports.iter().flat_map(|report| &report.seen);
        let seen: Vec<_> = seen.map(|(slot, _)| slot.0).collect();
        let once: NumberSet = seen.iter().copied().collect();
        assert_eq!(once.len(), seen.len() as u64, "heard twice: {seen:?}");
        once
    };
    run_in(begin(folder.path()));
    let (finished, reports) = hear(&log[..log.len() / 4]);
    assert!(finished.is_empty());
    let first = slots_of(&reports);
    let last = &reports.last().unwrap().progress;
    assert!(reports.iter().any(|report| report.progress.starving));
    let (announced, next) = (last.announced.0, last.next_update);
    assert!(announced >= 1 && next.0 == announced, "{last:?}");
    let ordered = reports
        .windows(2)
        .all(|two| two[0].progress.next_update <= two[1].progress.next_update);
    assert!(ordered, "{reports:#?}");

    let (finished, reports) = hear(&log);
    assert!(!finished.is_empty());
    let again = slots_of(&reports);
    for (first_slot, last_slot) in first.runs() {
        for slot in first_slot..=last_slot {
            let known = finished.contains(slot) || again.contains(slot);
            assert!(known, "slot {slot} is unknown after the restart");
            assert!(!(finished.contains(slot) && again.contains(slot)), "{slot}");
        }
    }
    assert_eq!(reports.last().unwrap().progress.announced.0, STEPS);
}

fn manifest(change: impl Fn(&mut CheckpointManifest)) -> CheckpointManifest {
    let golden =
        include_str!("../../../../../schemas/control/tests/golden/checkpoint_manifest.json");
    let mut manifest: CheckpointManifest = serde_json::from_str(golden).unwrap();
    change(&mut manifest);
    manifest
}

/// Checks that a run that began before slots were granted does not sample its first prompts again.
#[test]
fn a_checkpoint_made_before_slots_counts_what_was_trained() {
    let below = |next| ProducerWindow {
        next,
        ..ProducerWindow::default()
    };
    let bounded = LearnerSettings {
        max_staleness: Some(2),
        ..settings()
    };
    let old = manifest(|_| {});
    assert!(old.slots.is_empty());
    // Under the waiting rule a slot was never sampled again, also if its group was rejected.
    assert_eq!(granted_before(&bounded, &old), below(272 + 3));
    assert_eq!(granted_before(&settings(), &old), below(272));
    let slots = ProducerWindow {
        next: 5,
        above: vec![7],
        ..ProducerWindow::default()
    };
    let new = manifest(|manifest| manifest.slots = slots.clone());
    assert_eq!(granted_before(&bounded, &new), slots);
    assert_eq!(granted_before(&settings(), &new), slots);
}

/// Checks that groups of an archive, which took no slots, do not count: under the exact rule the
/// first update without a slot would wait for groups that nobody is granted.
#[test]
fn a_checkpoint_made_before_slots_counts_no_blended_groups() {
    let mut blend = settings();
    blend.blended = Some("other".to_owned());
    blend.learner.source = SourceKind::Blend;
    blend.learner.blend_share = 1.0 / 3.0;
    let old = manifest(|manifest| {
        manifest.version = PolicyVersion(10);
        (manifest.groups_trained, manifest.groups_rejected) = (30, 0);
    });
    // Two of the three groups of each update came from the run's own log.
    assert_eq!(blend.learner.live_groups(), 2);
    assert_eq!(granted_before(&blend, &old).next, 20);
}
