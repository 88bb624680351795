use proptest::prelude::*;
use vintage_trajectory::{Error, Rows, Trajectory, encode, encoded_len, split};

use crate::sample::{full, group};

#[test]
fn a_group_that_fits_is_one_part() {
    let rows = group(8, 50);
    let len = encoded_len(&rows).unwrap();
    assert_eq!(
        split(rows.clone(), len).unwrap(),
        std::slice::from_ref(&rows)
    );
    let parts = split(rows.clone(), len - 1).unwrap();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [7, 1]);
    assert_eq!(parts.concat(), rows);
}

#[test]
fn a_row_too_large_is_an_error() {
    let mut rows = group(3, 50);
    rows[1].completion_text = Some("x".repeat(10_000));
    let error = split(rows, 10_000).unwrap_err();
    assert!(
        matches!(
            error,
            Error::RowTooLarge {
                sample_index: 1,
                max_bytes: 10_000,
                ..
            }
        ),
        "{error}"
    );
    let Error::RowTooLarge { bytes, .. } = error else {
        unreachable!()
    };
    assert!(bytes > 14_000, "{bytes}");
}

#[test]
fn no_rows_are_no_parts() {
    assert!(split(Vec::new(), 1).unwrap().is_empty());
}

proptest! {
    #[test]
    fn parts_are_within_the_limit_in_order_and_as_long_as_can_be(
        lengths in prop::collection::vec(0_usize..400, 1..20),
        room in 0_usize..8_000,
    ) {
        let rows: Vec<Trajectory> = lengths
            .iter()
            .enumerate()
            .map(|(index, &length)| Trajectory {
                sample_index: index as u16,
                completion_tokens: vec![1; length],
                ..full()
            })
            .collect();
        let largest = rows.iter().map(|row| encoded_len(std::slice::from_ref(row)).unwrap()).max();
        let limit = largest.unwrap() + room;
        let parts = split(rows.clone(), limit).unwrap();
        prop_assert_eq!(parts.concat(), rows);
        for pair in parts.windows(2) {
            let longer = [&pair[0][..], &pair[1][..1]].concat();
            prop_assert!(encoded_len(&longer).unwrap() > limit);
        }
        for part in parts {
            let message = encode(&part).unwrap();
            prop_assert!(message.len() <= limit);
            prop_assert_eq!(Rows::decode(&message).unwrap().to_trajectories(), part);
        }
    }
}
