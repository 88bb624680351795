//! Readers that add journals, archive and log to the inventory.

use std::collections::BTreeMap;

use vintage_archive::{AHEAD, ArchiveFile, Reader};
use vintage_bus::Bus;
use vintage_control::{Incarnation, NumberSet, Offset, RecordId};
use vintage_trajectory::{content_sha256, read_record};

use crate::{
    error::Result,
    findings::Findings,
    inventory::{Inventory, RecordReport, partition_records::PartitionId},
};

/// Adds the groups that the log acknowledged, according to the producers' journals.
pub(super) fn journals(journals: &BTreeMap<String, NumberSet>, inventory: &mut Inventory) {
    for (producer, numbers) in journals {
        inventory.journal(producer);
        for (first, last) in numbers.runs() {
            for number in first..=last {
                inventory.acknowledge(producer, number);
            }
        }
    }
}

/// Adds every archive file of every incarnation, and continues past damaged files; returns the last
/// incarnation.
pub(super) async fn archive(
    reader: &Reader,
    deep: bool,
    inventory: &mut Inventory,
    findings: &mut Findings,
) -> Result<Option<Incarnation>> {
    let incarnations = reader.incarnations().await?;
    for &incarnation in &incarnations {
        let meta = reader.meta(incarnation).await?;
        for partition in reader.partitions(incarnation).await? {
            let place = (incarnation, partition);
            let bases = reader.bases(incarnation, partition).await?;
            let begun = meta.starts.get(&partition).copied().unwrap_or_default();
            let pruned = reader.pruned(incarnation, partition).await?;
            let mut next = pruned.map_or(begun, |pruned| pruned.max(begun));
            inventory.begin(place, begun.0);
            if let Some(pruned) = pruned {
                inventory.prune(place, pruned.0);
            }
            for (at, &base) in bases.iter().enumerate() {
                if at.is_multiple_of(AHEAD) {
                    let next = &bases[at..bases.len().min(at + AHEAD)];
                    reader.open_ahead(incarnation, partition, next).await;
                }
                check_chain(place, next, base, findings);
                let read = match reader.file(incarnation, partition, base).await {
                    Ok(file) => {
                        next = file.footer.next_offset;
                        file_of(reader, file, deep, inventory, findings).await
                    }
                    Err(error) => Err(error),
                };
                match read {
                    Ok(()) => inventory.claim(place, base.0..next.0),
                    Err(
                        error @ (vintage_archive::Error::Corrupt { .. }
                        | vintage_archive::Error::NotUnderstood { .. }),
                    ) => {
                        findings.breach("files that cannot be read", || error.to_string());
                        let following = bases.get(at + 1).copied();
                        next = following.unwrap_or(next.max(base.next()));
                        let end = following.map_or(i64::MAX, |following| following.0);
                        inventory.mark_unreadable(place, base.0..end);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(incarnations.last().copied())
}

fn check_chain(place: PartitionId, next: Offset, base: Offset, findings: &mut Findings) {
    if base == next {
        return;
    }
    let (incarnation, partition) = place;
    let kind = if base > next { "gap" } else { "overlap" };
    findings.breach("files that do not meet", || {
        format!(
            "the archive of incarnation {incarnation} partition {partition} has a {kind}: the \
             files before end at offset {next}, the next begins at {base}"
        )
    });
}

async fn file_of(
    reader: &Reader,
    file: ArchiveFile,
    deep: bool,
    inventory: &mut Inventory,
    findings: &mut Findings,
) -> vintage_archive::Result<()> {
    let footer = file.footer.clone();
    let path = file.path.clone();
    let (mut messages, mut rows, mut quarantined, mut outside) = (0, 0, 0, 0);
    let mut count = |report: &RecordReport, findings: &mut Findings| {
        messages += 1;
        rows += u64::from(report.rows.unwrap_or(0));
        quarantined += u64::from(report.rows.is_none());
        let claimed = footer.base_offset..footer.next_offset;
        outside += u64::from(!claimed.contains(&report.record.offset));
        inventory.archived(report, findings);
    };
    if deep {
        let mut all = reader.messages_in(file);
        while let Some(message) = all.next().await? {
            let rows = message.rows.as_ref().ok();
            let report = RecordReport {
                record: message.record,
                identity: message.identity.clone(),
                rows: rows.map(|rows| rows.len() as u32),
                crc32c: message.payload_crc32c,
                content: rows.map(|rows| content_sha256([rows])),
            };
            count(&report, findings);
        }
    } else {
        let mut heads = reader.heads_in(file);
        while let Some(head) = heads.next().await? {
            count(&RecordReport::of(&head), findings);
        }
    }
    let says = (footer.messages, footer.rows, footer.quarantined, 0);
    let holds = (messages, rows, quarantined, outside);
    if says != holds {
        findings.breach("files that differ from their footers", || {
            let (messages, rows, quarantined, outside) = holds;
            format!(
                "{path} holds {messages} messages, {rows} rows, {quarantined} quarantined and \
                 {outside} outside of the offsets it claims; its footer says {}, {} and {}",
                says.0, says.1, says.2
            )
        });
    }
    Ok(())
}

/// Adds the records that the log still holds.
pub(super) async fn topic(
    bus: &Bus,
    topic: &str,
    incarnation: Incarnation,
    deep: bool,
    inventory: &mut Inventory,
    findings: &mut Findings,
) -> Result<()> {
    let reading = bus.read_whole(topic, "audit", |record| {
        let headers = record.headers.iter();
        let headers = headers.map(|header| (header.key.as_str(), header.value.as_deref()));
        let read = read_record(headers, record.payload.as_ref());
        let (identity, rows) = match &read {
            Ok((headers, rows)) => (headers.into(), Some(rows)),
            Err(bad) => (bad.identity.clone(), None),
        };
        let report = RecordReport {
            record: RecordId {
                incarnation,
                partition: record.partition,
                offset: record.offset,
            },
            identity,
            rows: rows.map(|rows| rows.len() as u32),
            crc32c: record.payload.as_deref().map(crc32c::crc32c),
            content: rows.filter(|_| deep).map(|rows| content_sha256([rows])),
        };
        inventory.found_live(&report, findings);
    });
    let read = reading.await?;
    for (partition, low, high) in &read.marks {
        inventory.live((incarnation, *partition), low.0..high.0);
    }
    for (partition, offset) in &read.silent {
        findings.note("ends of the log that did not come", || {
            format!("topic {topic} gave nothing of partition {partition} from offset {offset} on")
        });
    }
    if !read.marks.is_empty() {
        for withheld in bus.withheld(topic).await? {
            findings.note("records that cannot be read yet", || {
                format!("topic {topic} {withheld}")
            });
        }
    }
    if read.marks.is_empty() {
        findings.note("no topic", || {
            format!("the broker has no topic {topic}: only the archive speaks for the log")
        });
    }
    Ok(())
}
