//! The roles as processes of their own, on a real Kafka at an address.

use std::{net::TcpStream, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use vintage_tests::{Host, Running, number, place, python, replayed, run, vintage};

const STEPS: u64 = 40;

/// Broker started by `vintage broker up`, stopped when dropped.
pub(crate) struct Broker<'a> {
    folder: &'a Path,
    /// Host that the broker is on; `None` for this one.
    host: Option<&'a Host>,
    /// Address as `host:port`.
    pub(crate) address: String,
}

impl<'a> Broker<'a> {
    /// Starts the broker in `folder` and waits until it is ready.
    pub(crate) fn up(folder: &'a Path) -> Result<Self> {
        Self::up_on(None, folder, &[])
    }

    /// Starts the broker on a host, with more arguments.
    pub(crate) fn up_on(host: Option<&'a Host>, folder: &'a Path, more: &[&str]) -> Result<Self> {
        let mut command = vintage(["broker", "up", "--output", "json", "--dir"]);
        command.arg(folder).args(more);
        let up = run(at(host, command))?.json()?;
        let address = up["bootstrap"]
            .as_str()
            .context("no bootstrap address")?
            .to_owned();
        Ok(Self {
            folder,
            host,
            address,
        })
    }
}

impl Drop for Broker<'_> {
    fn drop(&mut self) {
        let mut command = vintage(["broker", "down", "--dir"]);
        command.arg(self.folder);
        let _down = run(at(self.host, command));
    }
}

/// Returns the command, run on the host if there is one.
fn at(host: Option<&Host>, command: Command) -> Command {
    match host {
        Some(host) => host.at(&command),
        None => command,
    }
}

fn role(name: &str, out: &Path, address: &str) -> Command {
    steps(name, out, address, STEPS)
}

fn steps(name: &str, out: &Path, address: &str, steps: u64) -> Command {
    let mut command = vintage([name, "--out"]);
    command
        .arg(out)
        .args(["--set", &format!("broker={address}")]);
    command.args(["--set", &format!("learner.steps={steps}")]);
    command.args([
        "--set",
        "warm_start.steps=50",
        "--set",
        "evaluation.prompts=32",
    ]);
    command
}

#[test]
fn learner_producer_and_archive_meet_on_a_real_kafka() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let out = folder.path().join("run");

    // Started before the learner, and given the broker only: the settings are the learner's.
    let other = |name: &str| {
        let mut command = vintage([name, "--broker", &broker.address, "--out"]);
        command.arg(&out);
        command
    };
    let mut archive = Running::start(other("archive"))?;
    let mut producer = Running::start(other("rollout"))?;
    for waiting in [&mut archive, &mut producer] {
        ensure!(waiting.says("waiting for the settings of the run in")?);
    }
    ensure!(!out.exists(), "who waits makes nothing");
    let learned = run(role("learn", &out, &broker.address));
    if learned
        .as_ref()
        .is_ok_and(|learned| learned.status.success())
    {
        let produced = producer.wait()?;
        ensure!(produced.status.success(), "rollout: {}", produced.stderr);
    } else {
        // A learner that waits in vain does so because of what happened to the producer.
        bail!("learn: {learned:#?}\nrollout: {:#?}", producer.kill());
    }
    // ^C drains: records that were consumed are written.
    interrupt(&archive)?;
    let archived = archive.wait()?;
    ensure!(archived.status.success(), "archive: {}", archived.stderr);

    let settings = std::fs::read_to_string(out.join("config.toml"))?;
    ensure!(settings.contains("steps = 40"), "{settings}");
    replayed(&out, STEPS)?;
    kcat_reads_what_was_written(&broker.address)
}

/// Sends ^C to a process.
pub(crate) fn interrupt(process: &Running) -> Result<()> {
    let mut command = Command::new("kill");
    command.args(["-INT", &process.id().to_string()]);
    run(command).map(drop)
}

/// Returns what kcat prints of a topic's records, from the first on.
fn kcat(address: &str, topic: &str, format: &str) -> Result<String> {
    let mut command = Command::new("kcat");
    command.args([
        "-C",
        "-e",
        "-q",
        "-b",
        address,
        "-t",
        topic,
        "-o",
        "beginning",
    ]);
    command.args(["-f", format]);
    let read = run(command).context("kcat is installed by infra/setup.sh test")?;
    ensure!(read.status.success(), "kcat: {}", read.stderr);
    Ok(read.stdout)
}

