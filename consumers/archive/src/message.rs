use bytes::Bytes;
use vintage_bus::{Header, Record};
use vintage_control::{Offset, RecordId, Sha256};
use vintage_trajectory::{BadClass, BadRecord, Headers, Identity, Rows, read_again, read_record};

/// Longest payload of a quarantined record that is kept whole; of a longer one this much.
pub const BAD_PAYLOAD_LIMIT: usize = 1 << 20;
/// A reason is one line for people, and may quote the message.
const REASON_LIMIT: usize = 1000;

/// What the log held at one offset, decoded or not: what the sink buffers.
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
        let (body, payload_crc32c) = match read_record(pairs, record.payload.as_deref()) {
            // The payload was found to have the CRC-32C that the headers claim.
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

    /// The class to count it under, if it cannot be decoded.
    pub(crate) fn quarantined(&self) -> Option<&'static str> {
        match &self.body {
            Body::Rows(_) => None,
            Body::Bad { class, .. } => Some(class.as_str()),
        }
    }

    /// Rows it takes in the file: a quarantined record takes one.
    pub(crate) fn rows(&self) -> usize {
        match &self.body {
            Body::Rows(rows) => rows.len(),
            Body::Bad { .. } => 1,
        }
    }

    /// About what it holds in memory.
    pub(crate) fn bytes(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.key.len() + length(&h.value))
            .sum();
        // Decoded rows lie in one copy of the payload.
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

/// One message of the log, out of the archive.
#[derive(Debug)]
pub struct ArchivedMessage {
    /// Where it stood.
    pub record: RecordId,
    /// Kafka's timestamp, milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Kafka key.
    pub key: Option<Bytes>,
    /// All headers as they were.
    pub raw_headers: Vec<Header>,
    /// The headers this system knows, parsed.
    pub headers: Result<Headers, vintage_trajectory::Error>,
    /// What can be read of them, parsed or not.
    pub identity: Identity,
    /// CRC-32C of the payload as the sink received it; `None` if there was none.
    pub payload_crc32c: Option<u32>,
    /// The rows, or why there are none.
    pub rows: Result<Rows, Quarantined>,
}

impl ArchivedMessage {
    /// Headers and rows, or why there are none: what [`read_record`] said of the record itself.
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

/// What is kept of a record that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Why it could not.
    pub reason: String,
    /// Its payload, cut to [`BAD_PAYLOAD_LIMIT`] bytes; `None` if it had none.
    pub payload: Option<Bytes>,
    /// Length of the whole payload, bytes.
    pub payload_bytes: u64,
    /// Digest of the whole payload.
    pub payload_sha256: Option<Sha256>,
}
