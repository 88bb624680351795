//! Entry point of `vintage audit`: compares what producers, log, archive and learners recorded.
//!
//! No side is trusted: each is counted from its own record, and their agreement is the result. The
//! audit reads headers, checksums and control records, and tokens only if asked. The run may
//! continue meanwhile, because sources are read so that an earlier one cannot be ahead of a later
//! one: announcements, then the names of plans and of the records that follow from plans, then
//! journals, then archive and log.

mod books;
mod counts;
mod findings;
mod ledger;
mod mirror;
mod question;
mod read;
mod records;
mod tally;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Serialize;
use vintage_archive::Reader;
use vintage_control::{Incarnation, Name, PolicyVersion};
use vintage_store::Store;

pub(crate) use self::tally::{Tally, tally};
use self::{
    books::Books,
    findings::Findings,
    ledger::{Ledger, Lost},
    mirror::Mirrors,
    records::{Listing, Listings},
};
pub use self::{
    counts::{Account, Counts},
    question::{Answer, BadRollout, Question, Rollout},
};
use crate::{
    Error, Result,
    broker::Broker,
    config::{RunConfig, SourceKind},
    folder::{open_store, store_of},
    recorded::archive_of,
    replay::{listed, summarized_updates},
    run::SUMMARY_FILE,
};

