//! Harness of the integration tests: the built `vintage`, driven from outside as a user would.
//!
//! Where to begin reading:
//!
//! * [`vintage`] makes a command, [`run`] runs it to its end, [`Running`] is one that still runs,
//!   [`Ended`] its result.
//! * [`Kafka`], [`S3`] and [`Served`] are real servers for tests.
//! * [`Host`] is a machine of its own as far as the network goes, [`Link`] connects two.
//! * [`audited`] and [`both`] check a run with the auditors; [`replayed`] runs its training again.
//! * [`chaos`] kills roles at fault points and checks what remains.

mod audit;
pub mod chaos;
mod hosts;
mod http;
mod kafka;
mod s3;
mod served;

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub use audit::{audit, audited, both};
pub use hosts::{Host, Link};
pub use http::{Answer, free_port, get, metrics};
pub use kafka::Kafka;
pub use s3::{S3, options as s3_options, options_at as s3_options_at};
pub use served::Served;

/// Time after which a process counts as hanging, far more than any role of these tests needs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Path of the binary under test, found near the test's own.
pub fn binary() -> PathBuf {
    built("vintage", "cargo build --release")
}

/// Path of the binary under test that is built with the faults of `vintage-faults`.
pub fn faulty() -> PathBuf {
    built(
        "vintage-faulty",
        "cargo build --release --workspace --bin vintage-faulty --features vintage-cli/faults",
    )
}

/// Returns a command of [`vintage`] for the program with faults; `faults` are the value of
/// `VINTAGE_FAULTS`.
pub fn faulted(command: &Command, faults: &str) -> Command {
    let mut faulted = Command::new(faulty());
    scrubbed(&mut faulted);
    faulted.args(command.get_args()).stdin(Stdio::null());
    faulted.env("VINTAGE_FAULTS", faults);
    faulted
}

/// Finds a binary in `target/<profile>`: tests are in `deps/` below it, other binaries beside it.
/// `cargo test --workspace` builds `vintage` anew (`pipelines/cli/tests/built.rs`); a run of this
/// crate's tests alone takes the binary that is there.
fn built(name: &str, how: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let folders = own.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|binary| binary.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing beside {}: run {how}", own.display()))
}

/// Removes from a command the environment variables of the caller that could influence it.
pub fn scrubbed(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if name.starts_with("VINTAGE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
}

/// Path of the Python with the independent readers; `infra/setup.sh test` installs it.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run infra/setup.sh test",
        python.display()
    );
    python
}

/// Folder of tiny random models of every family, `NAME/`, and of transformers' results for each in
/// float64, `NAME.oracle/`.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/parity")
}

/// Returns the command `vintage` with these arguments, without environment variables of the caller
/// that could influence it.
pub fn vintage<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null());
    scrubbed(&mut command);
    command
}

/// Running process, and the lines of its standard error as they arrive.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    stdout: Option<std::thread::JoinHandle<String>>,
}

/// Result of a process that ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status of the process.
    pub status: ExitStatus,
    /// Entire standard output.
    pub stdout: String,
    /// Entire standard error.
    pub stderr: String,
}

impl Running {
    /// Starts a command.
    pub fn start(command: Command) -> Result<Self> {
        Self::with(command, |mut stdout| {
            let mut text = String::new();
            let _closed_early = stdout.read_to_string(&mut text);
            text
        })
    }

    /// Starts a command that writes lines for as long as it runs, and passes each to `take`.
    pub fn with_stdout(
        command: Command,
        mut take: impl FnMut(String) + Send + 'static,
    ) -> Result<Self> {
        Self::with(command, move |stdout| {
            let lines = BufReader::new(stdout).lines();
            lines.map_while(Result::ok).for_each(&mut take);
            String::new()
        })
    }

    fn with(
        mut command: Command,
        read: impl FnOnce(ChildStdout) -> String + Send + 'static,
    ) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let (sender, lines) = channel();
        let stderr = child.stderr.take().context("standard error")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stdout = child.stdout.take().context("standard output")?;
        let stdout = std::thread::spawn(move || read(stdout));
        Ok(Self {
            child,
            lines,
            said: Vec::new(),
            stdout: Some(stdout),
        })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard error has a line with `text`; returns `false` if the process ended
    /// before.
    pub fn says(&mut self, text: &str) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.said.push(line);
                    if found {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    anyhow::bail!("never said {text:?}; it said:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// Lets the process run for `time`; returns `false` if it ended before.
    pub fn runs_for(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.context("a process id")?, signal).context("signalling the process")
    }

    /// Kills the process by SIGKILL and waits for its end.
    pub fn kill(mut self) -> Result<Ended> {
        self.child.kill().context("killing the process")?;
        self.ended()
    }

    /// Waits for the end of the process.
    pub fn wait(mut self) -> Result<Ended> {
        self.ended()
    }

    fn ended(&mut self) -> Result<Ended> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _gone = self.child.kill();
                    anyhow::bail!("did not end; it said:\n{}", self.said.join("\n"));
                }
            }
        }
        let status = self.child.wait()?;
        let stdout = self
            .stdout
            .take()
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        Ok(Ended {
            status,
            stdout,
            stderr: self.said.join("\n"),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A failed test leaves no process behind.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Ended {
    /// Parses the standard output as JSON; fails if the process failed.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.status.success(), "{}\n{}", self.status, self.stderr);
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {:?}", self.stdout))
    }
}

/// Returns the command `vintage replay --exact` of a run's folder, with JSON output.
pub fn exact(folder: &Path) -> Command {
    let mut command = vintage(["replay", "--output", "json", "--exact"]);
    command.arg(folder);
    command
}

/// Runs [`exact`], verifies that all `updates` gave the recorded bits again, and returns its
/// output.
pub fn replayed(folder: &Path, updates: u64) -> Result<Value> {
    let replayed = run(exact(folder))?.json()?;
    ensure!(replayed["identical"] == true, "{replayed}");
    ensure!(number(&replayed, "updates")? == updates, "{replayed}");
    Ok(replayed)
}

/// Creates a folder for a run: returns the temporary folder, removed when it is dropped, and a path
/// in it for the run.
pub fn place() -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    Ok((folder, out))
}

/// Runs a command to its end.
pub fn run(command: Command) -> Result<Ended> {
    Running::start(command)?.wait()
}

/// Copies a folder recursively.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Returns the whole number under a key of a JSON object.
pub fn number(object: &Value, key: &str) -> Result<u64> {
    object[key]
        .as_u64()
        .with_context(|| format!("no whole number {key} in {object}"))
}
