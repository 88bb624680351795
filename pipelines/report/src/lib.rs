//! Report of a run as one self-contained HTML file, `report.html`.
//!
//! Where to begin reading: `record.rs` reads the run's records, `fairness.rs` compares what producers
//! made with what trained, `figures.rs` chooses the charts, `chart.rs` draws them, `hover.rs`
//! gives their values to the pointer, `page.rs` puts the page together; `runs.rs` makes a page of
//! several runs, `sheet.rs` one of many whose tables the caller has computed.
//!
//! ```
//! use vintage_archive::Reader;
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
//! let reader = Reader::new(store.at("archive"), "vintage.demo.rollouts.v1");
//! let report = vintage_report::write(folder.path(), &store, Ok(&reader)).await?;
//! assert_eq!((report.updates, report.evaluations), (0, 0));
//! assert!(report.producers.is_none()); // nothing was archived yet
//! assert!(std::fs::read_to_string(report.path)?.starts_with("<!doctype html>"));
//! # Ok(())
//! # }
//! ```

mod ages;
mod before_after;
mod chart;
mod compare;
mod contender;
mod engines;
mod error;
mod fairness;
mod figures;
mod held_out;
mod hover;
mod html;
mod ink;
mod numbered;
mod page;
mod producers;
mod record;
mod runs;
mod samples;
mod series;
mod sheet;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Serialize;
use vintage_archive::Reader;
use vintage_control::{UpdateNumber, UpdateResult};
use vintage_store::Store;

use self::record::RunRecord;
pub use self::{
    ages::{AgesPage, GradientsShown},
    contender::Contender,
    error::{Error, Result},
    fairness::{Amount, Compared, Distribution, ProducerFigures, Producers, bias::Bias},
    held_out::{HeldOut, held_out_texts},
    page::STYLE,
    runs::{ComparedRun, WrittenComparison, compare},
    sheet::{Across, Drawing, Line, Part, RunCourse, Scale, Sheet, Table, read_course},
    summary::{SUMMARY_FILE, read_summary},
};

/// Result of [`write`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WrittenReport {
    /// Path of the page.
    pub path: PathBuf,
    /// Number of updates shown.
    pub updates: u64,
    /// Updates before the last one that are not shown because they have no result.
    pub missing: Vec<UpdateNumber>,
    /// Number of evaluations shown.
    pub evaluations: u64,
    /// Size of the page in bytes.
    pub bytes: u64,
    /// Learners compared side by side, the lead first; empty if there is only one.
    pub learners: Vec<Contender>,
    /// Produced against trained, by producer; `None` if no archive of the rollouts was found.
    pub producers: Option<Producers>,
}

/// Writes `report.html` into a run's folder, from the results, evaluations, settings and summary of
/// the run, and from the archive of its rollouts. Runs that are still going or were killed have a
/// report too, and so has a run without an archive: `archive` is then the reason, which the page
/// says.
///
/// # Errors
/// A folder that is not a run's, a record that cannot be read, or a page that cannot be written.
pub async fn write(
    folder: &Path,
    store: &Store,
    archive: std::result::Result<&Reader, String>,
) -> Result<WrittenReport> {
    let record = RunRecord::read(folder, store, archive).await?;
    let page = page::render(&record)?;
    let path = folder.join("report.html");
    page::persist(&page, &path)?;
    Ok(WrittenReport {
        path,
        updates: record.results.len() as u64,
        missing: missing(&record.results),
        evaluations: record.evaluations.len() as u64,
        bytes: page.len() as u64,
        learners: record.learners,
        producers: record.rollouts.ok().map(|rollouts| rollouts.producers),
    })
}

/// Returns the updates before the last one that have no result.
fn missing(results: &[UpdateResult]) -> Vec<UpdateNumber> {
    let there: BTreeSet<_> = results.iter().map(UpdateResult::update).collect();
    let end = there.last().map_or(0, |last| last.0);
    let all = (0..end).map(UpdateNumber);
    all.filter(|update| !there.contains(update)).collect()
}
