//! Entry of a role into a run: checks of its inputs, then the shared folder and log.

use std::path::Path;

use tokio_util::sync::CancellationToken;
use vintage_config::Resolved;
use vintage_settings::RunConfig;

use crate::{
    broker::Log,
    error::{Error, Result},
    folder::{RunFolder, config_file},
    preflight,
    prepared::Prepared,
    standstill::watch::Watch,
};

/// Inputs that a role reads from its user besides the settings; decides which checks run at start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Broker only.
    Log,
    /// Broker, prompts and model.
    Prompts,
    /// Broker, prompts and model, and the role trains on the sampled batches.
    Batches,
}

/// Checks the inputs of a role, and opens the folder and the log that it shares. Returns the inputs
/// as well if they were checked, which is before the run's settings exist.
pub(super) async fn join(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    reads: Reads,
    watch: &Watch,
    stop: &CancellationToken,
) -> Result<(RunFolder, Log, Option<Prepared>)> {
    let config = &resolved.config;
    refuse_embedded(config)?;
    let trains = match reads {
        _ if config_file(out).is_file() => None,
        Reads::Log => None,
        Reads::Prompts => Some(preflight::Trains::Elsewhere),
        Reads::Batches => Some(preflight::Trains::Here),
    };
    let checked = if let Some(trains) = trains {
        Some(preflight::check(config, trains, stop).await?)
    } else {
        preflight::check_broker(config).await?;
        None
    };
    let folder = match reads {
        Reads::Batches => RunFolder::share(out, resolved)?,
        Reads::Log | Reads::Prompts => RunFolder::join(out, resolved)?,
    };
    watch.board.opened(folder.store());
    watch.board.serve(config)?;
    let log = Log::start(config, folder.path(), &folder.archive()).await?;
    watch.board.connected(&log);
    Ok((folder, log, checked))
}

/// Refuses the embedded broker, which no other process reaches.
pub(super) fn refuse_embedded(config: &RunConfig) -> Result<()> {
    if config.broker == "embedded" {
        return Err(Error::EmbeddedBroker {
            reason: "a single role needs one that others reach",
        });
    }
    Ok(())
}
