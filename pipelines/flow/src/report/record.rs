//! A run's records as they lie in its folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use vintage_control::{EvaluationResult, UpdateResult};

use crate::{
    Error, Result,
    config::{Recorded, read_recorded},
};

/// Everything a report shows.
pub(super) struct RunRecord {
    /// The run's name as its settings say, else the folder's.
    pub(super) name: String,
    /// Name of the learner whose results these are.
    pub(super) learner: String,
    /// Results by update.
    pub(super) results: Vec<UpdateResult>,
    /// Evaluations by version.
    pub(super) evaluations: Vec<EvaluationResult>,
    /// Settings with their origins.
    pub(super) settings: Vec<Recorded>,
    /// `summary.json`, if the run has ended.
    pub(super) summary: Option<serde_json::Value>,
    /// Rejected groups by reason.
    pub(super) rejected: BTreeMap<String, u64>,
}

/// What a report needs of a plan.
#[derive(Deserialize)]
struct PlanRejections {
    rejections: Vec<RejectionReason>,
}

#[derive(Deserialize)]
struct RejectionReason {
    reason: String,
}

impl RunRecord {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let config = folder.join("config.toml");
        let text = fs::read_to_string(&config).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Folder {
                path: folder.to_owned(),
                what: "is no run's folder: it has no config.toml; name the --out of a run"
                    .to_owned(),
            },
            _ => Error::Io {
                attempted: "read",
                path: config.clone(),
                source,
            },
        })?;
        let settings = read_recorded(&text).map_err(|error| damaged(&config, &error))?;
        let setting = |name: &str| {
            let found = settings
                .iter()
                .find(|setting| setting.key.to_string() == name)?;
            Some(found.value.trim_matches('"').to_owned())
        };
        let learner = match setting("learner.name") {
            Some(name) => name,
            None => subfolders(&folder.join("results"))?
                .into_iter()
                .next()
                .unwrap_or_default(),
        };
        let policy = setting("learner.policy").unwrap_or_else(|| learner.clone());
        let summary: Option<serde_json::Value> = optional(&folder.join("summary.json"))?;
        let counted = summary.as_ref().and_then(|summary| summary.get("rejected"));
        let rejected = match counted.and_then(|counted| {
            serde_json::from_value::<BTreeMap<String, u64>>(counted.clone()).ok()
        }) {
            Some(counted) => counted,
            None => count_rejections(&folder.join("plans").join(&learner))?,
        };
        let name = setting("run").filter(|name| name != "run");
        let folder_name = folder.canonicalize().ok();
        let folder_name = folder_name.as_deref().and_then(Path::file_name);
        Ok(Self {
            name: name
                .or_else(|| folder_name.map(|name| name.to_string_lossy().into_owned()))
                .unwrap_or_else(|| "run".to_owned()),
            results: numbered(&folder.join("results").join(&learner))?,
            evaluations: numbered(&folder.join("evaluations").join(&policy))?,
            learner,
            settings,
            summary,
            rejected,
        })
    }
}

fn count_rejections(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for plan in numbered::<PlanRejections>(folder)? {
        for rejection in plan.rejections {
            *counts.entry(rejection.reason).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Every `<number>.json` of a folder, in numeric order; none if there is no folder.
fn numbered<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let mut files: Vec<(u64, PathBuf)> = entries(folder)?
        .into_iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    files.sort();
    files
        .into_iter()
        .filter_map(|(_, path)| optional(&path).transpose())
        .collect()
}

fn subfolders(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = entries(folder)?
        .into_iter()
        .filter(|path| path.is_dir())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::Io {
        attempted: "read",
        path: folder.to_owned(),
        source,
    };
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(io))
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io(error)),
    }
}

fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| damaged(path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            attempted: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Error {
    let what = format!("cannot be read as a record of this version: {why}");
    Error::Folder {
        path: path.to_owned(),
        what,
    }
}
