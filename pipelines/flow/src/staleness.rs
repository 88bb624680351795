//! Entry point of `vintage staleness`: archived groups recomputed under later versions, as far as
//! these are in the store.

mod archived;
mod batch;
mod fresh;
mod gradients;
mod planned;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vintage_ages::{
    AgeFigures, Ages, Answer, Bounds, Chosen, DISCARDING, Group, Loss, Rollout, answer, choose,
};
use vintage_archive::Reader;
use vintage_control::{AlgorithmName, Name, PolicyVersion, UpdateNumber};
use vintage_learner::{baseline, rule};
use vintage_mismatch::{Row, recompute};
use vintage_model::Decoder;
use vintage_report::AgesPage;
use vintage_settings::RunConfig;
use vintage_store::Weights;

use self::{
    archived::{Archived, Rewarded},
    fresh::Fresh,
    gradients::Compared,
    planned::Planned,
};
pub use vintage_ages::{AgeDirections, Estimate, LossDirection};

pub use self::gradients::{GradientsReport, GradientsRequest, MeasuredReference};
use crate::{
    archive_source::archive_of_run,
    decoders::{Decoders, blocking},
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::open_store,
    learner_of::learner_of,
    replay::listed,
};

/// Groups to recompute.
#[derive(Debug, Clone)]
pub struct StalenessRequest {
    /// Folder of the run.
    pub folder: PathBuf,
    /// Learner whose policy sampled the groups; `None` for the lead.
    pub learner: Option<Name>,
    /// Largest number of groups to recompute at each staleness.
    pub groups: usize,
    /// Number of versions under which groups of one staleness are recomputed.
    pub versions: usize,
    /// Gradients of losses to compute on the groups; `None` for none.
    pub gradients: Option<GradientsRequest>,
    /// File for a page with charts; `None` for no page.
    pub page: Option<PathBuf>,
}

/// Distance of a run's versions from the rollouts of its archive, by staleness.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StalenessReport {
    /// Policy that sampled and was trained.
    pub policy: Name,
    /// Loss that the run trains by.
    pub algorithm: AlgorithmName,
    /// Answer in one sentence.
    pub answer: Answer,
    /// Number of groups of the policy in the archive.
    pub archived_groups: u64,
    /// Versions under which groups were recomputed.
    pub versions: Vec<PolicyVersion>,
    /// Largest number of groups in a batch: those of an update.
    pub groups_per_batch: u64,
    /// Figures by staleness.
    pub ages: Vec<AgeFigures>,
    /// Direction of the losses' gradients, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradients: Option<GradientsReport>,
    /// Number of archived groups that could not be recomputed, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Page that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PathBuf>,
}

/// Recomputes archived groups of each staleness under versions that the store has. The groups and
/// versions depend on archive and store alone. Nothing is trained, and nothing written but the page.
///
/// # Errors
/// No run, no archive, or no group that is older than a version in the store.
pub async fn staleness(
    request: &StalenessRequest,
    stop: &CancellationToken,
    events: &Events,
) -> Result<StalenessReport> {
    tokio::select! {
        report = measure(request, events) => report,
        () = stop.cancelled() => Err(Error::Interrupted),
    }
}

