//! Golden files that fix the format of the control records. Each holds a record as the store does:
//! one line and a newline. A new format adds files; old files are never edited.

use std::{collections::BTreeSet, fmt::Debug, fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use vintage_control::{
    ArchiveFooter, CheckpointManifest, Deviation, EvaluationResult, Grants, Heartbeat,
    LearnerStart, Plan, PolicyAnnouncement, PruneMark, PruneRecord, Rejection, RunInputs, Topics,
    UpdateResult, WeightsManifest,
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
    let records: [(&str, Examine); 47] = [
        ("archive_footer.json", examine::<ArchiveFooter>),
        ("checkpoint_manifest.json", examine::<CheckpointManifest>),
        ("deviation.json", examine::<Deviation>),
        ("evaluation_result.json", examine::<EvaluationResult>),
        (
            "optional_evaluation_result.json",
            examine::<EvaluationResult>,
        ),
        ("grants.json", examine::<Grants>),
        ("heartbeat.json", examine::<Heartbeat>),
        ("learner_start.json", examine::<LearnerStart>),
        ("optional_archive_footer.json", examine::<ArchiveFooter>),
        (
            "optional_checkpoint_manifest.json",
            examine::<CheckpointManifest>,
        ),
        (
            "optional_adapter_weights_manifest.json",
            examine::<WeightsManifest>,
        ),
        (
            "optional_delta_weights_manifest.json",
            examine::<WeightsManifest>,
        ),
        ("optional_grants.json", examine::<Grants>),
        ("optional_heartbeat.json", examine::<Heartbeat>),
        (
            "optional_lora_checkpoint_manifest.json",
            examine::<CheckpointManifest>,
        ),
        ("optional_lora_plan.json", examine::<Plan>),
        ("optional_loss_plan.json", examine::<Plan>),
        (
            "optional_masters_checkpoint_manifest.json",
            examine::<CheckpointManifest>,
        ),
        ("optional_plan.json", examine::<Plan>),
        ("optional_reuse_plan.json", examine::<Plan>),
        ("optional_reuse_update_result.json", examine::<UpdateResult>),
        ("optional_publish_plan.json", examine::<Plan>),
        (
            "optional_policy_announcement.json",
            examine::<PolicyAnnouncement>,
        ),
        (
            "optional_cosine_update_result.json",
            examine::<UpdateResult>,
        ),
        (
            "optional_counts_update_result.json",
            examine::<UpdateResult>,
        ),
        (
            "optional_mismatch_update_result.json",
            examine::<UpdateResult>,
        ),
        ("optional_age_prune_record.json", examine::<PruneRecord>),
        ("optional_prune_record.json", examine::<PruneRecord>),
        ("optional_sampling_run_inputs.json", examine::<RunInputs>),
        ("optional_scope_plan.json", examine::<Plan>),
        ("optional_slot_rejection.json", examine::<Rejection>),
        (
            "optional_slots_checkpoint_manifest.json",
            examine::<CheckpointManifest>,
        ),
        ("optional_slots_heartbeat.json", examine::<Heartbeat>),
        (
            "optional_steps_policy_announcement.json",
            examine::<PolicyAnnouncement>,
        ),
        ("optional_weights_manifest.json", examine::<WeightsManifest>),
        (
            "optional_weights_update_result.json",
            examine::<UpdateResult>,
        ),
        ("optional_update_result.json", examine::<UpdateResult>),
        ("optional_withdrawn_grants.json", examine::<Grants>),
        ("plan.json", examine::<Plan>),
        ("policy_announcement.json", examine::<PolicyAnnouncement>),
        ("prune_mark.json", examine::<PruneMark>),
        ("prune_record.json", examine::<PruneRecord>),
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

/// Checks that a reader of leases skips what it does not understand in full: a lease of an unknown
/// meaning would be sampled for nothing.
#[test]
fn fleet_records_of_another_format_or_with_unknown_keys_are_refused() {
    let heartbeat = include_str!("golden/heartbeat.json");
    let grants = include_str!("golden/grants.json");
    assert!(Heartbeat::read(heartbeat.as_bytes()).is_ok());
    assert!(Grants::read(grants.as_bytes()).is_ok());
    let refusal = |text: &str| {
        let heartbeat = Heartbeat::read(text.as_bytes()).err();
        heartbeat.zip(Grants::read(text.as_bytes()).err())
    };
    for golden in [heartbeat, grants] {
        let later = golden.replacen("vintage.control/1", "vintage.control/2", 1);
        let (of_heartbeat, of_grants) = refusal(&later).unwrap();
        let both = format!("{of_heartbeat} {of_grants}");
        assert!(
            both.contains("its format is \"vintage.control/2\""),
            "{both}"
        );
        assert!(both.contains("this build reads only vintage.control/1"));
        // Also inside a lease, a set of slots and the number of a record.
        for (at, _) in golden.match_indices('{') {
            let (before, after) = golden.split_at(at + 1);
            let surprising = format!("{before}\"surprise\":1,{after}");
            let (of_heartbeat, of_grants) = refusal(&surprising).unwrap();
            let both = format!("{of_heartbeat} {of_grants}");
            assert!(both.contains("unknown field `surprise`"), "{both}");
        }
        let record: serde_json::Value = serde_json::from_str(golden).unwrap();
        for key in record.as_object().unwrap().keys() {
            let mut without = record.clone();
            without.as_object_mut().unwrap().remove(key);
            // A report of a producer that has read no grants may leave their number out.
            let optional = key == "grants_read";
            let refused = refusal(&without.to_string()).is_some();
            assert_eq!(refused, !optional, "without {key}");
        }
    }
    assert!(refusal("").is_some() && refusal("[]").is_some());
}
