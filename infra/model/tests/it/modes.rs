//! Tests of modes that save memory: recomputation, bf16 products, adapters.

use vintage_control::{LoraSettings, Precision};
use vintage_model::{BaseModel, Decoder, DecoderConfig, Gradients, Packed, ParamSet, Targets};

use crate::models::{adapted, compute, decoder, lora, off, targets, tokens, variants, weights};

fn batch(config: &DecoderConfig) -> (Packed, Targets) {
    let rows = [(5, 1), (1, 2), (70, 3), (6, 4)];
    let rows = rows.map(|(len, seed)| tokens(len, config.vocab_size, seed));
    let read: Vec<u32> = (2..82).filter(|position| position % 3 != 1).collect();
    (Packed::new(rows), targets(&read, config.vocab_size, 5))
}

/// Returns log-probs, entropies and every gradient.
fn pass(decoder: &Decoder) -> Vec<(String, Vec<f32>)> {
    let (batch, targets) = batch(decoder.config());
    let (scored, tape) = decoder.forward(&batch, &targets).unwrap();
    let mut grads = Gradients::zeros_like(decoder.trainable()).unwrap();
    decoder
        .backward(tape, &weights(targets.len()), &mut grads)
        .unwrap();
    let named = |name: &str| (name.to_owned(), grads.get(name).unwrap().to_vec());
    let mut all: Vec<_> = grads.iter().map(|(name, _)| named(name)).collect();
    all.push(("log-probs".to_owned(), scored.logprob));
    all.push(("entropies".to_owned(), scored.entropy));
    all
}

#[test]
fn recomputed_layers_give_the_same_bits() {
    for (name, config) in variants() {
        for precision in [Precision::F32, Precision::Bf16] {
            for with_adapters in [false, true] {
                let mut decoder = decoder(&config, 0.35, 11);
                if with_adapters {
                    decoder = adapted(decoder, 1);
                }
                decoder.set_compute(compute(precision, false));
                let kept = pass(&decoder);
                decoder.set_compute(compute(precision, true));
                assert!(pass(&decoder) == kept, "{name}, {precision:?}");
            }
        }
    }
}

#[test]
fn a_copied_tape_gives_the_bits_of_a_forward_pass_of_its_own() {
    for (name, config) in variants() {
        for (precision, recompute) in [(Precision::F32, false), (Precision::Bf16, true)] {
            let mut decoder = decoder(&config, 0.35, 11);
            decoder.set_compute(compute(precision, recompute));
            let (batch, targets) = batch(&config);
            let first = weights(targets.len());
            let second: Vec<f32> = first.iter().rev().map(|weight| 0.5 - weight).collect();
            let (_, shared) = decoder.forward(&batch, &targets).unwrap();
            for dlogprob in [&first, &second, &first] {
                let (_, own) = decoder.forward(&batch, &targets).unwrap();
                let [found, expected] = [shared.clone(), own].map(|tape| {
                    let mut grads = Gradients::zeros_like(decoder.trainable()).unwrap();
                    decoder.backward(tape, dlogprob, &mut grads).unwrap();
                    let named = |name: &str| (name.to_owned(), grads.get(name).unwrap().to_vec());
                    grads
                        .iter()
                        .map(|(name, _)| named(name))
                        .collect::<Vec<_>>()
                });
                assert!(found == expected, "{name}, {precision:?}");
            }
        }
    }
}

/// Rounding to bf16 (8 bits) changes a factor by at most 2⁻⁹. Results of a dozen products in a row
/// differ by tens of times that in models as narrow as these, whose weights are large. The worst is
/// 6.5 %, in a norm's gradient of 8 values.
#[test]
fn bf16_products_are_off_by_bf16s_rounding_and_no_more() {
    for (name, config) in variants() {
        let mut decoder = decoder(&config, 0.35, 11);
        let exact = pass(&decoder);
        decoder.set_compute(compute(Precision::Bf16, false));
        for ((what, expected), (_, found)) in exact.iter().zip(pass(&decoder)) {
            let off = off(expected, &found);
            assert!(off > 1e-5, "{name}: {what} was not computed in bf16");
            assert!(off < 0.1, "{name}: {what} is off by {off}");
        }
    }
}

