//! Download of the model that a run's settings name.

use tokio_util::sync::CancellationToken;
use vintage_hub::HubModel;
use vintage_model::ModelFolder;
use vintage_settings::RunConfig;

use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
};

/// Fetches the model of `config` if its path is a hub name that the local cache lacks.
///
/// # Errors
/// [`vintage_hub::fetch_missing`]'s, and `stop`.
pub(crate) async fn fetch_missing(
    config: &RunConfig,
    events: &Events,
    stop: &CancellationToken,
) -> Result<()> {
    // A bad name is refused where the model is opened.
    let named = config.model.path.as_deref().map(HubModel::of);
    let Some(Ok(Some(model))) = named else {
        return Ok(());
    };
    let progress = |phase| {
        let _nobody_listens = events.send(RunEvent::Phase(phase));
    };
    tokio::select! {
        fetched = vintage_hub::fetch_missing(&model, ModelFolder::WANTED, &progress) => Ok(fetched?),
        () = stop.cancelled() => Err(Error::Interrupted),
    }
}

impl From<vintage_hub::Error> for Error {
    fn from(error: vintage_hub::Error) -> Self {
        match error {
            vintage_hub::Error::Fetch { name, reason } => Self::Hub { name, reason },
            vintage_hub::Error::Io {
                attempted,
                path,
                source,
            } => Self::Io {
                attempted,
                path,
                source,
            },
            refused @ (vintage_hub::Error::BadEndpoint { .. }
            | vintage_hub::Error::BadToken
            | vintage_hub::Error::NoCache { .. }
            | vintage_hub::Error::NoModel { .. }
            | vintage_hub::Error::NotOnHub { .. }) => Self::Value(refused.to_string()),
            in_cache @ (vintage_hub::Error::BadName { .. }
            | vintage_hub::Error::NotCached { .. }) => Self::Model(in_cache.into()),
        }
    }
}
