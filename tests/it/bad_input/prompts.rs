//! Prompt files that cannot be read, or hold rows that no run can use.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{USAGE, refused};
use crate::small;

const GOOD: &str = "{\"prompt\":\"1=\",\"answer\":\"1\"}\n";

/// Returns the command of a run on a prompt file of these bytes.
fn on(folder: &Path, out: &Path, bytes: &[u8]) -> Result<Command> {
    let path = folder.join("mine.jsonl");
    fs::write(&path, bytes)?;
    let mut command = small::training(out);
    command.arg("--prompts").arg(path);
    Ok(command)
}

/// Returns the command of a run on a prompt file of these bytes, with a ready model.
fn on_model(folder: &Path, out: &Path, bytes: &[u8]) -> Result<Command> {
    let model = folder.join("model");
    small::save(&model, &small::model()?)?;
    let mut command = on(folder, out, bytes)?;
    command.args(["--set", &format!("model.path={}", model.display())]);
    Ok(command)
}

/// Checks that nothing is left which would be in the way of the corrected command.
fn corrected(folder: &Path, out: &Path) -> Result<()> {
    ensure!(
        !out.exists(),
        "prompts are looked at before there is a folder"
    );
    small::finished(small::digits(folder, out)?)?;
    Ok(())
}

#[test]
fn an_unreadable_prompt_file_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    fs::create_dir(folder.join("folder.jsonl"))?;
    for (path, why) in [
        ("absent.jsonl", "No such file"),
        ("folder.jsonl", "Is a directory"),
    ] {
        let path = folder.join(path);
        let mut command = small::training(&out);
        command.arg("--prompts").arg(&path);
        let path = path.display().to_string();
        refused(&command, USAGE, &[&path, why, "--prompts"])?;
    }
    let contents: [(&[u8], &[&str]); 4] = [
        (
            b"",
            &["mine.jsonl", "no prompts", "write one JSON object a line"],
        ),
        (
            b"{\"prompt\":\"1=\"\n",
            &["mine.jsonl:1", "not JSON", "write one JSON object a line"],
        ),
        (
            b"\n\xff\xfe1=\n",
            &["mine.jsonl:2", "not UTF-8", "save the file as UTF-8"],
        ),
        (
            b"{\"text\":\"1=\"}\n",
            &[
                "mine.jsonl:1",
                "neither \"prompt\" nor \"question\"",
                "text",
            ],
        ),
    ];
    for (bytes, words) in contents {
        refused(&on(folder, &out, bytes)?, USAGE, words)?;
    }
    corrected(folder, &out)
}

#[test]
fn a_row_without_an_answer_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let rows = format!("{GOOD}{{\"prompt\":\"2=\"}}\n");
    let words = ["mine.jsonl:2", "answer"];
    refused(&on(folder, &out, rows.as_bytes())?, USAGE, &words)?;
    refused(&on_model(folder, &out, rows.as_bytes())?, USAGE, &words)?;
    let mut cold = on(folder, &out, rows.as_bytes())?;
    cold.args(["--set", "warm_start.steps=0"]);
    refused(&cold, USAGE, &words)?;
    // GSM8K's published answers end in `#### 42`.
    let gsm8k = "{\"question\":\"1=\",\"answer\":\"one\"}\n";
    refused(
        &on(folder, &out, gsm8k.as_bytes())?,
        USAGE,
        &["mine.jsonl:1", "####"],
    )?;
    corrected(folder, &out)
}

#[test]
fn an_answer_that_cannot_be_checked_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let rows = format!("{GOOD}{{\"prompt\":\"2=\",\"answer\":\"ab\"}}\n");
    let mut command = on(folder, &out, rows.as_bytes())?;
    command.args(["--set", "rollout.reward.kind=number"]);
    let words = [
        "mine.jsonl:2",
        "\"ab\"",
        "does not state one number",
        "kind math or exact",
    ];
    refused(&command, USAGE, &words)?;
    corrected(folder, &out)
}

#[test]
fn a_prompt_longer_than_the_context_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let rows = format!(
        "{GOOD}{{\"prompt\":\"{}=\",\"answer\":\"1\"}}\n",
        "1".repeat(5000)
    );
    let words = ["mine.jsonl:2", "5001 tokens", "context", "shorten it"];
    refused(&on_model(folder, &out, rows.as_bytes())?, USAGE, &words)?;
    refused(&on(folder, &out, rows.as_bytes())?, USAGE, &words)?;
    corrected(folder, &out)
}

#[test]
fn a_character_outside_the_vocabulary_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let rows = format!("{GOOD}{{\"prompt\":\"1+1=\",\"answer\":\"2\"}}\n");
    let words = [
        "mine.jsonl:2",
        "'+'",
        "vocabulary",
        "use a tokenizer that knows it",
    ];
    refused(&on_model(folder, &out, rows.as_bytes())?, USAGE, &words)?;

    // The built-in prompts need digits, which this model does not know.
    let mut built_in = small::training(&out);
    let letters = folder.join("letters");
    small::save(&letters, &in_letters(small::model()?)?)?;
    built_in.args(["--set", &format!("model.path={}", letters.display())]);
    refused(
        &built_in,
        USAGE,
        &["sort/train.jsonl:1", "'4'", "vocabulary"],
    )?;
    corrected(folder, &out)
}

/// Returns the files of a model with every one-character token of its vocabulary replaced by a letter.
fn in_letters(mut model: Vec<(String, Vec<u8>)>) -> Result<Vec<(String, Vec<u8>)>> {
    let tokenizer = model.iter_mut().find(|(name, _)| name == "tokenizer.json");
    let (_, bytes) = tokenizer.context("no tokenizer")?;
    let mut parsed: Value = serde_json::from_slice(bytes)?;
    let vocabulary = parsed["model"]["vocab"]
        .as_object_mut()
        .context("no vocabulary")?;
    let renamed = std::mem::take(vocabulary).into_iter().map(|(token, id)| {
        let letter = char::from(b'a' + id.as_u64().unwrap_or_default() as u8);
        (
            if token.len() == 1 {
                letter.to_string()
            } else {
                token
            },
            id,
        )
    });
    *vocabulary = renamed.collect();
    *bytes = serde_json::to_vec(&parsed)?;
    Ok(model)
}

#[test]
fn held_out_prompts_are_looked_at_before_training_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let heldout = folder.join("heldout.jsonl");
    let cases: [(&str, &[&str]); 4] = [
        ("{\"prompt\":\"12=\"}", &["heldout.jsonl:1", "answer"]),
        (
            "{\"prompt\":\"1+1=\",\"answer\":\"2\"}",
            &["heldout.jsonl:1", "'+'"],
        ),
        (
            "{\"prompt\":\"1=\",\"answer\":\"1\"}",
            &["heldout.jsonl:1", "mine.jsonl", "take it out"],
        ),
        ("nonsense", &["heldout.jsonl:1", "not JSON"]),
    ];
    for (row, words) in cases {
        fs::write(&heldout, format!("{row}\n"))?;
        let mut command = on_model(folder, &out, GOOD.as_bytes())?;
        command.arg("--heldout").arg(&heldout);
        refused(&command, USAGE, words)?;
        ensure!(!out.exists(), "{row} left a folder");
    }
    // The first of the built-in training prompts.
    fs::write(&heldout, "{\"prompt\":\"457210=\",\"answer\":\"9\"}\n")?;
    let mut built_in = small::training(&out);
    built_in.arg("--heldout").arg(&heldout);
    let words = ["heldout.jsonl:1", "sort/train.jsonl", "take it out"];
    refused(&built_in, USAGE, &words)?;
    corrected(folder, &out)
}