/// Rounding to bf16 applies to factors only, not to sums.
#[test]
fn bf16_sums_are_f32() {
    let (_, config) = variants().remove(0);
    let mut decoder = decoder(&config, 0.35, 11);
    let (batch, _) = batch(&config);
    decoder.set_compute(compute(Precision::Bf16, false));
    let logits = decoder.logits(&batch, &[0, 7, 80]).unwrap();
    assert!(
        logits.iter().any(|x| x.to_bits() & 0xffff != 0),
        "the logits themselves are rounded"
    );
}

#[test]
fn new_adapters_change_nothing_and_trained_ones_merge() {
    for (name, config) in variants() {
        let base = decoder(&config, 0.35, 11);
        let (batch, targets) = batch(&config);
        let fresh = decoder(&config, 0.35, 11)
            .with_adapters(lora(2, &["q_proj", "down_proj"]), 1)
            .unwrap();
        assert_eq!(
            fresh.to_safetensors().unwrap(),
            base.params().to_safetensors().unwrap(),
            "{name}"
        );
        assert_eq!(
            fresh.score(&batch, &targets).unwrap(),
            base.score(&batch, &targets).unwrap(),
            "{name}"
        );

        let trained = adapted(base, 1);
        let merged = ParamSet::from_safetensors(&trained.to_safetensors().unwrap(), &config);
        let merged = Decoder::new(config, merged.unwrap()).unwrap();
        let (ours, theirs) = (
            trained.score(&batch, &targets).unwrap().logprob,
            merged.score(&batch, &targets).unwrap().logprob,
        );
        assert!(
            off(&theirs, &ours) < 1e-5,
            "{name}: merged and apart differ"
        );
        let before = fresh.score(&batch, &targets).unwrap().logprob;
        assert!(
            off(&before, &ours) > 1e-2,
            "{name}: the adapters do nothing"
        );
    }
}

/// Gradients of adapters follow from that of the merged weights, which finite differences check:
/// d/dA = s·Bᵀ·dW and d/dB = s·dW·Aᵀ.
#[test]
fn adapters_gradients_are_those_of_the_merged_weights_projected() {
    for (name, config) in variants() {
        let trained = adapted(decoder(&config, 0.35, 11), 1);
        let merged = ParamSet::from_safetensors(&trained.to_safetensors().unwrap(), &config);
        let merged = Decoder::new(config, merged.unwrap()).unwrap();
        let of_merged = pass(&merged);
        let found = pass(&trained);
        let find = |all: &[(String, Vec<f32>)], name: &str| {
            let there = all.iter().find(|(other, _)| other == name);
            there.map(|(_, values)| values.clone()).unwrap()
        };
        let mut checked = 0;
        for spec in trained.trainable().specs() {
            let (module, factor) = spec.name().rsplit_once(".lora_").unwrap();
            let dw = find(&of_merged, &format!("{module}.weight"));
            let get = |factor: &str| {
                let name = format!("{module}.lora_{factor}.weight");
                trained.trainable().values(&name).unwrap().to_vec()
            };
            let (a, b, rank, scale) = (get("A"), get("B"), 3, 2.0);
            let (input, output) = (a.len() / rank, b.len() / rank);
            let dw = |o: usize, i: usize| f64::from(dw[o * input + i]);
            let expected: Vec<f32> = if factor == "A.weight" {
                (0..rank * input)
                    .map(|at| {
                        let (r, i) = (at / input, at % input);
                        let rows = (0..output).map(|o| f64::from(b[o * rank + r]) * dw(o, i));
                        (scale * rows.sum::<f64>()) as f32
                    })
                    .collect()
            } else {
                (0..output * rank)
                    .map(|at| {
                        let (o, r) = (at / rank, at % rank);
                        let columns = (0..input).map(|i| f64::from(a[r * input + i]) * dw(o, i));
                        (scale * columns.sum::<f64>()) as f32
                    })
                    .collect()
            };
            let off = off(&expected, &find(&found, spec.name()));
            assert!(off < 1e-4, "{name}: {} is off by {off}", spec.name());
            checked += 1;
        }
        assert_eq!(checked, 14 * trained.config().num_hidden_layers);
    }
}

