//! Construction of a learner and of everything it reads.

use std::collections::BTreeSet;

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use vintage_archive::Reader;
use vintage_control::{Name, PartitionResume, PolicyVersion};
use vintage_learner::{
    Devices, Durability, Inputs, Leader, Learner, LearnerEvent, LearnerSettings, LearnerSummary,
    NoOtherPolicies, OtherPolicies, Outlet, RolloutSource, trainer::model_config,
};
use vintage_model::BaseModel;
use vintage_settings::{RunConfig, SourceKind};
use vintage_store::Weights;

use super::{
    evaluator::{Evaluations, is_evaluated},
    granter,
};
use crate::{
    announcements::Announcements,
    archive_source::{ArchiveSource, archive_of, check_tokenizer},
    broker::Log,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::RunFolder,
    handoff::HandOff,
    start::{StartSources, decide},
};

/// Inputs of one learner process.
pub(crate) struct LearnerParts<'a> {
    /// Settings of the learner and of its run.
    pub(crate) config: &'a RunConfig,
    /// Folder and store of the run.
    pub(crate) folder: &'a RunFolder,
    /// Broker and topics; `None` trains from an archive alone.
    pub(crate) log: Option<&'a Log>,
    /// Receiver of events, announcements and mirrors.
    pub(crate) outlet: Outlet,
    /// Resume points that another learner's plans give; `None` follows `learner.start`.
    pub(crate) start: Option<Vec<PartitionResume>>,
    /// Condition under which a record counts as durable.
    pub(crate) durability: Box<dyn Durability>,
    /// Plans of another learner that are followed.
    pub(crate) leader: Option<Box<dyn Leader>>,
    /// Producers that have certainly ended; `None` for a learner that grants no slots. Only the lead
    /// of a live log does.
    pub(crate) grants: Option<BTreeSet<String>>,
    /// Listener that hears of the producers that the lead grants to.
    pub(crate) events: &'a Events,
    /// Devices that updates may be computed on.
    pub(crate) devices: &'static dyn Devices,
}

/// Learner with its inputs, and its granter of slots if it leads a live log.
pub(crate) struct WiredLearner {
    learner: Learner,
    inputs: Inputs,
    granter: Option<JoinHandle<Result<()>>>,
}

impl WiredLearner {
    /// Trains to the end, until `stop`, or until the granter fails.
    pub(crate) async fn run(self, stop: &CancellationToken) -> Result<LearnerSummary> {
        let stop = stop.child_token();
        let granting = self.granter.map(|task| {
            let stop = stop.clone();
            tokio::spawn(async move {
                // It ends before the learner only if it fails.
                let _stop = stop.drop_guard();
                task.await.map_err(Error::panicked("the granter"))?
            })
        });
        // Once the learner has ended, so does the granter.
        let learned = self.learner.run(self.inputs, &stop).await;
        if let Some(granting) = granting {
            granting.await.map_err(Error::panicked("the granter"))??;
        }
        Ok(learned?)
    }
}

/// Opens the learner at its newest checkpoint, and its sources at the resume points after it.
pub(crate) async fn open(parts: LearnerParts<'_>) -> Result<WiredLearner> {
    let LearnerParts {
        config,
        folder,
        log,
        outlet,
        start,
        durability,
        leader,
        grants,
        events,
        devices,
    } = parts;
    let granting = match (log, grants) {
        (Some(log), Some(ended)) if config.learner.source != SourceKind::Archive => {
            Some((log, ended))
        }
        _ => None,
    };
    let (report, progress) = mpsc::unbounded_channel();
    let outlet = if granting.is_some() {
        outlet.with_granter(report)
    } else {
        outlet
    };
    let name = &config.learner.name;
    let weights = folder.weights(&config.learner.policy);
    let records = folder.records(name);
    check_tokenizer(config, &weights).await?;
    let archives = Archives::open(config, folder).await?;
    let mut settings = settings(config, &weights, archives.blended.as_ref()).await?;
    let waits = granting.is_some() && config.gate.exact.is_none();
    settings.max_staleness = waits.then_some(config.gate.max_staleness);
    let start = if let Some(start) = start {
        start
    } else {
        let reader = &archives.own;
        let places = StartSources { reader, log };
        decide(&records, name, &config.learner.start, &places).await?
    };
    let learner = Learner::open(
        settings,
        writer(name),
        records,
        weights,
        outlet,
        &start,
        devices,
    )
    .await?;
    let resume = learner.resume_points();
    let source: Box<dyn RolloutSource> = match log {
        Some(log) => Box::new(HandOff::open(log, &archives.own, &resume).await?),
        None => Box::new(ArchiveSource::recorded(&archives.own, &resume).await?),
    };
    let mut inputs = Inputs::new(source, durability);
    inputs.blended = archives.blended(&learner).await?;
    inputs.other_policies = other_policies(config, log).await?;
    inputs.leader = leader;
    let granter = match granting {
        Some((log, ended)) => {
            let archive = &archives.own;
            let parts = granter::GranterParts {
                config,
                log,
                archive,
                learner: &learner,
                ended,
                progress,
                events: events.clone(),
            };
            Some(granter::start(parts).await?)
        }
        None => None,
    };
    Ok(WiredLearner {
        learner,
        inputs,
        granter,
    })
}

