//! The folder and settings of an episode's run, and the processes of its roles.

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

/// Role of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Learner, `vintage learn`.
    Learner,
    /// Producer, `vintage rollout`.
    Rollout,
    /// Sink, `vintage archive`, with its number among several.
    Sink(u8),
}

impl Who {
    /// Verb of the command line, by which reports name the role.
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

/// Order for one process of a role: SIGKILL at the `hit`-th time it reaches `point`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Name of the fault point.
    pub point: &'static str,
    /// Number of the hit at which to kill, from 1.
    pub hit: u64,
}

impl Order {
    /// Formats the order as a value of `VINTAGE_FAULTS`.
    pub fn faults(&self) -> String {
        format!("{}=kill@{}", self.point, self.hit)
    }
}

/// Line of `VINTAGE_FAULTS_LOG`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Strike {
    /// Name of the point at which the fault struck.
    pub point: String,
    /// Number of the hit at which it struck.
    pub hit: u64,
    /// Number of records, groups or bytes that were taken and not durable.
    pub in_hand: u64,
    /// Process id.
    pub pid: u32,
}

/// Folder of a run with its logs beside it, and the settings that all of its roles share.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Folder that holds `run/` and `logs/`.
    pub folder: PathBuf,
    /// Settings as `key=value`.
    pub settings: Vec<String>,
}

/// Metadata bytes of one of the ten prompts, so many that its group is split into parts.
const HEAVY_BYTES: usize = 300_000;

impl Stage {
    /// Creates an empty stage in `folder`, for a run whose topics are named `run` on the brokers at
    /// `address`. Model and updates are so small that a role takes a second or two.
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

    /// Folder of the run.
    pub fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Returns a stage for another run in the subfolder `name`, with more settings.
    #[must_use]
    pub fn beside(&self, name: &str, more: &[&str]) -> Self {
        let more = more.iter().map(|&setting| setting.to_owned());
        Self {
            folder: self.folder.join(name),
            settings: self.settings.iter().cloned().chain(more).collect(),
        }
    }

    /// Adds the settings to a command as arguments.
    pub fn set(&self, command: &mut Command) {
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
    }

    /// Number of updates whose result is recorded.
    pub fn updates(&self) -> u64 {
        let results = self.run().join("results/lead");
        results.read_dir().map_or(0, |entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names
                .filter(|name| name.as_encoded_bytes().ends_with(b".json"))
                .count() as u64
        })
    }

    /// Starts a process of a role with these faults; its end is sent to `ended`.
    pub fn start(
        &self,
        who: Who,
        number: u32,
        faults: &str,
        ended: &Sender<(Who, u32)>,
    ) -> Result<RoleProcess> {
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
            // Does not reap the process, so that its process id is not reused until then.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _seen = waitid(WaitId::Pid(pid), options);
            let _nobody_asks = ended.send((who, number));
        });
        Ok(RoleProcess {
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
pub struct RoleProcess {
    /// Role of the process.
    pub who: Who,
    /// Number of the process, from 0.
    pub number: u32,
    /// Point at which it is to be killed, if any.
    pub order: Option<Order>,
    /// Time of its start.
    pub begun: Instant,
    /// True if the supervisor killed it, rather than a point.
    pub blown: bool,
    child: Child,
    struck: PathBuf,
    errors: PathBuf,
}

impl RoleProcess {
    /// Sends a signal to the process, unless it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match kill_process(pid_of(&self.child)?, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signalling {}", self.who)),
        }
    }

    /// Waits until the process is stopped by a signal; fails if it ends instead.
    pub fn stopped(&self) -> Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(pid_of(&self.child)?), options)?;
        match status {
            Some(status) if status.stopped() => Ok(()),
            _ => bail!("{} ended instead of stopping:\n{}", self.who, self.said()),
        }
    }

    /// Waits for the end of the process and returns its status.
    pub fn reap(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Returns the fault that struck last, if any did.
    pub fn strike(&self) -> Result<Option<Strike>> {
        let Ok(text) = fs::read_to_string(&self.struck) else {
            return Ok(None);
        };
        let last = text.lines().last().map(serde_json::from_str).transpose();
        last.with_context(|| format!("{}: {text}", self.struck.display()))
    }

    /// Returns the last 12 lines of the process's standard error.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        // An episode that fails leaves no process behind.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id() as i32).context("a process without a number")
}

/// Returns true if a process ended by SIGKILL.
pub(super) fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}
