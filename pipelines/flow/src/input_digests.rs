//! Digests of the files a user gives to a run: prompts, reward, model. They are recorded in the
//! run's store when it begins and compared whenever a role starts, so a run continues only with the
//! files it began with, or with changes that its user accepted by name.

mod sampling;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use vintage_settings::{RolloutConfig, RunConfig};

use vintage_control::{CONTROL_FORMAT, Name, PolicyVersion, RunInputs, Sha256, UpdateNumber};
use vintage_hub::HubModel;
use vintage_model::ModelFolder;
use vintage_rollout::{
    CommandSettings, PromptFile, PromptSet, file_sha256, files_by_base_name, named_files,
    read_journals,
};
use vintage_store::{Created, Store, Weights};

use self::sampling::Sampling;
use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::RunFolder,
    prompts::PromptSets,
};

const TRAIN: &str = "prompts.train";
const HELDOUT: &str = "prompts.heldout";
const REWARD: &str = "rollout.reward.command";
const ENVIRONMENT: &str = "rollout.environment.command";
const MODEL: &str = "model.path";

/// Settings whose files are recorded.
const RECORDED: [&str; 5] = [TRAIN, HELDOUT, REWARD, ENVIRONMENT, MODEL];

/// Digests of the files of one setting, by file name; those of a command by their path from its
/// directory.
type Files = BTreeMap<String, Sha256>;

/// Digests of the files given to a role.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// Digests by setting.
    files: BTreeMap<String, Files>,
    /// Digests of the reward command as older records have them: by base name, and without the
    /// program where an argument is a file.
    command_by_base_name: Files,
    /// Settings that decide what is sampled and how it is rewarded.
    sampling: Sampling,
}

impl Given {
    /// Digests of a producer's inputs: training prompts, and reward or environment.
    pub(crate) fn to_producer(task: &PromptSets, config: &RunConfig) -> Result<Self> {
        let rollout = &config.rollout;
        let mut given = Self {
            sampling: Sampling::of(config),
            ..Self::default()
        };
        given.add(TRAIN, of_prompts(&task.train));
        let reward = CommandSettings::from(&rollout.reward);
        given.add(REWARD, of_command(&reward)?);
        given.command_by_base_name = digests(files_by_base_name(&reward))?;
        let environment = CommandSettings::from(&rollout.environment);
        given.add(ENVIRONMENT, of_command(&environment)?);
        Ok(given)
    }

    /// Digests of the inputs of the run's learner, which also checks held-out prompts and model for
    /// the other roles.
    pub(crate) fn to_lead(task: &PromptSets, config: &RunConfig) -> Result<Self> {
        let mut given = Self::to_producer(task, config)?;
        if let Some(heldout) = &task.heldout {
            given.add(HELDOUT, of_prompts(heldout));
        }
        if let Some(path) = &config.model.path {
            given.add(MODEL, of_model(path)?);
        }
        Ok(given)
    }

    fn add(&mut self, setting: &str, files: Files) {
        if !files.is_empty() {
            self.files.insert(setting.to_owned(), files);
        }
    }

    /// Returns each setting whose files differ from the recorded ones, with a description of the
    /// difference. A record whose names are those of an older version is compared as that version
    /// did it.
    fn changes<'a>(&'a self, recorded: &'a RunInputs) -> Vec<(&'a str, String)> {
        let both = self.files.iter().filter_map(|(setting, files)| {
            let then = recorded.inputs.get(setting)?;
            let older = &self.command_by_base_name;
            let is_older = setting == REWARD && !then.keys().eq(files.keys());
            let now = if is_older && then.keys().eq(older.keys()) {
                older
            } else {
                files
            };
            (then != now).then(|| (setting.as_str(), difference(then, now)))
        });
        both.collect()
    }

    /// Sends a warning if rewards come from a command of which no file is known.
    pub(crate) fn warn_of_unheld(&self, rollout: &RolloutConfig, events: &Events) {
        if let Some(warning) = self.unheld(rollout) {
            let _nobody_listens = events.send(RunEvent::Warning(warning));
        }
    }

    /// Returns the warning that a change of the command that gives rewards would go unnoticed, if
    /// no file of it is known.
    fn unheld(&self, rollout: &RolloutConfig) -> Option<String> {
        let command = CommandSettings::of(rollout)?;
        let setting = format!("{}.command", command.role.section());
        (!self.files.contains_key(&setting)).then(|| {
            format!(
                "the {} `{}` names no file, so that a change of it cannot be noticed: neither when \
                 the run is resumed nor when the command is restarted; name its script as a word of \
                 {setting}",
                command.role,
                command.line()
            )
        })
    }
}

