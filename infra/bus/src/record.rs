use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use vintage_control::{Offset, Partition};

/// A header of a record. Kafka allows a key several times and a value that is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub key: String,
    /// Its bytes, or null.
    pub value: Option<Bytes>,
}

/// One record as it lies in the log. Each part is copied out of the client once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
    /// When it was produced, milliseconds since the epoch, if the producer said.
    pub timestamp_ms: Option<i64>,
    /// Its key, or null.
    pub key: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
    /// Its value, or null (a deletion in a compacted topic).
    pub payload: Option<Bytes>,
}

/// A record to be appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Its partition; that of its key if none is given.
    pub partition: Option<Partition>,
    /// When it was produced, milliseconds since the epoch; now if not given.
    pub timestamp_ms: Option<i64>,
    /// Its key, or null.
    pub key: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
    /// Its value, or null.
    pub payload: Option<Bytes>,
}

/// Where an acknowledged record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its partition.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
}

/// Upper bound of Kafka's framing of a record that is alone in its batch: 61 bytes of batch
/// header and under 39 of lengths, deltas and attributes.
const RECORD_FRAME: usize = 100;
/// Two variable-length lengths, at most 5 bytes each.
const HEADER_FRAME: usize = 10;

impl Outgoing {
    /// Upper bound of what it takes uncompressed in a partition.
    pub(crate) fn bytes(&self) -> usize {
        in_partition(self.key.as_ref(), &self.headers, self.payload.as_ref())
    }
}

fn in_partition(key: Option<&Bytes>, headers: &[Header], payload: Option<&Bytes>) -> usize {
    let length = |part: Option<&Bytes>| part.map_or(0, Bytes::len);
    let headers = headers
        .iter()
        .map(|header| HEADER_FRAME + header.key.len() + length(header.value.as_ref()));
    RECORD_FRAME + length(key) + length(payload) + headers.sum::<usize>()
}

impl Record {
    /// Copies a record out of librdkafka's buffer, once.
    pub(crate) fn copied(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: Partition(message.partition()),
            offset: Offset(message.offset()),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            headers: message
                .headers()
                .map(|headers| {
                    headers
                        .iter()
                        .map(|header| Header {
                            key: header.key.to_owned(),
                            value: header.value.map(Bytes::copy_from_slice),
                        })
                        .collect()
                })
                .unwrap_or_default(),
            payload: message.payload().map(Bytes::copy_from_slice),
        }
    }

    /// What the record takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        in_partition(self.key.as_ref(), &self.headers, self.payload.as_ref())
    }
}
