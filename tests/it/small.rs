//! A task so small that a whole run takes half a second, for tests of everything around training.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{place, run, vintage};

/// Writes prompts `0=` to `9=`, whose answer is the digit.
pub(crate) fn prompts(folder: &Path) -> Result<PathBuf> {
    let row = |digit: u8| format!("{{\"prompt\":\"{digit}=\",\"answer\":\"{digit}\"}}\n");
    let path = folder.join("digits.jsonl");
    std::fs::write(&path, (0..10).map(row).collect::<String>())?;
    Ok(path)
}

/// Settings that keep a run small.
const SETTINGS: [&str; 5] = [
    "learner.steps=3",
    "warm_start.steps=10",
    "rollout.max_tokens=2",
    "rollout.group_size=4",
    "learner.prompts_per_update=4",
];

/// Returns the command `vintage run` of three updates (or `--steps`) in `out`; the caller adds
/// prompts.
pub(crate) fn training(out: &Path) -> Command {
    verb("run", out)
}

/// Returns the command of any verb of a small run in `out`.
pub(crate) fn verb(name: &str, out: &Path) -> Command {
    let mut command = vintage([name, "--output", "json", "--out"]);
    command.arg(out);
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    command
}

/// Returns the command `vintage run` of a small run in `out`, on [`prompts`] in `folder`.
pub(crate) fn digits(folder: &Path, out: &Path) -> Result<Command> {
    let mut command = training(out);
    command.arg("--prompts").arg(prompts(folder)?);
    Ok(command)
}

/// Runs a command and returns its summary; fails unless the run finished and its accounts balance.
pub(crate) fn finished(command: Command) -> Result<Value> {
    let summary = run(command)?.json()?;
    ensure!(summary["finished"] == true, "{summary}");
    ensure!(summary["balanced"] == true, "{summary}");
    Ok(summary)
}

/// Returns the files of a Hugging Face model folder whose tokenizer knows digits and `=`.
pub(crate) fn model() -> Result<Vec<(String, Vec<u8>)>> {
    static MODEL: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    if let Some(model) = MODEL.get() {
        return Ok(model.clone());
    }
    let (folder, out) = place()?;
    finished(digits(folder.path(), &out)?)?;
    let names = ["config.json", "model.safetensors", "tokenizer.json"];
    let read = |name: &str| {
        let path = out.join("weights/lead/0").join(name);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        anyhow::Ok((name.to_owned(), bytes))
    };
    let files = names.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(MODEL.get_or_init(|| files).clone())
}

/// Writes files of a model into `folder`, which is created.
pub(crate) fn save(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
