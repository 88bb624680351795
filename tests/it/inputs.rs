//! Inputs of a resumed run: it continues with the prompts, the reward and the model it began with,
//! or with changes that its user accepted by name.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{Ended, audit, place, run, vintage};

use crate::small;

const USAGE: i32 = 2;

const JUDGE: &str = "import json, sys
for line in sys.stdin:
    q = json.loads(line)
    right = q[\"completion\"].startswith(q[\"answer\"])
    print(json.dumps({\"id\": q[\"id\"], \"reward\": float(right)}), flush=True)
";

/// Returns the command of a run of `steps` updates that is given files of every kind.
fn training(folder: &Path, out: &Path, steps: u64) -> Command {
    let mut command = small::training(out);
    let file = |name: &str| folder.join(name).display().to_string();
    command.args(["--prompts", &file("digits.jsonl")]);
    command.args(["--heldout", &file("heldout.jsonl")]);
    let judge = format!(
        "rollout.reward.command=[\"python3\", \"{}\"]",
        file("judge.py")
    );
    command.args(["--set", &judge, "--set", "evaluation.prompts=2"]);
    command.args(["--steps", &steps.to_string()]);
    command
}

fn write_inputs(folder: &Path) -> Result<()> {
    small::prompts(folder)?;
    fs::write(folder.join("judge.py"), JUDGE)?;
    let heldout = "{\"prompt\":\"12=\",\"answer\":\"3\"}\n{\"prompt\":\"21=\",\"answer\":\"4\"}\n";
    fs::write(folder.join("heldout.jsonl"), heldout)?;
    Ok(())
}

fn refused(command: Command, words: &[&str]) -> Result<Ended> {
    let ended = run(command)?;
    ensure!(
        ended.status.code() == Some(USAGE),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    for word in words {
        ensure!(
            ended.stderr.contains(word),
            "{word:?} is not in: {}",
            ended.stderr
        );
    }
    Ok(ended)
}

#[test]
fn a_run_whose_files_were_edited_is_refused_until_the_change_is_accepted() -> Result<()> {
    let (folder, out) = place()?;
    let folder = folder.path();
    write_inputs(folder)?;
    small::finished(training(folder, &out, 3))?;
    let mut steps = 3;
    for (setting, file, edit) in [
        ("prompts.train", "digits.jsonl", ("\"0=\"", "\"00=\"")),
        ("prompts.heldout", "heldout.jsonl", ("\"3\"", "\"4\"")),
        (
            "rollout.reward.command",
            "judge.py",
            ("float(right)", "1.0 - right"),
        ),
    ] {
        let path = folder.join(file);
        let before = fs::read_to_string(&path)?;
        let edited = before.replace(edit.0, edit.1);
        ensure!(edited != before, "{file} was not edited");
        fs::write(&path, &edited)?;
        steps += 1;
        let accept = format!("--accept {setting}");
        refused(
            training(folder, &out, steps),
            &[setting, file, "has changed since the run began", &accept],
        )?;
        // Accepting another setting accepts nothing of this one.
        let mut other = training(folder, &out, steps);
        other.args(["--accept", "model.path"]);
        refused(other, &[setting])?;
        let mut accepted = training(folder, &out, steps);
        accepted.args(["--accept", setting]);
        small::finished(accepted)?;
        // From now on the run works with the changed file.
        steps += 1;
        small::finished(training(folder, &out, steps))?;
    }
    let last = fs::read_to_string(out.join("inputs/3.json"))?;
    let last: Value = serde_json::from_str(&last)?;
    ensure!(
        last["accepted"] == serde_json::json!(["rollout.reward.command"]),
        "{last}"
    );
    let mut unknown = training(folder, &out, steps + 1);
    unknown.args(["--accept", "prompts"]);
    refused(
        unknown,
        &["--accept prompts", "prompts.train, prompts.heldout"],
    )?;
    Ok(())
}

#[test]
fn a_run_from_before_inputs_were_recorded_goes_on() -> Result<()> {
    let (folder, out) = place()?;
    let folder = folder.path();
    write_inputs(folder)?;
    small::finished(training(folder, &out, 3))?;
    fs::remove_dir_all(out.join("inputs"))?;
    small::finished(training(folder, &out, 4))?;
    ensure!(out.join("inputs/0.json").exists());
    Ok(())
}

#[test]
fn a_model_folder_or_a_version_0_that_was_changed_is_named() -> Result<()> {
    let (folder, out) = place()?;
    let folder = folder.path();
    let model = folder.join("model");
    small::save(&model, &small::model()?)?;
    let training = |steps: &str| -> Result<Command> {
        let mut command = small::digits(folder, &out)?;
        let path = format!("model.path={}", model.display());
        command.args(["--set", &path, "--steps", steps]);
        Ok(command)
    };
    small::finished(training("3")?)?;
    let edit = |path: &Path| -> Result<Vec<u8>> {
        let before = fs::read(path).with_context(|| path.display().to_string())?;
        let mut edited = before.clone();
        edited.push(b'\n');
        fs::write(path, edited)?;
        Ok(before)
    };
    let tokenizer = model.join("tokenizer.json");
    let before = edit(&tokenizer)?;
    refused(training("4")?, &["model.path", "tokenizer.json"])?;
    fs::write(&tokenizer, before)?;
    let own = out.join("weights/lead/0/tokenizer.json");
    let before = edit(&own)?;
    refused(training("4")?, &["weights/lead/0/tokenizer.json", "sha256"])?;
    fs::write(&own, before)?;
    small::finished(training("4")?)?;

    // Weights that are not read at a start are for the audit to find.
    let deep = |holds: bool, word: &str| -> Result<()> {
        let audited: Value = serde_json::from_str(&audit(&out, &["--deep"])?.stdout)?;
        let findings = audited["findings"].to_string();
        ensure!(
            audited["holds"] == holds && findings.contains(word),
            "{audited}"
        );
        Ok(())
    };
    deep(true, "[]")?;
    let weights = out.join("weights/lead/2/model.safetensors");
    let before = edit(&weights)?;
    deep(false, "weights/lead/2/model.safetensors is corrupt")?;
    fs::remove_file(&weights)?;
    deep(false, "weights/lead/2/model.safetensors is missing")?;
    fs::write(&weights, before)?;
    deep(true, "[]")
}

#[test]
fn a_follower_accepts_nothing_for_its_run() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(small::digits(folder.path(), &out)?)?;
    let mut follower = vintage(["learn", "--name", "b", "--out"]);
    follower.arg(&out).args(["--set", "learner.source=archive"]);
    follower.args(["--accept", "prompts.train"]);
    refused(
        follower,
        &["--accept prompts.train", "learner b is a follower"],
    )?;
    Ok(())
}
