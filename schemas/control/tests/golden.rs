//! Golden files that fix the format of the control records. Each holds a record as the store does:
//! one line and a newline. A new format adds files; old files are never edited.

use std::{collections::BTreeSet, fmt::Debug, fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use vintage_control::{
    ArchiveFooter, CheckpointManifest, Deviation, EvaluationResult, Grants, Heartbeat,
    LearnerStart, Plan, PolicyAnnouncement, Rejection, RunInputs, Topics, UpdateResult,
    WeightsManifest,
};

const README: &str = include_str!("../../README.md");

type Examine = fn(&str);

/// Checks the record's golden file, and that the README's example is the same record.
fn examine<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    let golden = fs::read_to_string(&path).unwrap();
    let record: T = serde_json::from_str(&golden).unwrap();
    assert_eq!(
        serde_json::to_string(&record).unwrap() + "\n",
        golden,
        "{file}"
    );

    if file.starts_with("optional_") {
        return; // The README leaves rare optional keys out.
    }
    let kind = std::any::type_name::<T>().rsplit("::").next().unwrap();
    let (_, rest) = README.split_once(&format!("### `{kind}`")).unwrap();
    let (_, rest) = rest.split_once("```json\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(
        serde_json::from_str::<T>(example).unwrap(),
        record,
        "{kind} in schemas/README.md"
    );

    let surprising = golden.replacen('{', "{\"surprise\":1,", 1);
    let error = serde_json::from_str::<T>(&surprising)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("unknown field `surprise`"),
        "{file}: {error}"
    );
}

#[test]
fn every_record_is_what_its_golden_file_and_the_readme_say() {
    let records: [(&str, Examine); 26] = [
        ("archive_footer.json", examine::<ArchiveFooter>),
        ("checkpoint_manifest.json", examine::<CheckpointManifest>),
        ("deviation.json", examine::<Deviation>),
        ("evaluation_result.json", examine::<EvaluationResult>),
        ("grants.json", examine::<Grants>),
        ("heartbeat.json", examine::<Heartbeat>),
        ("learner_start.json", examine::<LearnerStart>),
        ("optional_archive_footer.json", examine::<ArchiveFooter>),
        (
            "optional_checkpoint_slots.json",
            examine::<CheckpointManifest>,
        ),
        ("optional_grants.json", examine::<Grants>),
        (
            "optional_checkpoint_manifest.json",
            examine::<CheckpointManifest>,
        ),
        (
            "optional_lora_checkpoint_manifest.json",
            examine::<CheckpointManifest>,
        ),
        ("optional_lora_plan.json", examine::<Plan>),
        ("optional_plan.json", examine::<Plan>),
        (
            "optional_policy_announcement.json",
            examine::<PolicyAnnouncement>,
        ),
        (
            "optional_counts_update_result.json",
            examine::<UpdateResult>,
        ),
        (
            "optional_steps_policy_announcement.json",
            examine::<PolicyAnnouncement>,
        ),
        ("optional_weights_manifest.json", examine::<WeightsManifest>),
        ("optional_update_result.json", examine::<UpdateResult>),
        ("plan.json", examine::<Plan>),
        ("policy_announcement.json", examine::<PolicyAnnouncement>),
        ("rejection.json", examine::<Rejection>),
        ("run_inputs.json", examine::<RunInputs>),
        ("topics.json", examine::<Topics>),
        ("update_result.json", examine::<UpdateResult>),
        ("weights_manifest.json", examine::<WeightsManifest>),
    ];
    for (file, examine) in records {
        examine(file);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let there: BTreeSet<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let examined: BTreeSet<_> = records.iter().map(|(file, _)| (*file).into()).collect();
    assert_eq!(there, examined, "a golden file that no test reads");
}

/// Checks that a plan without any one of its keys is refused.
#[test]
fn every_key_is_required() {
    let golden = include_str!("golden/plan.json");
    let plan: serde_json::Value = serde_json::from_str(golden).unwrap();
    for key in plan.as_object().unwrap().keys() {
        let mut without = plan.clone();
        without.as_object_mut().unwrap().remove(key);
        let error = serde_json::from_value::<Plan>(without)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("missing field `{key}`")), "{error}");
    }
}
