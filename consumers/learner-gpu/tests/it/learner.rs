//! Tests of whole learners that train on a device.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use vintage_control::{Deviation, UpdateNumber};
use vintage_learner::Error;
use vintage_learner_gpu::WithGpus;
use vintage_settings::Device;
use vintage_store::Store;

use self::fixture::{
    Logs, STEPS, begin, killed_at_every, live, log, outcome, replayed, run_in, run_process,
};

#[path = "../../../learner/src/learner/fixture.rs"]
mod fixture;

/// Checks that on a device, too, checkpoints hold the moments and a replay gives equal bits. A plan
/// computed there is refused elsewhere instead of being reported as wrong.
#[test]
fn a_learner_on_a_device_goes_on_and_replays() {
    let log = log();
    let logs = || Logs {
        device: Device::Emulated,
        devices: &WithGpus,
        ..(&log).into()
    };
    let (whole, on_cpu) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_in(begin(whole.path()));
    run_process(whole.path(), usize::MAX, logs()).unwrap();
    let expected = outcome(whole.path());
    run_in(begin(on_cpu.path()));
    run_process(on_cpu.path(), usize::MAX, &log).unwrap();
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
    let replayed = replayed(whole.path(), &log, &WithGpus);
    assert_eq!((replayed.updates, replayed.deviation), (STEPS, None));
    assert_eq!(replayed.weights, expected.2);
}

/// Checks recovery on a GPU, which need not reproduce its bits: published weights and recorded
/// digests remain as they are, and training continues. The CPU kernels replace the first
/// process on the GPU, because the tensor operations of a GPU round differently.
#[test]
fn after_other_bits_the_published_ones_are_taken() {
    let (mut taken, mut left) = (0, 0);
    // How many polls a step takes depends on the machine's load, so there are many of them.
    for polls in (40..).step_by(3) {
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
    if run_process(folder, polls, cpu).is_some() {
        return None;
    }
    replace_in_plans(folder, r#""device":"cpu""#, r#""device":"composed""#);
    let before: BTreeMap<_, _> = ["weights/lead", "results/lead"]
        .into_iter()
        .flat_map(|kind| files(&folder.join(kind)))
        .map(|file| (file.clone(), std::fs::read(file).unwrap()))
        .collect();
    let on_device = Logs {
        device: Device::Emulated,
        devices: &WithGpus,
        ..cpu
    };
    run_process(folder, usize::MAX, on_device).unwrap();

    let (plans, results, _) = outcome(folder);
    for (result, next) in results.iter().zip(&plans[1..]) {
        assert_eq!(result.weights_sha256, next.weights_sha256, "{polls}");
    }
    for (file, before) in before {
        // Versions may be removed; the remaining ones are unchanged.
        let there = std::fs::read(&file);
        assert!(
            there.is_err() || there.unwrap() == before,
            "{}",
            file.display()
        );
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
    run_process(folder, usize::MAX, &log).unwrap();
    let found = || {
        let deviation = replayed(folder, &log, &WithGpus).deviation.unwrap();
        assert_eq!(deviation.update, UpdateNumber(0));
        (deviation.other_machine, deviation.on_gpu)
    };
    replace_in_plans(folder, r#""device":"cpu""#, r#""device":"composed""#);
    assert_eq!(found(), (false, true));
    replace_in_plans(folder, r#""isa":""#, r#""isa":"another, "#);
    assert_eq!(found(), (true, true));
    replace_in_plans(folder, r#""device":"composed""#, r#""device":"cpu""#);
    assert!(
        replayed(folder, &log, &WithGpus).deviation.is_none(),
        "the same bits all the same"
    );
    let learned = r#""lr":"#;
    replace_in_plans(folder, learned, r#""lr":1"#);
    assert_eq!(found(), (true, false));
    replace_in_plans(folder, r#""isa":"another, "#, r#""isa":""#);
    assert_eq!(found(), (false, false));
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