#[test]
fn an_adapter_folder_is_pefts_and_reads_back() {
    let (_, config) = variants().remove(3);
    let trained = adapted(decoder(&config, 0.35, 11), 1);
    let base = BaseModel {
        name_or_path: "Tiny/Qwen".to_owned(),
        revision: Some("v2".to_owned()),
    };
    let base = Some(&base);
    let files = trained.peft_files(base).unwrap();
    let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["adapter_model.safetensors", "adapter_config.json"]);
    let tensors = safetensors::SafeTensors::deserialize(&files[0].1).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    let module = "base_model.model.model.layers.1.mlp.down_proj";
    assert_eq!(shape(&format!("{module}.lora_A.weight")), [3, 12]);
    assert_eq!(shape(&format!("{module}.lora_B.weight")), [8, 3]);
    assert_eq!(tensors.len(), 2 * 7 * 2);
    let settings: serde_json::Value = serde_json::from_slice(&files[1].1).unwrap();
    assert_eq!(settings["peft_type"], "LORA");
    assert_eq!(settings["base_model_name_or_path"], "Tiny/Qwen");
    assert_eq!(settings["revision"], "v2");
    assert_eq!(
        (&settings["r"], &settings["lora_alpha"]),
        (&3.into(), &6.0.into())
    );

    let mut again = adapted(decoder(&config, 0.35, 11), 2);
    assert_ne!(again.peft_files(base).unwrap(), files);
    again.load_adapters(&files[0].1).unwrap();
    assert_eq!(again.peft_files(base).unwrap(), files);
    assert_eq!(
        again.to_safetensors().unwrap(),
        trained.to_safetensors().unwrap()
    );

    let few = decoder(&config, 0.35, 11).with_adapters(lora(3, &["q_proj"]), 1);
    let error = few.unwrap().load_adapters(&files[0].1).unwrap_err();
    assert!(error.to_string().contains("28 tensors"), "{error}");
    let other = decoder(&config, 0.35, 11).with_adapters(
        LoraSettings {
            target_modules: LoraSettings::all_modules(),
            ..lora(4, &[])
        },
        1,
    );
    let error = other.unwrap().load_adapters(&files[0].1).unwrap_err();
    assert!(error.to_string().contains("lora_A.weight"), "{error}");
}

#[test]
fn adapters_that_cannot_be_are_refused() {
    let (_, config) = variants().remove(0);
    for (lora, expected) in [
        (lora(0, &["q_proj"]), "rank of 0"),
        (lora(2, &[]), "no target module"),
        (lora(2, &["q_proj", "lm_head"]), "\"lm_head\""),
    ] {
        let error = decoder(&config, 0.35, 11)
            .with_adapters(lora, 1)
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// PEFT's start values: A uniform within 1/√in, from the seed only; B zero.
#[test]
fn adapters_start_as_pefts_do() {
    let config = DecoderConfig::tiny(16);
    let start = |seed| {
        let base = Decoder::new(config.clone(), ParamSet::init(&config, 5).unwrap());
        let adapted = base.unwrap().with_adapters(lora(64, &["up_proj"]), seed);
        adapted.unwrap()
    };
    let decoder = start(7);
    let values = |decoder: &Decoder, factor: &str| {
        let name = format!("model.layers.1.mlp.up_proj.lora_{factor}.weight");
        decoder.trainable().values(&name).unwrap().to_vec()
    };
    let (a, b) = (values(&decoder, "A"), values(&decoder, "B"));
    assert!(b.iter().all(|&b| b == 0.0));
    assert_eq!(a.len(), 64 * 64);
    let (low, high) = a.iter().fold((0.0_f32, 0.0_f32), |(low, high), &a| {
        (low.min(a), high.max(a))
    });
    assert!((-0.125..-0.124).contains(&low) && (0.124..0.125).contains(&high));
    let mean = a.iter().sum::<f32>() / 4096.0;
    assert!(mean.abs() < 0.125 / 3.0_f32.sqrt() / 64.0 * 4.0, "{mean}");
    assert_eq!(a, values(&start(7), "A"));
    assert_ne!(a, values(&start(8), "A"));
}

/// Checks that what a reader merges from base and adapters is the file that the decoder writes, for
/// every family and from a base of any precision.
#[test]
fn base_and_adapters_merge_into_the_published_file() {
    for (name, config) in variants() {
        for given in [Precision::F32, Precision::Bf16] {
            let base = decoder(&config, 0.35, 11).to_safetensors_of(given).unwrap();
            let params = ParamSet::from_safetensors(&base, &config).unwrap();
            let adapted = adapted(Decoder::new(config.clone(), params).unwrap(), 1);
            let files = adapted.peft_files(None).unwrap();
            for published in [Precision::F32, Precision::Bf16] {
                let merged =
                    vintage_delta::merge(&base, &files[0].1, &files[1].1, published).unwrap();
                assert!(
                    merged == adapted.to_safetensors_of(published).unwrap(),
                    "{name} {given:?} {published:?}"
                );
            }
        }
    }
}
