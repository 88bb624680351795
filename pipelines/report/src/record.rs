//! Records of a run, read from its folder and its store.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use vintage_archive::Reader;
use vintage_config::{Recorded, read_recorded};
use vintage_control::{EvaluationResult, UpdateResult};
use vintage_human::Measured;
use vintage_store::Store;

use crate::{
    contender::{Contender, contenders},
    error::{Error, Result, damaged},
    fairness::read::{Rollouts, read},
    numbered::numbered,
    summary::read_summary,
};

/// Contents of a report.
pub(crate) struct RunRecord {
    /// Name of the run in its settings, or the folder's name if it is not set.
    pub(crate) name: String,
    /// Name of the learner that `results` are of.
    pub(crate) learner: String,
    /// Results of the updates, in order.
    pub(crate) results: Vec<UpdateResult>,
    /// Evaluations of the learner's policy, in order of versions.
    pub(crate) evaluations: Vec<EvaluationResult>,
    /// Settings with their origins.
    pub(crate) settings: Vec<Recorded>,
    /// Contents of `summary.json`; `None` until the run has ended.
    pub(crate) summary: Option<serde_json::Value>,
    /// Number of rejected groups by reason: from the summary, or else counted in the plans.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Learners of the run; empty if there is only one.
    pub(crate) learners: Vec<Contender>,
    /// Figures and samples of the rollouts, or the reason for which there are none.
    pub(crate) rollouts: std::result::Result<Rollouts, String>,
}

/// Part of a plan that a report needs.
#[derive(Deserialize)]
struct PlanRejections {
    rejections: Vec<RejectionReason>,
}

#[derive(Deserialize)]
struct RejectionReason {
    reason: String,
}

impl RunRecord {
    /// Returns a setting as text, without the quotes of a string; `None` if it is not set.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        setting(&self.settings, name)
    }

    /// Returns what evaluations measure: a share of right answers, unless a program gives rewards.
    pub(crate) fn measured(&self) -> Measured {
        let programs = ["rollout.reward.command", "rollout.environment.command"];
        let is_set = |program| self.setting(program).is_some_and(|command| command != "[]");
        Measured::of(programs.into_iter().any(is_set))
    }

    /// Reads the records of a run; `archive` is the reader of its rollouts, or the reason for which
    /// there is none.
    pub(crate) async fn read(
        folder: &Path,
        store: &Store,
        archive: std::result::Result<&Reader, String>,
    ) -> Result<Self> {
        let outline = Self::outline(folder, store).await?;
        let learner = &outline.learner;
        let counted = outline.summary.as_ref();
        let counted = counted.and_then(|summary| summary.get("rejected"));
        let rejected = match counted.and_then(|counted| {
            serde_json::from_value::<BTreeMap<String, u64>>(counted.clone()).ok()
        }) {
            Some(counted) => counted,
            None => count_rejections(store, &format!("plans/{learner}")).await?,
        };
        Ok(Self {
            rejected,
            learners: contenders(store, learner, outline.measured()).await?,
            rollouts: rollouts(store, learner, archive).await?,
            ..outline
        })
    }

    /// Reads settings, results and evaluations of a run's own learner, and nothing else: neither plans,
    /// nor other learners, nor rollouts.
    pub(crate) async fn outline(folder: &Path, store: &Store) -> Result<Self> {
        let config = folder.join("config.toml");
        let text = fs::read_to_string(&config).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Folder {
                path: folder.to_owned(),
                reason: "is no run's folder: it has no config.toml; name the --out of a run"
                    .to_owned(),
            },
            _ => Error::Io {
                attempted: "read",
                path: config.clone(),
                source,
            },
        })?;
        let settings = read_recorded(&text).map_err(|error| damaged(&config, &error))?;
        let setting = |name: &str| setting(&settings, name).map(str::to_owned);
        let learner = match setting("learner.name") {
            Some(name) => name,
            None => first_below(store, "results").await?,
        };
        let policy = setting("learner.policy").unwrap_or_else(|| learner.clone());
        let name = setting("run").filter(|name| name != "run");
        let folder_name = folder.canonicalize().ok();
        let folder_name = folder_name.as_deref().and_then(Path::file_name);
        Ok(Self {
            name: name
                .or_else(|| folder_name.map(|name| name.to_string_lossy().into_owned()))
                .unwrap_or_else(|| "run".to_owned()),
            results: numbered(store, &format!("results/{learner}")).await?,
            evaluations: numbered(store, &format!("evaluations/{policy}")).await?,
            learner,
            settings,
            summary: read_summary(folder)?,
            rejected: BTreeMap::new(),
            learners: Vec::new(),
            rollouts: Err("only an outline of the run was read".to_owned()),
        })
    }
}

async fn rollouts(
    store: &Store,
    learner: &str,
    archive: std::result::Result<&Reader, String>,
) -> Result<std::result::Result<Rollouts, String>> {
    let reader = match archive {
        Ok(reader) => reader,
        Err(reason) => return Ok(Err(reason)),
    };
    let none = || {
        "there is no archive of this run's rollouts: no archive role has committed a file yet"
            .to_owned()
    };
    Ok(read(store, learner, reader).await?.ok_or_else(none))
}

fn setting<'a>(settings: &'a [Recorded], name: &str) -> Option<&'a str> {
    let mut settings = settings.iter();
    let found = settings.find(|setting| setting.key.to_string() == name)?;
    Some(found.value.trim_matches('"'))
}

async fn count_rejections(store: &Store, prefix: &str) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for plan in numbered::<PlanRejections>(store, prefix).await? {
        for rejection in plan.rejections {
            *counts.entry(rejection.reason).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Returns the name of the first folder below a prefix; empty if there is none.
async fn first_below(store: &Store, prefix: &str) -> Result<String> {
    let paths = store.list(prefix).await?;
    let first = paths.iter().find_map(|path| {
        let below = path.strip_prefix(prefix)?.strip_prefix('/')?;
        below.split_once('/').map(|(name, _)| name.to_owned())
    });
    Ok(first.unwrap_or_default())
}
