//! Tests of learners that blend in an archive, train adapters, or compute on a device.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use vintage_control::{Deviation, Plan, PolicyVersion, UpdateNumber};
use vintage_settings::Device;
use vintage_store::{Records, Store, Weights};

use super::{
    Logs, Recorded, STEPS, begin, killed_at_every, live, log, lora, outcome, process, run_in,
};
use crate::{
    error::Error,
    extent::Extent,
    intake::fixture,
    replay,
    replay::{Recording, Replayed},
    source::Incoming,
};

/// Checks that a blended archive resumes where the plans have used it up: it provides its share of
/// every update for as long as it lasts, wherever the learner is killed.
#[test]
fn killed_while_it_blends_it_blends_what_it_would_have_blended() {
    let own = log();
    // Groups of another run: other numbers, versions far from ours, and one group that is refused.
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
    assert!(process(whole.path(), usize::MAX, logs()).unwrap().finished);
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
        let extent = Extent::read(&store, &name, &name).await.unwrap();
        let recording = Recording {
            source: &mut Recorded::from(log, &[]),
            start: &[],
            blended: None,
            extent: &extent,
        };
        let (records, weights) = (
            Records::new(store.clone(), name.clone()),
            Weights::new(store, name),
        );
        replay(&records, &weights, recording, |_| {}).await.unwrap()
    })
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
    process(whole.path(), usize::MAX, logs()).unwrap();
    let expected = outcome(whole.path());
    assert!(expected.0.iter().all(|plan| plan.training == lora()));

    killed_at_every(7, &expected, logs, |_| {});

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

    let replayed = replayed(whole.path(), &log);
    assert_eq!((replayed.updates, replayed.deviation), (STEPS, None));
    assert_eq!(replayed.weights, expected.2);
}

