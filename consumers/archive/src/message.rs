//! Messages of the log on their way into the archive and out of it.
use bytes::Bytes;
use vintage_bus::{Header, Record};
use vintage_control::{Offset, RecordId, Sha256};
use vintage_trajectory::{BadClass, BadRecord, Headers, Identity, Rows, read_again, read_record};

/// Number of payload bytes kept of a quarantined record, 1 MiB; longer payloads are cut to this
/// length.
pub const BAD_PAYLOAD_LIMIT: usize = 1 << 20;
/// Maximum length of a quarantine reason in bytes. A reason is one line for people, and may quote
/// the message.
const REASON_LIMIT: usize = 1000;

/// Record of the log as the sink buffers it, decoded or not.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) offset: Offset,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
    /// CRC-32C of the payload as received, whatever the headers claim; `None` without payload.
    pub(crate) payload_crc32c: Option<u32>,
    payload_len: usize,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Rows(Rows),
    Bad {
        class: BadClass,
        reason: String,
        payload: Option<Bytes>,
    },
}

impl Message {
    pub(crate) fn of(record: Record) -> Self {
        let pairs = record.headers.iter();
        let pairs = pairs.map(|h| (h.key.as_str(), h.value.as_deref()));
        let (body, payload_crc32c) = match read_record(pairs, record.payload.as_ref()) {
            // Reading the record verified that the payload has the CRC-32C which the headers claim.
            Ok((headers, rows)) => (Body::Rows(rows), Some(headers.crc32c)),
            Err(BadRecord { class, detail, .. }) => {
                let payload = record.payload.clone();
                let crc32c = payload.as_deref().map(crc32c::crc32c);
                let body = Body::Bad {
                    class,
                    reason: truncated(detail),
                    payload,
                };
                (body, crc32c)
            }
        };
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            headers: record.headers,
            payload_crc32c,
            payload_len: record.payload.as_ref().map_or(0, Bytes::len),
            body,
        }
    }

    /// Returns the class under which the record is counted if it cannot be decoded, else `None`.
    pub(crate) fn quarantined(&self) -> Option<&'static str> {
        match &self.body {
            Body::Rows(_) => None,
            Body::Bad { class, .. } => Some(class.as_str()),
        }
    }

    /// Number of rows that the message takes in the file; a quarantined record takes one.
    pub(crate) fn rows(&self) -> usize {
        match &self.body {
            Body::Rows(rows) => rows.len(),
            Body::Bad { .. } => 1,
        }
    }

    /// Approximate number of bytes that the message holds in memory.
    pub(crate) fn bytes(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.key.len() + length(&h.value))
            .sum();
        // Decoded rows share one copy of the payload.
        size_of::<Self>() + length(&self.key) + headers + self.payload_len
    }
}

fn truncated(mut reason: String) -> String {
    let mut end = REASON_LIMIT.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

/// Message of the log, read from the archive.
#[derive(Debug)]
pub struct ArchivedMessage {
    /// Position in the log: incarnation, partition and offset.
    pub record: RecordId,
    /// Kafka's timestamp, milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Kafka key of the record.
    pub key: Option<Bytes>,
    /// All headers of the record, unchanged.
    pub raw_headers: Vec<Header>,
    /// Headers of the trajectory format, parsed.
    pub headers: Result<Headers, vintage_trajectory::Error>,
    /// Identity of the group as far as it can be read from the headers, even if they do not parse.
    pub identity: Identity,
    /// CRC-32C of the payload as the sink received it; `None` if there was no payload.
    pub payload_crc32c: Option<u32>,
    /// Decoded rows, or the remains of a record that could not be decoded.
    pub rows: Result<Rows, Quarantined>,
}

impl ArchivedMessage {
    /// Returns headers and rows, or the same error that [`read_record`] gave for the record itself.
    ///
    /// # Errors
    /// The record is quarantined.
    pub fn into_read(self) -> Result<(Headers, Rows), BadRecord> {
        let bad = match (self.headers, self.rows) {
            (Ok(headers), Ok(rows)) => return Ok((headers, rows)),
            (headers, rows) => (headers, rows.err()),
        };
        let (headers, quarantined) = bad;
        let reason = quarantined.map_or_else(String::new, |bad| bad.reason);
        let pairs = self.raw_headers.iter();
        let pairs = pairs.map(|h| (h.key.as_str(), h.value.as_deref()));
        Err(read_again(
            pairs,
            &headers,
            self.payload_crc32c.is_some(),
            &reason,
        ))
    }
}

/// Remains of a record that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Reason for which the record could not be decoded.
    pub reason: String,
    /// Payload, cut to [`BAD_PAYLOAD_LIMIT`] bytes; `None` if the record had none.
    pub payload: Option<Bytes>,
    /// Length of the whole payload in bytes.
    pub payload_bytes: u64,
    /// SHA-256 of the whole payload; `None` if the record had none.
    pub payload_sha256: Option<Sha256>,
}
