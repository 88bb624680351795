//! Tests against 201 cases whose masks were decided in exact rational arithmetic
//! (`oracle/m2po_cases.jsonl`): masks must agree exactly, numbers to 1e-9 relative.

use serde_json::Value;
use vintage_losses::{Rule, Tokens, weigh};

const RELATIVE: f64 = 1e-9;

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = include_str!("oracle/m2po_cases.jsonl")
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| Case::of(serde_json::from_str(line).expect("JSON")))
        .collect();
    assert_eq!(cases.len(), 201, "every case is read");
    cases
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

fn number(value: &Value, id: &str, key: &str) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{id}: {key} is {value}"))
}

#[test]
fn all_statistics_agree() {
    for case in cases() {
        let (id, tau) = (&case.id, case.threshold);
        let expected = &case.value["paper"];
        let weighed = weigh(&Rule::M2poPaper { tau }, &case.tokens()).expect("finite");
        let mask: Vec<u8> = weighed.mask.iter().map(|&kept| u8::from(kept)).collect();
        assert_eq!(Value::from(mask), expected["mask"], "{id}: mask");
        let stats = weighed.stats;
        for (key, got) in [
            ("m2_trust_before", stats.m2_trust_before),
            ("m2_trust_after", stats.m2_trust_after),
            ("m2_all_before", stats.m2_all_before),
            ("m2_all_after", stats.m2_all_after),
        ] {
            check_number(id, key, &got.into(), &expected[key]);
        }
        let expected = &case.value["fork"];
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
    for case in cases() {
        let expected = &case.value["ppo_eps0.2"];
        let got = weigh(&Rule::GrpoClip { eps: 0.2 }, &case.tokens()).expect("finite");
        check_number(&case.id, "loss", &got.loss.into(), &expected["loss"]);
        check_number(
            &case.id,
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
    for case in cases() {
        if case.value["exact_grid"] != Value::Bool(true) {
            continue;
        }
        let narrow = |list: &[f64]| list.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let (new, behavior) = (narrow(&case.new), narrow(&case.behavior));
        let advantage = narrow(&case.advantage);
        let prox = case.prox.as_deref().map(narrow);
        let tokens = Tokens {
            prox: prox.as_deref(),
            ..Tokens::new(&new, &behavior, &advantage, &case.valid)
        };
        let tau = case.threshold;
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
            assert_eq!(single.mask, double.mask, "{}: {rule:?}", case.id);
            assert_eq!(single.stats.n_trust, double.stats.n_trust, "{}", case.id);
            // Advantages are rounded, and the weights themselves: half of 2^-24 each.
            for (s, d) in single.weight.iter().zip(&double.weight) {
                assert!((f64::from(*s) - d).abs() <= 1.5e-7 * d.abs(), "{}", case.id);
            }
            compared += 1;
        }
    }
    assert!(compared > 200, "only {compared} comparisons");
}

struct Case {
    id: String,
    threshold: f64,
    new: Vec<f64>,
    behavior: Vec<f64>,
    advantage: Vec<f64>,
    valid: Vec<bool>,
    prox: Option<Vec<f64>>,
    /// All of it, with what is expected.
    value: Value,
}

impl Case {
    fn of(value: Value) -> Self {
        let numbers = |list: &Value| -> Vec<f64> {
            let list = list.as_array().expect("a list").iter();
            list.map(|x| x.as_f64().expect("a number")).collect()
        };
        Self {
            id: value["id"].as_str().expect("an id").to_owned(),
            threshold: value["threshold"].as_f64().expect("a threshold"),
            new: numbers(&value["logprob_new"]),
            behavior: numbers(&value["logprob_behav"]),
            advantage: numbers(&value["advantages"]),
            valid: numbers(&value["loss_mask"])
                .into_iter()
                .map(|flag| flag != 0.0)
                .collect(),
            prox: value
                .get("logprob_prox")
                .filter(|list| !list.is_null())
                .map(numbers),
            value,
        }
    }

    fn tokens(&self) -> Tokens<'_, f64> {
        Tokens {
            prox: self.prox.as_deref(),
            ..Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid)
        }
    }
}
