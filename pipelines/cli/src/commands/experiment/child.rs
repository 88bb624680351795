//! Run of an arm: a process of this program, and what it says while it works.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::mpsc::UnboundedSender,
};
use tokio_util::sync::CancellationToken;

/// Longest message of a failed run that is shown, in lines.
const LINES: usize = 8;

/// Process to start.
#[derive(Debug, Clone)]
pub(super) struct Start {
    /// Folder of the run.
    pub(super) folder: PathBuf,
    /// File that takes what the process says.
    pub(super) log: PathBuf,
    /// Values of `--set`.
    pub(super) settings: Vec<String>,
    /// Threads that compute.
    pub(super) threads: u16,
}

/// Progress that a process told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Place of the arm.
    pub(super) arm: usize,
    /// Time since the process started.
    pub(super) after: Duration,
}

/// End of a process.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Last lines that were no events: of a run that failed, its message.
    pub(super) said: Vec<String>,
    /// Time it took.
    pub(super) took: Duration,
}

/// Part of a JSON line of progress that counts.
#[derive(Deserialize)]
struct Line {
    event: Option<String>,
}

/// Runs the process to its end. When `stop` is cancelled it is asked to end in good order; dropped, it is
/// killed.
pub(super) async fn run(
    start: &Start,
    arm: usize,
    hold: File,
    steps: &UnboundedSender<Step>,
    stop: &CancellationToken,
) -> io::Result<Ended> {
    let mut log = File::options().create(true).append(true).open(&start.log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--log-format", "json", "--output", "json", "run", "--out"])
        .arg(&start.folder)
        .env("RAYON_NUM_THREADS", start.threads.to_string())
        // The open lock of the experiment: held until the last of its processes has ended.
        .stdin(Stdio::from(hold))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // ^C goes to the experiment alone, which asks its runs to end.
        .process_group(0)
        .kill_on_drop(true);
    for setting in &start.settings {
        command.args(["--set", setting]);
    }
    end_with_parent(&mut command);
    let started = Instant::now();
    let mut child = command.spawn()?;
    let mut said = Vec::new();
    let mut asked = false;
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                () = stop.cancelled(), if !asked => {
                    asked = true;
                    ask_to_end(&child);
                    continue;
                }
            };
            let Some(line) = line else { break };
            writeln!(log, "{line}")?;
            match serde_json::from_str::<Line>(&line) {
                Ok(Line { event }) if event.as_deref() == Some("update") => {
                    let after = started.elapsed();
                    let _nobody_listens = steps.send(Step { arm, after });
                }
                Ok(_) => {}
                Err(_text) => said.push(line),
            }
        }
    }
    let status = child.wait().await?;
    let first = said.iter().position(|line| line.starts_with("error:"));
    let message = said.split_off(first.unwrap_or(said.len().saturating_sub(LINES)));
    Ok(Ended {
        status,
        said: message.into_iter().take(LINES).collect(),
        took: started.elapsed(),
    })
}

/// Asks a process to finish what is under way, write a checkpoint and end.
fn ask_to_end(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = id.and_then(Pid::from_raw) {
        // One that has just ended needs no asking.
        let _gone = kill_process(pid, Signal::TERM);
    }
}

/// Has the process asked to end if this one dies without a word, as by SIGKILL. Where the system has no such
/// request, the run goes on, and the next experiment in the folder waits for it.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    #[expect(unsafe_code, reason = "nothing safe runs between fork and exec")]
    // SAFETY: the closure makes one system call, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command) {}

/// Takes the lock of the experiment in `folder`. If a process has it, another experiment or a run of one that
/// died, calls `busy` and waits.
pub(super) fn lock(folder: &Path, busy: impl FnOnce()) -> io::Result<File> {
    use rustix::fs::{FlockOperation, flock};
    let mut options = File::options();
    let file = options.create(true).write(true).truncate(false);
    let file = file.open(folder.join(".lock"))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        busy();
        flock(&file, FlockOperation::LockExclusive)?;
    }
    Ok(file)
}