/// Tests invariant 2: keys are bytes, headers are text, a value is one Arrow stream.
fn kcat_reads_what_was_written(address: &str) -> Result<()> {
    let announced = kcat(address, "vintage.run.policies.v1", "%k %s\n")?;
    let last = announced.lines().last().context("nothing was announced")?;
    let announcement = last
        .strip_prefix("lead ")
        .context("its key is the policy")?;
    let announcement: serde_json::Value = serde_json::from_str(announcement)?;
    ensure!(announcement["version"] == STEPS, "{announcement}");

    let rollouts = kcat(address, "vintage.run.rollouts.v1", "%K %S %h\n")?;
    ensure!(rollouts.lines().count() as u64 >= STEPS * 16, "{rollouts}");
    for line in rollouts.lines() {
        let (key, headers) = line.split_once(' ').context("no key")?;
        ensure!(key == "16", "a key is a group's id: {line}");
        for header in [
            "schema=vintage.trajectory/1",
            "run=run",
            "policy=lead",
            "part=1/1",
        ] {
            ensure!(headers.contains(header), "{header} is not in {line}");
        }
    }
    // The first value, whole, to a reader that is not ours.
    let read = "import subprocess, sys, pyarrow; \
                got = subprocess.run(sys.argv[1:], capture_output=True, check=True).stdout; \
                table = pyarrow.ipc.open_stream(got).read_all(); table.validate(full=True); \
                print(table.num_rows)";
    let mut pyarrow = Command::new(python());
    pyarrow.args([
        "-c", read, "kcat", "-C", "-q", "-c", "1", "-D", "", "-b", address,
    ]);
    pyarrow.args(["-t", "vintage.run.rollouts.v1", "-o", "beginning"]);
    let rows = run(pyarrow)?;
    ensure!(rows.status.success(), "pyarrow: {}", rows.stderr);
    let said = format!("rows={}", rows.stdout.trim());
    ensure!(rollouts.contains(&said), "{said} is in no header");
    Ok(())
}

/// Returns true if anything listens on the local broker of a run's folder, and checks that `vintage
/// broker status` says so.
fn is_up(out: &Path) -> Result<bool> {
    let is_up = listens(out)?;
    let mut command = vintage(["broker", "status", "--output", "json", "--dir"]);
    command.arg(out.join("kafka"));
    let ended = run(command)?;
    ensure!(
        ended.status.code() == Some(if is_up { 0 } else { 3 }),
        "{ended:?}"
    );
    let status: serde_json::Value = serde_json::from_str(&ended.stdout)?;
    let running = number(&status, "running")?;
    ensure!(
        running == u64::from(is_up) && status["nodes"] == 1,
        "{status}"
    );
    ensure!(
        status["in_use"] == is_up && status["kept"] == false,
        "{status}"
    );
    Ok(is_up)
}

fn listens(out: &Path) -> Result<bool> {
    let bytes = std::fs::read(out.join("kafka/cluster.json"))?;
    let cluster: serde_json::Value = serde_json::from_slice(&bytes)?;
    let port = number(&cluster["nodes"][0], "client")?;
    Ok(TcpStream::connect(("127.0.0.1", u16::try_from(port)?)).is_ok())
}

#[test]
fn a_local_broker_is_up_for_whoever_needs_it_and_for_no_longer() -> Result<()> {
    let (_folder, out) = place()?;
    // All at the same time: one starts the broker, the last to leave shuts it down.
    let archive = Running::start(steps("archive", &out, "local", 5))?;
    let producer = Running::start(steps("rollout", &out, "local", 5))?;
    let learned = run(steps("learn", &out, "local", 5))?;
    ensure!(learned.status.success(), "learn: {}", learned.stderr);
    let produced = producer.wait()?;
    ensure!(produced.status.success(), "rollout: {}", produced.stderr);
    ensure!(is_up(&out)?, "the archive still needs it");
    interrupt(&archive)?;
    let archived = archive.wait()?;
    ensure!(archived.status.success(), "archive: {}", archived.stderr);
    ensure!(!is_up(&out)?, "nobody needs it");

    // Other verbs find the log as it was, by the folder alone.
    let mut list = vintage(["topics", "list", "--output", "json", "--out"]);
    list.arg(&out);
    let topics = run(list)?.json()?;
    let records = number(&topics[0], "records")?;
    ensure!(records >= 5 * 16, "{topics}");
    let mut inspect = vintage(["inspect", "vintage.run.rollouts.v1", "--output", "json"]);
    inspect.args(["--limit", "3", "--out"]).arg(&out);
    let shown = run(inspect)?;
    ensure!(shown.status.success(), "inspect: {}", shown.stderr);
    ensure!(!shown.stdout.is_empty(), "inspect shows records");
    let mut doctor = vintage(["doctor", "--output", "json", "--broker", "local", "--out"]);
    doctor.arg(&out);
    let checks = run(doctor)?.json()?;
    let checks = checks.as_array().context("no checks")?;
    let of = |name: &str| checks.iter().filter(|check| check["name"] == name).count();
    ensure!((of("broker"), of("topic")) == (1, 6), "{checks:?}");
    ensure!(!is_up(&out)?, "nobody needs it");
    Ok(())
}
