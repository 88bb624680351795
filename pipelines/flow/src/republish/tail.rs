//! Resume position of a replay, determined from the target topic alone.

use std::collections::BTreeMap;

use vintage_archive::Reader;
use vintage_bus::{Bus, Outgoing, Record};
use vintage_control::{Offset, Partition, RecordId};

use super::copy::Copier;
use crate::{
    broker::PATIENCE,
    error::{Error, Result},
};

/// Number of times the topic may grow between two looks before it is refused: the last requests of
/// a killed process may still be queued at the broker.
const LOOKS: usize = 10;

/// Ends of the target's partitions.
#[derive(Debug)]
pub(super) struct Tails {
    /// Offset that the next record of each partition will have.
    pub(super) next: BTreeMap<Partition, Offset>,
    /// Archived record that the last record of each partition is a copy of; only partitions with
    /// records.
    pub(super) last: BTreeMap<Partition, RecordId>,
}

impl Tails {
    /// Reads the last record of each partition and compares it, byte for byte, with the copy that
    /// would be published in its place.
    pub(super) async fn read(
        bus: &Bus,
        to: &str,
        reader: &Reader,
        copier: &Copier,
    ) -> Result<Self> {
        let mut marks = bus.watermarks(to).await?;
        for _ in 0..LOOKS {
            let records = last_records(bus, to, &marks).await?;
            let mut last = BTreeMap::new();
            for record in records {
                let origin = check(to, reader, copier, &record).await?;
                last.insert(record.partition, origin);
            }
            let now = bus.watermarks(to).await?;
            if now == marks {
                let next = now
                    .into_iter()
                    .map(|(partition, _, high)| (partition, high));
                return Ok(Self {
                    next: next.collect(),
                    last,
                });
            }
            marks = now;
        }
        Err(Error::Target {
            topic: to.to_owned(),
            reason: "grows while nothing is published here: another process writes to it; end \
                     that, or name another topic"
                .to_owned(),
        })
    }
}

async fn last_records(
    bus: &Bus,
    to: &str,
    marks: &[(Partition, Offset, Offset)],
) -> Result<Vec<Record>> {
    let mut start = BTreeMap::new();
    for &(partition, low, high) in marks {
        if low < high {
            start.insert(partition, Offset(high.0 - 1));
        } else if high.0 > 0 {
            return Err(Error::Target {
                topic: to.to_owned(),
                reason: format!(
                    "has lost its records of partition {partition}, up to offset {high}: where a \
                     replay was is unknown; name another topic"
                ),
            });
        }
    }
    let from = |partition, _, _| start.get(&partition).copied();
    let mut reading = bus.snapshot("replay-tail", to, from).await?;
    let mut records: Vec<Record> = Vec::with_capacity(start.len());
    loop {
        let record = match reading.next_within(PATIENCE).await {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(vintage_bus::Error::Silent { waited, .. }) => {
                return Err(Error::Undelivered(format!(
                    "the last record of a partition of topic {to} did not come within {} s: check \
                     the broker, and start again",
                    waited.as_secs()
                )));
            }
            Err(error) => return Err(error.into()),
        };
        // Another process may append meanwhile: that is seen afterwards.
        if start.get(&record.partition) == Some(&record.offset) {
            records.push(record);
        }
    }
    let came = |partition: &Partition| records.iter().any(|record| record.partition == *partition);
    if let Some((partition, offset)) = start.iter().find(|(partition, _)| !came(partition)) {
        return Err(Error::Target {
            topic: to.to_owned(),
            reason: format!(
                "holds no record at partition {partition} offset {offset}, where it ends: another \
                 program wrote to it in a transaction, or it is compacted; name another topic"
            ),
        });
    }
    Ok(records)
}

async fn check(to: &str, reader: &Reader, copier: &Copier, record: &Record) -> Result<RecordId> {
    let (partition, offset) = (record.partition, record.offset);
    let refuse = |why: &str| Error::Target {
        topic: to.to_owned(),
        reason: format!(
            "cannot be gone on with: its record at partition {partition} offset {offset} {why}; \
             give the same archive and filters as before, or name another topic"
        ),
    };
    let origin = copier.origin(record).map_err(|why| refuse(&why))?;
    let message = match reader.message(origin).await {
        Err(
            vintage_archive::Error::NotArchived { .. } | vintage_archive::Error::NoArchive { .. },
        ) => {
            return Err(refuse("is of a record that this archive does not hold"));
        }
        message => message?,
    };
    let expected = copier.copy(&message)?.record;
    let found = Outgoing {
        partition: Some(record.partition),
        // A record without a timestamp got one when it was appended.
        timestamp_ms: expected.timestamp_ms.and(record.timestamp_ms),
        key: record.key.clone(),
        headers: record.headers.clone(),
        payload: record.payload.clone(),
    };
    if found == expected {
        Ok(origin)
    } else {
        Err(refuse("is not what this archive holds in its place"))
    }
}