/// Digests of the files of a set by their names. The names of several begin with their places: the
/// order of files is the order of prompts, and two folders may have files of one name.
fn of_prompts(set: &PromptSet) -> Files {
    let files = set.files();
    let name = |(index, file): (usize, &PromptFile)| match files.len() {
        1 => file_name(&file.path),
        count => format!("{} of {count}: {}", index + 1, file_name(&file.path)),
    };
    let all = files.iter().enumerate();
    all.map(|(index, file)| (name((index, file)), file.sha256))
        .collect()
}

fn of_command(command: &CommandSettings) -> Result<Files> {
    let files = named_files(command).into_iter();
    files
        .map(|file| Ok((file.name, sha256_of(&file.path)?)))
        .collect()
}

/// Digests the files of a model folder. Empty if the folder is gone: the run has its version 0.
fn of_model(path: &Path) -> Result<Files> {
    let folder = match HubModel::of(path)? {
        None => path.to_owned(),
        Some(model) => match model.snapshot() {
            Ok(snapshot) => snapshot,
            Err(_not_here) => return Ok(Files::new()),
        },
    };
    let Ok(entries) = folder.read_dir() else {
        return Ok(Files::new());
    };
    let is_read = |name: &str| {
        let weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        weights || ModelFolder::FILES.contains(&name)
    };
    let paths = entries.flatten().map(|entry| entry.path());
    digests(paths.filter(|path| path.is_file() && is_read(&file_name(path))))
}

/// Digests files by their names without folder.
fn digests(paths: impl IntoIterator<Item = PathBuf>) -> Result<Files> {
    let paths = paths.into_iter();
    paths
        .map(|path| Ok((file_name(&path), sha256_of(&path)?)))
        .collect()
}

fn sha256_of(path: &Path) -> Result<Sha256> {
    file_sha256(path).map_err(|source| Error::Io {
        attempted: "read",
        path: path.to_owned(),
        source,
    })
}

/// Returns the name without its folder, because machines keep the same files in different folders.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn difference(then: &Files, now: &Files) -> String {
    let names: BTreeSet<_> = then.keys().chain(now.keys()).collect();
    let differences = names.into_iter().filter_map(|name| {
        let short = |digest: &Sha256| digest.to_string()[..12].to_owned();
        match (then.get(name), now.get(name)) {
            (Some(then), Some(now)) if then == now => None,
            (Some(then), Some(now)) => Some(format!(
                "{name} has sha256 {}…, the run began with {}…",
                short(now),
                short(then)
            )),
            (Some(_), None) => Some(format!("{name} is gone")),
            (None, _) => Some(format!("{name} was not there")),
        }
    });
    differences.collect::<Vec<_>>().join(", ")
}

/// Role that compares; decides which differences are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By<'a> {
    /// Learner of the run, which records the digests.
    Lead(Lead<'a>),
    /// Producer; no difference of files is allowed. The user accepts other sampling settings by name
    /// (`--accept`).
    Producer(&'a [String]),
}

/// Changes that the run's learner allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lead<'a> {
    /// Settings whose changes the user accepts (`--accept`).
    pub(crate) accept: &'a [String],
    /// Results that the run has already made from its inputs.
    pub(crate) made: Made,
}

impl Lead<'_> {
    /// Returns true if the files of `setting` may change: nothing was made from them yet, or the
    /// user accepts the change.
    fn accepts(&self, setting: &str) -> bool {
        let used = if setting == REWARD || setting == ENVIRONMENT {
            self.made.groups
        } else {
            self.made.version_zero
        };
        !used || self.accept.iter().any(|name| name == setting)
    }
}

/// Results that a run has made from its inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    /// True once version 0, the weights that training starts from, is published.
    version_zero: bool,
    /// True once a group has been scored: a journal holds a number, or update 0 has a plan.
    groups: bool,
}

impl Made {
    /// Reads from the folder of a run what has been made.
    pub(crate) async fn of(folder: &RunFolder, config: &RunConfig) -> Result<Self> {
        let weights = folder.weights(&config.learner.policy);
        let records = folder.records(&config.learner.name);
        let journals = read_journals(&folder.journals())?;
        Ok(Self {
            version_zero: weights.manifest(PolicyVersion::ZERO).await?.is_some(),
            groups: records.is_planned(UpdateNumber::FIRST).await?
                || journals.values().any(|numbers| !numbers.is_empty()),
        })
    }
}

