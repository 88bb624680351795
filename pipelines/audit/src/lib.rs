//! Audit of a run (`vintage audit`): compares the records of producers, log, archive and learners.
//!
//! Begin with [`audit`] and [`Audit`]. `inventory` collects groups and records from journals, archive
//! and log; `ledger` compares the plans of one learner with them; `findings` collects the breaches.
//!
//! Each side is counted from its own records, and every contradiction is a breach. An audit reads
//! headers, checksums and control records, and reads tokens only if asked to. The run may continue
//! meanwhile, so the order of reading matters, because a record read early must not be ahead of one
//! read later: announcements first, then the names of control records, with plans last, then
//! journals, then archive and log.
//!
//! ```
//! use vintage_archive::Reader;
//! use vintage_audit::{AuditScope, Error, LogState, Places, audit};
//! use vintage_control::Topics;
//! use vintage_store::Store;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let store = Store::open(&folder.path().to_string_lossy())?;
//! let topics = Topics { namespace: "vintage".parse()?, run: "demo".parse()? };
//! let reader = Reader::new(store.at("archive"), &topics.rollouts());
//! let (store, reader) = (&store, &reader);
//! let places = Places { store, reader, journals: None, bus: None, summarized: None };
//! let (lead, learner, question) = ("lead".parse()?, None, None);
//! let (log, offline, deep) = (LogState::Durable, true, false);
//! let scope = AuditScope { topics, lead, learner, log, offline, deep, question };
//!
//! // The store is empty, so there is nothing whose books could hold.
//! assert!(matches!(audit(&scope, &places).await, Err(Error::Nothing(_))));
//! # Ok(())
//! # }
//! ```

mod counts;
mod error;
mod fate;
mod findings;
mod inventory;
mod ledger;
mod mirror;
mod pruned;
mod question;
mod read;
mod records;
mod tally;

use std::collections::BTreeMap;

use serde::Serialize;
use vintage_archive::Reader;
use vintage_bus::Bus;
use vintage_control::{Incarnation, Name, NumberSet, Topics, UpdateNumber};
use vintage_store::Store;

pub use self::{
    counts::{Counts, GroupAccount},
    error::{Error, Result},
    question::{Answer, BadRollout, Question, Rollout},
    tally::{Tally, tally},
};
use self::{
    fate::Lost,
    findings::Findings,
    inventory::Inventory,
    ledger::Ledger,
    mirror::Mirrors,
    records::{Listing, Listings},
};

/// Subject of an audit, and how closely it looks.
#[derive(Debug, Clone)]
pub struct AuditScope {
    /// Topics of the run.
    pub topics: Topics,
    /// The run's own learner, whose answers come first.
    pub lead: Name,
    /// The only learner audited; `None` = every learner.
    pub learner: Option<Name>,
    /// State of the log, which decides what becomes of acknowledged groups that are found nowhere.
    pub log: LogState,
    /// True if the log is not read although the run has one.
    pub offline: bool,
    /// True to read every byte of the archive, and compare each group's content with its plan and
    /// all published weights with their manifests.
    pub deep: bool,
    /// Question about one update or one rollout.
    pub question: Option<Question>,
}

/// State of a run's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogState {
    /// Log that outlives its processes: an acknowledged group that is found nowhere is a breach.
    Durable,
    /// Log that was inside a process that ended and took acknowledged groups along.
    Ended,
    /// Log inside a process that runs: what it acknowledged may be archived yet.
    Running,
}

/// Function that reads the journals of all producers: acknowledged numbers by `producer` header.
pub type ReadJournals = dyn Fn() -> Result<BTreeMap<String, NumberSet>, Box<dyn std::error::Error + Send + Sync>>
    + Sync;

/// Records of a run, each in the place where it is kept.
pub struct Places<'a> {
    /// Store of plans, results, checkpoints and weights.
    pub store: &'a Store,
    /// Archive of the rollouts topic.
    pub reader: &'a Reader,
    /// Reader of the producers' journals; `None` if they are not available.
    pub journals: Option<&'a ReadJournals>,
    /// Client of the broker; `None` if the log is not read.
    pub bus: Option<&'a Bus>,
    /// Number of updates according to the run's summary, and the name of the summary's file.
    pub summarized: Option<(u64, &'a str)>,
}

/// Result of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// True if there is no breach.
    pub holds: bool,
    /// Accounts by name of the learner; one account named `none` if no learner has left a record.
    pub learners: BTreeMap<String, GroupAccount>,
    /// Breaches, one line each. Beyond 20 of a kind, one line gives the number of further ones.
    pub findings: Vec<String>,
    /// Notes on facts that are not breaches, one line each.
    pub notes: Vec<String>,
    /// Answers to the question, one per learner and group; empty without a question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

/// Name of the account if there is no learner.
const NOBODY: &str = "none";

