//! Construction of a run's archive sink.

use std::time::Duration;

use vintage_archive::{SinkLimits, SinkOptions};
use vintage_settings::RunConfig;

use crate::{broker::Log, folder::RunFolder};

/// Options of the sink that archives a run's rollouts.
pub(crate) fn options(config: &RunConfig, folder: &RunFolder, log: &Log) -> SinkOptions {
    let mut options = SinkOptions::new(folder.archive(), &log.topics.rollouts(), log.incarnation);
    options.limits = SinkLimits {
        file_bytes: config.archive.roll_bytes as usize,
        file_age: Duration::from_secs_f64(config.archive.roll_seconds),
        ..options.limits
    };
    options.patience = Duration::from_secs_f64(config.archive.patience_seconds);
    options
}
