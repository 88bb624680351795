//! Files of `infra/deploy` and `infra/compose.yaml`: checked as text, by schemas and by the tables they
//! follow; and every role that they start, as a plain process with the same arguments and environment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use vintage_tests::{Running, S3, binary, free_port, metrics, number, python, run, vintage};

use crate::roles::Broker;

const UPDATES: u64 = 6;
const GROUPS: u64 = 4;
const BUCKET: &str = "rollouts";

/// Settings under which a run takes seconds.
const SHORT: [(&str, &str); 5] = [
    ("VINTAGE__LEARNER__STEPS", "6"),
    ("VINTAGE__LEARNER__PROMPTS_PER_UPDATE", "4"),
    ("VINTAGE__WARM_START__STEPS", "30"),
    ("VINTAGE__EVALUATION__PROMPTS", "8"),
    // One node for the tests, where a cluster has three.
    ("VINTAGE__TOPICS__REPLICATION", "1"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a script of `tests/python/deploy` and returns what it printed.
fn script(name: &str, args: &[&Path]) -> Result<String> {
    let mut command = Command::new(python());
    command
        .arg(root().join("tests/python/deploy").join(name))
        .args(args);
    let ended = run(command)?;
    ensure!(ended.status.success(), "{name}: {}", ended.stderr);
    Ok(ended.stdout)
}

#[test]
fn the_compose_file_follows_its_specification() -> Result<()> {
    script("check_compose.py", &[]).map(drop)
}

#[test]
fn the_manifests_follow_their_schemas_and_the_table_of_topics() -> Result<()> {
    script("check_kubernetes.py", &[]).map(drop)
}

#[test]
fn alerts_and_dashboard_use_metrics_of_the_table() -> Result<()> {
    script("check_monitoring.py", &[]).map(drop)
}

#[test]
fn workflows_follow_their_schema_and_the_tree() -> Result<()> {
    script("check_workflows.py", &[]).map(drop)
}

#[test]
fn a_release_archive_has_a_program_that_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pack = |folder: &Path| -> Result<PathBuf> {
        let mut command = Command::new(root().join("infra/deploy/dist.sh"));
        let ended = run({
            command.arg(binary()).arg(folder);
            command
        })?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        Ok(ended.stdout.trim().into())
    };
    let archive = pack(&folder.path().join("dist"))?;
    let again = pack(&folder.path().join("again"))?;
    ensure!(fs::read(&archive)? == fs::read(again)?, "other bytes");
    let name = archive.file_name().context("a file")?.to_string_lossy();
    let mut unpack = Command::new("sh");
    unpack.current_dir(folder.path().join("dist"));
    unpack.args([
        "-c",
        "sha256sum --check --quiet *.sha256 && tar -xzf *.tar.gz && */vintage --version",
    ]);
    let ended = run(unpack)?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let version = ended.stdout.trim().replace(' ', "-");
    ensure!(name.starts_with(&version), "{name} has {version}");
    Ok(())
}

#[test]
fn image_and_units_are_whole() -> Result<()> {
    script("check_host.py", &[&binary()]).map(drop)
}

/// Process that a deployment file starts.
#[derive(Deserialize)]
struct Started {
    kind: String,
    service: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

/// Returns the processes that the files of one kind start: the learner, then the others.
fn started(kind: &str) -> Result<(Started, Vec<Started>)> {
    let all: Vec<Started> = serde_json::from_str(&script("commands.py", &[])?)?;
    let of_kind = all.into_iter().filter(|one| one.kind == kind);
    let (mut learners, others): (Vec<_>, Vec<_>) = of_kind.partition(|one| one.args[0] == "learn");
    ensure!(learners.len() == 1 && others.len() > 1, "{kind}");
    let learner = learners.pop().context("no learner")?;
    Ok((learner, others))
}

/// Servers and folders that stand in for those of a deployment.
struct Place<'a> {
    folder: &'a Path,
    broker: &'a str,
    store: &'a S3,
}

impl Place<'_> {
    /// Folder in place of `/var/lib/vintage`: of each pod its own, shared by containers and units.
    fn data(&self, started: &Started) -> PathBuf {
        self.folder.join(match started.kind.as_str() {
            "kubernetes" => &started.service,
            _ => "shared",
        })
    }

    fn moved(&self, started: &Started, text: &str) -> String {
        let data = self.data(started).display().to_string();
        let settings = self.folder.join("run.toml").display().to_string();
        text.replace("/var/lib/vintage", &data)
            .replace("/var/cache/vintage", &data)
            .replace("/etc/vintage/settings/run.toml", &settings)
    }

    /// Folder of the run, as `--out` says.
    fn out(&self, started: &Started) -> Result<PathBuf> {
        let mut args = started.args.iter().skip_while(|arg| *arg != "--out");
        let out = args.nth(1).context("no --out")?;
        Ok(self.moved(started, out).into())
    }

    /// Sets the environment of a process, in which only addresses, places and sizes are others.
    fn environment(&self, command: &mut Command, started: &Started, metrics: u16) {
        for (name, value) in &started.env {
            command.env(name, self.moved(started, value));
        }
        command.envs(SHORT);
        command.env("VINTAGE__BROKER", self.broker);
        command.env("VINTAGE__RUN", &started.kind);
        command.env("VINTAGE__METRICS__LISTEN", format!("127.0.0.1:{metrics}"));
        if started.kind != "systemd" {
            command.env("VINTAGE__STORE", format!("s3://{BUCKET}/{}", started.kind));
            let endpoint = format!("http://127.0.0.1:{}", self.store.port());
            command.env("VINTAGE__STORE_OPTIONS__ENDPOINT", endpoint);
            command.env("VINTAGE__STORE_OPTIONS__ALLOW_HTTP", "true");
            command.env("VINTAGE__STORE_OPTIONS__REGION", "us-east-1");
            command.env("AWS_ACCESS_KEY_ID", "tests");
            command.env("AWS_SECRET_ACCESS_KEY", "tests");
        }
    }

    fn command(&self, started: &Started, metrics: u16) -> Command {
        let mut command = vintage(started.args.iter().map(|arg| self.moved(started, arg)));
        self.environment(&mut command, started, metrics);
        command
    }
}

