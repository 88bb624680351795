//! Reward commands that hang, die, write nonsense or do not exist.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use vintage_tests::{Running, place};

use super::{FAILED, USAGE, nothing_half_written, refused};
use crate::small;

/// Script that answers the one question of the start and goes on as a judge that is broken. The file
/// `TRIED` remembers that over restarts.
const ANSWERS_THE_FIRST: &str = r#"
if [ ! -e TRIED ]; then
    read -r line; touch TRIED
    echo "$line" | sed 's/.*"id":"\([0-9]*\)".*/{"id":"\1","reward":1}/'
fi
"#;

/// Returns the command of a run whose rewards come from the shell script `reward.sh` of `folder`.
fn judged_by(folder: &Path, out: &Path, script: &str, seconds: &str) -> Result<Command> {
    let path = folder.join("reward.sh");
    let script = script.replace("PIDS", &folder.join("pids").display().to_string());
    let script = script.replace("TRIED", &folder.join("tried").display().to_string());
    fs::write(&path, script)?;
    let mut command = small::digits(folder, out)?;
    command.args([
        "--set",
        &format!("rollout.reward.timeout_seconds={seconds}"),
    ]);
    let argv = format!("rollout.reward.command=['sh', '{}']", path.display());
    command.args(["--set", &argv, "--set", "rollout.reward.max_restarts=2"]);
    Ok(command)
}

/// Checks that a run refuses to start with the script, for `why`, and that one in which the script
/// breaks later fails with `words`; then that the folder resumes with a script that works.
fn fails_with(script: &str, seconds: &str, why: &str, words: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let command = judged_by(folder, &out, script, seconds)?;
    let tried = ["digits.jsonl:1", "vintage reward test", why];
    refused(&command, USAGE, &tried)?;
    ensure!(!out.exists(), "something was written");
    ensure!(running(folder).is_empty(), "it is still running");

    let later = format!("{ANSWERS_THE_FIRST}{script}");
    let command = judged_by(folder, &out, &later, seconds)?;
    refused(&command, FAILED, words)?;
    nothing_half_written(&out)?;
    ensure!(running(folder).is_empty(), "it is still running");

    let works = r#"sed -u 's/.*"id":"\([0-9]*\)".*/{"id":"\1","reward":1}/'"#;
    let summary = small::finished(judged_by(folder, &out, works, "30")?)?;
    ensure!(summary["rejected"] == serde_json::json!({}), "{summary}");
    Ok(())
}

/// Returns the running processes among those that the script noted.
fn running(folder: &Path) -> Vec<String> {
    let pids = fs::read_to_string(folder.join("pids")).unwrap_or_default();
    // A zombie process has no command line.
    let is_running =
        |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|l| !l.is_empty());
    pids.lines()
        .filter(|pid| is_running(pid))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_reward_command_that_hangs_is_ended_with_its_children() -> Result<()> {
    let script = "sleep 600 & echo $! >> PIDS; echo $$ >> PIDS; wait";
    let words = [
        "gave no answer for 0.5 s",
        "reward.sh",
        "after 2 restarts",
        "timeout_seconds",
    ];
    fails_with(script, "0.5", "gave no answer for 0.5 s", &words)
}

#[test]
fn a_reward_command_that_dies_is_quoted() -> Result<()> {
    let script = "echo $$ >> PIDS; read line; echo 'no such judge' >&2; exit 7";
    let words = ["exit status: 7", "no such judge", "run it by hand"];
    fails_with(script, "30", "no such judge", &words)
}

#[test]
fn a_reward_command_that_writes_nonsense_is_quoted() -> Result<()> {
    let script = "echo $$ >> PIDS; while read line; do echo 'I think a 7'; done";
    let words = ["I think a 7", "is no answer", "\"id\", \"reward\""];
    fails_with(script, "30", "I think a 7", &words)
}

#[test]
fn rewards_that_are_no_numbers_are_counted_and_quoted() -> Result<()> {
    let script = r#"sed -u 's/.*"id":"\([0-9]*\)".*/{"id":"\1","reward":NaN}/'"#;
    let words = ["no reward for", "NaN", "finite", "max_failed_groups"];
    fails_with(script, "30", "NaN", &words)
}

#[test]
fn an_interrupt_ends_the_question_of_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let hangs = judged_by(
        folder,
        &out,
        "echo $$ >> PIDS; read -r line; sleep 600",
        "600",
    )?;
    let mut starts = Running::start(hangs)?;
    ensure!(
        starts.says("checking prompts, model and reward")?,
        "it ended"
    );
    starts.signal(Signal::INT)?;
    let ended = starts.wait()?;
    ensure!(ended.status.code() == Some(130), "{}", ended.status);
    ensure!(!out.exists(), "something was written");
    ensure!(running(folder).is_empty(), "the judge is still running");
    Ok(())
}

#[test]
fn a_reward_command_that_does_not_start_is_refused_first() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    command.args(["--set", "rollout.reward.command=['/nowhere/judge']"]);
    refused(
        &command,
        USAGE,
        &["/nowhere/judge", "No such file", "rollout.reward.command"],
    )?;
    ensure!(!out.exists());
    small::finished(small::digits(folder.path(), &out)?)?;
    Ok(())
}
