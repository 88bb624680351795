//! `vintage eval` against the evaluations that a run recorded.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use vintage_tests::{place, run, vintage};

use crate::small;

/// Trains a small run with held-out prompts; returns the file of these.
fn trained(folder: &Path, out: &Path) -> Result<PathBuf> {
    let heldout = folder.join("heldout.jsonl");
    let row = |digit: u8| format!("{{\"prompt\":\"0{digit}=\",\"answer\":\"{digit}\"}}\n");
    std::fs::write(&heldout, (0..10).map(row).collect::<String>())?;
    let mut training = small::digits(folder, out)?;
    training.arg("--heldout").arg(&heldout);
    small::finished(training)?;
    Ok(heldout)
}

#[test]
fn versions_and_models_are_evaluated_as_the_run_did() -> Result<()> {
    let (folder, out) = place()?;
    let heldout = trained(folder.path(), &out)?;
    let recorded = |version: u64| -> Result<Value> {
        let path = out.join(format!("evaluations/lead/{version}.json"));
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    };

    let mut eval = vintage(["eval", "--output", "json", "--samples", "1"]);
    eval.arg(&out)
        .args(["--policy-version", "0", "--policy-version", "3"]);
    let evaluation = run(eval)?.json()?;
    assert_eq!(evaluation["prompts"], 10);
    for (place, version) in [(0, 0), (1, 3)] {
        let (ours, theirs) = (&evaluation["versions"][place], recorded(version)?);
        assert_eq!(ours["version"], version);
        assert_eq!(ours["greedy"]["mean"], theirs["greedy_accuracy"]);
        assert_eq!(ours["sampled"]["mean"], theirs["sampled_accuracy"]);
        let interval = &ours["sampled"]["interval"];
        assert!(
            interval["low"].as_f64() < interval["high"].as_f64(),
            "{ours}"
        );
    }

    // The exported model gives the answers of the version it was.
    let model = folder.path().join("model");
    let mut export = vintage(["export", "--to"]);
    export.arg(&model).arg(&out);
    assert!(run(export)?.status.success());
    let mut eval = vintage(["eval", "--output", "json", "--samples", "8"]);
    eval.arg(&model).arg("--prompts").arg(&heldout);
    eval.args(["--set", "rollout.max_tokens=2"]);
    let of_model = run(eval)?.json()?;
    let newest = &evaluation["versions"][1];
    assert_eq!(of_model["versions"][0]["greedy"], newest["greedy"]);
    let passes = &of_model["versions"][0]["sampled"]["pass_at"];
    let passes: Vec<_> = ["1", "2", "4", "8"]
        .map(|size| passes[size].as_f64())
        .into();
    assert!(passes[0].is_some() && passes.is_sorted(), "{passes:?}");

    for (arguments, word) in [
        (vec!["--policy-version", "77"], "version 77"),
        (vec!["--name", "nobody"], "no learner nobody"),
        (vec!["--prompts", "nowhere.jsonl"], "nowhere.jsonl"),
    ] {
        let mut refused = vintage(["eval"]);
        refused.arg(&out).args(&arguments);
        let refused = run(refused)?;
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    Ok(())
}

#[test]
fn a_run_that_was_not_evaluated_is_evaluated_afterwards() -> Result<()> {
    let (folder, out) = place()?;
    trained(folder.path(), &out)?;
    let evaluation = |policy: &str, version: u64| -> Result<Value> {
        let path = out.join(format!("evaluations/{policy}/{version}.json"));
        let mut found: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        // The duration is of the machine.
        found.as_object_mut().map(|found| found.remove("seconds"));
        Ok(found)
    };
    let during = [evaluation("lead", 0)?, evaluation("lead", 3)?];
    std::fs::remove_file(out.join("evaluations/lead/3.json"))?;
    std::fs::remove_file(out.join("evaluations/lead/0.json"))?;

    let followed = |more: &[&str]| {
        let mut follow = vintage(["eval", "--output", "json", "--follow"]);
        follow.arg(&out).args(more);
        run(follow)?.json()
    };
    let summary = followed(&[])?;
    assert_eq!(
        (&summary["evaluated"], &summary["finished"]),
        (&2.into(), &true.into())
    );
    assert_eq!([evaluation("lead", 0)?, evaluation("lead", 3)?], during);
    assert_eq!(
        followed(&[])?["evaluated"],
        0,
        "there is nothing left to do"
    );

    // A counterfactual under the lead's own settings makes the same versions.
    let mut learn = vintage(["learn", "--name", "d", "--follow-plans", "lead", "--out"]);
    learn.arg(&out).args(["--set", "learner.source=archive"]);
    let learned = run(learn)?;
    assert!(learned.status.success(), "{}", learned.stderr);
    assert_eq!(followed(&["--name", "d"])?["evaluated"], 2);
    assert_eq!(
        evaluation("d", 3)?["greedy_accuracy"],
        during[1]["greedy_accuracy"]
    );
    let mut report = vintage(["report", "--output", "json"]);
    report.arg(&out);
    let report = run(report)?.json()?;
    let of = |place: usize| &report["learners"][place]["held_out"]["last_greedy"];
    assert_eq!(of(0), of(1), "{report}");
    assert!(of(1).is_number(), "{report}");

    let model = folder.path().join("model");
    let mut export = vintage(["export", "--to"]);
    export.arg(&model).arg(&out);
    assert!(run(export)?.status.success());
    let mut refused = vintage(["eval", "--follow"]);
    refused.arg(&model);
    let refused = run(refused)?;
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    Ok(())
}
