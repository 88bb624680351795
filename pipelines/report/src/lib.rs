//! Report of a run: `report.html`, one self-contained file.
//!
//! Begin with [`write()`]. `record` reads the run, `figures` and `compare` make the charts, which
//! `chart` draws as SVG, and `page` renders the HTML.
//!
//! ```
//! use vintage_config::{Layers, Resolved};
//! use vintage_store::Store;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(&folder.path().to_string_lossy())?;
//!
//! // The folder of a run that has only begun: it has settings, and no result yet.
//! let settings: Resolved = Layers::new().set("learner.steps=100")?.resolve()?;
//! std::fs::write(folder.path().join("config.toml"), settings.to_toml())?;
//!
//! let report = vintage_report::write(folder.path(), &store).await?;
//! assert_eq!((report.updates, report.evaluations), (0, 0));
//! assert!(std::fs::read_to_string(report.path)?.starts_with("<!doctype html>"));
//! # Ok(())
//! # }
//! ```

mod chart;
mod compare;
mod contender;
mod error;
mod figures;
mod html;
mod ink;
mod numbered;
mod page;
mod record;
mod series;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Serialize;
use vintage_control::{PolicyVersion, UpdateResult};

use vintage_store::Store;

use self::record::RunRecord;
pub use self::{
    contender::Contender,
    error::{Error, Result},
};

/// Report that [`write()`] wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Path of the page.
    pub path: PathBuf,
    /// Number of updates in the report.
    pub updates: u64,
    /// Updates before the last one that have no result and are therefore not in the report.
    pub missing: Vec<PolicyVersion>,
    /// Number of evaluations in the report.
    pub evaluations: u64,
    /// Size of the page in bytes.
    pub bytes: u64,
    /// Learners of the run, the lead first; empty if there is only one.
    pub learners: Vec<Contender>,
}

/// Writes `report.html` into a run's folder, from its settings and summary and from the plans,
/// results and evaluations in its `store`. The run may still be going, or may have been killed.
///
/// # Errors
/// A folder that is not a run's, a record that cannot be read, or a page that cannot be written.
pub async fn write(folder: &Path, store: &Store) -> Result<Report> {
    let record = RunRecord::read(folder, store).await?;
    let page = page::render(&record)?;
    let path = folder.join("report.html");
    let staged = folder.join(".report.html");
    let io = |attempted, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            attempted,
            path,
            source,
        }
    };
    std::fs::write(&staged, &page).map_err(io("write", &staged))?;
    std::fs::rename(&staged, &path).map_err(io("write", &path))?;
    Ok(Report {
        path,
        updates: record.results.len() as u64,
        missing: missing(&record.results),
        evaluations: record.evaluations.len() as u64,
        bytes: page.len() as u64,
        learners: record.learners,
    })
}

/// Returns the updates that have no result although a later one has.
fn missing(results: &[UpdateResult]) -> Vec<PolicyVersion> {
    let there: BTreeSet<_> = results.iter().map(|result| result.version).collect();
    let end = there.last().map_or(0, |last| last.0);
    let all = (0..end).map(PolicyVersion);
    all.filter(|update| !there.contains(update)).collect()
}
