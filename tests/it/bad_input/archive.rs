//! Archive files that are not as they were written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{copy, exact, place, run};

use super::{FAILED, NEGATIVE, USAGE, bounded, files, refused};
use crate::small;

/// Returns the first archive file of the run in `out`, and its bytes.
fn archive_file(out: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let archived = files(&out.join("archive"))?;
    let mut parquet = archived.into_iter();
    let found = parquet.find(|(name, _)| name.ends_with(".parquet"));
    let (name, bytes) = found.context("no archive file")?;
    Ok((Path::new("archive").join(name), bytes))
}

#[test]
fn a_damaged_archive_file_is_named_and_nothing_is_trained_from_it() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(small::digits(folder.path(), &out)?)?;
    let (name, bytes) = archive_file(&out)?;
    let mut flipped = bytes.clone();
    flipped[200..260].iter_mut().for_each(|byte| *byte ^= 0x55);
    let damages: [(&str, Vec<u8>); 4] = [
        ("cut", bytes[..bytes.len() * 2 / 3].to_vec()),
        ("flipped", flipped),
        ("zeroed", vec![0; bytes.len()]),
        ("emptied", Vec::new()),
    ];
    for (damage, bytes) in damages {
        let damaged: PathBuf = folder.path().join(damage);
        copy(&out, &damaged)?;
        let file = damaged.join(&name);
        fs::write(&file, bytes)?;
        let before = files(&damaged)?;
        let file = file.display().to_string();
        refused(
            &exact(&damaged),
            FAILED,
            &[&file, "is damaged", "restore it from a copy"],
        )?;
        ensure!(
            files(&damaged)? == before,
            "{damage}: a replay changes nothing"
        );
    }
    Ok(())
}

#[test]
fn archive_files_that_are_gone_are_missed() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    // A file for every message, so that a partition of several messages has several files.
    command.args(["--set", "archive.roll_bytes=1"]);
    small::finished(command)?;
    let archived = files(&out.join("archive"))?;
    let of_partition = |partition: usize| -> Vec<PathBuf> {
        let folder = format!("/p={partition:05}/");
        let names = archived.keys().filter(|name| name.contains(&folder));
        names.map(|name| out.join("archive").join(name)).collect()
    };
    let several = (0..4).map(of_partition).find(|files| files.len() > 1);
    let several = several.context("no partition has two files")?;

    fs::remove_file(&several[0])?;
    let words = ["has a gap", "a file was removed", "restore it from a copy"];
    refused(&exact(&out), FAILED, &words)?;

    // Without any file there is no gap, but plans name records that were in them.
    several[1..].iter().try_for_each(fs::remove_file)?;
    let ended = run(bounded(&exact(&out)))?;
    let output = || format!("{}\n{}\n{}", ended.status, ended.stdout, ended.stderr);
    ensure!(ended.status.code() == Some(NEGATIVE), output());
    let found: Value = serde_json::from_str(&ended.stdout).with_context(output)?;
    ensure!(found["identical"] == false, "{found}");
    let deviation = found["first_deviation"]["detail"].as_str();
    let deviation = deviation.context("no deviation")?;
    ensure!(deviation.contains("needs the record at"), "{found}");
    Ok(())
}

#[test]
fn a_run_does_not_go_on_from_a_damaged_archive() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(small::digits(folder.path(), &out)?)?;
    let (name, bytes) = archive_file(&out)?;
    let file = out.join(name);
    fs::write(&file, &bytes[..bytes.len() / 2])?;
    let mut more = small::digits(folder.path(), &out)?;
    more.args(["--steps", "5"]);
    let named = file.display().to_string();
    refused(
        &more,
        FAILED,
        &[&named, "is damaged", "restore it from a copy"],
    )?;

    fs::write(&file, bytes)?;
    let mut more = small::digits(folder.path(), &out)?;
    more.args(["--steps", "5"]);
    let summary = small::finished(more)?;
    ensure!(summary["updates"] == 5 && summary["lost"] == 0, "{summary}");
    Ok(())
}

#[test]
fn an_archive_of_another_tokenizer_is_refused_before_anything_is_trained() -> Result<()> {
    let (folder, out) = place()?;
    let letters = folder.path().join("letters.jsonl");
    let row = |letter: char| format!("{{\"prompt\":\"{letter}?\",\"answer\":\"{letter}\"}}\n");
    fs::write(&letters, ('a'..'k').map(row).collect::<String>())?;
    let source = folder.path().join("letters");
    let mut command = small::training(&source);
    command.arg("--prompts").arg(&letters);
    small::finished(command)?;

    let taking = |kind: &str, archive: &Path| {
        let mut command = small::digits(folder.path(), &out)?;
        command.args(["--set", &format!("learner.source={kind}")]);
        command.args(["--set", &format!("learner.archive={}", archive.display())]);
        anyhow::Ok(command)
    };
    let nowhere = taking("hybrid", &folder.path().join("nowhere"))?;
    refused(&nowhere, USAGE, &["learner.archive", "there is no archive"])?;
    ensure!(!out.exists(), "a start that was refused leaves nothing");
    for kind in ["hybrid", "blend"] {
        let words = ["learner.archive", "another tokenizer", "same model"];
        refused(&taking(kind, &source)?, USAGE, &words)?;
        ensure!(!out.join("plans").exists(), "nothing is planned");
        fs::remove_dir_all(&out)?;
    }
    Ok(())
}
