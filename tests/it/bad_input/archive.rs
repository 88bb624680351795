//! Archive files that are not what was written.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use vintage_tests::{copy, vintage};

use super::{FAILED, NEGATIVE, bounded, files, refused};
use crate::small;

fn replay(folder: &std::path::Path) -> std::process::Command {
    let mut command = vintage(["replay", "--output", "json", "--exact"]);
    command.arg(folder);
    command
}

#[test]
fn a_damaged_archive_file_is_named_and_nothing_is_trained_from_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    small::finished(small::digits(folder.path(), &out)?)?;
    let archived = files(&out.join("archive"))?;
    let (name, bytes) = archived
        .iter()
        .find(|(name, _)| name.ends_with(".parquet"))
        .context("no archive file")?;
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
        let file = damaged.join("archive").join(name);
        fs::write(&file, bytes)?;
        let before = files(&damaged)?;
        let file = file.display().to_string();
        refused(
            &replay(&damaged),
            FAILED,
            &[&file, "is damaged", "restore it from a copy"],
        )?;
        ensure!(
            files(&damaged)? == before,
            "{damage}: a replay changes nothing"
        );
    }

    let without = folder.path().join("without");
    copy(&out, &without)?;
    fs::remove_file(without.join("archive").join(name))?;
    let ended = vintage_tests::run(bounded(&replay(&without)))?;
    ensure!(
        ended.status.code() == Some(NEGATIVE),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    let found: serde_json::Value = serde_json::from_str(&ended.stdout)?;
    let deviation = found["first_deviation"]["detail"]
        .as_str()
        .context("no deviation")?;
    ensure!(found["identical"] == false, "{found}");
    ensure!(deviation.contains("needs the record at"), "{found}");
    Ok(())
}

#[test]
fn a_run_does_not_go_on_from_a_damaged_archive() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    small::finished(small::digits(folder.path(), &out)?)?;
    let archived = files(&out.join("archive"))?;
    let (name, bytes) = archived
        .iter()
        .find(|(name, _)| name.ends_with(".parquet"))
        .context("no archive file")?;
    let file = out.join("archive").join(name);
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
