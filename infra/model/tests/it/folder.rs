//! Tests of model folders: saved folders load again, and errors name the damage.

use std::path::Path;

use serde_json::{Value, json};
use vintage_model::{Decoder, DecoderConfig, ModelFolder, ParamSet, Tokenizer};

use crate::models::{config, variants};

pub(crate) fn digits() -> Tokenizer {
    Tokenizer::characters(&('0'..='9').collect()).unwrap()
}

pub(crate) fn bits(params: &ParamSet) -> Vec<(String, Vec<u32>)> {
    let specs = params.specs().iter();
    specs
        .map(|spec| {
            let values = params.values(spec.name()).unwrap();
            (
                spec.name().to_owned(),
                values.iter().map(|value| value.to_bits()).collect(),
            )
        })
        .collect()
}

#[test]
fn a_saved_folder_loads_as_it_was() {
    for (name, config) in variants() {
        let mut config = config;
        config.vocab_size = 12;
        let params = ParamSet::init(&config, 5).unwrap();
        let folder = ModelFolder::new(config, digits(), params).unwrap();
        let dir = tempfile::tempdir().unwrap();
        folder.save(dir.path()).unwrap();
        let again = ModelFolder::open(dir.path()).unwrap();
        assert_eq!(again.config.to_json(), folder.config.to_json(), "{name}");
        assert_eq!(again.config.eos_token_id, [1], "{name}");
        assert_eq!(bits(&again.params), bits(&folder.params), "{name}");
        assert_eq!(again.files().unwrap(), folder.files().unwrap(), "{name}");
        let read = |file: &str| std::fs::read(dir.path().join(file)).unwrap();
        let names = ["config.json", "tokenizer.json"];
        let files = names.map(|name| (name, read(name)));
        let from = ModelFolder::from_files(&files, &read("model.safetensors")).unwrap();
        assert_eq!(bits(&from.params), bits(&folder.params), "{name}");
    }
}

#[test]
fn weights_files_have_one_order_and_the_format_key() {
    let config = config("qwen2", json!({}));
    let bytes = ParamSet::init(&config, 5)
        .unwrap()
        .to_safetensors()
        .unwrap();
    assert_eq!(
        bytes,
        ParamSet::init(&config, 5)
            .unwrap()
            .to_safetensors()
            .unwrap()
    );
    assert_ne!(
        bytes,
        ParamSet::init(&config, 6)
            .unwrap()
            .to_safetensors()
            .unwrap()
    );
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    assert_eq!(header["__metadata__"], json!({"format": "pt"}));
    let mut offsets: Vec<_> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, entry)| (name, entry["data_offsets"][0].as_u64().unwrap()))
        .collect();
    offsets.sort();
    assert!(offsets.is_sorted_by_key(|(_, offset)| *offset));
}

#[test]
fn init_has_the_size_and_spread_of_a_fresh_model() {
    let config = DecoderConfig::tiny(13);
    let params = ParamSet::init(&config, 1).unwrap();
    assert_eq!(params.parameter_count(), 102_336);
    let deviation = |name: &str| {
        let values = params.values(name).unwrap();
        let sum: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        (sum / values.len() as f64).sqrt()
    };
    assert!((deviation("model.layers.0.mlp.gate_proj.weight") - 0.02).abs() < 1e-3);
    assert!((deviation("model.layers.0.mlp.down_proj.weight") - 0.01).abs() < 1e-3);
    assert_eq!(deviation("model.norm.weight"), 1.0);
}

/// Tensors of a checkpoint, to be changed by tests: name, dtype, shape and bytes of each.
pub(crate) struct Raw(pub(crate) Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)>);

impl Raw {
    pub(crate) fn of(params: &ParamSet) -> Self {
        let entry = |spec: &vintage_model::ParamSpec| {
            let values = params.values(spec.name()).unwrap();
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (
                spec.name().to_owned(),
                safetensors::Dtype::F32,
                spec.shape().to_vec(),
                bytes,
            )
        };
        Self(params.specs().iter().map(entry).collect())
    }

    pub(crate) fn write(&self, keep: impl Fn(usize) -> bool) -> Vec<u8> {
        let views = self
            .0
            .iter()
            .enumerate()
            .filter(|(i, _)| keep(*i))
            .map(|(_, entry)| {
                let (name, dtype, shape, bytes) = entry;
                let view =
                    safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap();
                (name.clone(), view)
            });
        safetensors::serialize(views, None).unwrap()
    }
}

