//! Tests of learners that blend in an archive or train adapters, and of replays.

use std::{collections::BTreeSet, path::Path};

use vintage_control::{CheckpointManifest, Plan, PolicyVersion, Precision, UpdateNumber};
use vintage_settings::PublishConfig;
use vintage_store::{Store, Weights, sha256};

use crate::devices::CpuOnly;
use crate::intake::fixture;
use crate::learner::fixture::{
    Logs, STEPS, begin, killed_at_every, live, log, lora, outcome, replayed, run_in, run_process,
};
use crate::source::Incoming;

/// Returns an archive of four groups, of which three can be trained.
pub(super) fn elsewhere() -> Vec<Incoming> {
    // Groups of another run: other numbers, versions far from ours, and one group that is refused.
    (0..4_u64)
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
        .collect()
}

/// Checks that a blended archive resumes where the plans have used it up: it provides its share of
/// every update for as long as it lasts, wherever the learner is killed.
#[test]
fn killed_while_it_blends_it_blends_what_it_would_have_blended() {
    let own = log();
    let blended = elsewhere();
    let logs = || Logs {
        own: &own,
        blended: Some(&blended),
        ..own.as_slice().into()
    };
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    assert!(
        run_process(whole.path(), usize::MAX, logs())
            .unwrap()
            .finished
    );
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

/// Checks that checkpoints hold the adapters: a learner killed at every 7th await resumes with them
/// and publishes them merged, and a replay draws the same initial ones.
#[test]
fn a_learner_of_adapters_goes_on_with_them() {
    let log = log();
    let logs = || Logs {
        lora: true,
        ..(&log).into()
    };
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    run_process(whole.path(), usize::MAX, logs()).unwrap();
    let expected = outcome(whole.path());
    assert!(expected.0.iter().all(|plan| plan.training == lora()));

    let seen_adapters = std::cell::Cell::new(false);
    killed_at_every(7, &expected, logs, |folder| {
        let (_, adapters) = readable(folder);
        seen_adapters.set(seen_adapters.get() || !adapters.is_empty());
    });
    assert!(seen_adapters.get());
    // How a version is stored changes nothing else.
    let merged = tempfile::tempdir().unwrap();
    run_in(begin(merged.path()));
    let publish = PublishConfig {
        adapters: false,
        ..PublishConfig::default()
    };
    let logs = || Logs { publish, ..logs() };
    run_process(merged.path(), usize::MAX, logs()).unwrap();
    assert!(outcome(merged.path()) == expected);

    // One checkpoint is kept, complete, and no file of the earlier ones.
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

    // A learner with other settings cannot resume from merged weights.
    let error = run_in(live(
        Store::open(whole.path().to_str().unwrap()).unwrap(),
        "other".to_owned(),
        (&log).into(),
    ));
    assert!(error.is_err());

    let replayed = replayed(whole.path(), &log, &CpuOnly);
    assert_eq!((replayed.updates, replayed.deviation), (STEPS, None));
    assert_eq!(replayed.weights, expected.2);
}

/// Returns the published versions of a folder, each of which can be read and is as its manifest
/// says, and which of them are not whole.
fn readable(folder: &Path) -> (Vec<u64>, Vec<u64>) {
    run_in(async {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let weights = Weights::new(store, "lead".parse().unwrap());
        let (mut all, mut based) = (Vec::new(), Vec::new());
        for version in weights.versions().await.unwrap() {
            let manifest = weights.manifest(version).await.unwrap().unwrap();
            let bytes = weights.fetch(version).await.unwrap();
            assert_eq!(sha256(&bytes), manifest.weights_sha256);
            assert!(weights.check(version).await.unwrap().is_empty());
            all.push(version.0);
            if manifest.delta.is_some() || manifest.adapter.is_some() {
                based.push(version.0);
            }
        }
        (all, based)
    })
}

/// Checks that a learner that publishes rounded weights as deltas goes on with the weights that it
/// trains: wherever it is killed, what is published can be read, and after a restart it publishes
/// what it would have published.
#[test]
fn killed_while_it_publishes_deltas_of_rounded_weights_it_loses_no_bit() {
    let log = log();
    let publishing = |precision, full_every, lora| Logs {
        publish: PublishConfig {
            precision,
            full_every,
            adapters: false,
        },
        lora,
        ..(&log).into()
    };
    let mut ends = BTreeSet::new();
    for lora in [false, true] {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut outcomes = Vec::new();
            for full_every in [1, 4] {
                let logs = || publishing(precision, full_every, lora);
                let whole = tempfile::tempdir().unwrap();
                run_in(begin(whole.path()));
                run_process(whole.path(), usize::MAX, logs()).unwrap();
                let expected = outcome(whole.path());
                let rounded = |plan: &Plan| plan.training.publish == precision;
                assert!(expected.0.iter().all(rounded));

                // Whole versions in f32 are what every other test kills.
                let seen_deltas = std::cell::Cell::new(false);
                if precision == Precision::Bf16 || full_every > 1 {
                    let step = if lora { 17 } else { 5 };
                    killed_at_every(step, &expected, logs, |folder| {
                        let (_, deltas) = readable(folder);
                        seen_deltas.set(seen_deltas.get() || !deltas.is_empty());
                    });
                }
                assert!(
                    lora || seen_deltas.get() == (full_every > 1),
                    "{precision:?} {full_every}"
                );
                // What stays is whole: version 0, the last, and the bases of checkpoints.
                let (all, deltas) = readable(whole.path());
                assert!(
                    all.contains(&STEPS) && deltas.is_empty(),
                    "{all:?} {deltas:?}"
                );

                let replayed = replayed(whole.path(), &log, &CpuOnly);
                assert_eq!((replayed.updates, replayed.deviation), (STEPS, None));
                assert_eq!(replayed.weights, expected.2);
                outcomes.push(expected);
            }
            // How a version is stored changes nothing else.
            assert!(outcomes[0] == outcomes[1]);
            ends.insert(outcomes.swap_remove(0).2);
        }
    }
    assert_eq!(ends.len(), 4);
}

