//! Limits of the system on a process: one that is too low is named, and changes no exit code.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use vintage_tests::{exact, place, run, vintage};

use super::{FAILED, NEGATIVE, error_of, refused};
use crate::small;

/// Returns a command of `vintage` in a shell that first sets a limit.
fn limited(limit: &str, command: &Command) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

#[test]
fn twenty_open_files_are_too_few_for_a_run_and_the_limit_is_named() -> Result<()> {
    let (folder, out) = place()?;
    let training = small::digits(folder.path(), &out)?;
    let words = ["may have 20 files open", "ulimit -n"];
    refused(&limited("ulimit -n 20", &training), FAILED, &words)?;
    ensure!(!out.exists(), "it began");
    // A verb that only reads settings needs no more.
    let shown = run(limited("ulimit -n 20", &vintage(["config", "show"])))?;
    ensure!(shown.status.success(), "{}", shown.stderr);
    // A soft limit may be raised by any user.
    small::finished(limited("ulimit -S -n 20", &training))?;
    Ok(())
}

/// Tests a limit on threads. It applies to users and not to root, which runs the tests in most
/// containers.
#[test]
fn without_room_for_threads_the_limit_is_named_and_nothing_panics() -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let show = vintage(["config", "show"]);
    let mut shell = limited("ulimit -u 2", &show);
    if is_root {
        // A copy that another user may run.
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let copied = folder.path().join("vintage");
        fs::copy(show.get_program(), &copied)?;
        let mut other = Command::new("setpriv");
        // This user runs nothing else here, so the count is ours.
        other.args(["--reuid=65533", "--regid=65533", "--clear-groups"]);
        let mut command = Command::new(copied);
        command.args(["config", "show"]);
        shell = limited("ulimit -u 2", &command);
        other.arg(shell.get_program()).args(shell.get_args());
        let ended = refused(&other, FAILED, &["threads", "ulimit -u"])?;
        ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        return Ok(());
    }
    let ended = refused(&shell, FAILED, &["threads", "ulimit -u"])?;
    ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    Ok(())
}

/// Returns the audit of a run of which a plan is missing, so that its verdict is negative.
fn tampered(folder: &Path, out: &Path) -> Result<Command> {
    small::finished(small::digits(folder, out)?)?;
    fs::remove_file(out.join("plans/lead/1.json"))?;
    let mut audit = vintage(["audit", "--offline"]);
    audit.arg(out);
    Ok(audit)
}

#[test]
fn who_reads_the_output_decides_no_exit_code() -> Result<()> {
    let (folder, out) = place()?;
    let mut training = small::digits(folder.path(), &out)?;
    // Output that nobody reads: the pipe is closed, and standard error is full.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let full = || OpenOptions::new().write(true).open("/dev/full");
    training.stdout(writer).stderr(full()?);
    ensure!(training.status()?.success(), "a run that nobody watched");
    ensure!(out.join("summary.json").is_file());

    let (other, bad) = place()?;
    let audit = tampered(other.path(), &bad)?;
    let replay = exact(&out);
    for (command, code) in [(&audit, NEGATIVE), (&replay, 0)] {
        let run_into = |stdout: Stdio| -> Result<(Option<i32>, String)> {
            let mut again = Command::new(command.get_program());
            again.args(command.get_args()).stdin(Stdio::null());
            let ended = again.stdout(stdout).stderr(Stdio::piped()).output()?;
            let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
            Ok((ended.status.code(), stderr))
        };
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let (found, stderr) = run_into(writer.into())?;
        ensure!(found == Some(code), "{command:?}: {found:?} {stderr}");
        ensure!(!stderr.contains("error:"), "{stderr}");
        // Lost output fails a command that succeeded otherwise, and is reported.
        let (found, stderr) = run_into(full()?.into())?;
        let expected = if code == 0 { FAILED } else { code };
        ensure!(found == Some(expected), "{command:?}: {found:?} {stderr}");
        let error = error_of(&stderr)?;
        ensure!(error.contains("standard output"), "{error}");
        let (found, stderr) = run_into(Stdio::null())?;
        ensure!(found == Some(code), "{command:?}: {found:?} {stderr}");
    }

    let mut help = vintage(["--help"]);
    let status = help.stdout(full()?).status()?;
    ensure!(
        status.code() == Some(FAILED),
        "{status}: help that was lost"
    );

    // Standard output that is closed from the start.
    let closed = limited("exec >&- 2>&-", &audit);
    let code = run_status(closed)?;
    ensure!(code == NEGATIVE, "{code}");
    Ok(())
}

fn run_status(mut command: Command) -> Result<i32> {
    let status = command.stdin(Stdio::null()).status()?;
    status.code().context("it was killed")
}