/// Reads all records of a run, compares them and counts every group.
///
/// # Errors
/// [`Error::Unknown`] if the learner or update asked about does not exist, and [`Error::Nothing`]
/// if there are no records. Damaged records are findings, not errors.
pub async fn audit(scope: &AuditScope, places: &Places<'_>) -> Result<Audit> {
    let mut findings = Findings::default();
    let topics = &scope.topics;
    let mirrors = match places.bus {
        Some(bus) => Mirrors::read(bus, topics).await?,
        None => Mirrors::default(),
    };
    mirrors.silent(&mut findings);
    let mut listings = Listings::read(places.store, scope.learner.as_ref()).await?;
    if let (Some(name), true) = (&scope.learner, listings.learners.is_empty()) {
        return Err(Error::Unknown(format!(
            "--name {name}: no such learner left a record here; there are records of {}",
            names(&listings.everybody)
        )));
    }
    // The lead's answers come first.
    let lead = &scope.lead;
    listings
        .learners
        .sort_by_key(|listing| listing.name != *lead);
    let mut inventory = Inventory::default();
    if let Some(journals) = places.journals {
        read::journals(&journals().map_err(Error::Journals)?, &mut inventory);
    }
    let last = read::archive(places.reader, scope.deep, &mut inventory, &mut findings).await?;
    if let Some(bus) = places.bus {
        let incarnation = last.unwrap_or(Incarnation(0));
        let topic = topics.rollouts();
        read::topic(
            bus,
            &topic,
            incarnation,
            scope.deep,
            &mut inventory,
            &mut findings,
        )
        .await?;
    }
    inventory.close(&mut findings);
    pruned::compare(places.store, topics, &inventory, &mut findings).await?;
    let lost = match scope.log {
        LogState::Durable => Lost::Never,
        LogState::Ended => Lost::WithItsLog,
        LogState::Running => Lost::NotYet,
    };
    let mut learners = BTreeMap::new();
    let mut answers = Vec::new();
    let mut trained = BTreeMap::new();
    for listing in &listings.learners {
        let mut ledger = Ledger::new(&inventory, listing.name.as_str());
        listing
            .add_to(places.store, &mut ledger, &mut findings)
            .await?;
        mirrors.compare(listing, &ledger, &mut findings);
        if let Some(policy) = ledger.policy() {
            trained.insert(policy.to_owned(), listing);
        }
        let account = ledger.close(lost, &mut findings);
        if let Some(question) = &scope.question {
            let name = listing.name.as_str();
            let asked = question.ask(places.store, name, Some(listing), &inventory, &ledger);
            answers.extend(asked.await?);
        }
        learners.insert(listing.name.to_string(), account);
    }
    if scope.deep {
        records::weights(places.store, &mut findings).await?;
    }
    listings.made_by_plans(&trained, scope.learner.is_none(), &mut findings);
    if let Some((updates, file)) = places.summarized
        && scope.learner.as_ref().is_none_or(|only| only == lead)
    {
        hold_summary(updates, file, lead, &listings.learners, &mut findings);
    }
    if let (Some(Question::Update(update)), true) = (&scope.question, answers.is_empty()) {
        known(*update, &listings.learners)?;
    }
    if places.bus.is_none() && scope.offline {
        findings.note("offline", || {
            "the log was left alone: groups that it holds and the archive does not are not \
             accounted for"
                .to_owned()
        });
    }
    if listings.learners.is_empty() {
        if inventory.groups().is_empty() && listings.are_empty() {
            return Err(nothing(places));
        }
        let mut nobody = Ledger::new(&inventory, NOBODY);
        if let Some(question) = &scope.question {
            let asked = question.ask(places.store, NOBODY, None, &inventory, &nobody);
            answers.extend(asked.await?);
        }
        learners.insert(NOBODY.to_owned(), nobody.close(lost, &mut findings));
        findings.note("no learner", || {
            "no learner has left a plan here: groups can only be in flight".to_owned()
        });
    }
    let (breaches, notes) = findings.into_lines();
    Ok(Audit {
        holds: breaches.is_empty(),
        learners,
        findings: breaches,
        notes,
        answers,
    })
}

/// Checks that an update asked about exists; the error names those that do.
fn known(update: UpdateNumber, learners: &[Listing]) -> Result<()> {
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
    Err(Error::Unknown(format!(
        "--update {update}: there is no such update; updates are numbered from 0: {}",
        ranges.join(", ")
    )))
}

/// Reports a breach if the run's summary counts more updates of the lead than there are records.
fn hold_summary(
    updates: u64,
    file: &str,
    lead: &Name,
    learners: &[Listing],
    findings: &mut Findings,
) {
    let listing = learners.iter().find(|listing| listing.name == *lead);
    let end = listing.map_or(0, Listing::end);
    if end < updates {
        findings.breach("updates without a plan", || {
            format!("{file} counts {updates} updates of {lead}, and there are records of {end}")
        });
    }
}

/// Returns the error for a run of which no group and no record was found.
fn nothing(places: &Places<'_>) -> Error {
    let sources = match places.bus {
        Some(_) => "no journal, no archive and no log",
        None => "no journal and no archive",
    };
    Error::Nothing(format!(
        "there is nothing to audit: {sources} has a group of {}, and no learner left a record; name \
         the folder of a run that has begun to produce, or its store and broker",
        places.reader.topic()
    ))
}

/// Joins names for a message.
fn names(names: &[Name]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod asked;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