/// Compares the given files with those that the run in `out` has recorded. The lead records them if
/// there is no record yet, and records allowed changes.
///
/// # Errors
/// [`Error::InputsChanged`] naming every setting whose files have changed.
pub(crate) async fn hold(store: &Store, given: &Given, by: By<'_>, out: &Path) -> Result<()> {
    let accepted: &[String] = match by {
        By::Lead(lead) => lead.accept,
        By::Producer(accepted) => {
            sampling::check_accepted(accepted)?;
            &[]
        }
    };
    if let Some(unknown) = accepted
        .iter()
        .find(|name| !RECORDED.contains(&name.as_str()))
    {
        return Err(Error::Setting {
            setting: format!("--accept {unknown}"),
            reason: format!(
                "only files can be accepted that have changed; their settings are {}",
                RECORDED.join(", ")
            ),
        });
    }
    loop {
        let (next, recorded) = newest(store).await?;
        let Some(recorded) = recorded else {
            let By::Lead(_) = by else { return Ok(()) };
            let first = record(store, next, given, given.files.clone(), Vec::new());
            if first.await? == Created::New {
                return Ok(());
            }
            continue; // another process of this learner was faster: what does it say?
        };
        let changes = given.changes(&recorded);
        let refused: Vec<_> = changes
            .iter()
            .filter(|(setting, _)| match by {
                By::Lead(lead) => !lead.accepts(setting),
                By::Producer(_) => true,
            })
            .collect();
        if !refused.is_empty() {
            return Err(refusal(&refused, by, out));
        }
        let accepted = match by {
            By::Producer(accepted) => Some(accepted),
            By::Lead(lead) => lead.made.groups.then_some(&[][..]),
        };
        if let Some(accepted) = accepted {
            given.sampling.hold(&recorded.sampling, accepted)?;
        }
        let By::Lead(_) = by else { return Ok(()) };
        let mut now = recorded.inputs.clone();
        now.extend(given.files.clone());
        if now == recorded.inputs && given.sampling.is(&recorded.sampling) {
            return Ok(());
        }
        let settings = changes.iter().map(|(setting, _)| (*setting).to_owned());
        if record(store, next, given, now, settings.collect()).await? == Created::New {
            return Ok(());
        }
    }
}

/// Compares a producer's sampling settings with those that the run has recorded, if it has.
///
/// # Errors
/// [`Error::OtherSampling`] naming every setting that differs; the store cannot be read.
pub(crate) async fn hold_sampling(store: &Store, given: &Given, accept: &[String]) -> Result<()> {
    sampling::check_accepted(accept)?;
    match newest(store).await?.1 {
        Some(recorded) => given.sampling.hold(&recorded.sampling, accept),
        None => Ok(()),
    }
}

fn refusal(refused: &[&(&str, String)], by: By<'_>, out: &Path) -> Error {
    let changes = refused
        .iter()
        .map(|(setting, what)| format!("{setting} has changed since the run began: {what}"));
    let flags = refused
        .iter()
        .map(|(setting, _)| format!("--accept {setting}"));
    let (changes, flags) = (changes.collect::<Vec<_>>(), flags.collect::<Vec<_>>());
    let flags = flags.join(" ");
    let (attempted, remedy) = match by {
        By::Lead(_) => (
            format!("resume the run in {}", out.display()),
            format!("put the files back, or go on with what is there now by {flags}"),
        ),
        By::Producer(_) => (
            "sample for this run".to_owned(),
            format!(
                "give this producer the run's own files, or start the run's learner again so that it \
                 accepts other ones: `vintage learn` in its own folder, with the files of here and \
                 {flags}"
            ),
        ),
    };
    Error::InputsChanged {
        attempted,
        changes: changes.join("; "),
        remedy,
    }
}

/// Returns the number of the next record, and the newest record.
async fn newest(store: &Store) -> Result<(u64, Option<RunInputs>)> {
    let number = |path: &String| {
        let name = path.strip_prefix("inputs/")?.strip_suffix(".json")?;
        name.parse::<u64>().ok()
    };
    let Some(last) = store.list("inputs").await?.iter().filter_map(number).max() else {
        return Ok((0, None));
    };
    Ok((last + 1, store.get_json(&file(last)).await?))
}

async fn record(
    store: &Store,
    number: u64,
    given: &Given,
    inputs: BTreeMap<String, Files>,
    accepted: Vec<String>,
) -> Result<Created> {
    let record = RunInputs {
        format: CONTROL_FORMAT.to_owned(),
        inputs,
        accepted,
        sampling: given.sampling.recorded(),
    };
    Ok(store.create_json(&file(number), &record).await?)
}

fn file(number: u64) -> String {
    format!("inputs/{number}.json")
}

/// Refuses a version 0 whose config, tokenizer or chat template was changed after it was published:
/// every engine of the run, every export and every replay reads them from there.
pub(crate) async fn hold_version_zero(weights: &Weights, policy: &Name) -> Result<()> {
    for name in ModelFolder::FILES {
        let read = weights.fetch_file(PolicyVersion::ZERO, name).await;
        read.map_err(|error| match error {
            changed @ (vintage_store::Error::Corrupt { .. }
            | vintage_store::Error::Missing { .. }
            | vintage_store::Error::Unlisted { .. }) => Error::VersionZeroChanged {
                policy: policy.clone(),
                reason: changed.to_string(),
            },
            other => other.into(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
