//! Checks of `vintage doctor`: machine, settings, broker and store, as a run would need them.

mod broker;

use std::{
    fs,
    path::{Path, PathBuf},
};
use vintage_settings::{Device, PromptFiles, RunConfig};

use serde::Serialize;
use vintage_bus::TopicTable;
use vintage_human::{grouped, size};
use vintage_rollout::{CommandRole, CommandSettings, MissingScript, PromptSet};
use vintage_store::Store;

use crate::{
    devices::devices,
    disk::Disk,
    error::Error,
    folder::store_of,
    memory::{ADVICE, Prediction},
    preflight::{Predicted, predict},
    task::{self, Half},
};

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name of the check.
    pub name: &'static str,
    /// Verdict of the check.
    pub verdict: Verdict,
    /// Description of what was found.
    pub found: String,
    /// Advice on what to do; always present for [`Verdict::Bad`].
    pub advice: Option<String>,
    /// Predicted memory; present only in the check named `memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Prediction>,
    /// Predicted disk; present only in the check named `room`, if prompts and model can be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// Verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything as a run needs it.
    Good,
    /// Usable, with something worth knowing.
    Note,
    /// Unusable: a run would fail.
    Bad,
}

/// Free disk space in bytes below which a run of any length is too long.
const ROOM: u64 = 1 << 30;
/// Advice for a disk that a run is predicted to fill.
const NARROW: &str = "`vintage prune` deletes old versions, checkpoints and archive files while the run goes on; \
                      a larger evaluation.every keeps fewer versions";

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Good,
            found: found.into(),
            advice: None,
            memory: None,
            disk: None,
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
            disk: None,
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
            disk: None,
        }
    }
}

/// Checks everything that a run with these settings needs, in a folder at or below `out`.
pub async fn examine(config: &RunConfig, out: &Path) -> Vec<Check> {
    let mut checks = vec![machine(), device(config)];
    checks.extend(prompts(config));
    checks.extend(model(config));
    let predicted = predict(config);
    checks.extend(predicted.as_ref().and_then(memory));
    checks.extend(command(config));
    let disk = predicted.map(|predicted| Disk::predict(config, &predicted.prediction));
    checks.push(room(config, out, disk));
    checks.push(store(config, out).await);
    checks.push(sizes());
    checks.extend(broker::look_at(config, out).await);
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

/// Checks the device that computes updates, and looks for an unused GPU.
fn device(config: &RunConfig) -> Check {
    let name = "device";
    match config.learner.device {
        Device::Cpu | Device::Emulated => match devices().describe(Device::Cuda(0)) {
            Ok(Some(gpu)) => Check::note(
                name,
                format!("cpu; there is a GPU: {gpu}"),
                "train on it with learner.device = \"cuda\"",
            ),
            _ if Path::new("/proc/driver/nvidia/version").exists() => Check::note(
                name,
                "cpu; there is an NVIDIA driver",
                "train on its GPU with a build that has CUDA (infra/cuda/build.sh) and \
                 learner.device = \"cuda\"",
            ),
            _ => Check::good(name, "cpu"),
        },
        device @ Device::Cuda(_) => match devices().describe(device) {
            Ok(gpu) => Check::good(name, gpu.unwrap_or_default()),
            Err(error) => Check::bad(
                name,
                error.to_string(),
                "see infra/cuda/README.md, or set learner.device = \"cpu\"",
            ),
        },
    }
}

fn prompts(config: &RunConfig) -> Vec<Check> {
    let look = |name: &'static str, files: Option<&PromptFiles>, half: Half| match files {
        None => match task::rows(config.prompts.task, half) {
            Ok(text) => {
                let file = task::file(config.prompts.task, half);
                let rows = text.lines().count();
                Check::good(name, format!("built in ({file}), {rows} rows"))
            }
            Err(error) => Check::bad(name, error.to_string(), "see `vintage run --help`"),
        },
        Some(files) => match PromptSet::load_all(files.paths(), &config.prompts.columns) {
            Ok(prompts) => Check::good(
                name,
                format!("{}, {} rows", prompts.name(), prompts.prompts().len()),
            ),
            Err(error) => Check::bad(name, error.to_string(), "see `vintage run --help`"),
        },
    };
    let mut checks = vec![look("prompts", config.prompts.train.as_ref(), Half::Train)];
    if config.prompts.train.is_some() && config.prompts.heldout.is_none() {
        let advice = "give prompts.heldout to see accuracy rise";
        checks.push(Check::note(
            "held-out prompts",
            "none, so there are no evaluations",
            advice,
        ));
    } else {
        let heldout = config.prompts.heldout.as_ref();
        checks.push(look("held-out prompts", heldout, Half::HeldOut));
    }
    checks
}

fn model(config: &RunConfig) -> Option<Check> {
    let path = config.model.path.as_ref()?;
    Some(match vintage_model::ModelFolder::open(path) {
        Ok(folder) if folder.notes().is_empty() => Check::good("model", path.display().to_string()),
        Ok(folder) => Check::note(
            "model",
            format!("{}: {}", path.display(), folder.notes().join("; ")),
            "a run trains with it as it is; look whether that is what you mean",
        ),
        Err(error) => Check::bad(
            "model",
            error.to_string(),
            "name a folder as Hugging Face lays it out, or download the model again",
        ),
    })
}

