//! Logits, log-probs, greedy continuations, token ids and gradients against float64 results of
//! Hugging Face transformers, on folders of the layout `NAME/` + `NAME.oracle/`.
//!
//! One folder lies beside this test; `VINTAGE_PARITY_DIR` names a directory with more.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use vintage_model::{Decoder, Gradients, ModelFolder, Packed, SamplingParams, Targets};

type Tensors = HashMap<String, Tensor>;

struct Case {
    name: String,
    folder: PathBuf,
    oracle: PathBuf,
}

fn cases() -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let more = std::env::var_os("VINTAGE_PARITY_DIR").map(PathBuf::from);
    let mut cases = Vec::new();
    for root in [Some(own), more].into_iter().flatten() {
        for entry in std::fs::read_dir(&root).unwrap() {
            let folder = entry.unwrap().path();
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            let oracle = root.join(format!("{}.oracle", name.trim_end_matches("-sharded")));
            if folder.join("config.json").exists() && oracle.exists() {
                cases.push(Case {
                    name,
                    folder,
                    oracle,
                });
            }
        }
    }
    assert!(!cases.is_empty());
    cases
}

impl Case {
    fn tensors(&self, file: &str) -> Tensors {
        candle_core::safetensors::load(self.oracle.join(file), &Device::Cpu).unwrap()
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.oracle.join(file)).unwrap()).unwrap()
    }

    fn model(&self) -> (ModelFolder, Decoder) {
        let folder = ModelFolder::open(&self.folder).unwrap();
        let decoder = Decoder::new(folder.config.clone(), folder.params.clone()).unwrap();
        (folder, decoder)
    }
}

fn rows(tensors: &Tensors, name: &str) -> Vec<Vec<f32>> {
    tensors[name]
        .to_dtype(DType::F32)
        .unwrap()
        .to_vec2()
        .unwrap()
}

/// The rows without their padding on the right.
fn packed(tensors: &Tensors) -> (Packed, Vec<usize>) {
    let lens: Vec<usize> = rows(tensors, "attention_mask")
        .iter()
        .map(|row| row.iter().filter(|&&mask| mask != 0.0).count())
        .collect();
    let ids: Vec<Vec<i64>> = tensors["input_ids"].to_vec2().unwrap();
    let sequences = ids.iter().zip(&lens).map(|(ids, &len)| {
        ids[..len]
            .iter()
            .map(|&id| u32::try_from(id).unwrap())
            .collect::<Vec<_>>()
    });
    (Packed::new(sequences), lens)
}

/// Targets for entries (row, t) of a mask: token t read at position t − 1.
fn targets(packed: &Packed, mask: &[Vec<f32>], temperature: f32) -> (Targets, Vec<(usize, usize)>) {
    let mut targets = Targets::default();
    let mut places = Vec::new();
    for (row, mask) in mask.iter().enumerate() {
        for (t, _) in mask.iter().enumerate().filter(|(_, mask)| **mask != 0.0) {
            let at = packed.starts[row] + t;
            targets.position.push(u32::try_from(at).unwrap() - 1);
            targets.token.push(packed.tokens[at]);
            targets.temperature.push(temperature);
            places.push((row, t));
        }
    }
    (targets, places)
}

fn worst(pairs: impl IntoIterator<Item = (f32, f32)>) -> f32 {
    pairs
        .into_iter()
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, error| {
            assert!(!error.is_nan());
            worst.max(error)
        })
}

#[test]
fn logits_and_log_probs() {
    for case in cases() {
        let (_, decoder) = case.model();
        let oracle = case.tensors("forward.safetensors");
        let (packed, lens) = packed(&oracle);
        let all: Vec<u32> = (0..u32::try_from(packed.tokens.len()).unwrap()).collect();
        let logits = decoder.logits(&packed, &all).unwrap();
        let expected: Vec<Vec<Vec<f32>>> = oracle["logits"].to_vec3().unwrap();
        let expected = expected
            .iter()
            .zip(&lens)
            .flat_map(|(rows, &len)| rows[..len].concat());
        let error = worst(logits.into_iter().zip(expected));
        assert!(error < 5e-5, "{}: logits off by {error}", case.name);

        let mask = rows(&oracle, "logprob_mask");
        for (key, temperature, tolerance) in
            [("logprobs_t1.0", 1.0, 3e-5), ("logprobs_t0.7", 0.7, 5e-5)]
        {
            let (targets, places) = targets(&packed, &mask, temperature);
            let scored = decoder.score(&packed, &targets).unwrap();
            let expected = rows(&oracle, key);
            let pairs = places.iter().zip(&scored.logprob);
            let error = worst(pairs.map(|(&(row, t), &logprob)| (logprob, expected[row][t])));
            assert!(error < tolerance, "{}: {key} off by {error}", case.name);
        }
    }
}

