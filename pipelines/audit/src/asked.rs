//! Tests of audits of folders: the learner or update asked for must exist, and records must be
//! complete.

use std::path::Path;

use vintage_archive::Reader;
use vintage_control::UpdateNumber;
use vintage_store::Store;

use super::{Audit, AuditScope, Places, Question, audit, fixture};
use crate::error::Result;

/// Creates a folder with two plans of a learner and no archive.
async fn two_plans() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    for version in 0..2 {
        let plan = fixture::plan(version, &[(version, &[version as i64])], &[]);
        let path = format!("plans/lead/{version}.json");
        let _created = store.create_json(&path, &plan).await.unwrap();
    }
    (folder, store)
}

async fn ask(folder: &Path, learner: Option<&str>, question: Option<Question>) -> Result<Audit> {
    let name = |text: &str| text.parse().unwrap();
    let scope = AuditScope {
        topics: vintage_control::Topics {
            namespace: name("vintage"),
            run: name("run"),
        },
        lead: name("lead"),
        learner: learner.map(name),
        log: super::LogState::Ended,
        offline: true,
        deep: false,
        question,
    };
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let reader = Reader::new(store.at("archive"), &scope.topics.rollouts());
    let summary = std::fs::read(folder.join("summary.json")).ok();
    let summary: Option<serde_json::Value> =
        summary.map(|summary| serde_json::from_slice(&summary).unwrap());
    let places = Places {
        store: &store,
        reader: &reader,
        journals: None,
        bus: None,
        summarized: summary.map(|summary| (summary["updates"].as_u64().unwrap(), "summary.json")),
    };
    audit(&scope, &places).await
}

fn refusal(asked: Result<Audit>) -> String {
    let error = asked.expect_err("refused");
    assert_eq!(error.fault(), vintage_control::Fault::User, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_folder_without_a_run_has_no_books() {
    let folder = tempfile::tempdir().unwrap();
    let refused = refusal(ask(folder.path(), None, None).await);
    assert!(refused.contains("nothing to audit"), "{refused}");
}

#[tokio::test]
async fn a_learner_or_an_update_that_is_not_there_is_refused_with_what_is() {
    let (folder, _store) = two_plans().await;
    let refused = refusal(ask(folder.path(), Some("nosuch"), None).await);
    assert!(refused.contains("there are records of lead"), "{refused}");
    let update = |number| Some(Question::Update(UpdateNumber(number)));
    let refused = refusal(ask(folder.path(), None, update(2)).await);
    assert!(refused.contains("lead has 0 to 1"), "{refused}");
    let audited = ask(folder.path(), Some("lead"), update(1)).await.unwrap();
    assert_eq!(audited.answers.len(), 1);
    // An update whose plan is gone did exist: that is a breach, not a mistake of the user.
    std::fs::remove_file(folder.path().join("plans/lead/0.json")).unwrap();
    let audited = ask(folder.path(), None, update(0)).await.unwrap();
    assert!(!audited.holds && audited.answers.is_empty());
}

#[tokio::test]
async fn plans_reach_as_far_as_weights_evaluations_and_summary_tell() {
    let golden = include_str!("../../../schemas/control/tests/golden/weights_manifest.json");
    for (path, text, says) in [
        (
            "weights/lead/3/manifest.json",
            golden,
            "no plan of update 2",
        ),
        ("evaluations/lead/4.json", "{}", "no plan of update 3"),
        // A policy that no learner trains.
        (
            "weights/other/1/manifest.json",
            golden,
            "no plan of update 0",
        ),
        (
            "summary.json",
            r#"{"updates": 5}"#,
            "counts 5 updates of lead",
        ),
    ] {
        let (folder, store) = two_plans().await;
        let before = ask(folder.path(), None, None).await.unwrap().findings;
        let _created = store.create(path, text.into()).await.unwrap();
        let findings = ask(folder.path(), None, None).await.unwrap().findings;
        let found: Vec<_> = findings
            .iter()
            .filter(|line| !before.contains(line))
            .collect();
        assert!(
            found.iter().any(|line| line.contains(says)),
            "{path}: {found:?}"
        );
    }
}
