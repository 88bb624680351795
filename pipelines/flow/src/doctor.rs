//! Whether this machine, the settings, the broker and the store can carry a run.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use vintage_bus::{Bus, TopicSpec, TopicTable};
use vintage_model::Place;
use vintage_rollout::PromptSet;
use vintage_store::Store;

use crate::{
    Result,
    broker::Broker,
    config::{RunConfig, presets},
    folder::store_of,
    inputs::{Predicted, predict},
    memory::{ADVICE, Prediction, size},
};

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// What was predicted, of the check called `memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Prediction>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, and is worth knowing.
    Note,
    /// A run would fail.
    Bad,
}

/// A broker on this side of the world answers within this time.
const ANSWER: Duration = Duration::from_secs(10);
/// Less room than this is not enough for a run of any length.
const ROOM: u64 = 1 << 30;

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Good,
            found: found.into(),
            advice: None,
            memory: None,
        }
    }

    fn note(name: &'static str, found: impl Into<String>, advice: &str) -> Self {
        let advice = Some(advice.to_owned());
        Self {
            name,
            verdict: Verdict::Note,
            found: found.into(),
            advice,
            memory: None,
        }
    }

    fn bad(name: &'static str, found: impl Into<String>, advice: &str) -> Self {
        let advice = Some(advice.to_owned());
        Self {
            name,
            verdict: Verdict::Bad,
            found: found.into(),
            advice,
            memory: None,
        }
    }
}

/// Looks at everything a run with these settings, in a folder at or below `out`, would need.
pub async fn examine(config: &RunConfig, out: &Path) -> Vec<Check> {
    let mut checks = vec![machine(), device(config)];
    checks.extend(prompts(config));
    checks.extend(model(config));
    checks.extend(memory(config));
    checks.extend(reward(config));
    checks.push(room(out));
    checks.push(store(config, out).await);
    checks.push(sizes());
    checks.extend(broker(config, out).await);
    checks
}

fn machine() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = "machine";
    let found = format!(
        "{cores} cores, {}",
        vintage_learner::fingerprint::current().isa
    );
    if cores < 2 {
        return Check::note(name, found, "learner and producer take turns on one core");
    }
    Check::good(name, found)
}

/// Where updates will be computed, and whether there is a card that could.
fn device(config: &RunConfig) -> Check {
    let name = "device";
    match config.learner.device {
        Place::Cpu | Place::Composed => match Place::Cuda(0).card() {
            Ok(Some(card)) => Check::note(
                name,
                format!("cpu; there is a card: {card}"),
                "train on it with learner.device = \"cuda\"",
            ),
            _ if Path::new("/proc/driver/nvidia/version").exists() => Check::note(
                name,
                "cpu; there is an NVIDIA driver",
                "train on its card with a build that has CUDA (infra/cuda/build.sh) and \
                 learner.device = \"cuda\"",
            ),
            _ => Check::good(name, "cpu"),
        },
        place @ Place::Cuda(_) => match place.card() {
            Ok(card) => Check::good(name, card.map_or_else(String::new, |card| card.to_string())),
            Err(error) => Check::bad(
                name,
                error.to_string(),
                "see infra/cuda/README.md, or set learner.device = \"cpu\"",
            ),
        },
    }
}

fn prompts(config: &RunConfig) -> Vec<Check> {
    let look = |name: &'static str, path: Option<&PathBuf>, built_in: &str| match path {
        None => {
            let rows = presets::data(built_in).map_or(0, |text| text.lines().count());
            Check::good(name, format!("built in, {rows} rows"))
        }
        Some(path) => match PromptSet::load(path) {
            Ok(prompts) => Check::good(
                name,
                format!("{}, {} rows", path.display(), prompts.prompts().len()),
            ),
            Err(error) => Check::bad(name, error.to_string(), "see `vintage run --help`"),
        },
    };
    let mut checks = vec![look(
        "prompts",
        config.prompts.train.as_ref(),
        "chain6/train.jsonl",
    )];
    if config.prompts.train.is_some() && config.prompts.heldout.is_none() {
        let advice = "give prompts.heldout to see accuracy rise";
        checks.push(Check::note(
            "held-out prompts",
            "none, so there are no evaluations",
            advice,
        ));
    } else {
        let heldout = config.prompts.heldout.as_ref();
        checks.push(look("held-out prompts", heldout, "chain6/heldout.jsonl"));
    }
    checks
}

