//! Construction of a run's archive sink.

use std::time::Duration;

use tokio::task::JoinHandle;
use vintage_archive::{Sink, SinkHandle, SinkLimits, SinkOptions, SinkSummary};
use vintage_bus::Bus;
use vintage_settings::RunConfig;

use crate::{archive_source::ends, broker::Log, error::Result, folder::RunFolder};

/// Surroundings of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// The run's learner, which writes to the same store and waits for it as long.
    Learner {
        /// Longest time to wait for the store.
        patience: Duration,
    },
    /// Other sinks at most, in processes of their own; `accept_gap` passes over records that
    /// retention deleted unarchived.
    Sinks {
        /// Passes over records that retention deleted unarchived.
        accept_gap: bool,
    },
}

/// Starts the sink that archives a run's rollouts.
pub(crate) async fn start(
    config: &RunConfig,
    folder: &RunFolder,
    log: &Log,
    beside: Beside,
) -> Result<(SinkHandle, JoinHandle<vintage_archive::Result<SinkSummary>>)> {
    let mut options = SinkOptions::new(folder.archive(), &log.topics.rollouts(), log.incarnation);
    options.limits = SinkLimits {
        file_bytes: config.archive.roll_bytes as usize,
        file_age: Duration::from_secs_f64(config.archive.roll_seconds),
        ..options.limits
    };
    match beside {
        Beside::Learner { patience } => options.patience = patience,
        Beside::Sinks { accept_gap } => {
            options.patience = Duration::from_secs_f64(config.archive.patience_seconds);
            options.accept_gap = accept_gap;
            options.group = config.archive.group.clone();
        }
    }
    Ok(Sink::start(options, &log.bus).await?)
}

/// Waits until the sink has committed every record that the topic holds now.
pub(crate) async fn drain(sink: &SinkHandle, bus: &Bus, topic: &str) -> Result<()> {
    Ok(sink.drain_up_to(ends(bus, topic).await?).await?)
}