/// Compares the predicted memory of a learner, and of a whole run in one process, with the machine's.
fn memory(predicted: &Predicted) -> Option<Check> {
    let Predicted { prediction, full } = predicted;
    let name = "memory";
    let peak = prediction.learner.peak_bytes;
    let phases = &prediction.learner.phases;
    let phase = phases.iter().find(|phase| phase.bytes == peak)?.name;
    let machine = prediction.machine_bytes.unwrap_or(u64::MAX);
    let there = prediction
        .machine_bytes
        .map_or_else(String::new, |bytes| format!(", of {}", size(bytes)));
    let full = if *full {
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
    check.memory = Some(prediction.clone());
    Some(check)
}

fn command(config: &RunConfig) -> Option<Check> {
    let command = CommandSettings::of(&config.rollout)?;
    let program = command.argv.first()?;
    let (name, section) = match command.role {
        CommandRole::Reward => ("reward command", command.role.section()),
        CommandRole::Environment => ("environment command", command.role.section()),
    };
    let directory = command.directory.clone().unwrap_or_default();
    if !(directory.as_os_str().is_empty() || directory.is_dir()) {
        let found = format!("no folder {}", directory.display());
        let advice = format!("set {section}.directory to the folder of the {name}");
        return Some(Check::bad(name, found, &advice));
    }
    if let Some(missing) = MissingScript::find(&command) {
        let found = format!(
            "no {} in {} ({})",
            missing.script,
            missing.directory.display(),
            missing.instead()
        );
        let advice = format!(
            "correct {section}.command, or set {section}.directory to the folder of the script"
        );
        return Some(Check::bad(name, found, &advice));
    }
    Some(match find_program(program, &directory) {
        Some(path) => Check::good(name, path.display().to_string()),
        None => Check::bad(
            name,
            format!("no program called {program}"),
            &format!("install it, or give its whole path in {section}.command"),
        ),
    })
}

/// Finds a program: relative to `directory` if its name has a slash, else along `PATH`.
fn find_program(program: &str, directory: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(directory.join(program)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Returns the folder, or its nearest ancestor that exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|folder| folder.is_dir());
    found.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Compares the disk that the run is predicted to fill with what is free.
fn room(config: &RunConfig, out: &Path, disk: Option<Disk>) -> Check {
    let (name, folder) = ("room", existing(out));
    let free = match rustix::fs::statvfs(&folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            let found = format!("cannot look at {}: {error}", folder.display());
            return Check::bad(name, found, "name an --out that can be reached");
        }
    };
    let mut found = format!("{} free at {}", size(free), folder.display());
    let is_here = |_: &&Disk| config.store.is_none();
    let needed = disk.as_ref().filter(is_here).map_or(0, |disk| disk.bytes);
    if let Some(disk) = &disk {
        let items = disk.items.iter();
        let items = items.map(|item| format!("{} {}", item.name, size(item.bytes)));
        let place = config.store.as_ref();
        let place = place.map_or_else(|| "at the end".to_owned(), |store| format!("in {store}"));
        found = format!(
            "{found}; about {} {place} after {} updates ({})",
            size(disk.bytes),
            grouped(config.learner.steps),
            items.collect::<Vec<_>>().join(", ")
        );
    }
    let mut check = if free < ROOM {
        Check::bad(name, found, "free at least 1 GiB, or name another --out")
    } else if needed > free {
        Check::note(name, found, NARROW)
    } else {
        Check::good(name, found)
    };
    check.disk = disk;
    check
}

/// Checks that the store refuses to create an object that exists: commits rely on it.
async fn store(config: &RunConfig, out: &Path) -> Check {
    let name = "store";
    if config.store.is_some() {
        let outcome = async {
            let store = store_of(config, out)?;
            store.probe_conditional_put().await?;
            Ok::<_, Error>(store)
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
    let _best_effort = fs::remove_dir_all(&probe);
    let advice = "name an --out on a file system that can be written to";
    match outcome {
        Ok(()) => Check::good(
            name,
            format!("create-if-absent works at {}", folder.display()),
        ),
        Err(error) => Check::bad(name, error.to_string(), advice),
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
        fs::write(folder.path().join("judge.sh"), "").expect("written");
        let reward = |script: &str, directory: PathBuf| {
            let mut config = RunConfig::default();
            config.rollout.reward.command = vec!["sh".to_owned(), script.to_owned()];
            config.rollout.reward.directory = Some(directory);
            super::command(&config).expect("a check")
        };
        let here = folder.path().to_owned();
        assert_eq!(reward("judge.sh", here.clone()).verdict, Verdict::Good);
        let missing = reward("jugde.sh", here.clone());
        assert_eq!(missing.verdict, Verdict::Bad);
        assert!(
            missing.found.contains("there is judge.sh"),
            "{}",
            missing.found
        );
        assert_eq!(reward("judge.sh", here.join("none")).verdict, Verdict::Bad);
        assert!(
            checks
                .iter()
                .all(|check| check.verdict != Verdict::Bad || check.advice.is_some())
        );
    }
}
