//! Values of `--out` that are another run's folder, a folder without a run, no folder at all, or
//! read-only.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};
use vintage_tests::{Running, place, vintage};

use super::{USAGE, files, refused};
use crate::{roles::interrupt, small};

#[test]
fn the_folder_of_another_run_is_left_alone() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(small::digits(folder.path(), &out)?)?;
    let before = files(&out)?;
    for (change, key) in [
        (["--seed", "7"], "seed: the run has 0, now 7"),
        (
            ["--set", "rollout.group_size=2"],
            "rollout.group_size: the run has 4, now 2",
        ),
        (
            ["--set", "learner.optimizer.lr=0.01"],
            "learner.optimizer.lr: the run has",
        ),
        (
            ["--set", "algorithm=grpo"],
            "algorithm: the run has \"m2po\", now \"grpo\"",
        ),
    ] {
        let mut command = small::digits(folder.path(), &out)?;
        command.args(change);
        let named = out.display().to_string();
        refused(&command, USAGE, &[&named, key, "give another --out"])?;
    }
    ensure!(files(&out)? == before, "a refused command changes nothing");
    // The first run itself is finished, and says so again.
    small::finished(small::digits(folder.path(), &out)?)?;
    Ok(())
}

#[test]
fn a_finished_folder_gives_its_summary_whatever_became_of_its_inputs() -> Result<()> {
    let (folder, out) = place()?;
    let summary = small::finished(small::digits(folder.path(), &out)?)?;
    fs::remove_file(folder.path().join("digits.jsonl"))?;
    let mut again = vintage(["run", "--output", "json", "--out"]);
    again.arg(&out);
    let same = small::finished(again)?;
    ensure!(same == summary, "{same}, not {summary}");
    Ok(())
}

#[test]
fn a_folder_of_other_things_is_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("papers");
    fs::create_dir(&out)?;
    fs::write(out.join("thesis.txt"), "chapter one")?;
    let command = small::digits(folder.path(), &out)?;
    let named = out.display().to_string();
    refused(
        &command,
        USAGE,
        &[&named, "config.toml", "not empty", "name another --out"],
    )?;
    let left: Vec<_> = files(&out)?.into_keys().collect();
    ensure!(left == ["thesis.txt"], "{left:?}");
    fs::remove_file(out.join("thesis.txt"))?;
    small::finished(small::digits(folder.path(), &out)?)?;
    Ok(())
}

#[test]
fn a_file_is_no_folder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("notes");
    fs::write(&file, "mine")?;
    for out in [file.clone(), file.join("run")] {
        let command = small::digits(folder.path(), &out)?;
        let named = out.display().to_string();
        refused(&command, USAGE, &[&named, "another --out"])?;
    }
    ensure!(fs::read(&file)? == b"mine");
    Ok(())
}

/// Returns a command without root's right to write everywhere.
fn without_overrides(command: &Command) -> Result<Command> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(super::bounded(command));
    }
    let mut plain = Command::new("setpriv");
    plain.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    plain.args(["--inh-caps", "-dac_override,-dac_read_search"]);
    plain.arg(command.get_program()).args(command.get_args());
    Ok(plain)
}

fn set_mode(folder: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(folder, Permissions::from_mode(mode))?)
}

#[test]
fn a_folder_closed_to_writing_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let parent = folder.path().join("shared");
    fs::create_dir(&parent)?;
    let out = parent.join("run");
    let command = small::digits(folder.path(), &out)?;
    let named = out.display().to_string();

    set_mode(&parent, 0o555)?;
    let parent_closed = refused(
        &without_overrides(&command)?,
        USAGE,
        &[&named, "Permission denied", "--out"],
    );
    set_mode(&parent, 0o755)?;
    parent_closed?;
    ensure!(!out.exists());

    fs::create_dir(&out)?;
    set_mode(&out, 0o555)?;
    let closed = refused(
        &without_overrides(&command)?,
        USAGE,
        &[&named, "Permission denied", "--out"],
    );
    set_mode(&out, 0o755)?;
    closed?;
    ensure!(files(&out)?.is_empty());
    small::finished(command)?;
    Ok(())
}

#[test]
fn a_role_whose_run_does_not_begin_says_so_and_can_be_ended() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    for role in ["archive", "rollout"] {
        let mut command = vintage([role, "--out"]);
        command.arg(&out);
        let mut waiting = Running::start(command)?;
        ensure!(
            waiting.says("waiting for the settings of the run in")?,
            "{role}"
        );
        ensure!(waiting.says("start `vintage learn --out")?, "{role}");
        interrupt(&waiting)?;
        let ended = waiting.wait()?;
        ensure!(ended.status.code() == Some(130), "{role}: {}", ended.stderr);
    }
    ensure!(!out.exists());
    Ok(())
}

#[test]
fn a_follower_of_a_mistyped_folder_begins_no_run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("mistyped");
    let mut follower = vintage(["learn", "--name", "b", "--broker", "127.0.0.1:1", "--out"]);
    follower.arg(&out);
    let named = out.display().to_string();
    refused(&follower, USAGE, &[&named, "--name b", "check --out"])?;
    ensure!(!out.exists());
    Ok(())
}
