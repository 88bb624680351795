//! A full disk at several moments of a run.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::run;

use super::{FAILED, error_of, nothing_half_written};
use crate::small;

/// Disk that is small, and grows later.
struct Room {
    /// Description for messages.
    name: String,
    /// Shell command that makes the folder `$room` small.
    narrow: String,
    /// Shell command that makes the folder `$room` large.
    widen: &'static str,
}

/// Returns a file system with `kib` KiB left, in a namespace that ends with the command.
fn tmpfs(kib: u64) -> Room {
    let ballast = 64 * 1024 - kib;
    Room {
        name: format!("a file system with {kib} KiB left"),
        narrow: format!(
            "mount -t tmpfs -o size=64m tmpfs \"$room\" && \
             fallocate -l {ballast}KiB \"$room/ballast\" || exit"
        ),
        widen: "rm \"$room/ballast\"",
    }
}

/// Returns a limit of `kib` KiB on the size of any file, which needs no privileges.
fn file_size(kib: u64) -> Room {
    Room {
        name: format!("files of {kib} KiB at most"),
        // With the signal ignored, the write fails with EFBIG.
        narrow: format!("trap '' XFSZ; ulimit -S -f {kib}"),
        widen: "ulimit -S -f unlimited",
    }
}

/// Shell script that runs `"$@"` with little room, keeps what is left, then runs it again and a
/// replay with enough.
const SCRIPT: &str = r#"
"$@" > "$kept/first.out" 2> "$kept/first.err"
echo $? > "$kept/first.code"
cp -R "$room/run" "$kept/left"
WIDEN
"$@" > "$kept/second.out" 2> "$kept/second.err"
"$1" replay --output json --exact "$room/run" > "$kept/replay.out"
"#;

/// Returns a shell in a namespace of its own, in which mounting is allowed.
fn unshared() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "bash"]);
    command
}

/// Returns true if the kernel permits mounting in a namespace of its own.
fn can_mount() -> bool {
    let mut probe = unshared();
    probe.args(["-c", "mount -t tmpfs tmpfs /tmp"]);
    run(probe).is_ok_and(|ended| ended.status.success())
}

/// Prompts to train on.
#[derive(Clone, Copy)]
enum Prompts {
    /// File of the user, in another folder.
    Mine,
    /// Built-in prompts, which are written into the run's folder.
    BuiltIn,
}

/// Checks that a run fails for want of room, then resumes once there is enough.
fn squeezed(room: &Room, prompts: Prompts, mut shell: Command) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (disk, kept) = (folder.path().join("disk"), folder.path().join("kept"));
    fs::create_dir(&disk)?;
    fs::create_dir(&kept)?;
    let run_folder = disk.join("run");
    let mut training = match prompts {
        Prompts::Mine => small::digits(folder.path(), &run_folder)?,
        Prompts::BuiltIn => small::training(&run_folder),
    };
    training.args(["--steps", "40", "--set", "learner.checkpoint_every=5"]);
    let script = SCRIPT.replace("WIDEN", room.widen);
    shell.args(["-c", &format!("{}\n{script}", room.narrow), "bash"]);
    shell.arg(training.get_program()).args(training.get_args());
    shell.env("room", &disk).env("kept", &kept);
    let ended = run(super::bounded(&shell))?;

    let read = |name: &str| {
        let path = kept.join(name);
        fs::read_to_string(&path).with_context(|| format!("{}: {}", path.display(), ended.stderr))
    };
    let (code, stderr) = (read("first.code")?, read("first.err")?);
    ensure!(
        code.trim() == FAILED.to_string(),
        "exit code {code}: {stderr}"
    );
    ensure!(read("first.out")?.is_empty(), "it printed a result");
    let error = error_of(&stderr)?;
    ensure!(
        error.contains(&disk.display().to_string()),
        "no file is named: {error}"
    );
    ensure!(
        error.contains("free some space"),
        "no advice is given: {error}"
    );
    nothing_half_written(&kept.join("left")).with_context(|| error.to_owned())?;

    let json = |name: &str| -> Result<Value> {
        let text = read(name)?;
        serde_json::from_str(&text).with_context(|| format!("{name}: {text}"))
    };
    let summary = json("second.out").with_context(|| read("second.err").unwrap_or_default())?;
    ensure!(
        summary["finished"] == true && summary["balanced"] == true,
        "{summary}"
    );
    let replayed = json("replay.out")?;
    ensure!(replayed["identical"] == true, "{replayed}");
    ensure!(
        replayed["weights_sha256"] == summary["weights_sha256"],
        "{replayed}"
    );
    Ok(())
}

#[test]
fn a_full_disk_is_told_and_the_run_goes_on_once_there_is_room() -> Result<()> {
    // Less than the weights of a version.
    let files = file_size(200);
    squeezed(&files, Prompts::Mine, Command::new("bash")).context(files.name)?;
    if !can_mount() {
        eprintln!("no file system can be mounted here: only the size of files was limited");
        return Ok(());
    }
    // The settings do not fit; version 0 does not; an early update; a later one.
    for kib in [4, 300, 1600, 4000] {
        let disk = tmpfs(kib);
        squeezed(&disk, Prompts::Mine, unshared()).context(disk.name)?;
    }
    let disk = tmpfs(100);
    squeezed(&disk, Prompts::BuiltIn, unshared()).context(disk.name)?;
    Ok(())
}
