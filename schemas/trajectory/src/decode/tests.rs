//! Tests that reading any bytes ends in a value or an error. They call code below the
//! `catch_unwind`, so a panic in the Arrow library fails them too.

use arrow::ipc::root_as_message;
use proptest::prelude::*;

use super::{copied, decode, guard};
use crate::{digest::content_sha256, error::Error, rows::Rows, template::TEMPLATE, validate};

const FULL: &[u8] = include_bytes!("../../tests/golden/full.arrow");
const MINIMAL: &[u8] = include_bytes!("../../tests/golden/minimal.arrow");

/// Reads the bytes and, if they can be read, every value in them. Returns true if they could.
fn examine(bytes: &[u8]) -> bool {
    let Ok(rows) = decode(bytes, copied).and_then(Rows::from_batch) else {
        return false;
    };
    let trajectories = rows.to_trajectories();
    assert_eq!(trajectories.len(), rows.len());
    for row in 0..rows.len() {
        for token in 0..=rows.completion_tokens(row).len() {
            rows.version_of(row, token);
            rows.is_trained(row, token);
        }
    }
    assert!(rows.min_version() <= rows.max_version());
    content_sha256([&rows]);
    drop(validate(&rows));
    true
}

#[test]
fn every_byte_may_be_damaged() {
    let mut read = 0;
    for golden in [FULL, MINIMAL] {
        let mut bytes = golden.to_vec();
        for at in 0..bytes.len() {
            for damage in [0x01, 0x80, 0xff] {
                bytes[at] ^= damage;
                read += usize::from(examine(&bytes));
                bytes[at] ^= damage;
            }
        }
    }
    // Damage to padding and to plain values cannot be detected here; the header crc32c detects it.
    assert!(read > 0);
}

#[test]
fn every_number_of_the_metadata_may_be_forged() {
    let forged = [
        i64::MIN,
        -1,
        0,
        1,
        7,
        8,
        9,
        64,
        1 << 20,
        1 << 30,
        i64::from(i32::MAX),
        1 << 32,
        1 << 62,
        i64::MAX,
    ];
    for golden in [FULL, MINIMAL] {
        let mut bytes = golden.to_vec();
        for at in (0..TEMPLATE.prefix.len()).step_by(4) {
            for value in forged {
                let original: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
                examine(&bytes);
                bytes[at..at + 8].copy_from_slice(&original);
                let original: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
                bytes[at..at + 4].copy_from_slice(&(value as i32).to_le_bytes());
                examine(&bytes);
                bytes[at..at + 4].copy_from_slice(&original);
            }
        }
    }
}

#[test]
fn every_offset_of_the_body_may_be_forged() {
    let mut bytes = FULL.to_vec();
    for at in (TEMPLATE.prefix.len()..bytes.len() - 8).step_by(4) {
        for value in [i32::MIN, -1, 0, 1, 2, 5, 100, i32::MAX - 1, i32::MAX] {
            let original: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            examine(&bytes);
            bytes[at..at + 4].copy_from_slice(&original);
        }
    }
}

#[test]
fn every_length_is_refused_but_the_whole() {
    for golden in [FULL, MINIMAL] {
        assert!(examine(golden));
        for end in 0..golden.len() {
            assert!(!examine(&golden[..end]), "{end} bytes were read");
        }
    }
}

#[test]
fn payloads_lie_anywhere() {
    let mut bytes = vec![0; FULL.len() + 8];
    for shift in 0..8 {
        bytes[shift..shift + FULL.len()].copy_from_slice(FULL);
        assert!(
            examine(&bytes[shift..shift + FULL.len()]),
            "shifted by {shift}"
        );
    }
}

/// A panic of the decoder costs its message and nothing else. No input is known to cause one.
#[test]
fn a_panic_becomes_an_error() {
    for panic in [|| panic!("at {}", 3), || panic!("at 3")] {
        let error = guard::<()>(7, panic).unwrap_err();
        let Error::Panicked { bytes: 7, reason } = error else {
            panic!("{error}")
        };
        assert_eq!(reason, "at 3");
    }
}

/// Positions that the encoder patches are those at which a reader finds the numbers.
#[test]
fn the_template_is_a_batch_of_this_schema() {
    let metadata = &TEMPLATE.prefix[TEMPLATE.schema_len + 8..];
    let message = root_as_message(metadata).unwrap();
    let header = message.header_as_record_batch().unwrap();
    assert_eq!(header.length(), 1);
    assert_eq!(header.nodes().unwrap().len(), TEMPLATE.validity.len());
    assert_eq!(header.buffers().unwrap().len(), TEMPLATE.buffers);
    assert_eq!(TEMPLATE.prefix.len() % 8, 0);
    let number = |at: usize| i64::from_le_bytes(TEMPLATE.prefix[at..at + 8].try_into().unwrap());
    assert_eq!(number(TEMPLATE.rows_at), 1);
    assert_eq!(number(TEMPLATE.body_len_at), message.bodyLength());
    let last = header.buffers().unwrap().get(TEMPLATE.buffers - 1);
    assert_eq!(
        number(TEMPLATE.buffers_at + 16 * (TEMPLATE.buffers - 1)),
        last.offset()
    );
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        examine(&bytes);
    }

    #[test]
    fn any_bytes_behind_the_schema(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let message = [&FULL[..TEMPLATE.schema_len], &bytes].concat();
        examine(&message);
    }

    #[test]
    fn any_metadata_in_a_frame(
        metadata in prop::collection::vec(any::<u8>(), 8..1024),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let length = (metadata.len() as u32).to_le_bytes();
        examine(&[&[0xff; 4], &length[..], &metadata, &body].concat());
    }

    #[test]
    fn much_damage(
        edits in prop::collection::vec((0..FULL.len(), any::<u8>()), 1..12),
        cut in 0..FULL.len(),
    ) {
        let mut bytes = FULL.to_vec();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        examine(&bytes);
        bytes.drain(cut..(cut + 8).min(FULL.len()));
        examine(&bytes);
    }
}