async fn measure(request: &StalenessRequest, events: &Events) -> Result<StalenessReport> {
    let folder = &request.folder;
    let store = open_store(folder)?;
    let learner = learner_of(folder, &store, request.learner.as_ref()).await?;
    let config = vintage_config::read(&learner.config)?;
    let policy = config.learner.policy.clone();
    let (reader, is_anothers) = archive_of_run(&config, &store, true).await?;
    if is_anothers {
        return Err(refuse(
            folder,
            format!(
                "trains on the archive of another run, {}: versions are counted within the run that \
                 sampled, so name that run",
                config.learner.archive.as_deref().unwrap_or_default()
            ),
        ));
    }
    let weights = Weights::new(store, policy.clone());
    let there = weights.versions().await?;
    let _nobody_listens = events.send(RunEvent::Phase("reading the archive's headers".to_owned()));
    let mut archived = Archived::read(&reader, &policy).await?;
    let bounds = Bounds {
        groups: request.groups,
        versions: request.versions,
    };
    let planned = request.gradients.as_ref();
    let planned = planned.map(|of| (Planned::of(of, &config), of));
    let chosen = match &planned {
        Some((planned, of)) => {
            let cost = planned.cost;
            cost.choose_within(&archived.sampled, &there, bounds, of.passes)
        }
        None => choose(&archived.sampled, &there, bounds),
    };
    if chosen.iter().all(|of| of.age == 0) {
        return Err(refuse(folder, nothing_older(&archived, &policy, &there)));
    }
    let groups_per_batch = config.learner.prompts_per_update;
    let mut ages = Ages::new(losses(&config), groups_per_batch);
    let decoders = Decoders::open(&weights, config.learner.compute).await?;
    let compared = match planned {
        Some((planned, of)) => {
            let passes = planned.affordable(&chosen, of)?;
            let wanted = choose(&archived.sampled, &there, bounds);
            let phase = RunEvent::Phase(planned.announcement(&chosen, &wanted));
            let _nobody_listens = events.send(phase);
            let (weights, limits) = (weights.clone(), decoders.limits());
            let sampler = Fresh::open(&config, weights, chosen[0].version, of.seed, limits);
            Some(Compared::start(planned, sampler.await?, passes, events))
        }
        None => None,
    };
    let mut run = Run {
        folder,
        reader: &reader,
        decoders,
        compared,
        events,
    };
    run.recompute(&mut archived, &chosen, &mut ages).await?;
    let gradients = match run.compared {
        Some(compared) => {
            let found = compared.finish(config.algorithm).await;
            if found.ages.is_empty() {
                return Err(refuse(folder, no_gradient(&found)));
            }
            Some(found)
        }
        None => None,
    };
    let ages = ages.figures();
    let threshold = config.m2po.threshold;
    let Some(answer) = answer(&ages, threshold, config.algorithm) else {
        let why = listed(archived.left_out.keys());
        return Err(refuse(
            folder,
            format!("has no archived group of policy {policy} that can be recomputed: {why}"),
        ));
    };
    let versions: BTreeSet<_> = ages
        .iter()
        .flat_map(|of| of.batches.iter().map(|batch| batch.version))
        .collect();
    let report = StalenessReport {
        policy,
        algorithm: config.algorithm,
        answer,
        archived_groups: archived.sampled.len() as u64,
        versions: versions.into_iter().collect(),
        groups_per_batch: groups_per_batch as u64,
        ages,
        gradients,
        left_out: archived.left_out,
        page: request.page.clone(),
    };
    if let Some(to) = &request.page {
        let page = AgesPage {
            run: config.run.as_str(),
            algorithm: config.algorithm,
            answer: &report.answer,
            ages: &report.ages,
            gradients: report.gradients.as_ref().map(GradientsReport::shown),
        };
        page.write(to)?;
    }
    Ok(report)
}

/// Everything that recomputing reads.
struct Run<'a> {
    folder: &'a Path,
    reader: &'a Reader,
    decoders: Decoders<'a>,
    /// Gradients, if they are asked for.
    compared: Option<Compared>,
    events: &'a Events,
}

impl Run<'_> {
    /// Recomputes what was chosen, version by version, so that each is fetched once.
    async fn recompute(
        &mut self,
        archived: &mut Archived,
        chosen: &[Chosen],
        ages: &mut Ages,
    ) -> Result<()> {
        let of = chosen.iter().map(|of| of.groups.len() as u64).sum();
        let mut done = 0;
        for of_version in chosen.chunk_by(|a, b| a.version == b.version) {
            let version = of_version[0].version;
            let mut decoder = self.decoders.decoder(version).await?;
            if let Some(compared) = &mut self.compared {
                decoder = compared.sample(version, decoder).await?;
            }
            for chosen in of_version {
                let mut groups = Vec::with_capacity(chosen.groups.len());
                for &at in &chosen.groups {
                    let limits = self.decoders.limits();
                    let rows = archived.rows(self.reader, at, limits).await?;
                    if let Some(rows) = rows {
                        let scored = blocking(move || Ok((score(&decoder, rows)?, decoder)));
                        let ((rows, rollouts), back) = scored.await?;
                        decoder = back;
                        let sampled = &archived.sampled[at];
                        let group = Group {
                            id: sampled.id.clone(),
                            oldest: sampled.oldest,
                            rollouts,
                        };
                        groups.push((group, rows));
                    }
                    done += 1;
                    let _nobody_listens =
                        self.events.send(RunEvent::Recomputed { version, done, of });
                }
                let scored = groups.iter().map(|(group, _)| group.clone()).collect();
                ages.add(chosen.age, version, scored)
                    .map_err(|error| refuse(self.folder, error.to_string()))?;
                if let Some(compared) = &mut self.compared {
                    decoder = compared
                        .compare(chosen.age, version, groups, decoder)
                        .await?;
                }
            }
        }
        Ok(())
    }
}

