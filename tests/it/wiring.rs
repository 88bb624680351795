//! Wiring of the roles: each is built in one place, and its inputs are opened once.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::sources;

/// `vintage run` and the verbs of the roles build them in the same place.
#[test]
fn each_role_is_built_once() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeMap::from([
        ("Worker::new(", 0),
        ("Learner::open(", 0),
        ("Sink::start(", 0),
    ]);
    let files = ["pipelines/flow/src", "pipelines/cli/src"]
        .iter()
        .flat_map(|folder| sources(&root.join(folder)));
    for file in files.filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).expect("a source");
        for (call, count) in &mut found {
            *count += text.matches(call).count();
        }
    }
    assert!(found.values().all(|count| *count == 1), "{found:?}");
}

/// Files that open each kind of input. No other does, because what was parsed to be checked is
/// handed on.
const OPENED_BY: &[(&str, &[&str])] = &[
    ("PromptSet::load_all(", &["doctor.rs", "prompts.rs"]),
    ("PromptSet::from_reader(", &["prompts.rs"]),
    (
        "PromptSets::read(",
        &[
            "eval.rs",
            "follow.rs",
            "fresh.rs",
            "preflight.rs",
            "trial.rs",
        ],
    ),
    ("PromptSets::load(", &["prepared.rs"]),
    // Evaluations and gradients have rewards of their own beside the producer's.
    (
        "open_reward(",
        &[
            "exam.rs",
            "fresh.rs",
            "preflight.rs",
            "prepared.rs",
            "trial.rs",
        ],
    ),
    // Version 0 is read from the folder if an earlier process checked it.
    ("ModelFolder::open(", &["doctor.rs", "version_zero.rs"]),
    ("ModelFolder::open_without_weights(", &["preflight.rs"]),
];

#[test]
fn inputs_are_opened_once_at_a_start() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/flow/src");
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for file in sources(&root) {
        let text = std::fs::read_to_string(&file).expect("a source");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let name = file.file_name().expect("a name").to_string_lossy();
        for (call, _) in OPENED_BY {
            if name != "tests.rs" && code.contains(call) {
                found
                    .entry(call)
                    .or_default()
                    .insert(name.clone().into_owned());
            }
        }
    }
    for (call, files) in OPENED_BY {
        let files: BTreeSet<_> = files.iter().map(|&file| file.to_owned()).collect();
        assert_eq!(found.remove(call), Some(files), "{call}…)");
    }
}
