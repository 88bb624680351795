//! Where an episode plays, and the lives of its roles.

use std::{
    fmt,
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::Sender,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::Deserialize;

use crate::{faulty, scrubbed};

/// A role of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// `vintage learn`.
    Learner,
    /// `vintage rollout`.
    Rollout,
    /// `vintage archive`, of several.
    Sink(u8),
}

impl Who {
    /// The verb of the command line, by which reports name the role.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Learner => "learn",
            Self::Rollout => "rollout",
            Self::Sink(_) => "archive",
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink(number) => write!(f, "archive-{number}"),
            who => f.write_str(who.verb()),
        }
    }
}

/// What is to happen in one life of a role: SIGKILL at the `hit`-th time it reaches `point`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The point.
    pub point: &'static str,
    /// Which time, from 1.
    pub hit: u64,
}

impl Order {
    /// As `VINTAGE_FAULTS` has it.
    pub fn faults(&self) -> String {
        format!("{}=kill@{}", self.point, self.hit)
    }
}

/// A line of `VINTAGE_FAULTS_LOG`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Strike {
    /// Where it struck.
    pub point: String,
    /// At which hit.
    pub hit: u64,
    /// Records, groups or bytes that were taken and not durable.
    pub in_hand: u64,
    /// The process.
    pub pid: u32,
}

/// A run's folder, its logs beside it, and the settings all of its roles share.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Holds `run/` and `logs/`.
    pub folder: PathBuf,
    /// `key=value`.
    pub settings: Vec<String>,
}

/// Ten prompts; every tenth carries so much metadata that its group is split into parts.
const HEAVY_BYTES: usize = 300_000;

impl Stage {
    /// An empty one in `folder`, for a run whose topics are named `run` on the brokers at `address`, with a model and updates so
    /// small that a life of a role lasts a second or two.
    pub fn new(folder: &Path, run: &str, address: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let prompts = folder.join("prompts.jsonl");
        let row = |digit: u8| {
            let weight = "x".repeat(if digit == 9 { HEAVY_BYTES } else { 0 });
            format!(
                "{{\"prompt\":\"{digit}=\",\"answer\":\"{digit}\",\
                 \"metadata\":{{\"weight\":\"{weight}\"}}}}\n"
            )
        };
        fs::write(&prompts, (0..10).map(row).collect::<String>())?;
        let settings = [
            format!("run={run}"),
            format!("broker={address}"),
            format!("prompts.train={}", prompts.display()),
        ];
        let small = [
            "learner.steps=100000",
            "learner.prompts_per_update=4",
            "learner.checkpoint_every=3",
            "warm_start.steps=10",
            "rollout.max_tokens=2",
            "rollout.group_size=4",
            "rollout.concurrent_groups=4",
            "gate.max_staleness=4",
            "archive.roll_seconds=0.3",
            "topics.partitions=3",
            "topics.replication=3",
        ];
        Ok(Self {
            folder: folder.to_owned(),
            settings: settings
                .into_iter()
                .chain(small.map(str::to_owned))
                .collect(),
        })
    }

    /// The run's folder.
    pub fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Another run in a folder below, with more settings.
    #[must_use]
    pub fn beside(&self, name: &str, more: &[&str]) -> Self {
        let more = more.iter().map(|&setting| setting.to_owned());
        Self {
            folder: self.folder.join(name),
            settings: self.settings.iter().cloned().chain(more).collect(),
        }
    }

    /// Its settings as arguments.
    pub fn set(&self, command: &mut Command) {
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
    }

    /// Updates whose result is recorded.
    pub fn updates(&self) -> u64 {
        let results = self.run().join("results/lead");
        results.read_dir().map_or(0, |entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names
                .filter(|name| name.as_encoded_bytes().ends_with(b".json"))
                .count() as u64
        })
    }

    /// Starts a life of a role with these faults; its end is told to `ended`.
    pub fn start(
        &self,
        who: Who,
        number: u32,
        faults: &str,
        ended: &Sender<(Who, u32)>,
    ) -> Result<Life> {
        let logs = self.folder.join("logs");
        fs::create_dir_all(&logs)?;
        let name = format!("{who}-{number:03}");
        let struck = logs.join(format!("{name}.faults"));
        let mut command = Command::new(faulty());
        scrubbed(&mut command);
        command
            .args([who.verb(), "--output", "json", "--out"])
            .arg(self.run());
        self.set(&mut command);
        command
            .env("VINTAGE_FAULTS", faults)
            .env("VINTAGE_FAULTS_LOG", &struck)
            .stdin(Stdio::null())
            .stdout(File::create(logs.join(format!("{name}.out")))?)
            .stderr(File::create(logs.join(format!("{name}.err")))?);
        let child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let pid = pid_of(&child)?;
        let ended = ended.clone();
        std::thread::spawn(move || {
            // Leaves the process to be reaped, so that its number stays its own until then.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _seen = waitid(WaitId::Pid(pid), options);
            let _nobody_asks = ended.send((who, number));
        });
        Ok(Life {
            who,
            number,
            order: None,
            begun: Instant::now(),
            blown: false,
            child,
            struck,
            errors: logs.join(format!("{name}.err")),
        })
    }
}

/// One process of a role.
pub struct Life {
    /// Its role.
    pub who: Who,
    /// Which life of the role, from 0.
    pub number: u32,
    /// Where it is to die.
    pub order: Option<Order>,
    /// When it began.
    pub begun: Instant,
    /// Whether the supervisor killed it, not a point.
    pub blown: bool,
    child: Child,
    struck: PathBuf,
    errors: PathBuf,
}

impl Life {
    /// Sends a signal, unless it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match kill_process(pid_of(&self.child)?, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signalling {}", self.who)),
        }
    }

    /// Waits until it is stopped by a signal; an error if it ends instead.
    pub fn stopped(&self) -> Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(pid_of(&self.child)?), options)?;
        match status {
            Some(status) if status.stopped() => Ok(()),
            _ => bail!("{} ended instead of stopping:\n{}", self.who, self.said()),
        }
    }

    /// How it ended; waits for that.
    pub fn reap(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// The fault that struck last, if any did.
    pub fn strike(&self) -> Result<Option<Strike>> {
        let Ok(text) = fs::read_to_string(&self.struck) else {
            return Ok(None);
        };
        let last = text.lines().last().map(serde_json::from_str).transpose();
        last.with_context(|| format!("{}: {text}", self.struck.display()))
    }

    /// The end of its standard error.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // An episode that fails leaves no process behind.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id() as i32).context("a process without a number")
}

/// Whether a process ended by SIGKILL.
pub(super) fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}
