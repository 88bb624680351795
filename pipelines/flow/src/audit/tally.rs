//! The books of a run's own folder, for its summary and its producers' gate.

use std::path::Path;

use vintage_archive::Reader;
use vintage_control::PolicyVersion;
use vintage_learner::Records;

use super::{
    books::{Books, Group},
    counts::Account,
    findings::Findings,
    ledger::{Fate, Ledger, Lost},
    read,
};
use crate::Result;

/// What archive, journals and plans of one learner come to.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Its account.
    pub(crate) account: Account,
    /// Trajectory rows in the archive.
    pub(crate) archived_rows: u64,
    /// Of each numbered group that the archive holds: the update it was sampled for, −1 for any,
    /// and whether it was refused.
    pub(crate) held: Vec<(i64, bool)>,
}

/// Counts a run's groups. Damage is the audit's to tell: here it shows as an identity that fails.
pub(crate) async fn tally(
    reader: &Reader,
    journals: Option<&Path>,
    records: &Records,
) -> Result<Tally> {
    let mut unheard = Findings::default();
    let mut books = Books::default();
    if let Some(journals) = journals {
        read::journals(journals, &mut books)?;
    }
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
    let held = |(number, group): (usize, &Group)| {
        let held = group.producer.is_some() && group.records.is_some();
        let refused = matches!(ledger.fate(number as u32), Fate::Rejected(..));
        held.then_some((group.batch, refused))
    };
    let held = books.groups().iter().enumerate().filter_map(held).collect();
    Ok(Tally {
        account: ledger.close(Lost::WithItsLog, &mut unheard),
        archived_rows: books.archived_rows(),
        held,
    })
}
