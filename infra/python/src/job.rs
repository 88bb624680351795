//! Learner of a run, on threads of its own.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Sender},
    thread::{self, JoinHandle},
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use vintage_config::{Key, Layers, Resolved};
use vintage_control::{AlgorithmName, Name, PolicyVersion};
use vintage_flow::{Events, RunEvent, config_file, open_store, roles, run_on, write_report};
use vintage_learner::{LearnerEvent, fingerprint};
use vintage_settings::{RunConfig, SourceKind};
use vintage_store::Weights;

use crate::engine::{News, PythonDevices};

/// Arguments with which a Python program opens a learner.
pub(crate) struct Opening {
    /// Folder of the run.
    pub(crate) out: PathBuf,
    /// Name of a follower; `None` is the lead.
    pub(crate) name: Option<Name>,
    /// Learner whose plans are followed.
    pub(crate) follow_plans: Option<Name>,
    /// File of settings.
    pub(crate) config: Option<PathBuf>,
    /// Settings over those of the run and the file, as `section.key=value`.
    pub(crate) settings: Vec<String>,
    /// Libraries that compute, with their versions.
    pub(crate) libraries: String,
    /// Device that computes, as its library calls it.
    pub(crate) device: String,
}

/// Ends of the channels between a learner and the Python program.
#[derive(Clone)]
pub(crate) struct Channels {
    pub(crate) news: Sender<News>,
    /// True while the program waits for an update.
    pub(crate) wanted: Arc<watch::Sender<bool>>,
    pub(crate) stop: CancellationToken,
}

/// Outcome of a learner.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Number of updates done, over all processes of the learner.
    pub(crate) updates: u64,
    /// True if all updates are done.
    pub(crate) finished: bool,
    /// Summary of the run or of the role, as the verbs print it.
    pub(crate) summary: serde_json::Value,
}

/// Starts the learner.
pub(crate) fn start(opening: Opening, channels: Channels) -> io::Result<JoinHandle<()>> {
    let runtime = Runtime::new()?;
    let builder = thread::Builder::new().name("vintage-learner".to_owned());
    builder.spawn(move || {
        let outcome = runtime.block_on(train(opening, &channels));
        let _closed = channels.news.send(News::Ended(Box::new(outcome)));
    })
}

async fn train(opening: Opening, channels: &Channels) -> Result<Outcome, vintage_flow::Error> {
    let (events, heard) = mpsc::unbounded_channel();
    let telling = tokio::spawn(tell(heard, channels.news.clone()));
    let outcome = Box::pin(open(opening, channels, &events)).await;
    drop(events);
    telling
        .await
        .map_err(|error| vintage_flow::Error::Bug(format!("the teller of events: {error}")))?;
    outcome
}

/// Trains as the only learner of an embedded log with all roles beside it, else as a role.
async fn open(
    opening: Opening,
    channels: &Channels,
    events: &Events,
) -> Result<Outcome, vintage_flow::Error> {
    let Channels { news, wanted, stop } = channels;
    let fingerprint = fingerprint::of_torch(&opening.libraries, &opening.device);
    // Lives as long as the process: one small value for each learner that a program opens.
    let devices = PythonDevices::new(fingerprint, news.clone(), Arc::clone(wanted));
    let devices: &'static PythonDevices = Box::leak(Box::new(devices));
    let Opening {
        out,
        name,
        follow_plans,
        config,
        settings,
        ..
    } = opening;
    if let Some(name) = &name {
        roles::await_run(&out, name, stop, events).await?;
    }
    let base = roles::learner_base(&out, name.as_ref(), follow_plans.as_ref())?;
    let resolved = resolve(base, config.as_deref(), &settings, follow_plans.as_ref())?;
    refuse(&resolved.config)?;
    let learner = &resolved.config.learner;
    let alone = name.is_none() && learner.source != SourceKind::Archive;
    if alone && resolved.config.broker == "embedded" && learner.follow_plans.is_none() {
        let summary = run_on(devices, &resolved, &out, &[], stop, events).await?;
        write_report(&out).await?;
        return Ok(Outcome {
            updates: summary.updates,
            finished: summary.finished,
            summary: serde_json::json!(summary),
        });
    }
    let (summary, _) = roles::learn_on(devices, &resolved, &out, &[], stop, events).await?;
    Ok(Outcome {
        updates: summary.version.0,
        finished: summary.finished,
        summary: serde_json::json!({
            "version": summary.version,
            "groups_trained": summary.groups_trained,
            "groups_rejected": summary.groups_rejected,
            "finished": summary.finished,
            "ended": summary.ended,
        }),
    })
}