/// Computes the log-probs of a group's rollouts under a version. Returns their tokens, too.
fn score(decoder: &Decoder, rows: Vec<Rewarded>) -> Result<(Vec<Row>, Vec<Rollout>)> {
    let parts: Vec<_> = rows.iter().map(|rewarded| &rewarded.row).collect();
    let scores = recompute(decoder, &parts)?;
    let rollouts = rows.into_iter().zip(scores);
    Ok(rollouts
        .map(|(Rewarded { row, reward }, new)| {
            let rollout = Rollout {
                reward,
                behavior: row.reported.clone(),
                new,
                trained: row.sampled.clone(),
            };
            (row, rollout)
        })
        .unzip())
}

/// Returns the losses that discard tokens.
fn losses(config: &RunConfig) -> Vec<Loss> {
    DISCARDING
        .into_iter()
        .map(|name| loss(config, name))
        .collect()
}

/// Returns a loss: the run's own has its settings, the others have their defaults.
fn loss(config: &RunConfig, name: AlgorithmName) -> Loss {
    let defaults = RunConfig {
        algorithm: name,
        ..RunConfig::default()
    };
    let mut algorithm = if config.algorithm == name {
        config.algorithm()
    } else {
        defaults.algorithm()
    };
    if name == AlgorithmName::M2po {
        algorithm.m2_threshold = config.m2po.threshold;
    }
    Loss {
        name,
        // A bound that grows with the updates is the one of the last.
        rule: rule(
            &algorithm,
            UpdateNumber(config.learner.steps.saturating_sub(1)),
        ),
        baseline: baseline(&algorithm),
        clamp: algorithm.log_ratio_clamp,
    }
}

/// Says why no loss was compared with an on-policy gradient.
fn no_gradient(found: &GradientsReport) -> String {
    let groups = found.references.first().map_or(0, |of| of.groups);
    format!(
        "has no version with an on-policy gradient: in all but one batch of the {groups} groups that each \
         version sampled, the rollouts of a prompt have one reward; --fresh takes more groups"
    )
}

/// Says why no group is older than a version in the store.
fn nothing_older(archived: &Archived, policy: &Name, there: &[PolicyVersion]) -> String {
    let versions = archived.sampled.iter().map(|group| group.oldest);
    let (Some(oldest), Some(newest)) = (versions.clone().min(), versions.max()) else {
        let others = archived.others.iter();
        let others = others.map(|(policy, groups)| format!("{groups} of policy {policy}"));
        let reasons = archived.left_out.iter();
        let reasons = reasons.map(|(reason, groups)| format!("{groups} {reason}"));
        return format!(
            "has no archived group that policy {policy} sampled (other groups there: {}); --name names \
             the learner whose policy did",
            listed(others.chain(reasons))
        );
    };
    format!(
        "has no archived group that is older than a version still in the store: the groups are of \
         versions {oldest} to {newest} of policy {policy}, and the store has {} of it. Versions stay \
         there if learner.keep_versions is above the staleness to look at, and one in \
         evaluation.every stays in any case",
        listed(there)
    )
}

fn refuse(folder: &Path, reason: String) -> Error {
    Error::Folder {
        path: folder.to_owned(),
        reason,
    }
}
