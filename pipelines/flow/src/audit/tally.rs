//! Count of a run's own folder for its summary.

use std::path::Path;

use vintage_archive::Reader;
use vintage_control::PolicyVersion;
use vintage_learner::Records;

use super::{
    books::Books,
    counts::Account,
    findings::Findings,
    ledger::{Ledger, Lost},
    read,
};
use crate::Result;

/// Counts from archive, journals and the plans of one learner.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Account of the learner.
    pub(crate) account: Account,
    /// Number of trajectory rows in the archive.
    pub(crate) archived_rows: u64,
}

/// Counts a run's groups. Damage is not reported here, which is the audit's job; it shows as an
/// identity that fails.
pub(crate) async fn tally(reader: &Reader, journals: &Path, records: &Records) -> Result<Tally> {
    let mut unheard = Findings::default();
    let mut books = Books::default();
    read::journals(journals, &mut books)?;
    read::archive(reader, false, &mut books, &mut unheard).await?;
    books.close(&mut unheard);
    let mut ledger = Ledger::new(&books, "");
    if let Some(start) = records.start().await? {
        ledger.began_at(&start);
    }
    let mut version = PolicyVersion::ZERO;
    while let Some(plan) = records.plan(version).await? {
        ledger.plan(version, &plan, &mut unheard);
        version = version.next();
    }
    Ok(Tally {
        account: ledger.close(Lost::WithItsLog, &mut unheard),
        archived_rows: books.archived_rows(),
    })
}
