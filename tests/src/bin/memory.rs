//! Measures the memory of every role over many rollouts, on a real Kafka, with the learner stopped
//! half of the time: `memory [--rollouts N] [--minutes M]`. Prints a table and one JSON object.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Write as _, stderr, stdout},
    path::Path,
    process::{Child, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use vintage_bus::Bus;
use vintage_tests::{Kafka, vintage};

const GROUP_SIZE: u64 = 16;
/// Time for which the learner is stopped, and for which it then runs.
const SHIFT: Duration = Duration::from_secs(10);
const SAMPLE: Duration = Duration::from_secs(1);
/// Shares of the rollouts at which memory is recorded.
const MARKS: [f64; 4] = [0.1, 0.25, 0.5, 1.0];

const SETTINGS: [&str; 12] = [
    "learner.steps=1000000",
    "learner.prompts_per_update=64",
    "learner.checkpoint_every=10",
    "warm_start.steps=10",
    "rollout.max_tokens=1",
    "rollout.group_size=16",
    "rollout.concurrent_groups=64",
    // As far ahead as a stopped learner falls behind.
    "gate.max_staleness=256",
    "archive.roll_seconds=5",
    "archive.roll_bytes=4194304",
    "topics.partitions=4",
    "run=memory",
];

/// Process of a role, with its resident memory in MiB by number of rollouts.
struct Role {
    name: &'static str,
    child: Child,
    rss_mib: BTreeMap<u64, f64>,
    peak_mib: f64,
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_reads = writeln!(stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let (mut wanted, mut minutes) = (1_000_000_u64, 25_u64);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--rollouts" => wanted = value.parse()?,
            "--minutes" => minutes = value.parse()?,
            _ => bail!("unknown flag {flag}: --rollouts and --minutes are known"),
        }
    }
    let folder = tempfile::Builder::new().prefix("memory-").tempdir()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let mut roles = ["learn", "archive", "rollout"]
        .into_iter()
        .map(|name| Role::start(name, folder.path(), kafka.address()))
        .collect::<Result<Vec<_>>>()?;
    let measured = watch(&mut roles, kafka.address(), wanted, minutes);
    for role in &mut roles {
        role.signal(Signal::CONT)?;
        role.signal(Signal::TERM)?;
    }
    for role in &mut roles {
        let status = role.child.wait()?;
        writeln!(stderr(), "{} ended: {status}", role.name)?;
    }
    let (rollouts, seconds) = measured?;
    print(&roles, rollouts, seconds)
}

/// Samples memory until `wanted` rollouts are published or `minutes` have passed. Returns the
/// rollouts and the seconds.
fn watch(roles: &mut [Role], address: &str, wanted: u64, minutes: u64) -> Result<(u64, f64)> {
    let runtime = tokio::runtime::Runtime::new()?;
    let bus = Bus::connect(address, &BTreeMap::new())?;
    let published = || -> Result<u64> {
        let marks = runtime.block_on(bus.watermarks("vintage.memory.rollouts.v1"))?;
        let records: i64 = marks.iter().map(|(_, _, high)| high.0).sum();
        Ok(records.unsigned_abs() * GROUP_SIZE)
    };
    // The learner creates the topics before it trains.
    let begun = Instant::now();
    while published().is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(120), "no topic");
        pause();
    }
    let begun = Instant::now();
    let (mut stopped, mut turned) = (false, Instant::now());
    loop {
        pause();
        let rollouts = published()?;
        let over = begun.elapsed() > Duration::from_secs(60 * minutes);
        for role in &mut *roles {
            role.sample(rollouts, wanted, over)?;
        }
        if over || rollouts >= wanted {
            return Ok((rollouts, begun.elapsed().as_secs_f64()));
        }
        if turned.elapsed() >= SHIFT {
            (stopped, turned) = (!stopped, Instant::now());
            let signal = if stopped { Signal::STOP } else { Signal::CONT };
            roles[0].signal(signal)?;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement is taken every so often"
)]
fn pause() {
    thread::sleep(SAMPLE);
}

impl Role {
    fn start(name: &'static str, folder: &Path, address: &str) -> Result<Self> {
        let prompts = folder.join("prompts.jsonl");
        let row = |digit: u8| format!("{{\"prompt\":\"{digit}=\",\"answer\":\"{digit}\"}}\n");
        fs::write(&prompts, (0..10).map(row).collect::<String>())?;
        let mut command = vintage([name, "--quiet", "--out"]);
        command.arg(folder.join("run"));
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        command.args(["--broker", address, "--set"]);
        command.arg(format!("prompts.train={}", prompts.display()));
        let child = command
            .stdout(Stdio::null())
            .stderr(File::create(folder.join(format!("{name}.log")))?)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self {
            name,
            child,
            rss_mib: BTreeMap::new(),
            peak_mib: 0.0,
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no process id")?, signal)?)
    }

    /// Samples the role's resident memory, and records it when a share of the rollouts is reached.
    fn sample(&mut self, rollouts: u64, wanted: u64, last: bool) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself: {status}", self.name);
        }
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .with_context(|| format!("{path} has no VmRSS"))?
            .parse()?;
        let mib = kib / 1024.0;
        self.peak_mib = self.peak_mib.max(mib);
        for mark in MARKS {
            let due = (mark * wanted as f64) as u64;
            if rollouts >= due {
                self.rss_mib.entry(due).or_insert(mib);
            }
        }
        if last {
            self.rss_mib.insert(rollouts, mib);
        }
        Ok(())
    }
}

fn print(roles: &[Role], rollouts: u64, seconds: f64) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(
        out,
        "{rollouts} rollouts in {seconds:.0} s; RSS in MiB after"
    )?;
    for role in roles {
        write!(out, "{:8}", role.name)?;
        for (rollouts, mib) in &role.rss_mib {
            write!(out, "  {rollouts}: {mib:.1}")?;
        }
        writeln!(out, "  peak: {:.1}", role.peak_mib)?;
    }
    let of_role = |role: &Role| {
        (
            role.name,
            json!({"rss_mib": role.rss_mib, "peak": role.peak_mib}),
        )
    };
    let roles: BTreeMap<_, _> = roles.iter().map(of_role).collect();
    writeln!(
        out,
        "{}",
        json!({"rollouts": rollouts, "seconds": seconds, "roles": roles})
    )?;
    Ok(())
}
