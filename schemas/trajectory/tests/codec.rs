//! The codec as other crates use it.

mod sample;

use sample::{full, minimal};
use vintage_trajectory::{Rows, encode, encoded_len, schema, validate};

#[test]
fn what_is_encoded_decodes_to_the_same() {
    for rows in [
        vec![full()],
        vec![minimal()],
        vec![full(), minimal(), full()],
    ] {
        let message = encode(&rows).unwrap();
        assert_eq!(message.len(), encoded_len(&rows).unwrap());
        let decoded = Rows::decode(&message).unwrap();
        assert_eq!(decoded.to_trajectories(), rows);
        assert_eq!(decoded.batch().schema(), schema());
        let again = Rows::from_batch(decoded.batch().clone()).unwrap();
        assert_eq!(again.to_trajectories(), rows);
    }
}

#[test]
fn the_samples_are_valid() {
    for row in [full(), minimal()] {
        validate(&Rows::decode(&encode(&[row]).unwrap()).unwrap()).unwrap();
    }
}