#[test]
fn damaged_weights_are_refused_by_the_tensor_s_name() {
    let config = config("qwen3", json!({}));
    let params = ParamSet::init(&config, 3).unwrap();
    let name = "model.layers.1.self_attn.k_norm.weight";
    let place = params
        .specs()
        .iter()
        .position(|spec| spec.name() == name)
        .unwrap();
    let changed = |change: &dyn Fn(&mut Raw)| {
        let mut raw = Raw::of(&params);
        change(&mut raw);
        ParamSet::from_safetensors(&raw.write(|_| true), &config)
            .unwrap_err()
            .to_string()
    };
    let nan = f32::NAN.to_le_bytes();
    let cases = [
        ("missing", changed(&|raw| drop(raw.0.remove(place)))),
        ("[2, 2]", changed(&|raw| raw.0[place].2 = vec![2, 2])),
        (
            "not expected",
            changed(&|raw| {
                let mut extra = raw.0[place].clone();
                extra.0 = extra.0.replace("norm.weight", "norm.bias");
                raw.0.push(extra);
            }),
        ),
        (
            "I32",
            changed(&|raw| raw.0[place].1 = safetensors::Dtype::I32),
        ),
        (
            "value 2 is NaN",
            changed(&|raw| raw.0[place].3[8..12].copy_from_slice(&nan)),
        ),
    ];
    for (expected, message) in cases {
        let stem = name.trim_end_matches("weight");
        assert!(message.contains(stem), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_header_that_lies_is_refused() {
    let config = config("llama", json!({}));
    let bytes = ParamSet::init(&config, 3)
        .unwrap()
        .to_safetensors()
        .unwrap();
    let mut huge = bytes.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut longer = bytes.clone();
    longer.extend([0; 4]);
    for damaged in [&bytes[..bytes.len() - 4], &bytes[..5], &huge, &longer, &[]] {
        let message = ParamSet::from_safetensors(damaged, &config)
            .unwrap_err()
            .to_string();
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn half_precision_widens_exactly() {
    let config = config("llama", json!({}));
    let mut params = ParamSet::zeros(&config).unwrap();
    // Exact in both half-precision formats; the last is subnormal in f16.
    let exact = [0.0, -0.0, 1.5, -2.25, 0.109_375, 1.0 / 16_777_216.0 * 3.0];
    params
        .update(|_, _, values| {
            values
                .iter_mut()
                .enumerate()
                .for_each(|(i, value)| *value = exact[i % exact.len()]);
        })
        .unwrap();
    for dtype in [candle_core::DType::F16, candle_core::DType::BF16] {
        let halves = params
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.to_dtype(dtype).unwrap()));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        candle_core::safetensors::save(&halves.collect(), &file).unwrap();
        let loaded = ParamSet::from_safetensors(&std::fs::read(&file).unwrap(), &config).unwrap();
        assert_eq!(bits(&loaded), bits(&params));
    }
}

pub(crate) fn write(dir: &Path, file: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(dir.join(file), bytes).unwrap();
}

#[test]
fn shards_join_and_their_index_is_checked() {
    let config = config("llama", json!({"vocab_size": 12}));
    let params = ParamSet::init(&config, 3).unwrap();
    let raw = Raw::of(&params);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "config.json", config.to_json());
    write(dir.path(), "tokenizer.json", digits().to_json().unwrap());
    write(dir.path(), "a.safetensors", raw.write(|i| i % 2 == 0));
    write(dir.path(), "b.safetensors", raw.write(|i| i % 2 == 1));
    let index = |files: [&str; 2]| {
        let map: serde_json::Map<String, Value> = raw
            .0
            .iter()
            .enumerate()
            .map(|(i, entry)| (entry.0.clone(), json!(files[i % 2])))
            .collect();
        json!({"weight_map": map}).to_string()
    };
    let name = "model.safetensors.index.json";
    write(dir.path(), name, index(["a.safetensors", "b.safetensors"]));
    assert_eq!(
        bits(&ModelFolder::open(dir.path()).unwrap().params),
        bits(&params)
    );
    let fails = |index: String, expected: &str| {
        write(dir.path(), name, index);
        let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    fails(
        index(["a.safetensors", "../b.safetensors"]),
        "no plain file name",
    );
    fails(index(["a.safetensors", "c.safetensors"]), "c.safetensors");
    fails("{}".to_owned(), "weight_map");
    write(dir.path(), "b.safetensors", raw.write(|_| true));
    fails(index(["a.safetensors", "b.safetensors"]), "twice");
}

#[test]
fn a_tied_model_ignores_its_checkpoint_s_copy_of_the_head() {
    let config = config("llama", json!({"tie_word_embeddings": true}));
    let params = ParamSet::init(&config, 3).unwrap();
    let mut raw = Raw::of(&params);
    let mut head = raw.0[0].clone();
    assert_eq!(head.0, "model.embed_tokens.weight");
    head.0 = "lm_head.weight".to_owned();
    raw.0.push(head);
    let loaded = ParamSet::from_safetensors(&raw.write(|_| true), &config).unwrap();
    assert_eq!(bits(&loaded), bits(&params));
}

#[test]
fn parts_of_different_models_are_refused() {
    let small = config("llama", json!({"vocab_size": 7}));
    let params = ParamSet::init(&small, 3).unwrap();
    let message = ModelFolder::new(small, digits(), params)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("vocab_size") && message.contains("12 tokens"),
        "{message}"
    );
    let wide = config("llama", json!({"hidden_size": 16}));
    let params = ParamSet::init(&config("llama", json!({})), 3).unwrap();
    let message = Decoder::new(wide, params).unwrap_err().to_string();
    assert!(
        message.contains("lm_head.weight") && message.contains("[11, 16]"),
        "{message}"
    );
    let message = ModelFolder::open("/nowhere/at/all")
        .unwrap_err()
        .to_string();
    assert!(message.contains("/nowhere/at/all/config.json"), "{message}");
}

#[test]
fn a_template_that_is_not_read_is_noted() {
    let (_, mut config) = variants().into_iter().next().unwrap();
    config.vocab_size = 12;
    let params = ParamSet::init(&config, 5).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let model = ModelFolder::new(config, digits(), params).unwrap();
    model.save(dir.path()).unwrap();
    let notes = || ModelFolder::open(dir.path()).unwrap().notes().join("\n");
    assert!(!notes().contains("tool_use"), "{}", notes());
    let templates = dir.path().join("additional_chat_templates");
    std::fs::create_dir(&templates).unwrap();
    std::fs::write(templates.join("tool_use.jinja"), "{{ tools }}").unwrap();
    assert!(
        notes().contains("tool_use.jinja is not read"),
        "{}",
        notes()
    );
}
