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

/// A header of a record. Kafka allows a key several times and a value that is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name; what is not UTF-8 in it has become U+FFFD.
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
    /// When it was produced, milliseconds since the epoch, if the producer said a time of
    /// [`TIMES_MS`]: Kafka takes any number, and readers of an archive have no date for the others.
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
            timestamp_ms: time_of(message.timestamp().to_millis()),
            key: message.key().map(Bytes::copy_from_slice),
            headers: message.headers().map(headers_of).unwrap_or_default(),
            payload: message.payload().map(Bytes::copy_from_slice),
        }
    }

    /// What the record takes in memory, about.
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

/// One header. The client's own accessor panics on a name that is not UTF-8, which a producer in
/// another language may well write: one such record would end every reader of its topic.
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
        // SAFETY: the headers are owned by this test; name and value are of the lengths told.
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