/// Checks that a replay compares what is trained with what a checkpoint holds, and not only what
/// was rounded from it.
#[test]
fn a_replay_sees_masters_of_other_bits_behind_the_same_rounded_weights() {
    let log = log();
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    let publish = PublishConfig {
        precision: Precision::Bf16,
        ..PublishConfig::default()
    };
    let logs = Logs {
        publish,
        ..(&log).into()
    };
    run_process(whole.path(), usize::MAX, logs).unwrap();
    let path = whole
        .path()
        .join(format!("checkpoints/lead/{STEPS}/manifest.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut manifest: CheckpointManifest = serde_json::from_str(&text).unwrap();
    let masters = manifest.masters_sha256.replace(sha256(b"others")).unwrap();
    let name = format!("masters-{}.safetensors", &masters.to_string()[..16]);
    let bytes = std::fs::read(path.with_file_name(name)).unwrap();
    assert_eq!(sha256(&bytes), masters);
    std::fs::write(&path, serde_json::to_string(&manifest).unwrap()).unwrap();
    let found = replayed(whole.path(), &log, &CpuOnly).deviation.unwrap();
    assert_eq!(found.update, UpdateNumber(STEPS - 1));
    assert!(found.detail.contains(&masters.to_string()), "{found:?}");
}

/// Checks that a replay ends at a plan that is missing, unreadable or of another update, and that
/// other records reveal that the learner went further.
#[test]
fn a_replay_knows_how_far_the_learner_came() {
    let log = log();
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    run_process(whole.path(), usize::MAX, &log).unwrap();
    let clean = replayed(whole.path(), &log, &CpuOnly);
    assert_eq!((clean.updates, &clean.deviation), (STEPS, &None));
    let plan = |update: u64| whole.path().join(format!("plans/lead/{update}.json"));
    let text = |update: u64| std::fs::read(plan(update)).unwrap();
    // Replays with plan `update` replaced by `bytes` (`None` removes it) and returns what is
    // reported.
    let told = |update: u64, bytes: Option<&[u8]>| {
        let kept = text(update);
        match bytes {
            Some(bytes) => std::fs::write(plan(update), bytes).unwrap(),
            None => std::fs::remove_file(plan(update)).unwrap(),
        }
        let found = replayed(whole.path(), &log, &CpuOnly);
        std::fs::write(plan(update), kept).unwrap();
        let deviation = found.deviation.unwrap();
        assert_eq!((found.updates, deviation.update.0), (update, update));
        deviation.detail
    };
    for update in [0, 2, STEPS - 1] {
        let detail = told(update, None);
        assert!(detail.contains("tell of 5 updates"), "{detail}");
    }
    let detail = told(2, Some(b"{"));
    assert!(detail.contains("plans/lead/2.json"), "{detail}");
    let detail = told(2, Some(&text(1)));
    assert!(detail.contains("it is of update 1"), "{detail}");

    // Digests are compared with every record, not only with the next plan.
    let result = whole.path().join("results/lead/1.json");
    let mut noted: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    noted["weights_sha256"] = "0".repeat(64).into();
    std::fs::write(&result, noted.to_string()).unwrap();
    let found = replayed(whole.path(), &log, &CpuOnly).deviation.unwrap();
    assert_eq!(found.update, UpdateNumber(1));
}
