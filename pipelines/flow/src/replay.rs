//! Entry point of `vintage replay --exact`: runs a learner's plans again from archive, plans and
//! version 0 alone.

use std::{collections::BTreeSet, path::Path};

use serde::Serialize;
use vintage_archive::Reader;
use vintage_control::{Name, PolicyVersion, Sha256, UpdateNumber};
use vintage_learner::{Extent, Recording, RolloutSource, replay};
use vintage_report::{SUMMARY_FILE, read_summary};
use vintage_store::{Records, Store, Weights};

use crate::{
    archive_source::{ArchiveSource, archive_of},
    devices::devices,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::{archive_in, config_file, learner_config, open_store},
    start::resume_points,
};

/// Result of an exact replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplaySummary {
    /// Updates run again.
    pub updates: u64,
    /// Updates that the learner did according to all its records.
    pub recorded: u64,
    /// True if every recorded update was run again and every version equals the recorded one, bit
    /// for bit.
    pub identical: bool,
    /// SHA-256 of the last version computed here, as `sha256sum` of its `model.safetensors` gives
    /// it.
    pub weights_sha256: Sha256,
    /// First update that differs from its record; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_deviation: Option<FirstDeviation>,
}

/// First disagreement between the records and the replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstDeviation {
    /// Update that differs, numbered from 0; update N makes version N + 1.
    pub update: UpdateNumber,
    /// Description of the difference.
    pub detail: String,
    /// True if the plans were made on another machine or by another build, whose bits may differ.
    pub other_machine: bool,
    /// True if updates were computed on a GPU, which may not reproduce its own bits.
    #[serde(rename = "on_card")]
    pub on_gpu: bool,
}

/// Runs the plans of `learner` again; the lead's if it is `None`. Nothing in the folder is changed.
pub async fn replay_exact(
    folder: &Path,
    learner: Option<&Name>,
    events: &Events,
) -> Result<ReplaySummary> {
    let refuse = |reason: String| Error::Folder {
        path: folder.to_owned(),
        reason,
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
    let Some(policy) = records.policy().await? else {
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
    let mut extent = extent(folder, &store, &learner, &policy).await?;
    let (elsewhere, blends) = match &config {
        Some(config) => {
            let blends = config.learner.source.blends();
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
        let archive = archive_in(&store);
        let topic = only_topic(folder, &archive).await?;
        let reader = Reader::new(archive, &topic);
        note_sampled(&mut extent, &reader, &records, &policy).await?;
        reader
    };
    reader.refuse_pruned().await?;
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
        blended: blended
            .as_mut()
            .map(|blended| blended as &mut dyn RolloutSource),
        extent: &extent,
    };
    let replayed = replay(&records, &weights, recording, devices(), |version| {
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
            on_gpu: deviation.on_gpu,
        }),
    })
}

/// Returns how far a learner came, according to its records and, for the lead, the summary of the
/// run.
pub(crate) async fn extent(
    folder: &Path,
    store: &Store,
    learner: &Name,
    policy: &Name,
) -> Result<Extent> {
    let mut extent = Extent::read(store, learner, policy).await?;
    let config = config_file(folder);
    if let Some(updates) = summarized_updates(folder)?
        && config.is_file()
        && vintage_config::read(&config)?.learner.name == *learner
    {
        extent.note(SUMMARY_FILE, updates);
    }
    Ok(extent)
}

/// Adds what the run's own archive shows of a learner: tokens that version N sampled imply N
/// updates. Groups that a plan refused are left out, because versions they name may never have
/// existed.
async fn note_sampled(
    extent: &mut Extent,
    reader: &Reader,
    records: &Records,
    policy: &Name,
) -> Result<()> {
    let known = PolicyVersion(extent.updates());
    let mut sampled = reader.sampled_after(policy.as_str(), known).await?;
    if sampled.is_empty() {
        return Ok(());
    }
    let mut refused = BTreeSet::new();
    let mut update = UpdateNumber::FIRST;
    while update.version_before() < known {
        // The replay itself reports a missing plan.
        if let Some(plan) = records.plan(update).await? {
            let own = plan.rejections.into_iter();
            let own = own.filter(|rejection| rejection.source.is_none());
            refused.extend(own.flat_map(|rejection| rejection.records));
        }
        update = update.next();
    }
    sampled.retain(|message| !refused.contains(&message.record));
    for message in sampled {
        extent.note(format!("archive/{}", message.path), message.version.0);
    }
    Ok(())
}

/// Returns the number of updates in the summary of a run, if there is one. Other fields are not
/// read, so summaries of older builds do as well.
pub(crate) fn summarized_updates(folder: &Path) -> Result<Option<u64>> {
    let summary: Option<serde_json::Value> = read_summary(folder)?;
    Ok(summary.and_then(|summary| summary["updates"].as_u64()))
}

/// Joins names for a message; `none` if there are none.
pub(crate) fn listed<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Returns the lead that the settings name; without settings, the only learner with plans.
pub(crate) async fn lead(folder: &Path, store: &Store) -> Result<Name> {
    let config = config_file(folder);
    if config.is_file() {
        return Ok(vintage_config::read(&config)?.learner.name);
    }
    only(names(store, "plans").await?, "learner", "--name").map_err(|reason| Error::Folder {
        path: folder.to_owned(),
        reason,
    })
}

/// Returns the only topic archived under `archive`, the archive of the run in `folder`.
pub(crate) async fn only_topic(folder: &Path, archive: &Store) -> Result<String> {
    let topics = Reader::topics(archive).await?;
    only(topics, "archived topic", "a folder of its own for each").map_err(|reason| Error::Folder {
        path: folder.to_owned(),
        reason,
    })
}

/// Returns the names of the folders directly below `prefix`.
pub(crate) async fn names(store: &Store, prefix: &str) -> Result<Vec<Name>> {
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
