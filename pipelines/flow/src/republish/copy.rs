//! Conversion of an archived message back to a Kafka record.

use bytes::Bytes;
use vintage_archive::{ArchivedMessage, Selection};
use vintage_bus::{Header, Outgoing, Record};
use vintage_control::{Incarnation, Offset, Partition, RecordId};
use vintage_store::sha256;
use vintage_trajectory::encode;

use crate::error::{Error, Result};

/// Header with the name of the replayed topic.
const OF: &str = "replay-of";
/// Header with the record's position in the replayed topic, `<incarnation>/<partition>/<offset>`.
const FROM: &str = "replay-from";
/// Header with the selection that took the record: 16 hexadecimal digits of a digest.
const SELECTION: &str = "replay-selection";
/// Header with the CRC-32C of the payload.
const CRC: &str = "crc32c";

/// Converter from archived messages to records, which also recognises records it made.
#[derive(Debug, Clone)]
pub(super) struct Copier {
    topic: String,
    selection: String,
}

/// Record to be published.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) record: Outgoing,
    pub(super) rows: u64,
    /// True if the payload differs in its bytes from the original's.
    pub(super) reencoded: bool,
}

impl Copier {
    pub(super) fn new(topic: &str, selection: &Selection) -> Result<Self> {
        let json = serde_json::to_vec(selection)
            .map_err(|error| Error::Bug(format!("the filters cannot be written: {error}")))?;
        let digest = sha256(&json).to_string();
        Ok(Self {
            topic: topic.to_owned(),
            selection: digest[..16].to_owned(),
        })
    }

    /// Returns the message as it was, with its origin in three added headers, which replace those
    /// of an earlier replay.
    ///
    /// An archive keeps values, not encodings. A re-encoded message has its original bytes, unless
    /// another program encoded it; then its `crc32c` header is adapted.
    pub(super) fn copy(&self, message: &ArchivedMessage) -> Result<Copied> {
        let at = message.record;
        let refuse = |why: String| Error::ArchivedRecord {
            record: at,
            reason: why,
        };
        let rows = message
            .rows
            .as_ref()
            .map_err(|bad| refuse(format!("it was quarantined: {}", bad.reason)))?;
        let payload = encode(&rows.to_trajectories()).map_err(|error| refuse(error.to_string()))?;
        let crc = crc32c::crc32c(&payload);
        let reencoded = message.payload_crc32c != Some(crc);
        let mut headers = message.raw_headers.clone();
        headers.retain(|header| ![OF, FROM, SELECTION].contains(&header.key.as_str()));
        if reencoded {
            let stated = headers.iter_mut().filter(|header| header.key == CRC);
            stated.for_each(|header| header.value = Some(format!("{crc:08x}").into()));
        }
        let origin = [
            (OF, self.topic.clone()),
            (
                FROM,
                format!("{}/{}/{}", at.incarnation, at.partition, at.offset),
            ),
            (SELECTION, self.selection.clone()),
        ];
        headers.extend(origin.map(|(key, value)| Header {
            key: key.to_owned(),
            value: Some(value.into()),
        }));
        Ok(Copied {
            record: Outgoing {
                partition: Some(at.partition),
                timestamp_ms: message.timestamp_ms,
                key: message.key.clone(),
                headers,
                payload: Some(payload),
            },
            rows: rows.len() as u64,
            reencoded,
        })
    }

    /// Returns the archived record of which a record of the target is a copy.
    ///
    /// # Errors
    /// The reason why the record is not from this replay.
    pub(super) fn origin(&self, record: &Record) -> Result<RecordId, String> {
        let of = text(record, OF).ok_or("is no replay's")?;
        if of != self.topic {
            return Err(format!("is of a replay of {of:?}"));
        }
        if text(record, SELECTION).as_ref() != Some(&self.selection) {
            return Err("is of a replay with other filters".to_owned());
        }
        let from = text(record, FROM).unwrap_or_default();
        let mut numbers = from.split('/');
        let mut number = || numbers.next()?.parse::<i64>().ok();
        match (number(), number(), number()) {
            (Some(incarnation), Some(partition), Some(offset)) if numbers.next().is_none() => {
                Ok(RecordId {
                    incarnation: Incarnation(incarnation as u32),
                    partition: Partition(partition as i32),
                    offset: Offset(offset),
                })
            }
            _ => Err(format!("has a {FROM} header that cannot be read: {from:?}")),
        }
    }
}

/// Returns the text of a header; `None` if it is missing or not UTF-8.
fn text(record: &Record, key: &str) -> Option<String> {
    let header = record.headers.iter().find(|header| header.key == key)?;
    let value: &Bytes = header.value.as_ref()?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}
