//! Count of a run's groups for its summary.

use std::collections::BTreeMap;

use vintage_archive::Reader;
use vintage_control::{NumberSet, UpdateNumber};
use vintage_store::Records;

use crate::{
    counts::GroupAccount, error::Result, fate::Lost, findings::Findings, inventory::Inventory,
    ledger::Ledger, read,
};

/// Counts from archive, journals and the plans of one learner.
#[derive(Debug)]
pub struct Tally {
    /// Account of the learner.
    pub account: GroupAccount,
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
    let mut ignored = Findings::default();
    let mut inventory = Inventory::default();
    read::journals(journals, &mut inventory);
    read::archive(reader, false, &mut inventory, &mut ignored).await?;
    inventory.close(&mut ignored);
    let mut ledger = Ledger::new(&inventory, "");
    if let Some(start) = records.start().await? {
        ledger.began_at(&start);
    }
    let mut update = UpdateNumber::FIRST;
    let mut plans = records.plans(update);
    while let Some(plan) = plans.next().await? {
        ledger.plan(update, &plan, &mut ignored);
        update = update.next();
    }
    Ok(Tally {
        account: ledger.close(Lost::WithItsLog, &mut ignored),
        archived_rows: inventory.archived_rows(),
    })
}
