use vintage_control::OptimizerSettings;
use vintage_model::{Decoder, DecoderConfig, Gradients, Packed, ParamSet, Targets};

use super::AdamW;

fn settings() -> OptimizerSettings {
    OptimizerSettings {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        decay_vectors: false,
        grad_clip: 0.5,
    }
}

/// Returns a tiny policy and the gradient of minus the log-prob of one token.
fn policy() -> (Decoder, Gradients) {
    let config = DecoderConfig::tiny(12);
    let params = ParamSet::init(&config, 3).unwrap();
    let decoder = Decoder::new(config, params).unwrap();
    let mut gradients = Gradients::zeros_like(decoder.params()).unwrap();
    let packed = Packed::new([[2, 3, 4]]);
    let targets = Targets {
        position: vec![2],
        token: vec![5],
        temperature: vec![1.0],
    };
    let (_, tape) = decoder.forward(&packed, &targets).unwrap();
    decoder.backward(tape, &[-1.0], &mut gradients).unwrap();
    (decoder, gradients)
}

/// Checks two steps against Algorithm 2 of the paper, computed in f64.
#[test]
fn two_steps_follow_the_definition() {
    let (mut decoder, gradients) = policy();
    let settings = settings();
    let before: Vec<(String, Vec<usize>, Vec<f32>)> = decoder
        .params()
        .specs()
        .iter()
        .map(|spec| {
            let values = decoder.params().values(spec.name()).unwrap().to_vec();
            (spec.name().to_owned(), spec.shape().to_vec(), values)
        })
        .collect();
    let norm = gradients.global_norm();
    assert!(norm > settings.grad_clip, "the clip acts: {norm}");
    let scale = settings.grad_clip / (norm + 1e-6);

    let mut optimizer = AdamW::default();
    for _ in 0..2 {
        let seen = optimizer
            .step(&settings, decoder.params_mut(), &gradients)
            .unwrap();
        assert_eq!(seen, norm);
    }
    assert_eq!(optimizer.steps(), 2);
    for (name, shape, values) in before {
        let grad = gradients.get(&name).unwrap();
        let after = decoder.params().values(&name).unwrap();
        for ((&start, &grad), &after) in values.iter().zip(grad.iter()).zip(after.iter()) {
            let grad = f64::from(grad) * scale;
            let (mut value, mut first, mut second) = (f64::from(start), 0.0, 0.0);
            for step in 1..=2 {
                first = settings.beta1 * first + (1.0 - settings.beta1) * grad;
                second = settings.beta2 * second + (1.0 - settings.beta2) * grad * grad;
                let first_hat = first / (1.0 - settings.beta1.powi(step));
                let second_hat: f64 = second / (1.0 - settings.beta2.powi(step));
                if shape.len() > 1 {
                    value -= settings.lr * settings.weight_decay * value;
                }
                value -= settings.lr * first_hat / (second_hat.sqrt() + settings.eps);
            }
            // Where a gradient is near eps, its rounding decides the step; elsewhere only f32
            // rounding remains.
            let tolerance = if grad.abs() < 1e-6 {
                2.0 * settings.lr
            } else {
                2e-6
            };
            assert!(
                (value - f64::from(after)).abs() < tolerance,
                "{name}: {value} {after}"
            );
        }
    }
}

#[test]
fn the_cosine_is_with_what_earlier_steps_saw() {
    let (mut decoder, mut gradients) = policy();
    let mut optimizer = AdamW::default();
    assert_eq!(optimizer.cosine(&gradients), None);
    let taken = optimizer.step(&settings(), decoder.params_mut(), &gradients);
    taken.unwrap();
    let near = |found: Option<f64>, expected: f64| {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    };
    near(optimizer.cosine(&gradients), 1.0);
    let turned = gradients.update(|_, values| values.iter_mut().for_each(|value| *value *= -3.0));
    turned.unwrap();
    near(optimizer.cosine(&gradients), -1.0);
    let zero = Gradients::zeros_like(decoder.params()).unwrap();
    assert_eq!(optimizer.cosine(&zero), None);
}

#[test]
fn saved_moments_go_on_bit_for_bit() {
    let (mut decoder, gradients) = policy();
    let mut optimizer = AdamW::default();
    optimizer
        .step(&settings(), decoder.params_mut(), &gradients)
        .unwrap();
    let bytes = optimizer.to_safetensors().unwrap();
    let mut restored = AdamW::from_safetensors(optimizer.steps(), &bytes).unwrap();
    assert_eq!(restored, optimizer);

    let (mut again, _) = policy();
    AdamW::default()
        .step(&settings(), again.params_mut(), &gradients)
        .unwrap();
    optimizer
        .step(&settings(), decoder.params_mut(), &gradients)
        .unwrap();
    restored
        .step(&settings(), again.params_mut(), &gradients)
        .unwrap();
    let bytes = |decoder: &Decoder| decoder.params().to_safetensors().unwrap();
    assert_eq!(bytes(&decoder), bytes(&again));
}

#[test]
fn damaged_moments_are_refused() {
    let (mut decoder, gradients) = policy();
    let mut optimizer = AdamW::default();
    optimizer
        .step(&settings(), decoder.params_mut(), &gradients)
        .unwrap();
    let bytes = optimizer.to_safetensors().unwrap();
    assert!(AdamW::from_safetensors(1, &bytes[..bytes.len() - 4]).is_err());
    assert!(AdamW::from_safetensors(1, b"no tensors").is_err());
}