/// Waits until the metrics of a role, some of which come every 2 s, contain `text`.
fn measures(role: &mut Running, port: u16, text: &str) -> Result<()> {
    for _ in 0..600 {
        if metrics(port)?.contains(text) {
            return Ok(());
        }
        ensure!(role.runs_for(Duration::from_millis(100)), "it ended");
    }
    bail!("no {text} in {}", metrics(port)?)
}

/// Asks a role for its health, as the image's health check does.
fn healthy(port: u16) -> Result<bool> {
    let mut command = Command::new("bash");
    command.arg(root().join("infra/deploy/healthcheck.sh"));
    command.args(["/healthz", &port.to_string()]);
    Ok(run(command)?.status.success())
}

/// Starts what the files of one kind start, and follows it until a small run is done.
fn runs_as_processes(kind: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let store = S3::up(BUCKET)?;
    let place = Place {
        folder: folder.path(),
        broker: &broker.address,
        store: &store,
    };
    // Without TLS and users, which the tests' Kafka does not have.
    let settings = fs::read_to_string(root().join("infra/deploy/kubernetes/base/run.toml"))?;
    let (settings, _security) = settings
        .split_once("[broker_options]")
        .context("no options")?;
    fs::write(place.folder.join("run.toml"), settings)?;

    let (learner, others) = started(kind)?;
    let mut archives = Vec::new();
    let mut producers = Vec::new();
    for one in &others {
        let port = free_port()?;
        let running = Running::start(place.command(one, port))?;
        match one.args[0].as_str() {
            "archive" => archives.push((port, running)),
            _ => producers.push((&one.service, running)),
        }
    }
    let learned = run(place.command(&learner, free_port()?))?;
    ensure!(
        learned.status.success(),
        "{kind}: learn: {}",
        learned.stderr
    );
    for (service, producer) in producers {
        let produced = producer.wait()?;
        ensure!(
            produced.status.success(),
            "{kind}: {service}: {}",
            produced.stderr
        );
    }
    for (port, mut archive) in archives {
        ensure!(healthy(port)?, "{kind}: the archive is not healthy");
        // The name by which alerts and dashboard know the archive.
        measures(&mut archive, port, r#"reader="vintage-archive""#)?;
        archive.signal(Signal::TERM)?;
        let archived = archive.wait()?;
        ensure!(
            archived.status.code() == Some(0),
            "{kind}: archive: {}",
            archived.stderr
        );
        ensure!(!healthy(port)?, "{kind}: nobody is there to be healthy");
    }

    let mut audit = vintage(["audit", "--output", "json"]);
    audit.arg(place.out(&learner)?);
    place.environment(&mut audit, &learner, free_port()?);
    let audited = run(audit)?.json()?;
    ensure!(audited["holds"] == true, "{kind}: {audited}");
    let account = &audited["learners"]["lead"];
    ensure!(
        number(account, "trained")? == UPDATES * GROUPS,
        "{kind}: {account}"
    );
    ensure!(
        number(account, "archived")? == number(account, "produced")?,
        "{kind}: {account}"
    );
    Ok(())
}

#[test]
fn what_compose_starts_runs_as_plain_processes() -> Result<()> {
    runs_as_processes("compose")
}

#[test]
fn what_kubernetes_starts_runs_as_plain_processes() -> Result<()> {
    runs_as_processes("kubernetes")
}

#[test]
fn what_systemd_starts_runs_as_plain_processes() -> Result<()> {
    runs_as_processes("systemd")
}

/// Tests the settings that the processes above run without: options of TLS and users, whose secrets
/// stay references.
#[test]
fn the_settings_of_kubernetes_are_taken_whole() -> Result<()> {
    let mut command = vintage(["config", "show", "--config"]);
    command.arg(root().join("infra/deploy/kubernetes/base/run.toml"));
    command.envs([("KAFKA_USER", "learner"), ("KAFKA_PASSWORD", "hush")]);
    let shown = run(command)?;
    ensure!(shown.status.success(), "{}", shown.stderr);
    for option in ["SASL_SSL", "SCRAM-SHA-512", "env:KAFKA_PASSWORD"] {
        ensure!(shown.stdout.contains(option), "{option}: {}", shown.stdout);
    }
    ensure!(!shown.stdout.contains("hush"), "{}", shown.stdout);
    Ok(())
}

/// Tests the exit code for which units are not restarted.
#[test]
fn a_unit_with_a_wrong_setting_ends_with_the_code_that_prevents_restarts() -> Result<()> {
    let (learner, others) = started("systemd")?;
    let folder = tempfile::tempdir()?;
    for one in others.iter().chain([&learner]) {
        let data = folder.path().display().to_string();
        let args = one.args.iter();
        let mut command = vintage(args.map(|arg| arg.replace("/var/lib/vintage", &data)));
        command.envs(&one.env);
        command.env("VINTAGE__GATE__MAX_STALENESS", "never");
        let ended = run(command)?;
        ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
    }
    Ok(())
}
