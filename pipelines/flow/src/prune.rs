//! Entry point of `vintage prune`: finds a run's learners, archive and journals, and has
//! [`vintage_prune`] choose and delete.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Serialize;
use vintage_archive::Reader;
use vintage_control::{Name, NumberSet, PolicyVersion, PrunePolicy};
use vintage_prune::{Journal, LearnerNeeds, Pruning, Run, is_young, now_ms, since_epoch};
use vintage_rollout::read_journals;
use vintage_settings::RunConfig;
use vintage_store::{Records, Store, prunes};

use crate::{
    error::{Error, Result},
    folder::{alone, archive_in, config_file, followers, journals, pruning, store_of},
    replay::names,
};

/// Run to prune, and what may go.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// Folder of the run; without one, `config` names the store.
    pub folder: Option<PathBuf>,
    /// Settings of the run.
    pub config: RunConfig,
    /// Policy by which is chosen.
    pub asked: PrunePolicy,
    /// True to delete; false to say only what would go.
    pub apply: bool,
}

/// Result of a prune.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pruned {
    /// True if it was deleted; false if it would be.
    pub applied: bool,
    /// Record that was written before anything was deleted; `None` in a dry run, or if an earlier
    /// prune had recorded all of it.
    pub record: Option<String>,
    /// Objects that go.
    #[serde(flatten)]
    pub pruning: Pruning,
}

/// Chooses what may go, and deletes it if asked to. A run that goes on meanwhile is not disturbed:
/// whatever its learners may still need stays. Journals go only if no process works in the folder.
///
/// # Errors
/// No folder, no store, another prune at work, or a store that fails.
pub async fn prune(scope: &PruneRequest) -> Result<Pruned> {
    let config = &scope.config;
    let folder = scope.folder.as_deref();
    let store = root(folder, config)?;
    let _no_other = match folder.filter(|_| scope.apply) {
        Some(folder) => Some(pruning(folder)?),
        None => None,
    };
    let learners = learners(config, folder, &store).await?;
    let reader = Reader::new(archive_in(&store), &config.topic_names().rollouts());
    let alone = folder.and_then(alone);
    let ended = match folder.filter(|_| alone.is_some()) {
        Some(folder) => ended(folder, &store, &scope.asked).await?,
        None => Vec::new(),
    };
    let run = Run {
        store: &store,
        reader: &reader,
        learners: &learners,
        journals: &ended,
    };
    let pruning = vintage_prune::prune(&run, &scope.asked).await?;
    let record = if scope.apply {
        pruning.apply(&run).await?
    } else {
        None
    };
    Ok(Pruned {
        applied: scope.apply,
        record,
        pruning,
    })
}

fn root(folder: Option<&Path>, config: &RunConfig) -> Result<Store> {
    match folder {
        Some(folder) if !config_file(folder).is_file() => Err(Error::Folder {
            path: folder.to_owned(),
            reason: "is no run's folder: it has no config.toml".to_owned(),
        }),
        Some(folder) => store_of(config, folder),
        None if config.store.is_some() => store_of(config, Path::new(".")),
        None => Err(Error::Setting {
            setting: "store".to_owned(),
            reason: "name a run's folder, or its store with --set store=s3://BUCKET/PREFIX"
                .to_owned(),
        }),
    }
}

/// Returns every learner that has settings in the folder or a record in the store. One without
/// settings here is taken to have the lead's.
async fn learners(
    config: &RunConfig,
    folder: Option<&Path>,
    store: &Store,
) -> Result<Vec<LearnerNeeds>> {
    let mut learners = vec![settings(config)];
    if let Some(folder) = folder {
        for file in followers(folder)? {
            learners.push(settings(&vintage_config::read(&file)?));
        }
    }
    let known: BTreeSet<_> = learners
        .iter()
        .map(|learner| learner.name.clone())
        .collect();
    let mut others: BTreeSet<Name> = BTreeSet::new();
    for kind in ["plans", "checkpoints"] {
        others.extend(names(store, kind).await?);
    }
    let starts = store.list("starts").await?;
    let started = starts.iter().filter_map(|path| {
        let name = path.strip_prefix("starts/")?.strip_suffix(".json")?;
        name.parse::<Name>().ok()
    });
    others.extend(started);
    for name in others.difference(&known) {
        let policy = Records::new(store.clone(), name.clone()).policy().await?;
        learners.push(LearnerNeeds {
            policy: policy.unwrap_or_else(|| name.clone()),
            name: name.clone(),
            ..settings(config)
        });
    }
    Ok(learners)
}

