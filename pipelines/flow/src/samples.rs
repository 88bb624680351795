//! Entry point of `vintage samples`: archived rollouts as people read them, with the update that
//! trained each.

mod chosen;
mod fate;
mod sample;

use std::path::PathBuf;

use vintage_archive::Filter;
use vintage_control::{Name, UpdateNumber};
use vintage_store::Records;

use self::{chosen::Chosen, fate::plans_of};
pub use self::{
    chosen::Order,
    fate::Fate,
    sample::{Sample, SampledText},
};
use crate::{
    archive_source::archive_of_run,
    error::{Error, Result},
    folder::open_store,
    learner_of::learner_of,
};

/// Rollouts to show.
#[derive(Debug, Clone)]
pub struct SamplesRequest {
    /// Folder of the run.
    pub folder: PathBuf,
    /// Learner whose updates are meant; `None` for the lead.
    pub learner: Option<Name>,
    /// Order of the rollouts.
    pub order: Order,
    /// Takes only rollouts that this update trained.
    pub update: Option<UpdateNumber>,
    /// Takes only rollouts of the prompt with this id.
    pub prompt: Option<String>,
    /// Largest number of rollouts to return.
    pub count: usize,
}

/// Returns the archived rollouts that are first in the order asked for.
///
/// One pass over the archive keeps `count` rollouts in memory. Files that cannot be read end it:
/// `vintage audit` names them all.
///
/// # Errors
/// No run, no archive, an update without a plan, or no rollout that was asked for.
pub async fn samples(request: &SamplesRequest) -> Result<Vec<Sample>> {
    let folder = &request.folder;
    let refuse = |reason: String| Error::Folder {
        path: folder.clone(),
        reason,
    };
    let store = open_store(folder)?;
    let learner = learner_of(folder, &store, request.learner.as_ref()).await?;
    let config = vintage_config::read(&learner.config)?;
    let (reader, _) = archive_of_run(&config, &store, true).await?;
    let records = Records::new(store, learner.name.clone());
    let mut chosen = Chosen::new(request.order, request.count);
    if let Some(update) = request.update {
        let plan = records.plan(update).await?.ok_or_else(|| {
            refuse(format!(
                "has no plan of update {update} of learner {}",
                learner.name
            ))
        })?;
        let own = plan.groups.iter().filter(|group| group.source.is_none());
        for record in own.flat_map(|group| &group.records) {
            chosen.add(&reader.message(*record).await?, request.prompt.as_deref());
        }
    } else {
        let mut messages = reader.merged(&Filter::default()).await?;
        while let Some(message) = messages.next().await? {
            chosen.add(&message, request.prompt.as_deref());
        }
    }
    let mut samples = chosen.into_samples();
    if samples.is_empty() {
        let of = [
            request.update.map(|update| format!(" of update {update}")),
            request
                .prompt
                .as_ref()
                .map(|id| format!(" of prompt {id:?}")),
        ];
        let of: String = of.into_iter().flatten().collect();
        return Err(refuse(format!("has no archived rollout{of}")));
    }
    plans_of(&records, request.update, &mut samples).await?;
    Ok(samples)
}
