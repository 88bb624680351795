use vintage_trajectory::{Rows, content_sha256, encode, plausible, validate};

/// Checks that a message which decodes is encoded again to the same rows and the same digest.
pub(crate) fn body(bytes: &[u8]) -> bool {
    let Ok(rows) = Rows::decode(bytes) else {
        return false;
    };
    // Any verdict is allowed; they must only not panic.
    let _ = (validate(&rows), plausible(&rows));
    let again = encode(&rows.to_trajectories()).expect("rows that were decoded can be encoded");
    let decoded = Rows::decode(&again).expect("what was encoded can be decoded");
    assert_eq!(
        content_sha256([&rows]),
        content_sha256([&decoded]),
        "the digest is of the values, not of their encoding"
    );
    let thrice = encode(&decoded.to_trajectories()).expect("encoded before");
    assert!(again == thrice, "encoding is a function of the rows");
    true
}
