//! Tests of messages that pyarrow 26 wrote from the values of `golden/full.arrow`, with fields
//! declared nullable (pyarrow's default) and without schema metadata.

use vintage_trajectory::{Rows, encode, validate};

use crate::sample::full;

macro_rules! foreign {
    ($name:literal) => {
        include_bytes!(concat!("../foreign/", $name, ".arrow"))
    };
}

#[test]
fn pyarrows_message_is_read() {
    let rows = Rows::decode(foreign!("pyarrow")).unwrap();
    assert_eq!(rows.to_trajectories(), [full()]);
    validate(&rows).unwrap();
    assert_eq!(
        encode(&rows.to_trajectories()).unwrap(),
        encode(&[full()]).unwrap()
    );
}

#[test]
fn what_is_not_v1_is_refused_with_the_reason() {
    refuse(
        foreign!("lz4"),
        &["compressed", "leave compression to Kafka"],
    );
    refuse(
        foreign!("null"),
        &["'policy'", "null values", "correct what encoded it"],
    );
    refuse(foreign!("null_token"), &["null"]);
    refuse(
        foreign!("dictionary"),
        &["column policy", "dictionary-encoded"],
    );
    refuse(
        foreign!("int64_tokens"),
        &["column completion_tokens", "64 bits", "Int32"],
    );
    refuse(
        foreign!("large_string"),
        &["column policy", "LargeUtf8", "Utf8"],
    );
    refuse(
        foreign!("schema_2"),
        &["vintage.trajectory/2", "vintage.trajectory/1"],
    );
}

fn refuse(message: &[u8], parts: &[&str]) {
    let error = Rows::decode(message).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}
