//! Archived rollouts under later versions, against what the learner recorded when it trained them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{Ended, number, place, run, vintage};

use crate::small;

/// Staleness of every rollout, from the update of this number on.
const EXACT: u64 = 4;
const UPDATES: u64 = 20;

fn trained(folder: &Path, out: &Path, more: &[&str]) -> Result<()> {
    let mut command = small::digits(folder, out)?;
    let settings = [
        &*format!("learner.steps={UPDATES}"),
        &*format!("gate.exact={EXACT}"),
        "learner.keep_versions=64",
        "learner.optimizer.lr=0.003",
        "rollout.temperature=0.9",
    ];
    for setting in settings.iter().chain(more) {
        command.args(["--set", setting]);
    }
    small::finished(command)?;
    Ok(())
}

fn measured(out: &Path, more: &[&str]) -> Result<Ended> {
    let mut command = vintage(["staleness"]);
    command.arg(out).args(more);
    run(command)
}

fn float(object: &Value, key: &str) -> Result<f64> {
    let found = object[key].as_f64();
    found.with_context(|| format!("no number {key} in {object}"))
}

/// Compares batches with the updates that trained on the very same groups: their second moments and
/// the tokens that their loss masked.
#[test]
fn batches_are_those_that_the_learner_recorded() -> Result<()> {
    for (algorithm, setting) in [
        ("m2po", "m2po.threshold=0.002"),
        ("grpo", "grpo.clip_eps=0.05"),
    ] {
        let (folder, out) = place()?;
        let algorithm_is = format!("algorithm={algorithm}");
        trained(folder.path(), &out, &[&algorithm_is, setting])?;
        let all = ["--groups", "80", "--versions", "20", "--output", "json"];
        let report = measured(&out, &all)?.json()?;
        ensure!(report["algorithm"] == algorithm, "{report:#}");
        let ages = report["ages"].as_array().context("ages")?;

        // A version agrees with itself, whatever the loss.
        let fresh = &ages[0];
        ensure!(number(fresh, "age")? == 0, "{fresh:#}");
        ensure!(float(fresh, "m2_all")? < 1e-9, "{fresh:#}");
        ensure!(float(fresh, "effective_rollouts")? > 0.999_99, "{fresh:#}");
        let losses = fresh["losses"].as_object().context("losses")?;
        ensure!(losses.len() == 20, "{fresh:#}");
        for (name, of) in losses {
            let truncated = of["truncated"].as_f64().unwrap_or(0.0);
            ensure!(
                float(of, "masked")? == 0.0 && truncated == 0.0,
                "{name}: {of}"
            );
        }

        let old = ages.iter().find(|of| of["age"] == EXACT);
        let old = old.context("the age that was trained")?;
        let (mut compared, mut masked, mut trusted) = (0, 0, 0);
        for batch in old["batches"].as_array().context("batches")? {
            let version = number(batch, "version")?;
            // Version 0 sampled for the first updates, too, so that its groups are not one update's.
            if version <= EXACT || version >= UPDATES {
                continue;
            }
            ensure!(number(batch, "oldest")? == EXACT, "{batch:#}");
            let path = out.join(format!("results/lead/{version}.json"));
            let result: Value = serde_json::from_slice(&std::fs::read(path)?)?;
            for key in ["groups", "tokens", "trust_tokens"] {
                ensure!(batch[key] == result[key], "{key}: {batch:#} {result:#}");
            }
            for (key, recorded) in [("m2", "m2_before"), ("m2_all", "m2_all"), ("kl", "kl")] {
                let (found, recorded) = (float(batch, key)?, float(&result, recorded)?);
                ensure!(
                    (found - recorded).abs() <= 1e-5 * recorded.abs() + 1e-6,
                    "{key} of version {version}: {found} and {recorded}"
                );
            }
            let found = number(&batch["losses"][algorithm], "masked_tokens")?;
            let recorded = number(&result, "masked_tokens")?;
            ensure!(
                found == recorded,
                "version {version}: {found} and {recorded}"
            );
            compared += 1;
            masked += found;
            trusted += number(batch, "trust_tokens")?;
        }
        ensure!(
            compared >= 10 && 0 < masked && masked < trusted,
            "{compared} batches, {masked} masked: {old:#}"
        );
    }
    Ok(())
}

#[test]
fn the_answer_is_one_sentence_and_a_page_is_written_only_if_asked_for() -> Result<()> {
    let (folder, out) = place()?;
    trained(folder.path(), &out, &[])?;
    let before = walk(&out)?;
    let report = measured(&out, &["--output", "json"])?.json()?;
    ensure!(
        walk(&out)? == before,
        "files were written into the run's folder"
    );
    let sentence = report["answer"]["sentence"]
        .as_str()
        .context("a sentence")?;
    ensure!(sentence.contains("M2PO's budget"), "{sentence}");

    let page = folder.path().join("ages.html");
    let named = page.display().to_string();
    let ended = measured(&out, &["--html", &named])?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    ensure!(ended.stdout.starts_with(sentence), "{}", ended.stdout);
    ensure!(
        ended.stdout.trim_end().ends_with(&named),
        "{}",
        ended.stdout
    );
    let page = std::fs::read_to_string(page)?;
    ensure!(
        page.contains("M2PO&#39;s budget") || page.contains("M2PO's budget"),
        "{page}"
    );
    ensure!(page.matches("<svg").count() == 4, "{page}");
    // The same again, whatever the order in which files are listed.
    let again = measured(&out, &["--output", "json"])?.json()?;
    ensure!(again == report, "{again:#}");
    Ok(())
}

#[test]
fn what_cannot_be_measured_says_why() -> Result<()> {
    let (folder, out) = place()?;
    trained(folder.path(), &out, &[])?;
    let refused = |what: &str| -> Result<()> {
        let ended = measured(&out, &[])?;
        ensure!(
            !ended.status.success() && ended.stdout.is_empty(),
            "{}",
            ended.stdout
        );
        ensure!(ended.stderr.contains(what), "{}", ended.stderr);
        Ok(())
    };
    // Version 0 alone is left.
    let weights = out.join("weights/lead");
    for entry in weights.read_dir()? {
        let entry = entry?;
        if entry.file_name() != "0" {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    refused("learner.keep_versions")?;
    std::fs::remove_dir_all(out.join("archive"))?;
    refused("no archived group")?;
    let ended = measured(&out, &["--name", "nobody"])?;
    ensure!(
        ended.stderr.contains("no learner nobody"),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// Returns the paths of all files in a folder, sorted.
fn walk(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
