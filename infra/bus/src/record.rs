use std::{
    ffi::{CStr, c_char},
    ptr, slice,
};

use bytes::Bytes;
use rdkafka::{
    bindings::rd_kafka_header_get_all,
    error::IsError as _,
    message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _},
    types::RDKafkaHeaders,
};
use vintage_control::{Offset, Partition, TIMES_MS};

/// Header of a record. Kafka allows repeated keys and null values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name of the header; invalid UTF-8 is replaced by U+FFFD.
    pub key: String,
    /// Value of the header; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// Record read from a topic. Each part is copied out of librdkafka's buffer once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Partition that holds the record.
    pub partition: Partition,
    /// Offset of the record in its partition.
    pub offset: Offset,
    /// Timestamp in milliseconds since the epoch; `None` outside [`TIMES_MS`]. Kafka accepts any
    /// number, but readers of an archive have no date for others.
    pub timestamp_ms: Option<i64>,
    /// Key of the record; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// Headers of the record, in the order in which they were written.
    pub headers: Vec<Header>,
    /// Value of the record; `None` is Kafka's null (a tombstone in a compacted topic).
    pub payload: Option<Bytes>,
}

/// Record to be appended by a producer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Target partition; `None` derives it from the key.
    pub partition: Option<Partition>,
    /// Timestamp in milliseconds since the epoch; `None` means now.
    pub timestamp_ms: Option<i64>,
    /// Key of the record; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// Headers of the record, in the order to be written.
    pub headers: Vec<Header>,
    /// Value of the record; `None` is Kafka's null.
    pub payload: Option<Bytes>,
}

/// Partition and offset of an acknowledged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Partition that holds the record.
    pub partition: Partition,
    /// Offset of the record in its partition.
    pub offset: Offset,
}

/// Upper bound of Kafka's framing for a record alone in its batch, in bytes: 61 of batch header and
/// under 39 of lengths, deltas and attributes.
const RECORD_FRAME: usize = 100;
/// Upper bound of a header's framing in bytes: two variable-length lengths of at most 5 bytes each.
const HEADER_FRAME: usize = 10;

impl Outgoing {
    /// Upper bound of the record's uncompressed size in a partition, in bytes.
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
    /// Copies a record out of librdkafka's buffer.
    pub(crate) fn copied(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: Partition(message.partition()),
            offset: Offset(message.offset()),
            timestamp_ms: time_of(message.timestamp().to_millis()),
            key: message.key().map(Bytes::copy_from_slice),
            headers: message.headers().map(headers_of).unwrap_or_default(),
            payload: message.payload().map(Bytes::copy_from_slice),
        }
    }

    /// Approximate size of the record in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        in_partition(self.key.as_ref(), &self.headers, self.payload.as_ref())
    }
}

fn time_of(ms: Option<i64>) -> Option<i64> {
    ms.filter(|ms| TIMES_MS.contains(ms))
}

fn headers_of(headers: &BorrowedHeaders) -> Vec<Header> {
    (0..headers.count())
        .filter_map(|at| header_at(headers, at))
        .collect()
}

/// Reads the header at index `at`. rust-rdkafka's own accessor panics on a name that is not UTF-8,
/// which a producer in another language can write: one such record would end every reader of its
/// topic.
#[expect(
    unsafe_code,
    reason = "the client's accessor panics on names that are no UTF-8"
)]
fn header_at(headers: &BorrowedHeaders, at: usize) -> Option<Header> {
    let native: *const RDKafkaHeaders = ptr::from_ref(headers).cast();
    let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null(), 0);
    // SAFETY: a `BorrowedHeaders` is librdkafka's own headers behind a reference; they live as long
    // as it does, and the three out-parameters are valid.
    let found = unsafe {
        rd_kafka_header_get_all(native, at, &raw mut name, &raw mut value, &raw mut size)
    };
    if found.is_error() || name.is_null() {
        return None;
    }
    // SAFETY: librdkafka ends every name with a NUL, and both point into `headers`.
    let (key, value) = unsafe {
        let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
        (CStr::from_ptr(name), value)
    };
    Some(Header {
        key: key.to_string_lossy().into_owned(),
        value: value.map(Bytes::copy_from_slice),
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::{bindings::rd_kafka_header_add, message::OwnedHeaders};

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the safe interface writes UTF-8 only")]
    fn a_header_whose_name_is_no_text_is_read() {
        let text = rdkafka::message::Header {
            key: "run",
            value: Some("a"),
        };
        let headers = OwnedHeaders::new().insert(text);
        let borrowed = headers.as_borrowed();
        let native: *mut RDKafkaHeaders = ptr::from_ref(borrowed).cast_mut().cast();
        let name = b"x-\xff\xfe";
        // SAFETY: the headers are owned by this test; name and value have the lengths passed.
        let added = unsafe {
            let name_size = name.len() as isize;
            rd_kafka_header_add(native, name.as_ptr().cast(), name_size, ptr::null(), 0)
        };
        assert!(!added.is_error());
        let read = headers_of(borrowed);
        assert_eq!(
            (read[0].key.as_str(), read[0].value.as_deref()),
            ("run", Some(&b"a"[..]))
        );
        assert_eq!(
            (read[1].key.as_str(), &read[1].value),
            ("x-\u{fffd}\u{fffd}", &None)
        );
    }

    #[test]
    fn a_time_that_no_reader_has_a_date_for_is_none() {
        for ms in [0, 1_790_000_000_000] {
            assert_eq!(time_of(Some(ms)), Some(ms));
        }
        for ms in [i64::MIN, -1, 1_790_000_000_000_000, i64::MAX] {
            assert_eq!(time_of(Some(ms)), None, "{ms}");
        }
    }
}