fn model(config: &RunConfig) -> Option<Check> {
    let path = config.model.path.as_ref()?;
    Some(match vintage_model::ModelFolder::open(path) {
        Ok(_) => Check::good("model", path.display().to_string()),
        Err(error) => Check::bad(
            "model",
            error.to_string(),
            "name a folder as Hugging Face lays it out, or download the model again",
        ),
    })
}

/// What the learner will need, and a run in one process. Where the model cannot be read, the check
/// of the model says so.
fn memory(config: &RunConfig) -> Option<Check> {
    let Predicted { prediction, full } = predict(config)?;
    let name = "memory";
    let peak = prediction.learner.peak_bytes;
    let phases = &prediction.learner.phases;
    let phase = phases.iter().find(|phase| phase.bytes == peak)?.name;
    let machine = prediction.machine_bytes.unwrap_or(u64::MAX);
    let there = prediction
        .machine_bytes
        .map_or_else(String::new, |bytes| format!(", of {}", size(bytes)));
    let full = if full {
        "; prompts unread, so micro-batches are taken to be full"
    } else {
        ""
    };
    let found = format!(
        "{} for a learner at its peak ({phase}), {} for a whole run in one process{there}{full}",
        size(peak),
        size(prediction.run_bytes)
    );
    let mut check = if peak > machine {
        Check::bad(name, found, ADVICE)
    } else if prediction.run_bytes > machine {
        let advice = "let producers sample on another machine: `vintage learn`, `vintage rollout`";
        Check::note(name, found, advice)
    } else {
        Check::good(name, found)
    };
    check.memory = Some(prediction);
    Some(check)
}

fn reward(config: &RunConfig) -> Option<Check> {
    let program = config.rollout.reward.command.first()?;
    let name = "reward command";
    Some(match find_program(program) {
        Some(path) => Check::good(name, path.display().to_string()),
        None => Check::bad(
            name,
            format!("no program called {program}"),
            "install it, or give its whole path in rollout.reward.command",
        ),
    })
}

/// A program by path, or along `PATH`.
fn find_program(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The folder itself, or the nearest one above that exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|folder| folder.is_dir());
    found.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn room(out: &Path) -> Check {
    let (name, folder) = ("room", existing(out));
    match rustix::fs::statvfs(&folder) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!(
                "{:.1} GiB free at {}",
                free as f64 / f64::from(1 << 30),
                folder.display()
            );
            if free < ROOM {
                return Check::bad(name, text, "free at least 1 GiB, or name another --out");
            }
            Check::good(name, text)
        }
        Err(error) => Check::bad(
            name,
            format!("cannot look at {}: {error}", folder.display()),
            "name an --out that can be reached",
        ),
    }
}

/// Creating must fail where something is: commits rest on it.
async fn store(config: &RunConfig, out: &Path) -> Check {
    let name = "store";
    if config.store.is_some() {
        let outcome = async {
            let store = store_of(config, out)?;
            store.probe_conditional_put().await?;
            Ok::<_, crate::Error>(store)
        };
        return match outcome.await {
            Ok(store) => Check::good(
                name,
                format!("create-if-absent works at {}", store.location()),
            ),
            Err(error) => Check::bad(
                name,
                error.to_string(),
                "correct store and store_options; credentials come from AWS_* in the environment",
            ),
        };
    }
    let folder = existing(out);
    let probe = folder.join(format!(".vintage-doctor-{}", std::process::id()));
    let text = probe.to_string_lossy();
    let outcome = async { Store::open(&text)?.probe_conditional_put().await }.await;
    let removed = fs::remove_dir_all(&probe);
    let advice = "name an --out on a file system that can be written to";
    match (outcome, removed) {
        (Ok(()), _) => Check::good(
            name,
            format!("create-if-absent works at {}", folder.display()),
        ),
        (Err(error), _) => Check::bad(name, error.to_string(), advice),
    }
}

fn sizes() -> Check {
    let table = TopicTable::builtin();
    Check::good(
        "sizes",
        format!(
            "messages up to {} KiB, groups split over {} KiB, rows refused over {} KiB",
            table.max_message_bytes() >> 10,
            table.part_limit_bytes() >> 10,
            table.row_limit_bytes() >> 10,
        ),
    )
}

async fn broker(config: &RunConfig, out: &Path) -> Vec<Check> {
    let name = "broker";
    if config.broker == "embedded" {
        return vec![Check::note(
            name,
            "embedded: its log dies with the process",
            "what is archived is safe; use a real Kafka to keep the rest",
        )];
    }
    let advice = match config.broker.as_str() {
        "local" => "install what is missing, or name a broker with --broker HOST:PORT",
        _ => "start one with `vintage broker up`, or correct --broker",
    };
    match reach(config, out).await {
        Ok(checks) => checks,
        Err(error) => vec![Check::bad(name, error.to_string(), advice)],
    }
}

