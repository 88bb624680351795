//! Learners that blend, of adapters, and on a device.

use std::path::Path;

use vintage_control::{Plan, PolicyVersion};
use vintage_model::Place;
use vintage_store::{Store, Weights};

use super::{
    Logs, Recorded, STEPS, begin, killed_at_every, life, live, log, lora, outcome, run_in,
};
use crate::{Error, Incoming, Recording, Records, Replayed, intake::fixture, replay};

/// A blended archive is read on from where the plans have used it up: a share of every update for
/// as long as it lasts, whatever was killed.
#[test]
fn killed_while_it_blends_it_blends_what_it_would_have_blended() {
    let own = log();
    // Of another run: its own numbers, versions far from ours, one group that will not do.
    let blended: Vec<_> = (0..4_u64)
        .map(|seq| {
            let mut rows = [fixture::row(100 + seq, 0), fixture::row(100 + seq, 1)];
            for row in &mut rows {
                row.policy = "elsewhere".to_owned();
                row.policy_spans[0].version = PolicyVersion(70 + seq);
                row.behavior_logprobs[0] -= seq as f32 / 8.0;
            }
            if seq == 1 {
                rows[0].reward = f32::NAN;
            }
            fixture::message(seq as i64, 100 + seq, (1, 1), &rows)
        })
        .collect();
    let logs = || Logs {
        own: &own,
        blended: Some(&blended),
        ..own.as_slice().into()
    };
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    assert!(life(whole.path(), usize::MAX, logs()).unwrap().finished);
    let expected = outcome(whole.path());
    let archived = |plan: &Plan| {
        let sources = plan.groups.iter().map(|group| group.source.is_some());
        sources.filter(|archived| *archived).count()
    };
    let shares: Vec<_> = expected.0.iter().map(archived).collect();
    assert_eq!(
        shares,
        [1, 1, 1, 0, 0],
        "three of four groups can be trained"
    );
    let refused = expected.0.iter().flat_map(|plan| &plan.rejections);
    let refused = refused.filter(|refused| refused.source.is_some());
    assert_eq!(refused.count(), 1);

    killed_at_every(5, &expected, logs, |_| {});
}

fn replayed(folder: &Path, log: &[Incoming]) -> Replayed {
    run_in(async {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let name: vintage_control::Name = "lead".parse().unwrap();
        let recording = Recording {
            source: &mut Recorded::from(log, &[]),
            start: &[],
            blended: None,
        };
        let (records, weights) = (
            Records::new(store.clone(), name.clone()),
            Weights::new(store, name),
        );
        replay(&records, &weights, recording, |_| {}).await.unwrap()
    })
}

/// Checkpoints hold the adapters: killed at any await, a learner of adapters goes on with them,
/// publishes them merged, and a replay draws the same ones.
#[test]
fn a_learner_of_adapters_goes_on_with_them() {
    let log = log();
    let logs = || Logs {
        lora: true,
        ..(&log).into()
    };
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    life(whole.path(), usize::MAX, logs()).unwrap();
    let expected = outcome(whole.path());
    assert!(expected.0.iter().all(|plan| plan.training == lora()));

    killed_at_every(7, &expected, logs, |_| {});

    // One checkpoint is kept, whole, and nothing of those before it.
    let kept = std::fs::read_dir(whole.path().join("checkpoints/lead"));
    let kept: Vec<_> = kept.unwrap().map(|entry| entry.unwrap().path()).collect();
    let [kept] = &kept[..] else {
        panic!("{kept:?}")
    };
    let names = || std::fs::read_dir(kept).unwrap().map(|e| e.unwrap().path());
    let adapter = names().find(|path| path.is_dir()).unwrap();
    assert!(adapter.join("adapter_config.json").is_file());
    let bytes = std::fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    let digest = vintage_store::sha256(&bytes).to_string();
    assert!(adapter.ends_with(format!("adapter-{}", &digest[..16])));

    // Other settings cannot go on from merged weights.
    let error = run_in(live(
        Store::open(whole.path().to_str().unwrap()).unwrap(),
        "other".to_owned(),
        (&log).into(),
    ));
    assert!(error.is_err());

    let replayed = replayed(whole.path(), &log);
    assert_eq!((replayed.updates, replayed.deviation), (STEPS, None));
    assert_eq!(replayed.weights, expected.2);
}

/// On a device too, moments go through checkpoints and a replay gives the same bits; what was
/// planned there is not taken for wrong elsewhere, it is not run there.
#[test]
fn a_learner_on_a_device_goes_on_and_replays() {
    let log = log();
    let logs = || Logs {
        place: Place::Composed,
        ..(&log).into()
    };
    let (whole, on_cpu) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_in(begin(whole.path()));
    life(whole.path(), usize::MAX, logs()).unwrap();
    let expected = outcome(whole.path());
    run_in(begin(on_cpu.path()));
    life(on_cpu.path(), usize::MAX, &log).unwrap();
    assert_ne!(
        outcome(on_cpu.path()).2,
        expected.2,
        "the same code ran twice"
    );

    killed_at_every(23, &expected, logs, |folder| {
        let is_planned = folder.join("plans/lead/0.json").is_file();
        let has_checkpoint = folder.join("checkpoints").is_dir();
        if is_planned && !has_checkpoint {
            let store = Store::open(folder.to_str().unwrap()).unwrap();
            let error = run_in(live(store, "other".to_owned(), (&log).into())).unwrap_err();
            assert!(matches!(error, Error::OtherDevice { .. }), "{error}");
            assert!(error.to_string().contains("learner.device"), "{error}");
        }
    });
    let replayed = replayed(whole.path(), &log);
    assert_eq!((replayed.updates, replayed.deviation), (STEPS, None));
    assert_eq!(replayed.weights, expected.2);
}
