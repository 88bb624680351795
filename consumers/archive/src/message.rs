use bytes::Bytes;
use vintage_bus::{Header, Record};
use vintage_control::{Offset, RecordId, Sha256};
use vintage_trajectory::{Headers, Rows};

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
        /// As a class to count by: `no_payload`, `bad_headers` or `undecodable`.
        class: &'static str,
        reason: String,
        payload: Option<Bytes>,
    },
}

impl Message {
    pub(crate) fn of(record: Record) -> Self {
        let (body, payload_crc32c) = match decode(&record) {
            Ok((rows, crc32c)) => (Body::Rows(rows), Some(crc32c)),
            Err((class, reason)) => {
                let reason = truncated(reason);
                let payload = record.payload.clone();
                let crc32c = payload.as_deref().map(crc32c::crc32c);
                let body = Body::Bad {
                    class,
                    reason,
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
            Body::Bad { class, .. } => Some(class),
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

/// The rows, and the CRC-32C that the headers claim and the payload was found to have; or what
/// kind of bad record it is, and why.
fn decode(record: &Record) -> Result<(Rows, u32), (&'static str, String)> {
    let Some(payload) = &record.payload else {
        return Err(("no_payload", "it has no payload".to_owned()));
    };
    let pairs = record
        .headers
        .iter()
        .map(|h| (h.key.as_str(), h.value.as_deref()));
    let headers = Headers::parse(pairs).map_err(|error| ("bad_headers", error.to_string()))?;
    let rows = headers.check_payload(payload);
    let rows = rows.and_then(|()| Rows::decode(payload));
    let rows = rows.map_err(|error| ("undecodable", error.to_string()))?;
    Ok((rows, headers.crc32c))
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
    /// CRC-32C of the payload as the sink received it; `None` if there was none.
    pub payload_crc32c: Option<u32>,
    /// The rows, or why there are none.
    pub rows: Result<Rows, Quarantined>,
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