/// A local broker is brought up: in the folder of the run if that has one, else for the moment.
async fn reach(config: &RunConfig, out: &Path) -> Result<Vec<Check>> {
    if config.broker != "local" || out.join("kafka").is_dir() {
        return look(config, out).await;
    }
    let folder = existing(out).join(format!(".vintage-doctor-kafka-{}", std::process::id()));
    let checks = look(config, &folder).await;
    if let Err(error) = fs::remove_dir_all(&folder) {
        tracing::warn!("removing {}: {error}", folder.display());
    }
    checks
}

async fn look(config: &RunConfig, folder: &Path) -> Result<Vec<Check>> {
    let begun = Instant::now();
    let broker = Broker::open(config, Some(folder)).await?;
    let brokers = broker.bus().brokers(ANSWER).await?;
    let found = format!(
        "{} answers after {:.1} s, {brokers} node{}",
        config.broker,
        begun.elapsed().as_secs_f64(),
        if brokers == 1 { "" } else { "s" }
    );
    let mut checks = vec![Check::good("broker", found)];
    let topics = async {
        for spec in broker.specs(config) {
            checks.push(topic(broker.bus(), &spec, brokers).await?);
        }
        Ok(checks)
    };
    let topics = topics.await;
    broker.close().await?;
    topics
}

async fn topic(bus: &Bus, spec: &TopicSpec, brokers: usize) -> Result<Check> {
    let (name, topic) = ("topic", &spec.name);
    let replicas = match bus.replicas(topic).await {
        Ok(replicas) => replicas,
        Err(vintage_bus::Error::NoSuchTopic { .. }) if spec.replication as usize > brokers => {
            let found = format!("{topic} wants {} copies", spec.replication);
            let advice = "set topics.replication to the number of brokers at most";
            return Ok(Check::bad(name, found, advice));
        }
        Err(vintage_bus::Error::NoSuchTopic { .. }) => {
            let found = format!("{topic} is not there yet");
            let advice = "a run creates it, or `vintage topics apply`";
            return Ok(Check::note(name, found, advice));
        }
        Err(error) => return Err(error.into()),
    };
    let copies = replicas.iter().map(|of| of.brokers.len()).min();
    let in_sync = replicas.iter().map(|of| of.in_sync.len()).min();
    let (copies, in_sync) = (copies.unwrap_or(0), in_sync.unwrap_or(0));
    let found = format!(
        "{topic} has {} partitions, {copies} cop{}, {in_sync} in sync",
        replicas.len(),
        if copies == 1 { "y" } else { "ies" }
    );
    Ok(if in_sync < copies {
        Check::note(name, found, "a broker is down or behind: bring it back")
    } else if copies == 1 && brokers > 1 {
        let advice = "one lost disk loses it: create it with topics.replication=3";
        Check::note(name, found, advice)
    } else {
        Check::good(name, found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(checks: &[Check], name: &str) -> Verdict {
        checks
            .iter()
            .find(|check| check.name == name)
            .expect("checked")
            .verdict
    }

    #[tokio::test]
    async fn the_main_job_passes_on_any_machine_with_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let checks = examine(&RunConfig::default(), &folder.path().join("runs/a")).await;
        assert_eq!(verdict(&checks, "prompts"), Verdict::Good);
        assert_eq!(verdict(&checks, "store"), Verdict::Good);
        assert_eq!(verdict(&checks, "broker"), Verdict::Note);
        let left = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(left, 0, "a check leaves nothing behind");
    }

    #[tokio::test]
    async fn what_would_fail_is_found_before_it_does() {
        let mut config = RunConfig::default();
        config.prompts.train = Some("/no/such/prompts.jsonl".into());
        config.model.path = Some("/no/such/model".into());
        config.rollout.reward.command = vec!["no-such-program".to_owned()];
        let folder = tempfile::tempdir().expect("a folder");
        let checks = examine(&config, folder.path()).await;
        for name in ["prompts", "model", "reward command"] {
            assert_eq!(verdict(&checks, name), Verdict::Bad, "{name}");
        }
        assert!(
            checks
                .iter()
                .all(|check| check.verdict != Verdict::Bad || check.advice.is_some())
        );
    }
}