/// Checks that on a device, too, checkpoints hold the moments and a replay gives equal bits. A plan
/// computed there is refused elsewhere instead of being reported as wrong.
#[test]
fn a_learner_on_a_device_goes_on_and_replays() {
    let log = log();
    let logs = || Logs {
        device: Device::Composed,
        ..(&log).into()
    };
    let (whole, on_cpu) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_in(begin(whole.path()));
    process(whole.path(), usize::MAX, logs()).unwrap();
    let expected = outcome(whole.path());
    run_in(begin(on_cpu.path()));
    process(on_cpu.path(), usize::MAX, &log).unwrap();
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

/// Checks recovery on a GPU, which need not reproduce its bits: published weights and recorded
/// digests remain as they are, and training continues. The CPU kernels stand in for the first
/// process on the GPU, because the tensor operations of a GPU round differently.
#[test]
fn after_other_bits_the_published_ones_are_taken() {
    let (mut taken, mut left) = (0, 0);
    for polls in (40..).step_by(7) {
        let Some(noted) = deviations(polls, false) else {
            break;
        };
        let of_both = noted.iter().partition::<Vec<_>, _>(|noted| noted.taken);
        taken += of_both.0.len();
        left += of_both.1.len();
    }
    assert!(taken > 3, "{taken}");
    assert!(left > 1, "{left}: none of a version that was dropped");
}

/// Checks that adapters continue from what was computed, because they cannot be recovered from
/// merged weights.
#[test]
fn after_other_bits_adapters_go_on_with_theirs() {
    let noted: Vec<_> = (40..)
        .step_by(14)
        .map_while(|polls| deviations(polls, true))
        .flatten()
        .collect();
    assert!(noted.len() > 1 && noted.iter().all(|noted| !noted.taken));
}

/// Returns the deviations that a process on a device records when it resumes the work of one on the
/// CPU that was killed at its `polls`-th await; `None` if that one finished.
fn deviations(polls: usize, lora: bool) -> Option<Vec<Deviation>> {
    let log = log();
    let cpu = Logs {
        lora,
        ..(&log).into()
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run_in(begin(folder));
    if process(folder, polls, cpu).is_some() {
        return None;
    }
    replace_in_plans(folder, r#""device":"cpu""#, r#""device":"composed""#);
    let before: BTreeMap<_, _> = ["weights/lead", "results/lead"]
        .into_iter()
        .flat_map(|kind| files(&folder.join(kind)))
        .map(|file| (file.clone(), std::fs::read(file).unwrap()))
        .collect();
    let device = Device::Composed;
    process(folder, usize::MAX, Logs { device, ..cpu }).unwrap();

    let (plans, results, _) = outcome(folder);
    for (result, next) in results.iter().zip(&plans[1..]) {
        assert_eq!(result.weights_sha256, next.weights_sha256, "{polls}");
    }
    for (file, before) in before {
        // Versions may be removed; the remaining ones are unchanged.
        let there = std::fs::read(&file);
        assert!(there.is_err() || there.unwrap() == before, "{file:?}");
    }
    let noted = files(&folder.join("deviations/lead")).into_iter();
    let noted: Vec<Deviation> = noted
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .collect();
    for noted in &noted {
        let known = results[noted.version.0 as usize].weights_sha256;
        assert_eq!(noted.recorded_sha256, known);
        assert_ne!(noted.computed_sha256, known);
    }
    Some(noted)
}

/// Checks that a replay reports whether other bits are a fault: they are on the same build and
/// machine, but not for a GPU or for another machine.
#[test]
fn a_replay_tells_whether_other_bits_are_a_fault() {
    let log = log();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run_in(begin(folder));
    process(folder, usize::MAX, &log).unwrap();
    let reported = || {
        let found = replayed(folder, &log).deviation.unwrap();
        assert_eq!(found.update, UpdateNumber(0));
        (found.other_machine, found.on_gpu)
    };
    replace_in_plans(folder, r#""device":"cpu""#, r#""device":"composed""#);
    assert_eq!(reported(), (false, true));
    replace_in_plans(folder, r#""isa":""#, r#""isa":"another, "#);
    assert_eq!(reported(), (true, true));
    replace_in_plans(folder, r#""device":"composed""#, r#""device":"cpu""#);
    assert!(
        replayed(folder, &log).deviation.is_none(),
        "the same bits all the same"
    );
    let learned = r#""lr":"#;
    replace_in_plans(folder, learned, r#""lr":1"#);
    assert_eq!(reported(), (true, false));
    replace_in_plans(folder, r#""isa":"another, "#, r#""isa":""#);
    assert_eq!(reported(), (false, false));
}

/// Checks that a replay ends at a plan that is missing, unreadable or of another update, and that
/// other records reveal that the learner went further.
#[test]
fn a_replay_knows_how_far_the_learner_came() {
    let log = log();
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    process(whole.path(), usize::MAX, &log).unwrap();
    let clean = replayed(whole.path(), &log);
    assert_eq!((clean.updates, &clean.deviation), (STEPS, &None));
    let plan = |update: u64| whole.path().join(format!("plans/lead/{update}.json"));
    let text = |update: u64| std::fs::read(plan(update)).unwrap();
    // Replays with plan `update` replaced by `bytes` (`None` removes it) and returns what is
    // reported.
    let reported = |update: u64, bytes: Option<&[u8]>| {
        let kept = text(update);
        match bytes {
            Some(bytes) => std::fs::write(plan(update), bytes).unwrap(),
            None => std::fs::remove_file(plan(update)).unwrap(),
        }
        let found = replayed(whole.path(), &log);
        std::fs::write(plan(update), kept).unwrap();
        let deviation = found.deviation.unwrap();
        assert_eq!((found.updates, deviation.update.0), (update, update));
        deviation.detail
    };
    for update in [0, 2, STEPS - 1] {
        let detail = reported(update, None);
        assert!(detail.contains("tell of 5 updates"), "{detail}");
    }
    let detail = reported(2, Some(b"{"));
    assert!(detail.contains("plans/lead/2.json"), "{detail}");
    let detail = reported(2, Some(&text(1)));
    assert!(detail.contains("it is of update 1"), "{detail}");

    // Digests are compared with every record, not only with the next plan.
    let result = whole.path().join("results/lead/1.json");
    let mut noted: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    noted["weights_sha256"] = "0".repeat(64).into();
    std::fs::write(&result, noted.to_string()).unwrap();
    let found = replayed(whole.path(), &log).deviation.unwrap();
    assert_eq!(found.update, UpdateNumber(1));
}

fn replace_in_plans(folder: &Path, what: &str, by: &str) {
    for plan in files(&folder.join("plans/lead")) {
        let text = std::fs::read_to_string(&plan).unwrap();
        assert!(text.contains(what), "{text}");
        std::fs::write(plan, text.replace(what, by)).unwrap();
    }
}

/// Returns all files below a folder; none if there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
