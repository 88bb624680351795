//! Test of every parameter's gradient against central differences of an f64 implementation.

use vintage_model::{DecoderConfig, Gradients, Packed, Targets};

use crate::models::{decoder, targets, tokens, variants, weights};
use crate::reference::{self, Params};

/// Returns rows of 5, 1 and 6 tokens. Positions are out of order, one is read twice, several are
/// not read, and no target reads the middle sequence.
fn batch(config: &DecoderConfig) -> (Packed, Targets) {
    let rows = [(5, 1), (1, 2), (6, 3)].map(|(len, seed)| tokens(len, config.vocab_size, seed));
    (
        Packed::new(rows),
        targets(&[9, 1, 11, 4, 9, 6, 2], config.vocab_size, 4),
    )
}

/// Returns Σ weight·logprob, and the largest difference of `scored` from the reference.
fn objective(
    config: &DecoderConfig,
    params: &Params,
    batch: &Packed,
    targets: &Targets,
) -> Vec<(f64, f64)> {
    let rows = batch.starts.windows(2).map(|w| &batch.tokens[w[0]..w[1]]);
    let logits: Vec<_> = rows
        .flat_map(|row| reference::logits(config, params, row))
        .collect();
    (0..targets.len())
        .map(|i| {
            let (token, temperature) = (targets.token[i], f64::from(targets.temperature[i]));
            reference::log_prob(&logits[targets.position[i] as usize], token, temperature)
        })
        .collect()
}

#[test]
fn every_gradient_matches_finite_differences() {
    for (name, config) in variants() {
        let decoder = decoder(&config, 0.35, 11);
        let (batch, targets) = batch(&config);
        let weights = weights(targets.len());
        let (scored, tape) = decoder.forward(&batch, &targets).unwrap();
        let mut grads = Gradients::zeros_like(decoder.params()).unwrap();
        decoder.backward(tape, &weights, &mut grads).unwrap();

        let mut params = reference::params(decoder.params());
        let expected = objective(&config, &params, &batch, &targets);
        for (i, (logprob, entropy)) in expected.iter().enumerate() {
            assert!(
                (f64::from(scored.logprob[i]) - logprob).abs() < 3e-6,
                "{name}: log-prob {i}"
            );
            assert!(
                (f64::from(scored.entropy[i]) - entropy).abs() < 3e-6,
                "{name}: entropy {i}"
            );
        }

        let mut at = |tensor: &str, index: usize, value: f64| -> f64 {
            let values = params.get_mut(tensor).unwrap();
            let before = std::mem::replace(&mut values[index], value);
            let scored = objective(&config, &params, &batch, &targets);
            params.get_mut(tensor).unwrap()[index] = before;
            scored
                .iter()
                .zip(&weights)
                .map(|((logprob, _), &w)| logprob * f64::from(w))
                .sum()
        };
        for spec in decoder.params().specs() {
            let tensor = spec.name();
            let grad = grads.get(tensor).unwrap();
            let values = decoder.params().values(tensor).unwrap();
            let (mut norm, mut error) = (0.0, 0.0);
            for (index, (&grad, &value)) in grad.iter().zip(values.iter()).enumerate() {
                let (value, step) = (f64::from(value), 1e-5);
                let difference = at(tensor, index, value + step) - at(tensor, index, value - step);
                let expected = difference / (2.0 * step);
                norm += expected * expected;
                error += (f64::from(grad) - expected).powi(2);
            }
            assert!(norm > 1e-12, "{name}: {tensor} has no gradient");
            let relative = (error / norm).sqrt();
            assert!(relative < 2e-5, "{name}: {tensor} is off by {relative}");
        }
    }
}

#[test]
fn gradients_add_up_over_calls() {
    let (_, config) = variants().remove(0);
    let decoder = decoder(&config, 0.35, 11);
    let (batch, targets) = batch(&config);
    let weights = weights(targets.len());
    let mut once = Gradients::zeros_like(decoder.params()).unwrap();
    let mut twice = Gradients::zeros_like(decoder.params()).unwrap();
    for (grads, calls) in [(&mut once, 1), (&mut twice, 2)] {
        for _ in 0..calls {
            let (_, tape) = decoder.forward(&batch, &targets).unwrap();
            decoder.backward(tape, &weights, grads).unwrap();
        }
    }
    let relative = (twice.global_norm() - 2.0 * once.global_norm()).abs() / once.global_norm();
    assert!(relative < 1e-6, "{relative}");
    once.set_zero().unwrap();
    assert_eq!(once.global_norm(), 0.0);
}

#[test]
fn a_batch_without_targets_has_no_gradient() {
    for (name, config) in variants() {
        let decoder = decoder(&config, 0.35, 11);
        let (batch, _) = batch(&config);
        let (scored, tape) = decoder.forward(&batch, &Targets::default()).unwrap();
        assert!(scored.logprob.is_empty(), "{name}");
        let mut grads = Gradients::zeros_like(decoder.params()).unwrap();
        decoder.backward(tape, &[], &mut grads).unwrap();
        assert_eq!(grads.global_norm(), 0.0, "{name}");
    }
}
