//! `vintage replay --exact`: a run's plans again, from archive, plans and version 0 alone.

use std::path::Path;
use vintage_settings::SourceKind;

use serde::Serialize;
use vintage_archive::Reader;
use vintage_control::{Name, PolicyVersion, Sha256};
use vintage_learner::{Extent, Recording, Source, replay};
use vintage_store::{Records, Store, Weights};

use crate::{
    Error, Result,
    event::{Events, RunEvent},
    folder::{learner_config, open_store, read_json},
    recorded::{ArchiveSource, archive_of},
    run::SUMMARY_FILE,
    start::resume_points,
};

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplaySummary {
    /// Updates run again.
    pub updates: u64,
    /// Updates that the learner did, by all its records.
    pub recorded: u64,
    /// Whether every recorded update was run again, and every version came out as recorded, bit
    /// for bit.
    pub identical: bool,
    /// Digest of the last version computed here: `sha256sum` of its `model.safetensors`.
    pub weights_sha256: Sha256,
    /// The first update that differs, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_deviation: Option<FirstDeviation>,
}

/// Where record and machine first disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstDeviation {
    /// The update, numbered from 0: it made the version after it.
    pub update: PolicyVersion,
    /// What differs.
    pub detail: String,
    /// Whether this is another machine or build than the plans', which need not agree in bits.
    pub other_machine: bool,
    /// Whether updates were computed on a card, which need not repeat its bits either.
    pub on_card: bool,
}

/// Runs the plans of `learner` (the lead, if not named) in the run's folder again. Nothing
/// in the folder is changed.
pub async fn replay_exact(
    folder: &Path,
    learner: Option<&Name>,
    events: &Events,
) -> Result<ReplaySummary> {
    let refuse = |what: String| Error::Folder {
        path: folder.to_owned(),
        what,
    };
    if !folder.is_dir() {
        return Err(refuse("is no folder: name a run's folder".to_owned()));
    }
    let store = open_store(folder)?;
    let learner = match learner {
        Some(name) => name.clone(),
        None => lead(folder, &store).await?,
    };
    let records = Records::new(store.clone(), learner.clone());
    let Some(policy) = records.lineage().await? else {
        let there = names(&store, "plans").await?;
        return Err(refuse(format!(
            "holds no plan of learner {learner}: there is nothing to replay (learners with plans: {})",
            listed(&there)
        )));
    };
    let weights = Weights::new(store.clone(), policy.clone());
    // A copy without settings is of a run that reads its own archive.
    let config = learner_config(folder, &learner)?;
    let config = config.map(|file| vintage_config::read(&file)).transpose()?;
    let extent = extent(folder, &store, &learner, &policy).await?;
    let (elsewhere, blends) = match &config {
        Some(config) => {
            let blends = config.learner.source == SourceKind::Blend;
            (archive_of(config).await?, blends)
        }
        None => (None, false),
    };
    let (own, blended) = if blends {
        (None, elsewhere)
    } else {
        (elsewhere, None)
    };
    let reader = if let Some(own) = own {
        own
    } else {
        let archive = store.at("archive");
        let topic = only_topic(folder, &archive).await?;
        Reader::new(archive, &topic)
    };
    let start = records.start().await?;
    let start = start.as_ref().map_or_else(Vec::new, resume_points);
    let mut source = ArchiveSource::recorded(&reader, &start).await?;
    let mut blended = match &blended {
        Some(reader) => Some(ArchiveSource::recorded(reader, &[]).await?),
        None => None,
    };
    let _nobody_listens = events.send(RunEvent::Phase(format!("replaying learner {learner}")));
    let updates = extent.updates();
    let recording = Recording {
        source: &mut source,
        start: &start,
        blended: blended.as_mut().map(|blended| blended as &mut dyn Source),
        extent: &extent,
    };
    let replayed = replay(&records, &weights, recording, |version| {
        let _nobody_listens = events.send(RunEvent::Replayed {
            done: version.0,
            updates,
        });
    })
    .await?;
    Ok(ReplaySummary {
        updates: replayed.updates,
        recorded: updates,
        identical: replayed.deviation.is_none(),
        weights_sha256: replayed.weights_sha256,
        first_deviation: replayed.deviation.map(|deviation| FirstDeviation {
            update: deviation.update,
            detail: deviation.detail,
            other_machine: deviation.other_machine,
            on_card: deviation.on_card,
        }),
    })
}

/// How far a learner came by its records, and by the summary of the run, which is its lead's.
pub(crate) async fn extent(
    folder: &Path,
    store: &Store,
    learner: &Name,
    policy: &Name,
) -> Result<Extent> {
    let mut extent = Extent::read(store, learner, policy).await?;
    let config = folder.join("config.toml");
    if let Some(updates) = summarized_updates(folder)?
        && config.is_file()
        && vintage_config::read(&config)?.learner.name == *learner
    {
        extent.note(SUMMARY_FILE, updates);
    }
    Ok(extent)
}

/// Updates that the summary of a run counts, if it has one. What else an older one holds is not
/// asked.
pub(crate) fn summarized_updates(folder: &Path) -> Result<Option<u64>> {
    let summary: Option<serde_json::Value> = read_json(&folder.join(SUMMARY_FILE))?;
    Ok(summary.and_then(|summary| summary["updates"].as_u64()))
}

/// Names for a message.
pub(crate) fn listed<T: std::fmt::Display>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// The lead, where settings tell which it is; else the only learner there is.
pub(crate) async fn lead(folder: &Path, store: &Store) -> Result<Name> {
    let config = folder.join("config.toml");
    if config.is_file() {
        return Ok(vintage_config::read(&config)?.learner.name);
    }
    only(names(store, "plans").await?, "learner", "--name").map_err(|what| Error::Folder {
        path: folder.to_owned(),
        what,
    })
}

/// The topic whose archive lies under `archive`, the own one of the run in `folder`.
pub(crate) async fn only_topic(folder: &Path, archive: &Store) -> Result<String> {
    let topics = Reader::topics(archive).await?;
    only(topics, "archived topic", "a folder of its own for each").map_err(|what| Error::Folder {
        path: folder.to_owned(),
        what,
    })
}

/// Names of the folders right below `prefix`.
async fn names(store: &Store, prefix: &str) -> Result<Vec<Name>> {
    let paths = store.list(prefix).await?;
    let mut names: Vec<Name> = paths
        .iter()
        .filter_map(|path| {
            path.strip_prefix(prefix)?
                .strip_prefix('/')?
                .split('/')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    names.dedup();
    Ok(names)
}

fn only<T: std::fmt::Display>(mut found: Vec<T>, what: &str, by: &str) -> Result<T, String> {
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(format!("holds no {what}: name a run's folder")),
        (Some(last), false) => {
            let names: Vec<_> = found
                .iter()
                .chain([&last])
                .map(ToString::to_string)
                .collect();
            Err(format!(
                "holds more than one {what} ({}): choose with {by}",
                names.join(", ")
            ))
        }
    }
}
