//! Entry point of `vintage audit`: compares what producers, log, archive and learners recorded.
//!
//! No side is trusted: each is counted from its own record, and their agreement is the result. The
//! audit reads headers, checksums and control records, and tokens only if asked. The run may
//! continue meanwhile, because sources are read so that an earlier one cannot be ahead of a later
//! one: announcements, then the names of plans and of the records that follow from plans, then
//! journals, then archive and log.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use vintage_audit::{Audit, LogState, Places, Question, ReadJournals};
use vintage_control::{Name, NumberSet};
use vintage_report::SUMMARY_FILE;
use vintage_rollout::read_journals;
use vintage_settings::RunConfig;
use vintage_store::Store;

use crate::{
    archive_source::archive_of_run,
    broker::Broker,
    error::{Error, Result},
    folder::{config_file, is_in_use, journals, open_store, store_of},
    prune::{joined, pruned_journals},
    replay::summarized_updates,
};

/// Scope and depth of an audit.
#[derive(Debug, Clone)]
pub struct AuditRequest {
    /// Folder of the run; without one, `config` names the store and the broker.
    pub folder: Option<PathBuf>,
    /// Settings of the run.
    pub config: RunConfig,
    /// Learner to audit; `None` for all.
    pub learner: Option<Name>,
    /// True to leave the broker alone, and audit archive and records only.
    pub offline: bool,
    /// True to read every byte of the archive and compare each group's content with its plan, and
    /// to compare all published weights with their manifests.
    pub deep: bool,
    /// Question to answer in addition.
    pub question: Option<Question>,
}

/// Reads everything and counts it.
///
/// # Errors
/// No folder, no store, a broker that does not answer, or nothing to audit.
pub async fn audit(scope: &AuditRequest) -> Result<Audit> {
    let config = &scope.config;
    let folder = scope.folder.as_deref();
    let store = root(folder, config)?;
    let has_config = folder.is_none_or(|folder| config_file(folder).is_file());
    if let Some(folder) = folder.filter(|_| !has_config) {
        refuse_producers_folder(folder, &store).await?;
    }
    let (reader, elsewhere) = archive_of_run(config, &store, has_config).await?;
    let journals = folder.filter(|_| !elsewhere).map(journals);
    let summarized = match folder {
        Some(folder) => summarized_updates(folder)?,
        None => None,
    };
    // An embedded broker leaves no log, and a run that trained from another archive wrote to none.
    let log = !scope.offline && config.broker != "embedded" && !elsewhere;
    let broker = if log {
        Some(Broker::open(config, folder).await?)
    } else {
        None
    };
    let pruned = pruned_journals(&store).await?;
    let pruned = Some(pruned).filter(|pruned| !elsewhere && !pruned.is_empty());
    let read = (journals.is_some() || pruned.is_some()).then_some({
        move || -> std::result::Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let here = journals
                .as_deref()
                .map_or_else(|| Ok(BTreeMap::new()), read_journals)?;
            Ok(joined(here, pruned.iter().flatten()))
        }
    });
    let places = Places {
        store: &store,
        reader: &reader,
        journals: read.as_ref().map(|read| read as &ReadJournals),
        bus: broker.as_ref().map(Broker::bus),
        summarized: summarized.map(|updates| (updates, SUMMARY_FILE)),
    };
    let outcome = vintage_audit::audit(
        &vintage_audit::AuditScope {
            topics: config.topic_names(),
            lead: config.learner.name.clone(),
            learner: scope.learner.clone(),
            log: log_state(config, folder),
            offline: scope.offline,
            deep: scope.deep,
            question: scope.question.clone(),
        },
        &places,
    )
    .await;
    let outcome = outcome.map_err(|error| match (error, folder) {
        (vintage_audit::Error::Nothing(reason), Some(path)) => Error::Folder {
            path: path.to_owned(),
            reason,
        },
        (error, _) => error.into(),
    });
    match broker {
        Some(broker) => broker.close_after(outcome).await,
        None => outcome,
    }
}

/// Refuses a folder in which producers worked and no learner: with their journals alone, all that they
/// published would count as lost.
async fn refuse_producers_folder(folder: &Path, store: &Store) -> Result<()> {
    let acknowledged = read_journals(&journals(folder))?;
    if acknowledged.is_empty() {
        return Ok(());
    }
    for kept in ["plans", "archive"] {
        if !store.list(kept).await?.is_empty() {
            return Ok(());
        }
    }
    let groups: u64 = acknowledged.values().map(NumberSet::len).sum();
    Err(Error::Folder {
        path: folder.to_owned(),
        reason: format!(
            "holds only the journals of {} producer{} ({groups} groups), and {} has no plans and no \
             archive: audit the run in its learner's folder, or from here with --set store=… as the \
             learner has it, --set run=NAME and --broker HOST:PORT",
            acknowledged.len(),
            if acknowledged.len() == 1 { "" } else { "s" },
            store.location()
        ),
    })
}

/// Returns the state of the run's log: the embedded one ends with the process that holds the
/// folder.
fn log_state(config: &RunConfig, folder: Option<&Path>) -> LogState {
    if config.broker != "embedded" {
        LogState::Durable
    } else if folder.is_some_and(is_in_use) {
        LogState::Running
    } else {
        LogState::Ended
    }
}

fn root(folder: Option<&Path>, config: &RunConfig) -> Result<Store> {
    match (folder, &config.store) {
        (Some(folder), _) if !folder.is_dir() => Err(Error::Folder {
            path: folder.to_owned(),
            reason: "is no folder: name a run's folder".to_owned(),
        }),
        (Some(folder), None) => open_store(folder),
        (Some(folder), Some(_)) => store_of(config, folder),
        (None, Some(_)) => store_of(config, Path::new(".")),
        (None, None) => Err(Error::NothingToAudit),
    }
}

#[cfg(test)]
mod tests {
    use vintage_settings::RunConfig;

    use super::{Audit, AuditRequest, Path, Result, audit};

    async fn audited(folder: &Path) -> Result<Audit> {
        let request = AuditRequest {
            folder: Some(folder.to_owned()),
            config: RunConfig::default(),
            learner: None,
            offline: true,
            deep: false,
            question: None,
        };
        audit(&request).await
    }

    #[tokio::test]
    async fn a_folder_with_nothing_but_journals_is_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let journals = folder.path().join("producers");
        std::fs::create_dir(&journals).unwrap();
        std::fs::write(journals.join("local-a-1.acks"), "0\n1\n").unwrap();
        let error = audited(folder.path()).await.unwrap_err();
        assert!(error.is_usage(), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("journals of 1 producer (2 groups)"),
            "{message}"
        );
        assert!(message.contains("its learner's folder"), "{message}");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = audited(&folder.path().join("none")).await.unwrap_err();
        assert!(error.is_usage(), "{error}");
        assert!(error.to_string().contains("is no folder"), "{error}");
    }
}