/// d(loss)/d(log-prob) of the oracle's M2PO loss over the tokens it keeps.
fn weights(case: &Case, decoder: &Decoder) -> (Packed, Targets, Vec<f32>) {
    let oracle = case.tensors("m2po_batch.safetensors");
    let (packed, _) = packed(&oracle);
    let mask = rows(&oracle, "loss_mask");
    let (targets, places) = targets(&packed, &mask, 1.0);
    let scored = decoder.score(&packed, &targets).unwrap();
    let (new, keep) = (
        rows(&oracle, "expect_new_logprobs"),
        rows(&oracle, "expect_keep"),
    );
    let behavior = rows(&oracle, "behav_logprobs");
    let advantage: Vec<f32> = oracle["advantages"].to_vec1().unwrap();
    let valid = places.len() as f64;
    let mut loss = 0.0;
    let mut weights = Vec::new();
    for (&(row, t), &logprob) in places.iter().zip(&scored.logprob) {
        assert!(
            (logprob - new[row][t]).abs() < 3e-5,
            "{}: log-prob {row} {t}",
            case.name
        );
        let ratio = (f64::from(logprob) - f64::from(behavior[row][t])).exp();
        let term = -ratio * f64::from(advantage[row]) / valid * f64::from(keep[row][t]);
        loss += term;
        weights.push(term as f32);
    }
    let expected = case.json("m2po.json")["loss"].as_f64().unwrap();
    assert!(
        (loss - expected).abs() < 2e-6,
        "{}: loss {loss}, expected {expected}",
        case.name
    );
    (packed, targets, weights)
}

#[test]
fn gradients() {
    for case in cases() {
        let (folder, decoder) = case.model();
        let (packed, targets, weights) = weights(&case, &decoder);
        let (_, tape) = decoder.forward(&packed, &targets).unwrap();
        let mut grads = Gradients::zeros_like(&folder.params).unwrap();
        decoder.backward(tape, &weights, &mut grads).unwrap();
        let oracle = case.tensors("m2po_grad.safetensors");
        assert_eq!(oracle.len(), folder.params.specs().len());
        for (name, expected) in &oracle {
            let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
            let grad = grads.get(name).unwrap();
            assert_eq!(grad.len(), expected.len());
            let norm = |values: &mut dyn Iterator<Item = f64>| {
                values.map(|value| value * value).sum::<f64>().sqrt()
            };
            let differences = || {
                grad.iter()
                    .zip(&expected)
                    .map(|(&a, &b)| f64::from(a) - f64::from(b))
            };
            let relative = norm(&mut differences())
                / norm(&mut expected.iter().map(|&value| f64::from(value)));
            let largest = expected
                .iter()
                .fold(0.0_f32, |top, value| top.max(value.abs()));
            let max = differences().fold(0.0_f64, |top, d| top.max(d.abs())) / f64::from(largest);
            assert!(relative < 2e-5, "{}: {name} off by {relative}", case.name);
            assert!(max < 2e-5, "{}: {name} max off by {max}", case.name);
        }
        let expected = case.json("m2po.json")["grad_norm"].as_f64().unwrap();
        let relative = (grads.global_norm() - expected).abs() / expected;
        assert!(relative < 1e-5, "{}: norm off by {relative}", case.name);
    }
}

#[test]
fn greedy_continuations() {
    for case in cases() {
        let (_, decoder) = case.model();
        let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
        let oracle = case.json("greedy.json");
        let oracle = oracle.as_array().unwrap();
        let prompts: Vec<_> = oracle
            .iter()
            .map(|entry| ids(&entry["prompt_ids"]))
            .collect();
        let params = SamplingParams {
            temperature: 0.0,
            max_tokens: 16,
            ..Default::default()
        };
        let completions = decoder.generate(&prompts, &params, &[0; 3]).unwrap();
        for (completion, entry) in completions.iter().zip(oracle) {
            assert_eq!(
                completion.tokens,
                ids(&entry["continuation"]),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn token_ids() {
    for case in cases() {
        let (folder, _) = case.model();
        let oracle = case.json("tokenizer.json");
        for entry in oracle["cases"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(entry["ids"].clone()).unwrap();
            let text = entry["text"].as_str().unwrap();
            assert_eq!(
                folder.tokenizer.encode(text).unwrap(),
                ids,
                "{}: {text:?}",
                case.name
            );
        }
        let generation = std::fs::read(case.folder.join("generation_config.json")).unwrap();
        let generation: Value = serde_json::from_slice(&generation).unwrap();
        let eos: Vec<u32> = serde_json::from_value(generation["eos_token_id"].clone()).unwrap();
        assert_eq!(folder.tokenizer.eos_ids(), eos, "{}", case.name);
    }
}
