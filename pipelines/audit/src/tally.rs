//! Count of a run's groups for its summary.

use std::collections::BTreeMap;
use vintage_store::Records;

use vintage_archive::Reader;
use vintage_control::{NumberSet, UpdateNumber};

use super::{
    books::Books,
    counts::Account,
    findings::Findings,
    ledger::{Ledger, Lost},
    read,
};
use crate::error::Result;

/// Counts from archive, journals and the plans of one learner.
#[derive(Debug)]
pub struct Tally {
    /// Account of the learner.
    pub account: Account,
    /// Number of trajectory rows in the archive.
    pub archived_rows: u64,
}

/// Counts a run's groups. Damage is not reported, which is left to [`crate::audit`]; the identity
/// may fail because of it.
pub async fn tally(
    reader: &Reader,
    journals: &BTreeMap<String, NumberSet>,
    records: &Records,
) -> Result<Tally> {
    let mut unheard = Findings::default();
    let mut books = Books::default();
    read::journals(journals, &mut books);
    read::archive(reader, false, &mut books, &mut unheard).await?;
    books.close(&mut unheard);
    let mut ledger = Ledger::new(&books, "");
    if let Some(start) = records.start().await? {
        ledger.began_at(&start);
    }
    let mut update = UpdateNumber::FIRST;
    while let Some(plan) = records.plan(update).await? {
        ledger.plan(update, &plan, &mut unheard);
        update = update.next();
    }
    Ok(Tally {
        account: ledger.close(Lost::WithItsLog, &mut unheard),
        archived_rows: books.archived_rows(),
    })
}
