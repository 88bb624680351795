//! Tests against 201 cases whose masks were decided in exact rational arithmetic
//! (`oracle/m2po_cases.jsonl`): masks must agree exactly, numbers to 1e-9 relative.

use serde_json::Value;
use vintage_m2po::case::{Case, Variant};
use vintage_m2po::{Rule, Tokens, weigh};

const RELATIVE: f64 = 1e-9;

struct Line {
    case: Case,
    value: Value,
}

fn lines() -> Vec<Line> {
    let lines: Vec<Line> = include_str!("oracle/m2po_cases.jsonl")
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

/// Returns the JSON that `vintage weigh` prints for the case.
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

#[test]
fn all_statistics_agree() {
    for line in lines() {
        let case = F64Case::of(&line.case);
        let tau = line.case.threshold;
        let id = &line.case.id;
        let expected = &line.value["paper"];
        let stats = weigh(&Rule::M2poPaper { tau }, &case.tokens())
            .expect("finite")
            .stats;
        for (key, got) in [
            ("m2_trust_before", stats.m2_trust_before),
            ("m2_trust_after", stats.m2_trust_after),
            ("m2_all_before", stats.m2_all_before),
            ("m2_all_after", stats.m2_all_after),
        ] {
            check_number(id, key, &got.into(), &expected[key]);
        }
        let expected = &line.value["fork"];
        if let Ok(weighed) = weigh(&Rule::M2poFork { tau }, &case.tokens())
            && expected["m2_trust_before"].is_f64()
        {
            let stats = weighed.stats;
            check_number(
                id,
                "fork m2",
                &stats.m2_rule_before.into(),
                &expected["m2_trust_before"],
            );
            check_number(
                id,
                "fork m2",
                &stats.m2_rule_after.into(),
                &expected["m2_trust_after"],
            );
        }
    }
}

#[test]
fn grpo_clip_agrees_with_every_case() {
    for line in lines() {
        let case = F64Case::of(&line.case);
        let expected = &line.value["ppo_eps0.2"];
        let got = weigh(&Rule::GrpoClip { eps: 0.2 }, &case.tokens()).expect("finite");
        check_number(&line.case.id, "loss", &got.loss.into(), &expected["loss"]);
        check_number(
            &line.case.id,
            "clip",
            &got.stats.clip_frac.into(),
            &expected["clip_frac"],
        );
    }
}

/// Checks that f32 inputs give the masks of f64 inputs for cases on the grid of 2^-12, where an f32
/// holds the log-probs and their differences exactly.
#[test]
fn f32_inputs_give_the_same_masks_on_the_grid() {
    let mut compared = 0;
    for line in lines() {
        if line.value["exact_grid"] != Value::Bool(true) {
            continue;
        }
        let case = F64Case::of(&line.case);
        let narrow = |list: &[f64]| list.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let (new, behavior) = (narrow(&case.new), narrow(&case.behavior));
        let advantage = narrow(&case.advantage);
        let prox = case.prox.as_deref().map(narrow);
        let tokens = Tokens {
            prox: prox.as_deref(),
            ..Tokens::new(&new, &behavior, &advantage, &case.valid)
        };
        let tau = line.case.threshold;
        for rule in [
            Rule::M2poPaper { tau },
            Rule::M2poAreal {
                tau,
                eps: 0.2,
                behavior_cap: None,
            },
        ] {
            let single = weigh(&rule, &tokens).expect("finite");
            let double = weigh(&rule, &case.tokens()).expect("finite");
            assert_eq!(single.mask, double.mask, "{}: {rule:?}", line.case.id);
            assert_eq!(
                single.stats.n_trust, double.stats.n_trust,
                "{}",
                line.case.id
            );
            // The advantages and the weights are each rounded to f32, by half of 2^-24.
            for (s, d) in single.weight.iter().zip(&double.weight) {
                assert!(
                    (f64::from(*s) - d).abs() <= 1.5e-7 * d.abs(),
                    "{}",
                    line.case.id
                );
            }
            compared += 1;
        }
    }
    assert!(compared > 200, "only {compared} comparisons");
}

struct F64Case {
    new: Vec<f64>,
    behavior: Vec<f64>,
    advantage: Vec<f64>,
    valid: Vec<bool>,
    prox: Option<Vec<f64>>,
}

impl F64Case {
    fn of(case: &Case) -> Self {
        let numbers = |list: &[vintage_m2po::case::Number]| list.iter().map(|x| x.0).collect();
        Self {
            new: numbers(&case.logprob_new),
            behavior: numbers(&case.logprob_behav),
            advantage: numbers(&case.advantages),
            valid: case.loss_mask.iter().map(|flag| flag.0).collect(),
            prox: case.logprob_prox.as_deref().map(numbers),
        }
    }

    fn tokens(&self) -> Tokens<'_, f64> {
        Tokens {
            prox: self.prox.as_deref(),
            ..Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid)
        }
    }
}
