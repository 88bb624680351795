//! Objects that `vintage prune` deleted, by its records. The archive must not begin later than they say.

use vintage_control::{PruneRecord, Topics};
use vintage_store::{Store, prunes};

use crate::{error::Result, findings::Findings, inventory::Inventory};

/// Notes what was pruned, and reports a breach for every partition whose archive begins later than
/// any record of a prune says. Records are read after the archive, and written before its files are
/// deleted.
pub(crate) async fn compare(
    store: &Store,
    topics: &Topics,
    inventory: &Inventory,
    findings: &mut Findings,
) -> Result<()> {
    let records = match prunes(store).await {
        Err(vintage_store::Error::Json { path, source }) => {
            findings.breach("records that cannot be read", || {
                format!("{path}: {source}")
            });
            Vec::new()
        }
        records => records?,
    };
    for (path, record) in &records {
        findings.note("prunes", || {
            format!("{path}: `vintage prune` deleted {}", described(record))
        });
    }
    let topic = topics.rollouts();
    for (&(incarnation, partition), held) in inventory.partitions() {
        let Some(begins) = held.pruned else { continue };
        let said = records.iter().flat_map(|(_, record)| &record.archive);
        let said = said.filter(|files| files.topic == topic);
        let said =
            said.filter(|files| (files.incarnation, files.partition) == (incarnation, partition));
        if said.map(|files| files.next.0).max() < Some(begins) {
            findings.breach("archives that begin where no prune says", || {
                format!(
                    "the archive of incarnation {incarnation} partition {partition} begins at \
                     offset {begins} by its mark, and no record in prunes/ says that it was pruned \
                     so far"
                )
            });
        }
    }
    Ok(())
}

/// Lists what a record names, by class.
fn described(record: &PruneRecord) -> String {
    let mut classes = Vec::new();
    for (policy, of) in &record.versions {
        classes.push(format!(
            "the weights of {} versions of {policy}",
            of.versions.len()
        ));
    }
    for (learner, of) in &record.checkpoints {
        classes.push(format!("{} checkpoints of {learner}", of.versions.len()));
    }
    if !record.archive.is_empty() {
        let files: u64 = record.archive.iter().map(|files| files.objects).sum();
        let partitions = record.archive.len();
        classes.push(format!(
            "{files} archive files, the first of {partitions} partitions"
        ));
    }
    if !record.journals.is_empty() {
        classes.push(format!(
            "{} journals, whose numbers it keeps",
            record.journals.len()
        ));
    }
    classes.join(", ")
}
