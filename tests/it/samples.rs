//! `vintage samples` against the records of a small run.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;
use vintage_tests::{place, run, vintage};

use crate::small;

#[test]
fn samples_are_the_archives_rollouts_with_what_became_of_each() -> Result<()> {
    let (folder, out) = place()?;
    let summary = small::finished(small::digits(folder.path(), &out)?)?;
    let shown = |flags: &[&str]| -> Result<Vec<Value>> {
        let mut command = vintage(["samples"]);
        command.arg(&out).args(["--output", "json"]).args(flags);
        let printed = run(command)?.stdout;
        let lines = printed.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    };
    let all = shown(&["--count", "1000"])?;
    let produced = summary["produced"].as_u64().unwrap_or(0);
    assert_eq!(all.len() as u64, 4 * produced, "{summary}");
    assert!(all.is_sorted_by_key(|sample| -sample["created_at_us"].as_i64().unwrap_or(0)));

    // Each update trained four groups of four, and its plan names them.
    for update in 0..3 {
        let plan = std::fs::read(out.join(format!("plans/lead/{update}.json")))?;
        let plan: Value = serde_json::from_slice(&plan)?;
        let planned = plan["groups"].as_array().into_iter().flatten();
        let planned: Vec<_> = planned.map(|group| &group["group"]).collect();
        let trained = all.iter().filter(|sample| sample["update"] == update);
        let trained: Vec<_> = trained.filter(|s| s["fate"] == "trained").collect();
        assert_eq!(trained.len(), 16);
        assert!(
            trained
                .iter()
                .all(|sample| planned.contains(&&sample["group"]))
        );
        let named = shown(&["--update", &update.to_string(), "--count", "99"])?;
        let ids = |samples: &[&Value]| -> BTreeSet<_> {
            let id = |s: &&Value| (s["group"].to_string(), s["sample_index"].as_u64());
            samples.iter().map(id).collect()
        };
        assert_eq!(ids(&trained), ids(&named.iter().collect::<Vec<_>>()));
    }

    // Prompts are `0=` to `9=` with the digit as their answer.
    for sample in &all {
        let answer = sample["answer"].as_str().unwrap_or("");
        assert_eq!(sample["prompt"], format!("{answer}="));
        let is_right = sample["completion"] == sample["answer"];
        assert_eq!(sample["reward"] == 1.0, is_right, "{sample}");
    }
    let rewards = |samples: &[Value]| -> Vec<_> {
        samples
            .iter()
            .filter_map(|s| s["reward"].as_f64())
            .collect()
    };
    let mut sorted = rewards(&all);
    sorted.sort_by(f64::total_cmp);
    assert_eq!(rewards(&shown(&["--worst", "--count", "5"])?), sorted[..5]);
    sorted.reverse();
    assert_eq!(rewards(&shown(&["--best", "--count", "5"])?), sorted[..5]);

    let id = all[0]["prompt_id"].as_str().unwrap_or("");
    let of_one = shown(&["--prompt", id, "--count", "999"])?;
    assert!(!of_one.is_empty() && of_one.iter().all(|sample| sample["prompt_id"] == id));
    let mut text = vintage(["samples"]);
    text.arg(&out);
    let text = run(text)?.stdout;
    assert_eq!(text.matches("  completion  ").count(), 8, "{text}");
    Ok(())
}
