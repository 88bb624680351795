//! Golden files that fix the wire format. New ones are added for a new version; old ones are never
//! edited, since messages like them are in people's archives.

use vintage_trajectory::{Headers, Rows, Trajectory, content_sha256, encode, validate};

use crate::sample::{full, granted_headers, headers, minimal};

#[test]
fn full_message() {
    examine(include_bytes!("../golden/full.arrow"), full());
}

#[test]
fn minimal_message() {
    examine(include_bytes!("../golden/minimal.arrow"), minimal());
}

fn examine(golden: &[u8], row: Trajectory) {
    let rows = Rows::decode(golden).unwrap();
    assert_eq!(rows.to_trajectories(), std::slice::from_ref(&row));
    assert_eq!(rows.trajectory_id(0), row.trajectory_id());
    validate(&rows).unwrap();
    assert!(
        encode(&[row]).unwrap() == golden,
        "the encoder writes other bytes than it used to"
    );
}

/// The digest of given rows may never change, because plans hold it.
#[test]
fn content_digests() {
    let digest = |golden| content_sha256([&Rows::decode(golden).unwrap()]).to_string();
    assert_eq!(
        digest(include_bytes!("../golden/full.arrow")),
        include_str!("../golden/full.sha256").trim()
    );
    assert_eq!(
        digest(include_bytes!("../golden/minimal.arrow")),
        include_str!("../golden/minimal.sha256").trim()
    );
}

#[test]
fn header_pairs() {
    examine_headers(include_str!("../golden/headers.json"), &headers());
}

/// Checks the message of a run that grants slots, which is no replay.
#[test]
fn header_pairs_with_a_slot() {
    examine_headers(
        include_str!("../golden/headers_slot.json"),
        &granted_headers(),
    );
}

fn examine_headers(golden: &str, headers: &Headers) {
    let golden: serde_json::Map<String, serde_json::Value> = serde_json::from_str(golden).unwrap();
    let texts: Vec<_> = golden
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect();
    let parsed = Headers::parse(
        texts
            .iter()
            .map(|(key, text)| (*key, Some(text.as_bytes()))),
    )
    .unwrap();
    assert_eq!(parsed, *headers);
    parsed
        .check_payload(include_bytes!("../golden/full.arrow"))
        .unwrap();
    parsed
        .check_rows(&Rows::decode(include_bytes!("../golden/full.arrow")).unwrap())
        .unwrap();

    let mut written: Vec<_> = headers
        .to_pairs()
        .into_iter()
        .map(|(key, value)| (key, String::from_utf8(value).unwrap()))
        .collect();
    written.sort();
    let mut expected: Vec<_> = texts
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(written, expected);
}
