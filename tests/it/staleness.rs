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
        ensure!(losses.len() == 21, "{fresh:#}");
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

/// Compares the gradients of four losses on old groups with that of fresh ones.
#[test]
fn gradients_are_compared_with_those_of_fresh_rollouts() -> Result<()> {
    let (folder, out) = place()?;
    trained(folder.path(), &out, &["warm_start.steps=60"])?;
    let before = walk(&out)?;
    let losses = ["none", "m2po", "m2po_areal", "oapl"];
    let asked = losses.join(",");
    let few = ["--versions", "20", "--groups", "80", "--fresh", "40"];
    let arguments = [&["--gradients", "--losses", &asked], &few[..]].concat();
    let as_json = [&arguments[..], &["--output", "json"]].concat();
    let ended = measured(&out, &as_json)?;
    ensure!(
        walk(&out)? == before,
        "files were written into the run's folder"
    );
    // What it takes is said before anything is computed.
    let said = ended
        .stderr
        .find("backward passes: losses 4")
        .context("no cost")?;
    let done = ended
        .stderr
        .find("backward passes\n")
        .context("no progress")?;
    ensure!(said < done, "{}", ended.stderr);
    let report = ended.json()?;
    let gradients = &report["gradients"];
    ensure!(
        gradients["losses"] == serde_json::json!(losses),
        "{gradients:#}"
    );

    let references = gradients["references"].as_array().context("references")?;
    ensure!(references.len() >= 15, "{gradients:#}");
    let (mut cosines, mut halves) = (0.0, 0.0);
    for reference in references {
        ensure!(number(reference, "groups")? == 40, "{reference:#}");
        // Absent where no rollout is rewarded.
        cosines += reference["fresh"].as_f64().unwrap_or(0.0);
        halves += reference["halves"].as_f64().unwrap_or(0.0);
    }
    // Ten batches of one policy agree somewhat, and two halves of them better.
    ensure!(0.0 < cosines && cosines < halves, "{references:#?}");
    ensure!(halves < references.len() as f64, "{references:#?}");
    let ages = gradients["ages"].as_array().context("ages")?;
    let stale = report["ages"].as_array().context("ages")?;
    ensure!(
        ages.len() == stale.len() && ages.len() >= 4,
        "{gradients:#}"
    );
    let mean = |age: usize, loss: &str, what: &str| float(&ages[age]["losses"][loss][what], "mean");
    // Rollouts of the version itself have ratio 1: the losses differ in their baselines and scales alone.
    for loss in ["m2po", "m2po_areal"] {
        for what in ["cosine", "norm"] {
            let (found, plain) = (mean(0, loss, what)?, mean(0, "none", what)?);
            ensure!(
                (found - plain).abs() < 1e-4,
                "{loss}, {what}: {found} and {plain}"
            );
        }
        ensure!(
            float(&ages[0]["losses"][loss], "masked")? == 0.0,
            "{:#}",
            ages[0]
        );
    }
    let (found, fresh) = (mean(0, "none", "cosine")?, mean(0, "none", "fresh")?);
    ensure!(
        found > 0.05 && (found - fresh).abs() < 0.25,
        "{found} and {fresh}: {:#}",
        ages[0]
    );
    ensure!(
        mean(0, "oapl", "norm")? < 0.1 * mean(0, "none", "norm")?,
        "{:#}",
        ages[0]
    );
    // What a loss throws away is what the table of losses says, on the same groups.
    for (of, with_gradient) in stale.iter().zip(ages) {
        let masked = float(&of["losses"]["m2po"], "masked")?;
        let found = float(&with_gradient["losses"]["m2po"], "masked")?;
        ensure!(
            (masked - found).abs() < 0.02,
            "{masked} and {found} of {with_gradient:#}"
        );
    }
    let again = measured(&out, &as_json)?.json()?;
    ensure!(again == report, "another result: {again:#}");
    let seeded = [&as_json[..], &["--seed", "1"]].concat();
    let seeded = measured(&out, &seeded)?.json()?;
    ensure!(seeded["ages"] == report["ages"], "{seeded:#}");
    ensure!(
        seeded["gradients"]["references"] != gradients["references"],
        "{seeded:#}"
    );

    let page = folder.path().join("ages.html");
    let named = page.display().to_string();
    let ended = measured(&out, &[&arguments[..], &["--html", &named]].concat())?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    for wanted in [
        "Cosine with the on-policy gradient",
        "fresh rollouts",
        "m2po_areal",
    ] {
        ensure!(ended.stdout.contains(wanted), "{wanted}: {}", ended.stdout);
    }
    let page = std::fs::read_to_string(page)?;
    ensure!(page.matches("<svg").count() == 5, "{page}");
    ensure!(page.contains("Direction of the gradient"), "{page}");

    let refused = |more: &[&str], what: &str| -> Result<()> {
        let ended = measured(&out, more)?;
        ensure!(
            !ended.status.success() && ended.stdout.is_empty(),
            "{}",
            ended.stdout
        );
        ensure!(ended.stderr.contains(what), "{more:?}: {}", ended.stderr);
        Ok(())
    };
    refused(&["--gradients", "--passes", "3"], "--passes 3")?;
    refused(
        &["--gradients", "--losses", "m2pox"],
        "no loss has this name; there are m2po,",
    )?;
    refused(&["--losses", "m2po"], "--gradients")?;
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
