use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use serde_json::Value;
use vintage_control::OptimizerSettings;
use vintage_learner::AdamW;
use vintage_losses::{Rule, Tokens, Weighed};
use vintage_model::{Compute, Decoder, DecoderConfig, Gradients, Packed, ParamSet, Targets};

use crate::policy::DevicePolicy;
use crate::tokens::Known;
use crate::weigh::{DeviceWeighed, Problem, weigh};

/// Batch in f32, the learner's input type.
#[derive(Debug, Clone)]
struct PackedBatch {
    new: Vec<f32>,
    behavior: Vec<f32>,
    advantage: Vec<f32>,
    valid: Vec<bool>,
}

impl PackedBatch {
    fn on_host(&self, rule: &Rule, clamp: f64) -> Result<Weighed, vintage_losses::Error> {
        let tokens = Tokens {
            clamp,
            ..Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid)
        };
        vintage_losses::weigh(rule, &tokens)
    }

    fn on_device(&self, rule: &Rule, clamp: f64) -> Result<DeviceWeighed, Problem> {
        let new = Tensor::new(self.new.as_slice(), &Device::Cpu).unwrap();
        let known = Known {
            behavior: &self.behavior,
            advantage: &self.advantage,
            valid: &self.valid,
            row_ends: None,
            scope: None,
        };
        weigh(rule, clamp, &new, &known)
    }

    /// Asserts that device and host agree: masks and counts exactly, numbers up to the order of f64
    /// sums.
    fn compare(&self, name: &str, rule: &Rule, clamp: f64) {
        let (host, device) = (self.on_host(rule, clamp), self.on_device(rule, clamp));
        let (host, device) = match (host, device) {
            (Ok(host), Ok(device)) => (host, device),
            (Err(host), Err(Problem::Refused(device))) => {
                assert_eq!(host.to_string(), device.to_string(), "{name}");
                return;
            }
            (host, device) => panic!("{name}: {:?}, {:?}", host.map(drop), device.map(drop)),
        };
        let mask = device.mask.to_vec1::<f64>().unwrap();
        let mask: Vec<bool> = mask.iter().map(|&kept| kept == 1.0).collect();
        assert_eq!(mask, host.mask, "{name}, {rule:?}");
        let weight = device.weight.to_vec1::<f32>().unwrap();
        for (at, (device, host)) in weight.iter().zip(&host.weight).enumerate() {
            // exp of two libraries, rounded to f32.
            let near = (device - host).abs() <= 1.2e-7 * host.abs();
            assert!(near, "{name}, {rule:?}, token {at}: {device} {host}");
        }
        let (a, b) = (&device.stats, &host.stats);
        assert_eq!(
            (a.n_valid, a.n_trust, a.n_masked, a.n_clipped, a.n_clamped),
            (b.n_valid, b.n_trust, b.n_masked, b.n_clipped, b.n_clamped),
            "{name}, {rule:?}"
        );
        assert_eq!(
            (a.max_kept_log_ratio, a.ratio_bounds),
            (b.max_kept_log_ratio, b.ratio_bounds)
        );
        for (what, device, host) in [
            ("loss", device.loss, host.loss),
            ("clip_frac", a.clip_frac, b.clip_frac),
            ("m2_trust_before", a.m2_trust_before, b.m2_trust_before),
            ("m2_trust_after", a.m2_trust_after, b.m2_trust_after),
            ("m2_all_before", a.m2_all_before, b.m2_all_before),
            ("m2_all_after", a.m2_all_after, b.m2_all_after),
            ("m2_rule_before", a.m2_rule_before, b.m2_rule_before),
            ("m2_rule_after", a.m2_rule_after, b.m2_rule_after),
            ("kl_k1", a.kl_k1, b.kl_k1),
        ] {
            // Terms of both signs may cancel, so values below 1e-3 are compared absolutely.
            let scale = host.abs().max(1e-3);
            let near = (device - host).abs() <= 1e-11 * scale;
            assert!(near, "{name}, {rule:?}: {what} is {device:e}, not {host:e}");
        }
    }
}

