//! Producer of a run, on threads of its own.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, OnceLock, mpsc::Sender},
    thread::{self, JoinHandle},
};

use tokio::{runtime::Runtime, sync::mpsc};
use tokio_util::sync::CancellationToken;
use vintage_config::{Layers, Resolved};
use vintage_flow::{
    Events, RunEvent, config_file,
    roles::{self, Program, SettingsOf},
};
use vintage_rollout::{ProducerEvent, ProducerSummary};
use vintage_settings::RunConfig;

use crate::job::layered;

/// Arguments with which a Python program opens a writer.
pub(crate) struct Opening {
    /// Folder of the run.
    pub(crate) out: PathBuf,
    /// File of settings.
    pub(crate) config: Option<PathBuf>,
    /// Settings over those of the run and the file, as `section.key=value`.
    pub(crate) settings: Vec<String>,
    /// Settings in which this producer may differ from its run.
    pub(crate) accept: Vec<String>,
    /// Name, desk and reward.
    pub(crate) program: Program,
}

/// Message to the Python program, other than slots.
pub(crate) enum News {
    /// The log has acknowledged a group.
    Published {
        group: String,
        partition: i32,
        offset: i64,
        seq: u64,
    },
    /// A group got no reward.
    Failed { group: String, detail: String },
    /// Warning to the user, or the reason for which the producer stands still.
    Warning(String),
}

/// Outcome of a producer, once it has ended.
pub(crate) type Ended = Arc<OnceLock<Result<ProducerSummary, vintage_flow::Error>>>;

/// Starts the producer; both channels are closed when it has ended, after `ended` was set.
pub(crate) fn start(
    opening: Opening,
    (news, running): (Sender<News>, Sender<()>),
    stop: CancellationToken,
    ended: Ended,
) -> io::Result<JoinHandle<()>> {
    let runtime = Runtime::new()?;
    let builder = thread::Builder::new().name("vintage-writer".to_owned());
    builder.spawn(move || {
        let desk = opening.program.desk.clone();
        let outcome = runtime.block_on(produce(opening, news.clone(), &stop));
        let _only_here = ended.set(outcome);
        desk.end();
        drop((news, running));
    })
}

async fn produce(
    opening: Opening,
    news: Sender<News>,
    stop: &CancellationToken,
) -> Result<ProducerSummary, vintage_flow::Error> {
    let (events, heard) = mpsc::unbounded_channel();
    let telling = tokio::spawn(tell(heard, news));
    let outcome = Box::pin(open(opening, stop, &events)).await;
    drop(events);
    telling
        .await
        .map_err(|error| vintage_flow::Error::Bug(format!("the teller of events: {error}")))?;
    outcome
}

async fn open(
    opening: Opening,
    stop: &CancellationToken,
    events: &Events,
) -> Result<ProducerSummary, vintage_flow::Error> {
    let Opening {
        out,
        config,
        settings,
        accept,
        program,
    } = opening;
    let resolve = || -> Result<Resolved<RunConfig>, vintage_flow::Error> {
        let recorded = config_file(&out);
        let mut base = Layers::new();
        if recorded.is_file() {
            base = base.recorded(&recorded)?;
        }
        Ok(layered(base, config.as_deref(), &settings)?.resolve()?)
    };
    let own = resolve()?;
    let resolved = match roles::await_settings(&own, &out, stop, events).await? {
        SettingsOf::Lead => resolve()?,
        SettingsOf::Role => own,
    };
    let (summary, _) = roles::rollout_by(&program, &resolved, &out, &accept, stop, events).await?;
    Ok(summary)
}

/// Passes on what a Python program hears of its producer.
async fn tell(mut heard: mpsc::UnboundedReceiver<RunEvent>, news: Sender<News>) {
    while let Some(event) = heard.recv().await {
        let told = match event {
            RunEvent::Producer(ProducerEvent::Published {
                group,
                partition,
                offset,
                seq,
                ..
            }) => News::Published {
                group: group.to_string(),
                partition: partition.0,
                offset: offset.0,
                seq,
            },
            RunEvent::Producer(ProducerEvent::RewardFailed { group, detail, .. }) => News::Failed {
                group: group.to_string(),
                detail,
            },
            RunEvent::Standstill(text) | RunEvent::Warning(text) => News::Warning(text),
            _ => continue,
        };
        let _closed = news.send(told);
    }
}