/// Starts a task that forwards a learner's events, and sends versions to be evaluated to the
/// evaluator. The task ends when the returned sender is dropped.
pub(crate) fn forward(
    config: &RunConfig,
    events: Events,
    evaluations: Evaluations,
) -> (mpsc::UnboundedSender<LearnerEvent>, JoinHandle<()>) {
    let (tell, mut reported) = mpsc::unbounded_channel();
    let (every, steps) = (config.evaluation.every, config.learner.steps);
    let forwarding = tokio::spawn(async move {
        while let Some(event) = reported.recv().await {
            if let (LearnerEvent::Published(version), Some(evaluations)) = (&event, &evaluations)
                && is_evaluated(*version, every, steps)
            {
                let _evaluator_failed = evaluations.send(*version);
            }
            let _nobody_listens = events.send(RunEvent::Learner(event));
        }
    });
    (tell, forwarding)
}

/// Returns the settings of the learner, which takes a share of its groups from `blended`.
async fn settings(
    config: &RunConfig,
    weights: &Weights,
    blended: Option<&Reader>,
) -> Result<LearnerSettings> {
    let model = model_config(weights).await?;
    let every = config.evaluation.every;
    let other_archive =
        config.learner.source == SourceKind::Archive && config.learner.archive.is_some();
    Ok(LearnerSettings {
        run: (!other_archive).then(|| config.run.clone()),
        pin_every: if every > 0 { every } else { u64::MAX },
        base_model: Some(base_model(config, weights)?),
        blended: blended.map(|archive| archive.topic().to_owned()),
        ..LearnerSettings::new(
            config.learner.clone(),
            config.seed,
            config.algorithm(),
            model.max_position_embeddings,
            model.vocab_size,
        )
    })
}

/// Returns the name of version 0 as a base model: the model's own name or folder if one is
/// configured, else the location of its weights in the run's store.
fn base_model(config: &RunConfig, weights: &Weights) -> Result<BaseModel> {
    let path = config.model.path.as_deref();
    let named = path.map_or(Ok(None), BaseModel::of)?;
    Ok(named.unwrap_or_else(|| BaseModel {
        name_or_path: weights.location(PolicyVersion::ZERO),
        revision: None,
    }))
}

/// Returns a name for this learner process, unique among the writers of its plans.
fn writer(learner: &Name) -> String {
    format!(
        "{learner}-{}-{}",
        std::process::id(),
        uuid::Uuid::now_v7().simple()
    )
}

/// Opens the announcements of other policies, by which the learner judges the rollouts of those
/// policies that it reads from the log. Opens none if it trains on its own policy alone.
async fn other_policies(config: &RunConfig, log: Option<&Log>) -> Result<Box<dyn OtherPolicies>> {
    let learner = &config.learner;
    let own_alone = learner.trained_policies() == [learner.policy.clone()];
    match log {
        Some(log) if !own_alone => {
            let client = format!("learner-{}", learner.name);
            Ok(Box::new(Announcements::open(log, &client).await?))
        }
        _ => Ok(Box::new(NoOtherPolicies)),
    }
}

/// Archives that a learner reads.
struct Archives {
    /// Archive that is read before the log, or alone with `source = "archive"`.
    own: Reader,
    /// Archive of another run that gives a share of every update's groups.
    blended: Option<Reader>,
}

impl Archives {
    async fn open(config: &RunConfig, folder: &RunFolder) -> Result<Self> {
        let of_run = Reader::new(folder.archive(), &config.topic_names().rollouts());
        Ok(match config.learner.source {
            SourceKind::Log => Self {
                own: of_run,
                blended: None,
            },
            SourceKind::Archive => Self {
                own: archive_of(config).await?.unwrap_or(of_run),
                blended: None,
            },
            SourceKind::Blend | SourceKind::Hybrid => Self {
                own: of_run,
                blended: archive_of(config).await?,
            },
        })
    }

    /// Opens the blended archive at the learner's resume points; returns `None` without one.
    async fn blended(&self, learner: &Learner) -> Result<Option<Box<dyn RolloutSource>>> {
        let Some(reader) = &self.blended else {
            return Ok(None);
        };
        let resume = learner.blended_resume_points();
        let source = ArchiveSource::recorded(reader, &resume).await?;
        Ok(Some(Box::new(source)))
    }
}