fn settings(config: &RunConfig) -> LearnerNeeds {
    let learner = &config.learner;
    // Without prompts of its own a run has the built-in ones, and evaluates on those held out.
    let evaluates = config.prompts.heldout.is_some() || config.prompts.train.is_none();
    LearnerNeeds {
        name: learner.name.clone(),
        policy: learner.policy.clone(),
        keep_versions: learner.keep_versions,
        reach: config
            .gate
            .max_staleness
            .max(config.gate.exact.unwrap_or(0)),
        evaluated: evaluates.then_some((config.evaluation.every, learner.steps)),
    }
}

/// Returns the journals that may go: all if that was asked for, else those that an earlier prune
/// recorded and did not delete. The caller has the folder for itself, so every producer has ended.
async fn ended(folder: &Path, store: &Store, asked: &PrunePolicy) -> Result<Vec<Journal>> {
    let recorded = pruned_journals(store).await?;
    let dir = journals(folder);
    let all = read_journals(&dir)?.into_iter();
    let path_of = |producer: &str| dir.join(format!("{producer}.acks"));
    let is_old = |producer: &str| {
        let written = path_of(producer)
            .metadata()
            .and_then(|file| file.modified());
        let young = |written| is_young(since_epoch(written), now_ms(), asked.older_than_seconds);
        // A file that cannot be looked at may go if no age was asked for.
        written.map_or(asked.older_than_seconds.is_none(), |written| {
            !young(written)
        })
    };
    let chosen = all.filter(|(producer, _)| {
        asked.journals && is_old(producer) || recorded.contains_key(producer)
    });
    let journals = chosen.map(|(producer, numbers)| {
        let path = path_of(&producer);
        let bytes = path.metadata().map_or(0, |file| file.len());
        Journal {
            producer,
            numbers,
            path,
            bytes,
        }
    });
    Ok(journals.collect())
}

/// Returns the numbers that the log acknowledged, by producer: of the journals in `folder`, and of
/// those that were pruned.
pub(crate) async fn acknowledged(
    store: &Store,
    folder: &Path,
) -> Result<BTreeMap<String, NumberSet>> {
    // In this order, because a record is written before a journal is deleted.
    let here = read_journals(folder)?;
    Ok(joined(here, pruned_journals(store).await?.iter()))
}

/// Adds the numbers of pruned journals to those of the journals that are there.
pub(crate) fn joined<'a>(
    mut here: BTreeMap<String, NumberSet>,
    pruned: impl Iterator<Item = (&'a String, &'a Vec<(u64, u64)>)>,
) -> BTreeMap<String, NumberSet> {
    for (producer, runs) in pruned {
        let numbers = here.entry(producer.clone()).or_default();
        for &(first, last) in runs {
            for number in first..=last {
                numbers.insert(number);
            }
        }
    }
    here
}

/// Returns the numbers of journals that were pruned, by producer, as ranges.
pub(crate) async fn pruned_journals(store: &Store) -> Result<BTreeMap<String, Vec<(u64, u64)>>> {
    let mut journals: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for (_, record) in prunes(store).await? {
        for (producer, runs) in record.journals {
            journals.entry(producer).or_default().extend(runs);
        }
    }
    Ok(journals)
}

/// Returns the record of the prune that deleted a version; `None` if none did.
pub(crate) async fn pruned_by(
    store: &Store,
    policy: &Name,
    version: PolicyVersion,
) -> Result<Option<String>> {
    let records = prunes(store).await?.into_iter();
    let mut by = records.filter(|(_, record)| {
        let of = record.versions.get(policy);
        of.is_some_and(|of| of.versions.contains(&version))
    });
    Ok(by.next().map(|(path, _)| path))
}
