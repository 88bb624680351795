//! Invariant 6: same plans, archive, build and CPU give the same weights, at any thread count, and
//! a changed record is detected.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};
use serde_json::Value;
use vintage_tests::{copy, number, place, python, run, vintage};

const STEPS: u64 = 30;

fn train(out: &Path) -> Result<Value> {
    let mut command = vintage(["run", "--output", "json", "--out"]);
    command.arg(out).args([
        "--steps",
        &STEPS.to_string(),
        "--set",
        "warm_start.steps=50",
    ]);
    command.args(["--set", "evaluation.prompts=32"]);
    run(command)?.json()
}

fn exact(folder: &Path, threads: &str) -> Command {
    let mut command = vintage_tests::exact(folder);
    command.env("RAYON_NUM_THREADS", threads);
    command
}

#[test]
fn archive_plans_and_version_0_give_the_same_bits_at_any_thread_count() -> Result<()> {
    let (folder, out) = place()?;
    let summary = train(&out)?;
    let bare = folder.path().join("bare");
    for part in ["archive", "plans", "weights/lead/0"] {
        copy(&out.join(part), &bare.join(part))?;
    }
    for threads in ["1", "2", "8"] {
        let replayed = run(exact(&bare, threads))?.json()?;
        ensure!(
            replayed["identical"] == true,
            "{threads} threads: {replayed}"
        );
        ensure!(number(&replayed, "updates")? == STEPS, "{replayed}");
        ensure!(
            replayed["weights_sha256"] == summary["weights_sha256"],
            "{replayed}"
        );
    }
    let weights = out.join(format!("weights/lead/{STEPS}/model.safetensors"));
    let sum = run({
        let mut command = Command::new("sha256sum");
        command.arg(weights);
        command
    })?;
    let digest = sum.stdout.split_whitespace().next().unwrap_or_default();
    ensure!(
        summary["weights_sha256"] == digest,
        "sha256sum says {digest}"
    );
    // Tokens of later versions reveal that every record of the last updates was lost.
    let cut = folder.path().join("cut");
    for part in ["archive", "weights/lead/0"] {
        copy(&out.join(part), &cut.join(part))?;
    }
    std::fs::create_dir_all(cut.join("plans/lead"))?;
    for plan in ["0.json", "1.json", "2.json"] {
        let path = Path::new("plans/lead").join(plan);
        std::fs::copy(out.join(&path), cut.join(&path))?;
    }
    let ended = run(exact(&cut, "2"))?;
    ensure!(ended.status.code() == Some(3), "{}", ended.stderr);
    let replayed: Value = serde_json::from_str(&ended.stdout)?;
    let detail = replayed["first_deviation"]["detail"].as_str();
    ensure!(
        replayed["identical"] == false
            && number(&replayed, "updates")? == 3
            && number(&replayed, "recorded")? > 3
            && detail.unwrap_or_default().contains("(archive/"),
        "{replayed}"
    );
    // Later plans reveal a missing one; results reveal the missing last one.
    stops_at(&bare, 7, "plans/lead/29.json")?;
    stops_at(&out, STEPS - 1, "results/lead/29.json")
}

/// Checks that the training is not replayed without its plan `missing`, and that the error names
/// `record`.
fn stops_at(folder: &Path, missing: u64, record: &str) -> Result<()> {
    std::fs::remove_file(folder.join(format!("plans/lead/{missing}.json")))?;
    let ended = run(exact(folder, "2"))?;
    ensure!(ended.status.code() == Some(3), "{}", ended.stderr);
    let replayed: Value = serde_json::from_str(&ended.stdout)?;
    let deviation = &replayed["first_deviation"];
    ensure!(
        replayed["identical"] == false
            && number(&replayed, "updates")? == missing
            && number(&replayed, "recorded")? == STEPS
            && deviation["update"] == missing,
        "{replayed}"
    );
    let detail = deviation["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains(record), "{replayed}");
    Ok(())
}

#[test]
fn a_changed_log_prob_is_named_by_the_first_update_that_used_it() -> Result<()> {
    let (_folder, out) = place()?;
    train(&out)?;
    // The first message of partition 0; the plans say which update used it.
    let mut tamper = Command::new(python());
    tamper
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/tamper.py"))
        .arg(&out);
    let tampered = run(tamper)?;
    ensure!(tampered.status.success(), "{}", tampered.stderr);
    let offset: i64 = tampered.stdout.trim().parse()?;
    let update = (0..STEPS)
        .find(|update| {
            let plan = std::fs::read_to_string(out.join(format!("plans/lead/{update}.json")));
            let plan: Value = serde_json::from_str(&plan.unwrap_or_default()).unwrap_or_default();
            let groups = plan["groups"].as_array().cloned().unwrap_or_default();
            groups.iter().any(|group| {
                let record = &group["records"][0];
                record["partition"] == 0 && record["offset"] == offset
            })
        })
        .ok_or_else(|| anyhow::anyhow!("no plan uses offset {offset} of partition 0"))?;
    let ended = run(exact(&out, "2"))?;
    ensure!(
        ended.status.code() == Some(3),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    let replayed: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(replayed["identical"] == false, "{replayed}");
    ensure!(
        replayed["first_deviation"]["update"] == update,
        "expected {update}: {replayed}"
    );
    Ok(())
}

/// Tests invariant 5: published bytes win. An update that gives other weights when it is run again
/// stops the learner.
#[test]
fn a_recovery_that_gives_other_weights_than_recorded_stops() -> Result<()> {
    let (_folder, out) = place()?;
    train(&out)?;
    // Without its checkpoints the run recovers from version 0, by every plan.
    std::fs::remove_dir_all(out.join("checkpoints"))?;
    std::fs::remove_file(out.join("summary.json"))?;
    let path = out.join("results/lead/9.json");
    let mut result: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    result["weights_sha256"] = "0".repeat(64).into();
    std::fs::write(&path, format!("{result}\n"))?;
    let ended = run(vintage([
        "run".as_ref(),
        "--out".as_ref(),
        out.as_os_str(),
        "--steps".as_ref(),
        "40".as_ref(),
    ]))?;
    ensure!(
        ended.status.code() == Some(1),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    ensure!(
        ended.stderr.contains("update 9 gave weights"),
        "{}",
        ended.stderr
    );
    Ok(())
}