/// Scope and depth of an audit.
#[derive(Debug, Clone)]
pub struct Scope {
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

/// Result of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// True if every identity holds and there is no breach.
    pub holds: bool,
    /// Account of each learner; under `none` if no learner has left a plan.
    pub learners: BTreeMap<String, Account>,
    /// Description of every breach.
    pub findings: Vec<String>,
    /// Descriptions of noteworthy facts that are not breaches.
    pub notes: Vec<String>,
    /// Answers to the question of the scope.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

/// Key of the account if there is no learner.
const NOBODY: &str = "none";

/// Locations of the parts of a run.
struct Places {
    store: Store,
    reader: Reader,
    journals: Option<PathBuf>,
    broker: Option<Broker>,
}

/// Reads all records of a run and compares them.
pub async fn audit(scope: &Scope) -> Result<Audit> {
    let places = places(scope).await?;
    let outcome = audit_at(scope, &places).await;
    if let Some(broker) = places.broker {
        broker.close().await?;
    }
    outcome
}

async fn places(scope: &Scope) -> Result<Places> {
    let config = &scope.config;
    let folder = scope.folder.as_deref();
    let store = root(folder, config)?;
    let own = store.at("archive");
    let recorded = config.learner.source == SourceKind::Archive;
    let other = if recorded {
        archive_of(config).await?
    } else {
        None
    };
    let elsewhere = other.is_some();
    let reader = if let Some(other) = other {
        other
    } else {
        let named = config.topic_names().rollouts();
        let known = folder.is_none_or(|folder| folder.join("config.toml").is_file());
        let topics = Reader::topics(&own).await?;
        match topics.as_slice() {
            // A copy without its settings: the archive tells the topic.
            [only] if !known => Reader::new(own, only),
            [_, ..] if !topics.contains(&named) => {
                return Err(Error::Usage(format!(
                    "the settings are of topic {named}, and the archive in {} holds {}: set \
                     `run` and `namespace` to those of the run",
                    own.location(),
                    topics.join(", ")
                )));
            }
            _ => Reader::new(own, &named),
        }
    };
    // An embedded broker leaves no log, and a run that trained from another archive wrote to none.
    let log = !scope.offline && config.broker != "embedded" && !elsewhere;
    let broker = if log {
        Some(Broker::open(config, folder).await?)
    } else {
        None
    };
    Ok(Places {
        store,
        reader,
        journals: folder
            .filter(|_| !elsewhere)
            .map(|path| path.join("producers")),
        broker,
    })
}

fn root(folder: Option<&Path>, config: &RunConfig) -> Result<Store> {
    match (folder, &config.store) {
        (Some(folder), _) if !folder.is_dir() => Err(Error::Folder {
            path: folder.to_owned(),
            what: "is no folder: name a run's folder".to_owned(),
        }),
        (Some(folder), None) => open_store(folder),
        (Some(folder), Some(_)) => store_of(config, folder),
        (None, Some(_)) => store_of(config, Path::new(".")),
        (None, None) => Err(Error::Usage(
            "an audit needs a run's folder, or --set store=FOLDER_OR_URL (plans, results, \
             archive) with --broker HOST:PORT"
                .to_owned(),
        )),
    }
}

async fn audit_at(scope: &Scope, places: &Places) -> Result<Audit> {
    let mut findings = Findings::default();
    let bus = places.broker.as_ref().map(Broker::bus);
    let topics = scope.config.topic_names();
    let mirrors = match bus {
        Some(bus) => Mirrors::read(bus, &topics).await?,
        None => Mirrors::default(),
    };
    let summarized = match &scope.folder {
        Some(folder) => summarized_updates(folder)?,
        None => None,
    };
    let mut listings = Listings::read(&places.store, scope.learner.as_ref()).await?;
    if let (Some(name), true) = (&scope.learner, listings.learners.is_empty()) {
        return Err(Error::Usage(format!(
            "--learner {name}: no such learner left a record here; there are records of {}",
            listed(&listings.everybody)
        )));
    }
    // The lead comes first in the output.
    let lead = &scope.config.learner.name;
    listings
        .learners
        .sort_by_key(|listing| listing.name != *lead);
    let mut books = Books::default();
    if let Some(journals) = &places.journals {
        read::journals(journals, &mut books)?;
    }
    let last = read::archive(&places.reader, scope.deep, &mut books, &mut findings).await?;
    if let Some(bus) = bus {
        let life = last.unwrap_or(Incarnation(0));
        let topic = topics.rollouts();
        read::topic(bus, &topic, life, scope.deep, &mut books, &mut findings).await?;
    }
    books.close(&mut findings);
    let lost = if scope.config.broker == "embedded" {
        Lost::WithItsLog
    } else {
        Lost::Never
    };
    let mut learners = BTreeMap::new();
    let mut answers = Vec::new();
    let mut trained = BTreeMap::new();
    for listing in &listings.learners {
        let mut ledger = Ledger::new(&books, listing.name.as_str());
        listing
            .tell(&places.store, &mut ledger, &mut findings)
            .await?;
        mirrors.compare(listing, &ledger, &mut findings);
        if let Some(lineage) = ledger.lineage() {
            trained.insert(lineage.to_owned(), listing);
        }
        let account = ledger.close(lost, &mut findings);
        if let Some(question) = &scope.question {
            let name = listing.name.as_str();
            let asked = question.ask(&places.store, name, Some(listing), &books, &ledger);
            answers.extend(asked.await?);
        }
        learners.insert(listing.name.to_string(), account);
    }
    if scope.deep {
        records::weights(&places.store, &mut findings).await?;
    }
    listings.made_by_plans(&trained, scope.learner.is_none(), &mut findings);
    if let Some(updates) = summarized
        && scope.learner.as_ref().is_none_or(|only| only == lead)
    {
        hold_summary(updates, lead, &listings.learners, &mut findings);
    }
    if let (Some(Question::Update(update)), true) = (&scope.question, answers.is_empty()) {
        known(*update, &listings.learners)?;
    }
    if places.broker.is_none() && scope.offline {
        findings.note("offline", || {
            "the log was left alone: groups that it holds and the archive does not are not \
             accounted for"
                .to_owned()
        });
    }
    if listings.learners.is_empty() {
        if books.groups().is_empty() && listings.tell_nothing() {
            return Err(nothing(scope, places));
        }
        let mut nobody = Ledger::new(&books, NOBODY);
        if let Some(question) = &scope.question {
            let asked = question.ask(&places.store, NOBODY, None, &books, &nobody);
            answers.extend(asked.await?);
        }
        learners.insert(NOBODY.to_owned(), nobody.close(lost, &mut findings));
        findings.note("no learner", || {
            "no learner has left a plan here: groups can only be in flight".to_owned()
        });
    }
    let (breaches, notes) = findings.told();
    Ok(Audit {
        holds: breaches.is_empty(),
        learners,
        findings: breaches,
        notes,
        answers,
    })
}

/// Refuses an update that no learner has, listing those that exist.
fn known(update: PolicyVersion, learners: &[Listing]) -> Result<()> {
    if learners.iter().any(|listing| update.0 < listing.end()) {
        return Ok(()); // its plan is missing, which is a breach
    }
    let ranges = learners.iter().map(|listing| match listing.end() {
        0 => format!("{} has none", listing.name),
        end => format!("{} has 0 to {}", listing.name, end - 1),
    });
    let mut ranges: Vec<_> = ranges.collect();
    if ranges.is_empty() {
        ranges.push("no learner has left a plan here".to_owned());
    }
    Err(Error::Usage(format!(
        "--update {update}: there is no such update; updates are numbered from 0: {}",
        ranges.join(", ")
    )))
}

/// Reports a breach if the run's summary counts more updates than the lead has records of.
fn hold_summary(updates: u64, lead: &Name, learners: &[Listing], findings: &mut Findings) {
    let listing = learners.iter().find(|listing| listing.name == *lead);
    let end = listing.map_or(0, Listing::end);
    if end < updates {
        findings.breach("updates without a plan", || {
            format!(
                "{SUMMARY_FILE} counts {updates} updates of {lead}, and there are records of {end}"
            )
        });
    }
}

/// Returns the error of an audit that found neither a group nor a record of a learner.
fn nothing(scope: &Scope, places: &Places) -> Error {
    let sources = match places.broker {
        Some(_) => "no journal, no archive and no log",
        None => "no journal and no archive",
    };
    let what = format!(
        "there is nothing to audit: {sources} has a group of {}, and no learner left a record; name \
         the folder of a run that has begun to produce, or its store and broker",
        places.reader.topic()
    );
    match &scope.folder {
        Some(path) => Error::Folder {
            path: path.clone(),
            what,
        },
        None => Error::Usage(what),
    }
}

#[cfg(test)]
mod asked;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
