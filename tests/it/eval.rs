//! `vintage eval` against the evaluations that a run recorded.

use anyhow::Result;
use serde_json::Value;
use vintage_tests::{place, run, vintage};

use crate::small;

#[test]
fn versions_and_models_are_evaluated_as_the_run_did() -> Result<()> {
    let (folder, out) = place()?;
    let heldout = folder.path().join("heldout.jsonl");
    let row = |digit: u8| format!("{{\"prompt\":\"0{digit}=\",\"answer\":\"{digit}\"}}\n");
    std::fs::write(&heldout, (0..10).map(row).collect::<String>())?;
    let mut training = small::digits(folder.path(), &out)?;
    training.arg("--heldout").arg(&heldout);
    small::finished(training)?;
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
