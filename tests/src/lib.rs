//! Harness of the integration tests: the built `vintage`, driven from outside as a user would.

mod audit;
pub mod chaos;
mod kafka;
mod s3;
mod served;

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub use audit::{audit, audited, both};
pub use kafka::Kafka;
pub use s3::{S3, options as s3_options};
pub use served::Served;

/// No role of these tests needs nearly as long; a process that does hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Path of the binary under test, beside this test's own.
pub fn binary() -> PathBuf {
    built("vintage", "cargo build --release")
}

/// The same program with the faults of `vintage-faults`.
pub fn faulty() -> PathBuf {
    built(
        "vintage-faulty",
        "cargo build --release --workspace --bin vintage-faulty --features vintage-cli/faults",
    )
}

/// A command of [`vintage`], given to the program with these faults.
pub fn faulted(command: &Command, faults: &str) -> Command {
    let mut faulted = Command::new(faulty());
    scrubbed(&mut faulted);
    faulted.args(command.get_args()).stdin(Stdio::null());
    faulted.env("VINTAGE_FAULTS", faults);
    faulted
}

/// A binary in `target/<profile>`: tests lie in `deps/` below it, other binaries beside it.
fn built(name: &str, how: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let folders = own.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|binary| binary.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing beside {}: run {how}", own.display()))
}

/// Takes from a command what in the caller's environment could steer it.
pub fn scrubbed(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if name.starts_with("VINTAGE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
}

/// The Python with the readers that are not ours; `infra/setup.sh test` makes it.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run infra/setup.sh test",
        python.display()
    );
    python
}

/// Tiny random models of every family, `NAME/`, and what transformers computed with each in
/// float64, `NAME.oracle/`.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/parity")
}

/// `vintage` with these arguments and nothing of the caller's environment that could steer it.
pub fn vintage<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null());
    scrubbed(&mut command);
    command
}

/// A process and what it says, line by line.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    stdout: Option<std::thread::JoinHandle<String>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let (tell, lines) = channel();
        let stderr = child.stderr.take().context("standard error")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let mut stdout = child.stdout.take().context("standard output")?;
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            let _closed_early = stdout.read_to_string(&mut text);
            text
        });
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

    /// Waits until standard error has a line with `text`; `false` if it ended before.
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

    /// Lets it run for `time`; `false` if it ended before.
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

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.context("a process id")?, signal).context("signalling the process")
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) -> Result<Ended> {
        self.child.kill().context("killing the process")?;
        self.ended()
    }

    /// Waits for the end.
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
    /// Its standard output as JSON, if it ended well.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.status.success(), "{}\n{}", self.status, self.stderr);
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {:?}", self.stdout))
    }
}

/// `vintage replay --exact` of a run's folder, its answer as JSON.
pub fn exact(folder: &Path) -> Command {
    let mut command = vintage(["replay", "--output", "json", "--exact"]);
    command.arg(folder);
    command
}

/// The answer of [`exact`], which must be that all `updates` gave the recorded bits again.
pub fn replayed(folder: &Path, updates: u64) -> Result<Value> {
    let replayed = run(exact(folder))?.json()?;
    ensure!(replayed["identical"] == true, "{replayed}");
    ensure!(number(&replayed, "updates")? == updates, "{replayed}");
    Ok(replayed)
}

/// A place for a run: the folder that goes when the test ends, and the run's own in it.
pub fn place() -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    Ok((folder, out))
}

/// Runs a command to its end.
pub fn run(command: Command) -> Result<Ended> {
    Running::start(command)?.wait()
}

/// Copies a folder.
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

/// A number of a JSON object.
pub fn number(object: &Value, key: &str) -> Result<u64> {
    object[key]
        .as_u64()
        .with_context(|| format!("no whole number {key} in {object}"))
}