fn resolve(
    base: Layers,
    config: Option<&Path>,
    settings: &[String],
    follow_plans: Option<&Name>,
) -> Result<Resolved<RunConfig>, vintage_flow::Error> {
    let mut layers = layered(base, config, settings)?;
    if let Some(leader) = follow_plans {
        let key = Key::new(["learner", "follow_plans"]);
        layers = layers.flag("follow_plans", &key, leader);
    }
    Ok(layers.resolve()?)
}

/// Adds a file of settings, those of the environment, and single ones to layers of settings.
pub(crate) fn layered(
    base: Layers,
    config: Option<&Path>,
    settings: &[String],
) -> Result<Layers, vintage_config::ConfigError> {
    let mut layers = base;
    if let Some(file) = config {
        layers = layers.file(file)?;
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    layers = layers.env(variables);
    for text in settings {
        layers = layers.set(text)?;
    }
    Ok(layers)
}

/// Algorithms that a batch in Python is weighed by.
const WEIGHED: [AlgorithmName; 5] = [
    AlgorithmName::M2po,
    AlgorithmName::M2poAreal,
    AlgorithmName::M2poFork,
    AlgorithmName::Grpo,
    AlgorithmName::None,
];

/// Refuses settings that ask for what an engine outside this program cannot do.
fn refuse(config: &RunConfig) -> Result<(), vintage_flow::Error> {
    let (setting, reason) = if config.learner.lora.rank.is_some() {
        (
            "learner.lora.rank",
            "adapters are trained by the learner in Rust alone: unset it, and train all weights, \
             or use `vintage learn`",
        )
    } else if config.learner.device != vintage_settings::Device::Cpu {
        (
            "learner.device",
            "it is for the learner in Rust: leave it at cpu here, and put the PyTorch model on \
             the device of your choice",
        )
    } else if !WEIGHED.contains(&config.algorithm) || !config.m2po.scope.is_batch() {
        (
            "algorithm",
            "PyTorch trains by m2po, m2po_areal, m2po_fork, grpo and none, over the whole batch: set \
             one of them and m2po.scope = \"batch\", or use `vintage learn`",
        )
    } else if !config.algorithm().loss.is_empty() {
        (
            "loss",
            "its settings are for the learner in Rust: leave them out here, or use `vintage learn`",
        )
    } else if config.learner.reuse > 1
        || config.learner.kl.beta > 0.0
        || config.learner.reincarnation.at.is_some()
    {
        (
            "learner.reuse",
            "with learner.kl and learner.reincarnation it is for the learner in Rust: leave all \
             three out here; learner.replay is there",
        )
    } else {
        return Ok(());
    };
    Err(vintage_flow::Error::Setting {
        setting: setting.to_owned(),
        reason: reason.to_owned(),
    })
}

/// Passes on what a Python program hears of a run.
async fn tell(mut heard: mpsc::UnboundedReceiver<RunEvent>, news: Sender<News>) {
    while let Some(event) = heard.recv().await {
        let told = match event {
            RunEvent::Learner(LearnerEvent::Updated(result)) => News::Done(result),
            RunEvent::Standstill(text) | RunEvent::Warning(text) => News::Warning(text),
            _ => continue,
        };
        let _closed = news.send(told);
    }
}

/// Reads `config.json` of the model of the run in `out`.
pub(crate) fn model_config(out: &Path) -> Result<String, vintage_flow::Error> {
    let starting = |error: io::Error| vintage_flow::Error::Bug(format!("a runtime: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(starting)?;
    let policy = vintage_config::read(&config_file(out))?.learner.policy;
    let weights = Weights::new(open_store(out)?, policy);
    let found = runtime.block_on(weights.fetch_file(PolicyVersion::ZERO, "config.json"))?;
    let bytes = found.ok_or(vintage_learner::Error::NoModelConfig)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
