//! Comparison of logits, log-probs and greedy continuations.

use serde::Deserialize;

use crate::{
    batch::Batch,
    difference::{Difference, Mismatches},
    error::Result,
    machine::Machine,
    oracle::{Oracle, Tensors},
    report::ParityReport,
    tolerance,
};

pub(super) fn compare(
    oracle: &Oracle,
    machine: &impl Machine,
    report: &mut ParityReport,
) -> Result<()> {
    match oracle.tensors("forward.safetensors")? {
        None => report.absent("forward.safetensors"),
        Some(tensors) => {
            let batch = Batch::new(&tensors)?;
            logits(&tensors, &batch, machine, report)?;
            log_probs(&tensors, &batch, machine, report)?;
        }
    }
    match oracle.json::<Vec<Continuation>>("greedy.json")? {
        None => report.absent("greedy.json"),
        Some(continuations) => greedy(&continuations, machine, report)?,
    }
    Ok(())
}

fn logits(
    tensors: &Tensors,
    batch: &Batch,
    machine: &impl Machine,
    report: &mut ParityReport,
) -> Result<()> {
    let vocab = machine.config().vocab_size;
    if tensors.find("logits").is_none() {
        report.absent("forward.safetensors: logits");
        return Ok(());
    }
    let [rows, columns] = batch.shape;
    let expected = tensors.shaped("logits", &[rows, columns, vocab])?;
    let positions: Vec<u32> = (0..batch.places.len() as u32).collect();
    let logits = machine.logits(&batch.packed, &positions)?;
    let mut seen = Difference::default();
    for (logits, &place) in logits.chunks_exact(vocab).zip(&batch.places) {
        let expected = &expected[place * vocab..(place + 1) * vocab];
        for (token, (logit, expected)) in logits.iter().zip(expected).enumerate() {
            seen.see(f64::from(*logit), *expected, || {
                format!("{}, token {token}", batch.describe(place))
            });
        }
    }
    report.absolute("logits", ("logits_max_abs", tolerance::LOGITS), &seen);
    Ok(())
}

fn log_probs(
    tensors: &Tensors,
    batch: &Batch,
    machine: &impl Machine,
    report: &mut ParityReport,
) -> Result<()> {
    let what = "logprob_mask";
    let mut temperatures = Vec::new();
    for (name, _) in tensors.iter() {
        if let Some(temperature) = name.strip_prefix("logprobs_t") {
            let temperature = temperature
                .parse::<f32>()
                .map_err(|_| tensors.refuse(name, "does not end in a temperature"))?;
            temperatures.push((name, temperature));
        }
    }
    if temperatures.is_empty() {
        report.absent("forward.safetensors: logprobs_t*");
        return Ok(());
    }
    let mask = tensors.shaped(what, &batch.shape)?;
    let places: Vec<usize> = (0..mask.len())
        .filter(|&place| mask[place] != 0.0)
        .collect();
    for (name, temperature) in temperatures {
        let expected = tensors.shaped(name, &batch.shape)?;
        let targets = batch.targets(&places, temperature, tensors, what)?;
        let log_probs = machine.score(&batch.packed, &targets)?;
        let mut seen = Difference::default();
        for (log_prob, &place) in log_probs.iter().zip(&places) {
            seen.see(f64::from(*log_prob), expected[place], || {
                batch.describe(place)
            });
        }
        let ours = if temperature == 1.0 {
            tolerance::LOGPROBS
        } else {
            tolerance::TEMPERED_LOGPROBS
        };
        report.absolute(name, (&format!("{name}_max_abs"), ours), &seen);
    }
    Ok(())
}

/// Prompt with its expected greedy continuation.
#[derive(Deserialize)]
struct Continuation {
    prompt_ids: Vec<u32>,
    continuation: Vec<u32>,
}

fn greedy(
    continuations: &[Continuation],
    machine: &impl Machine,
    report: &mut ParityReport,
) -> Result<()> {
    let prompts: Vec<_> = continuations
        .iter()
        .map(|continuation| continuation.prompt_ids.clone())
        .collect();
    let longest = continuations
        .iter()
        .map(|continuation| continuation.continuation.len());
    let completions = machine.greedy(&prompts, longest.max().unwrap_or(0))?;
    let mut seen = Mismatches::default();
    for (number, (completion, expected)) in completions.iter().zip(continuations).enumerate() {
        for (at, expected) in expected.continuation.iter().enumerate() {
            let place = format!("prompt {number}, token {at}");
            seen.see(&completion.get(at), &Some(expected), &place);
        }
    }
    report.equal("greedy", seen);
    Ok(())
}