/// Returns every rule that a device computes, and some that it leaves to the host.
fn rules(tau: f64) -> Vec<Rule> {
    let areal = |eps, behavior_cap| Rule::M2poAreal {
        tau,
        eps,
        behavior_cap,
    };
    vec![
        Rule::M2poPaper { tau },
        areal(0.2, Some(5.0)),
        areal(0.0, None),
        Rule::GrpoClip { eps: 0.2 },
        Rule::None,
        Rule::MixPpg {
            eps: 0.2,
            dual_clip: None,
        },
        Rule::DecoupledPpo {
            eps: 0.2,
            dual_clip: None,
            cap: Some(5.0),
        },
    ]
}

/// Compares device and reference on the 201 oracle cases, whose masks were decided in exact
/// arithmetic, with inputs rounded to f32.
#[test]
fn the_device_weighs_every_oracle_case_as_the_reference_does() {
    let lines = include_str!("../../losses/tests/oracle/m2po_cases.jsonl").lines();
    let mut masked = 0;
    let mut cases = 0;
    for line in lines {
        let case: Value = serde_json::from_str(line).unwrap();
        let narrow = |key: &str| -> Vec<f32> {
            let list = case[key].as_array().unwrap().iter();
            list.map(|x| x.as_f64().unwrap() as f32).collect()
        };
        let batch = PackedBatch {
            new: narrow("logprob_new"),
            behavior: narrow("logprob_behav"),
            advantage: narrow("advantages"),
            valid: narrow("loss_mask")
                .iter()
                .map(|&flag| flag != 0.0)
                .collect(),
        };
        let (id, tau) = (
            case["id"].as_str().unwrap(),
            case["threshold"].as_f64().unwrap(),
        );
        for rule in rules(tau) {
            batch.compare(id, &rule, 20.0);
        }
        let paper = Rule::M2poPaper { tau };
        masked += batch.on_host(&paper, 20.0).map_or(0, |w| w.stats.n_masked);
        cases += 1;
    }
    assert_eq!(cases, 201);
    assert!(masked > 100, "the masks do something: {masked}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Compares batches of few distinct values, in which squares tie with the cut and means with τ.
    #[test]
    fn ties_fall_as_the_reference_lets_them_fall(
        tokens in prop::collection::vec(
            (0_i32..6, 0_i32..6, -1_i32..2, prop::bool::weighted(0.9)), 0..60),
        tau in prop::sample::select(vec![0.0, 1.0 / 16.0, 0.25, 0.5, 1.0, 2.0, 0.04, 1e-9, 1e6]),
        clamp in prop::sample::select(vec![0.5, 20.0]),
    ) {
        let quarter = |n: i32| -n as f32 / 4.0;
        let batch = PackedBatch {
            new: tokens.iter().map(|t| quarter(t.0)).collect(),
            behavior: tokens.iter().map(|t| quarter(t.1)).collect(),
            advantage: tokens.iter().map(|t| t.2 as f32).collect(),
            valid: tokens.iter().map(|t| t.3).collect(),
        };
        if !tokens.is_empty() {
            for rule in rules(tau) {
                batch.compare("ties", &rule, clamp);
            }
        }
    }

    /// Compares batches with log-ratios from 1e-18 to 100, of both signs.
    #[test]
    fn any_log_ratios_are_masked_as_the_reference_masks_them(
        tokens in prop::collection::vec((-18.0_f32..2.0, any::<bool>(), -1.0_f32..1.0), 1..200),
        tau in prop::sample::select(vec![0.04, 1e-6, 3.0]),
    ) {
        let batch = PackedBatch {
            new: tokens.iter().map(|t| if t.1 { 0.0 } else { -10_f32.powf(t.0) }).collect(),
            behavior: tokens.iter().map(|t| if t.1 { -10_f32.powf(t.0) } else { 0.0 }).collect(),
            advantage: tokens.iter().map(|t| t.2).collect(),
            valid: vec![true; tokens.len()],
        };
        for rule in rules(tau) {
            batch.compare("any", &rule, 20.0);
        }
    }
}

/// Checks that invalid tokens may hold any value, and that a valid token with a value that is not
/// finite is named.
#[test]
fn padding_is_ignored_and_a_token_without_a_number_is_named() {
    let sound = PackedBatch {
        new: vec![-1.0, f32::NAN, -0.5, -2.0],
        behavior: vec![-1.5, f32::INFINITY, -0.7, -1.0],
        advantage: vec![1.0, f32::NAN, 1.0, -1.0],
        valid: vec![true, false, true, true],
    };
    for rule in rules(0.04) {
        sound.compare("padding", &rule, 20.0);
        for (token, value) in [(0, f32::NAN), (2, f32::NEG_INFINITY), (3, f32::INFINITY)] {
            let mut broken = sound.clone();
            broken.new[token] = value;
            broken.compare("new", &rule, 20.0);
            assert!(broken.on_host(&rule, 20.0).is_err());
            let mut broken = sound.clone();
            broken.behavior[token] = value;
            broken.compare("behavior", &rule, 20.0);
        }
        sound.compare("clamp", &rule, -1.0);
    }
    let nothing = PackedBatch {
        valid: vec![false; 4],
        ..sound
    };
    for rule in rules(0.04) {
        nothing.compare("nothing", &rule, 20.0);
    }
    nothing.compare("nothing", &Rule::M2poFork { tau: 0.04 }, 20.0);
}

fn settings() -> OptimizerSettings {
    OptimizerSettings {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        decay_vectors: false,
        grad_clip: 0.5,
    }
}

/// Checks that equal gradients give equal bits on device and host, and that moments survive the
/// copy to the device and back.
#[test]
fn adamw_on_a_device_takes_the_same_steps() {
    let config = DecoderConfig::tiny(12);
    let mut host = Decoder::new(config.clone(), ParamSet::init(&config, 3).unwrap()).unwrap();
    let mut optimizer = AdamW::default();
    let batch = Packed::new([[2, 3, 4]]);
    let targets = Targets {
        position: vec![1, 2],
        token: vec![5, 6],
        temperature: vec![1.0, 1.0],
    };
    let device_policy = |decoder: &Decoder, optimizer: &AdamW| {
        DevicePolicy::new(decoder, optimizer, Compute::default(), &Device::Cpu).unwrap()
    };
    let mut device = device_policy(&host, &optimizer);
    for step in 0..4 {
        let (scored, tape) = device.decoder.forward(&batch, &targets).unwrap();
        let slopes = Tensor::new(&[-1.0_f32, 0.5], &Device::Cpu).unwrap();
        assert_eq!(scored.entropy.dtype(), DType::F32);
        let mut of_device = device.decoder.zero_gradients().unwrap();
        device
            .decoder
            .backward(tape, &slopes, &mut of_device)
            .unwrap();
        let of_host: Gradients = of_device.to_host().unwrap();
        let norm = device.step(&settings(), &of_device).unwrap();
        let expected = optimizer
            .step(&settings(), host.params_mut(), &of_host)
            .unwrap();
        assert!((norm - expected).abs() <= 1e-12 * expected);
        assert!(step > 0 || norm > settings().grad_clip, "the clip acts");
        let mut read = Decoder::new(config.clone(), ParamSet::zeros(&config).unwrap()).unwrap();
        device.decoder.read_into(&mut read).unwrap();
        assert!(read.to_safetensors().unwrap() == host.to_safetensors().unwrap());
        assert!(device.optimizer.to_host().unwrap() == optimizer);
        // Restored as after a checkpoint.
        let bytes = optimizer.to_safetensors().unwrap();
        let restored = AdamW::from_safetensors(optimizer.steps(), &bytes).unwrap();
        device = device_policy(&host, &restored);
    }
    let other = DecoderConfig::tiny(12);
    let decoder = Decoder::new(other.clone(), ParamSet::init(&other, 3).unwrap()).unwrap();
    let lora = vintage_control::LoraSettings {
        rank: 2,
        alpha: 2.0,
        target_modules: vec!["q_proj".to_owned()],
    };
    let adapted = decoder.with_adapters(lora, 1).unwrap();
    let refused = DevicePolicy::new(&adapted, &optimizer, Compute::default(), &Device::Cpu);
    assert!(refused.unwrap_err().to_string().contains("moments"));
}
