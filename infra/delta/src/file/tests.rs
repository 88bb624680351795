use proptest::prelude::*;

use super::*;

const ENDS: Ends = Ends {
    base_sha256: Sha256([1; 32]),
    weights_sha256: Sha256([2; 32]),
};

/// Tensor of a test: its type and its values' bytes.
#[derive(Debug, Clone)]
struct Given {
    dtype: &'static str,
    bytes: Vec<u8>,
}

/// Writes a safetensors file with tensors named by their place.
fn file(tensors: &[Given]) -> Vec<u8> {
    let mut at = 0;
    let entries = tensors.iter().enumerate().map(|(number, tensor)| {
        let width = match tensor.dtype {
            "F32" => 4,
            "BF16" | "F16" => 2,
            _ => 8,
        };
        let (from, until) = (at, at + tensor.bytes.len());
        at = until;
        let (shape, dtype) = (tensor.bytes.len() / width, tensor.dtype);
        format!(
            r#""t{number:03}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{from},{until}]}}"#
        )
    });
    let header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    for tensor in tensors {
        file.extend(&tensor.bytes);
    }
    file
}

fn given() -> impl Strategy<Value = Vec<Given>> {
    let tensor = (
        prop_oneof![Just("F32"), Just("BF16"), Just("F16")],
        0..400_usize,
    )
        .prop_flat_map(|(dtype, values)| {
            let width = if dtype == "F32" { 4 } else { 2 };
            let bytes = prop::collection::vec(any::<u8>(), values * width);
            bytes.prop_map(move |bytes| Given { dtype, bytes })
        });
    prop::collection::vec(tensor, 1..6)
}

/// Changes about `share` of the values' bytes of every tensor, by a generator that `seed` starts.
fn changed(tensors: &[Given], share: f64, mut seed: u64) -> Vec<Given> {
    let mut draw = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    let mut tensors = tensors.to_vec();
    for byte in tensors.iter_mut().flat_map(|tensor| &mut tensor.bytes) {
        if (draw() % 10_000) as f64 <= share * 10_000.0 {
            *byte = byte.wrapping_add(draw() as u8);
        }
    }
    tensors
}

proptest! {
    #[test]
    fn a_delta_gives_the_new_bytes(
        tensors in given(),
        share in prop_oneof![Just(0.0), Just(1.0), 0.0..0.1_f64],
        seed in any::<u64>(),
    ) {
        let (base, new) = (file(&tensors), file(&changed(&tensors, share, seed)));
        let delta = encode(&base, &new, ENDS).unwrap().unwrap();
        prop_assert_eq!(&delta, &encode(&base, &new, ENDS).unwrap().unwrap());
        let mut bytes = base;
        apply(&mut bytes, &delta, ENDS).unwrap();
        prop_assert_eq!(bytes, new);
    }

    #[test]
    fn a_damaged_delta_is_an_error_or_still_gives_the_bytes(
        tensors in given(),
        at in any::<prop::sample::Index>(),
        by in 1..=255_u8,
        cut in any::<bool>(),
    ) {
        let (base, new) = (file(&tensors), file(&changed(&tensors, 0.1, 7)));
        let mut delta = encode(&base, &new, ENDS).unwrap().unwrap();
        let at = at.index(delta.len());
        if cut {
            delta.truncate(at);
        } else {
            delta[at] = delta[at].wrapping_add(by);
        }
        let mut bytes = base;
        if apply(&mut bytes, &delta, ENDS).is_ok() {
            prop_assert_eq!(bytes, new);
        }
    }

    #[test]
    fn any_bytes_are_an_error(delta in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = file(&[Given { dtype: "F32", bytes: vec![0; 16] }]);
        prop_assert!(apply(&mut bytes, &delta, ENDS).is_err());
        let begun = [&MAGIC[..], &delta].concat();
        prop_assert!(apply(&mut bytes, &begun, ENDS).is_err());
    }
}

fn tensor(dtype: &'static str, bytes: usize) -> Given {
    let bytes = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
    Given { dtype, bytes }
}

#[test]
fn other_tensors_have_no_delta() {
    let base = file(&[tensor("F32", 64), tensor("BF16", 32)]);
    for other in [
        vec![tensor("F32", 64)],
        vec![tensor("F32", 68), tensor("BF16", 32)],
        vec![tensor("F32", 64), tensor("F16", 32)],
        vec![tensor("BF16", 32), tensor("F32", 64)],
    ] {
        assert_eq!(encode(&base, &file(&other), ENDS).unwrap(), None);
    }
    // Whole numbers are no weights that an optimizer moves.
    let whole = file(&[tensor("I64", 64)]);
    assert_eq!(encode(&whole, &whole, ENDS).unwrap(), None);
    assert!(encode(&base, b"no weights", ENDS).is_err());
}

#[test]
fn a_delta_fits_its_base_alone() {
    let tensors = [tensor("F32", 64), tensor("BF16", 32)];
    let (base, new) = (file(&tensors), file(&changed(&tensors, 0.2, 3)));
    let delta = encode(&base, &new, ENDS).unwrap().unwrap();

    let turned = Ends {
        base_sha256: ENDS.weights_sha256,
        weights_sha256: ENDS.base_sha256,
    };
    let error = apply(&mut base.clone(), &delta, turned).unwrap_err();
    assert!(matches!(error, Error::OtherEnds { .. }), "{error}");

    let mut smaller = file(&tensors[..1]);
    let error = apply(&mut smaller, &delta, ENDS).unwrap_err();
    assert!(matches!(error, Error::OtherLayout { .. }), "{error}");

    // The right digest with wrong bytes: what was changed by hand after it was verified.
    let mut wrong = base;
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let error = apply(&mut wrong, &delta, ENDS).unwrap_err();
    assert!(error.to_string().contains("tensor t001"), "{error}");
}

#[test]
fn tensors_of_many_pieces_and_few_changes_are_small() {
    let values = 2 * PIECE + 5;
    let base = tensor("BF16", 2 * values);
    let mut new = base.clone();
    for at in (0..values).step_by(101) {
        let value = &mut new.bytes[2 * at];
        *value = value.wrapping_add(1);
    }
    let (base, new) = (file(&[base]), file(&[new]));
    let delta = encode(&base, &new, ENDS).unwrap().unwrap();
    assert!(delta.len() < new.len() / 50, "{}", delta.len());
    let mut bytes = base;
    apply(&mut bytes, &delta, ENDS).unwrap();
    assert_eq!(bytes, new);
}
