//! Tests of `vintage weigh` against 201 cases whose masks were computed in exact rational
//! arithmetic. Masks must be equal, and numbers agree to 1e-9 relative.

use serde_json::Value;

use super::case::Case;
use crate::args::Variant;

const RELATIVE: f64 = 1e-9;

struct Line {
    case: Case,
    value: Value,
}

fn lines() -> Vec<Line> {
    let lines: Vec<Line> =
        include_str!("../../../../../consumers/losses/tests/oracle/m2po_cases.jsonl")
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| Line {
                case: serde_json::from_str(line).expect("a case"),
                value: serde_json::from_str(line).expect("JSON"),
            })
            .collect();
    assert_eq!(lines.len(), 201, "every case is read");
    lines
}

/// Returns the JSON that `vintage weigh` prints for a case.
fn outcome(line: &Line, variant: Variant) -> Value {
    let printed = serde_json::to_string(&line.case.weigh(variant)).expect("JSON");
    serde_json::from_str(&printed).expect("what was printed can be read")
}

fn close(got: f64, expected: f64) -> bool {
    got == expected || (got - expected).abs() <= RELATIVE * expected.abs()
}

fn check_number(id: &str, key: &str, got: &Value, expected: &Value) {
    let (got, expected) = (number(got, id, key), number(expected, id, key));
    assert!(
        close(got, expected),
        "{id}: {key} is {got:e}, expected {expected:e}"
    );
}

fn check_numbers(id: &str, key: &str, got: &Value, expected: &Value, skip: &[u64]) {
    let (got, expected) = (list(got, id, key), list(expected, id, key));
    assert_eq!(got.len(), expected.len(), "{id}: length of {key}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        if !skip.contains(&(index as u64)) {
            check_number(id, &format!("{key}[{index}]"), got, expected);
        }
    }
}

fn number(value: &Value, id: &str, key: &str) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{id}: {key} is {value}"))
}

fn list<'a>(value: &'a Value, id: &str, key: &str) -> &'a [Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("{id}: {key} is {value}"))
}

#[test]
fn paper_agrees_with_every_case() {
    for line in lines() {
        let (id, expected) = (&line.case.id, &line.value["paper"]);
        let got = outcome(&line, Variant::Paper);
        assert_eq!(got["id"], line.value["id"]);
        for key in ["mask", "n_valid", "n_trust", "n_masked"] {
            assert_eq!(got[key], expected[key], "{id}: {key}");
        }
        for key in ["clip_frac", "m2_trust_before", "m2_trust_after", "loss"] {
            check_number(id, key, &got[key], &expected[key]);
        }
        check_numbers(id, "grad", &got["grad"], &expected["grad"], &[]);
    }
}

#[test]
fn areal_agrees_with_every_case() {
    let mut with_prox = 0;
    for line in lines() {
        let (id, expected) = (&line.case.id, &line.value["areal"]);
        let got = outcome(&line, Variant::Areal);
        assert_eq!(got["mask"], expected["mask"], "{id}: mask");
        assert_eq!(got["n_masked"], expected["n_masked"], "{id}: n_masked");
        check_number(id, "m2_before", &got["m2_before"], &expected["m2_before"]);
        check_number(id, "m2_after", &got["m2_after"], &expected["m2_after"]);
        if line.case.logprob_prox.is_none() {
            assert!(
                got.get("loss_plain").is_none(),
                "{id}: a loss without logprob_prox"
            );
            continue;
        }
        with_prox += 1;
        for loss in ["loss_plain", "loss_weighted"] {
            check_number(id, loss, &got[loss], &expected[loss]);
        }
        for grad in ["grad_plain", "grad_weighted"] {
            check_numbers(id, grad, &got[grad], &expected[grad], &[]);
        }
    }
    assert_eq!(with_prox, 45);
}

#[test]
fn fork_agrees_with_every_case_it_is_defined_on() {
    let (mut agreed, mut refused) = (0, 0);
    for line in lines() {
        let (id, expected) = (&line.case.id, &line.value["fork"]);
        let got = outcome(&line, Variant::Fork);
        if expected.is_null() {
            continue;
        }
        if !expected["error"].is_null() {
            assert!(got["error"].is_string(), "{id}: {got}");
            refused += 1;
            continue;
        }
        for key in ["ratio_min", "ratio_max", "clip_frac", "loss"] {
            check_number(id, key, &got[key], &expected[key]);
        }
        let edge: Vec<u64> = list(&expected["edge_tokens"], id, "edge")
            .iter()
            .filter_map(Value::as_u64)
            .collect();
        check_numbers(id, "grad", &got["grad"], &expected["grad"], &edge);
        agreed += 1;
    }
    assert_eq!((agreed, refused), (182, 1));
}
