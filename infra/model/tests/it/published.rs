//! Tests of weights and folders as people save and publish them.

use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};
use vintage_model::{DecoderConfig, ModelFolder, ParamSet};

use crate::folder::{Raw, bits, digits, write};
use crate::models::config;

/// Tensor of a checkpoint: name, dtype, shape and bytes.
type Entry = (String, Dtype, Vec<usize>, Vec<u8>);
type Files<'a> = Vec<(&'a str, &'a [u8])>;

const EMBEDDING: &str = "model.embed_tokens.weight";

fn base(changes: Value) -> (DecoderConfig, ParamSet) {
    let Value::Object(mut keys) = changes else {
        panic!("changes are an object")
    };
    keys.insert("vocab_size".to_owned(), json!(12));
    let config = config("llama", Value::Object(keys));
    let params = ParamSet::init(&config, 3).unwrap();
    (config, params)
}

/// Loads a folder of `config` and these tensors.
fn of_tensors(config: &DecoderConfig, raw: &Raw) -> vintage_model::Result<ModelFolder> {
    let dir = tempfile::tempdir().unwrap();
    beside(dir.path(), config);
    write(dir.path(), "model.safetensors", raw.write(|_| true));
    ModelFolder::open(dir.path())
}

fn beside(dir: &Path, config: &DecoderConfig) {
    write(dir, "config.json", config.to_json());
    write(dir, "tokenizer.json", digits().to_json().unwrap());
}

fn tensor(name: &str, shape: &[usize], value: f32) -> Entry {
    let count = shape.iter().product();
    let bytes = std::iter::repeat_n(value.to_le_bytes(), count)
        .flatten()
        .collect();
    (name.to_owned(), Dtype::F32, shape.to_vec(), bytes)
}

#[test]
fn a_tied_model_is_loaded_from_either_name() {
    let (config, params) = base(json!({"tie_word_embeddings": true}));
    let mut raw = Raw::of(&params);
    let embedding = raw.0.iter_mut().find(|entry| entry.0 == EMBEDDING).unwrap();
    embedding.0 = "lm_head.weight".to_owned();
    let folder = of_tensors(&config, &raw).unwrap();
    assert_eq!(bits(&folder.params), bits(&params));
    assert!(folder.notes().is_empty(), "{:?}", folder.notes());
    // An untied model needs both tensors, and the error says what may be meant.
    let (untied, _) = base(json!({}));
    let message = of_tensors(&untied, &raw).unwrap_err().to_string();
    assert!(
        message.contains(EMBEDDING) && message.contains("tie_word_embeddings"),
        "{message}"
    );
    let message = of_tensors(&untied, &Raw::of(&params))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("lm_head.weight") && message.contains("tie_word_embeddings"),
        "{message}"
    );
}

/// Head and embedding that differ are kept apart, as in transformers, even if the config ties
/// them. [`ParamSet::from_safetensors`] refuses such a model.
#[test]
fn two_tensors_of_a_model_that_calls_itself_tied_are_two() {
    let (untied, params) = base(json!({}));
    let (tied, _) = base(json!({"tie_word_embeddings": true}));
    let folder = of_tensors(&tied, &Raw::of(&params)).unwrap();
    assert_eq!(bits(&folder.params), bits(&params));
    assert!(!folder.config.tie_word_embeddings);
    assert!(
        folder.notes()[0].contains("not tied"),
        "{:?}",
        folder.notes()
    );
    let bytes = Raw::of(&params).write(|_| true);
    assert!(ParamSet::from_safetensors(&bytes, &untied).is_ok());
    let message = ParamSet::from_safetensors(&bytes, &tied)
        .unwrap_err()
        .to_string();
    assert!(message.contains("tied"), "{message}");
}

#[test]
fn names_under_a_prefix_are_read_and_noted() {
    let (config, params) = base(json!({}));
    for (prefix, is_noted) in [
        ("module.", true),
        ("_orig_mod.", false),
        ("base_model.model.", true),
        ("pretrained_model.", true),
    ] {
        let mut raw = Raw::of(&params);
        for entry in &mut raw.0 {
            entry.0 = format!("{prefix}{}", entry.0);
        }
        raw.0.push(tensor("v_head.summary.weight", &[1, 8], 0.5));
        let folder = of_tensors(&config, &raw).unwrap();
        assert_eq!(bits(&folder.params), bits(&params), "{prefix}");
        let notes = folder.notes().join("\n");
        assert_eq!(notes.contains(prefix), is_noted, "{notes}");
        assert!(notes.contains("v_head.summary.weight"), "{notes}");
    }
    // A base model saved without its head, with names as transformers gives them.
    let (config, params) = base(json!({"tie_word_embeddings": true}));
    let mut raw = Raw::of(&params);
    for entry in &mut raw.0 {
        entry.0 = entry.0.replacen("model.", "", 1);
    }
    assert_eq!(
        bits(&of_tensors(&config, &raw).unwrap().params),
        bits(&params)
    );
}

#[test]
fn tensors_that_are_no_part_of_the_decoder_are_left_out_and_named() {
    let (config, params) = base(json!({}));
    let with = |extra: Vec<Entry>| {
        let mut raw = Raw::of(&params);
        raw.0.extend(extra);
        of_tensors(&config, &raw)
    };
    // The frequencies follow from the config and cause no note.
    let folder = with(vec![tensor(
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        &[2],
        1.0,
    )]);
    assert!(folder.unwrap().notes().is_empty());
    let names = [
        "model.layers.0.self_attn.masked_bias_buffer",
        "model.layers.7.self_attn.q_proj.weight",
        "score.weight",
        "vision_tower.patch.weight",
    ];
    let folder = with(names.map(|name| tensor(name, &[2, 2], 1.0)).into()).unwrap();
    assert_eq!(bits(&folder.params), bits(&params));
    let notes = folder.notes().join("\n");
    assert!(notes.contains("left out (4)"), "{notes}");
    assert!(names.iter().all(|name| notes.contains(name)), "{notes}");
    // A bias of zeros may be left out, another may not.
    let bias = "model.layers.1.self_attn.q_proj.bias";
    assert!(with(vec![tensor(bias, &[16], 0.0)]).unwrap().notes()[0].contains(bias));
    let message = with(vec![tensor(bias, &[16], 0.5)])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(bias) && message.contains("attention_bias"),
        "{message}"
    );
}

#[test]
fn other_kinds_of_values_are_widened_or_named() {
    let (config, params) = base(json!({}));
    let mut raw = Raw::of(&params);
    for (_, dtype, _, bytes) in &mut raw.0 {
        *dtype = Dtype::F64;
        let values = bytes.as_chunks::<4>().0.iter();
        *bytes = values
            .flat_map(|value| f64::from(f32::from_le_bytes(*value)).to_le_bytes())
            .collect();
    }
    assert_eq!(
        bits(&of_tensors(&config, &raw).unwrap().params),
        bits(&params)
    );

    let name = "model.layers.0.mlp.up_proj.weight";
    let quantised = |change: &dyn Fn(&mut Entry)| {
        let mut raw = Raw::of(&params);
        change(raw.0.iter_mut().find(|entry| entry.0 == name).unwrap());
        of_tensors(&config, &raw).unwrap_err().to_string()
    };
    let fp8 = quantised(&|entry| {
        entry.1 = Dtype::F8_E4M3;
        entry.3.truncate(entry.3.len() / 4);
    });
    assert!(
        fp8.contains(name) && fp8.contains("F8_E4M3") && fp8.contains("not quantised"),
        "{fp8}"
    );
    let gptq = quantised(&|entry| {
        entry.0 = name.replace("weight", "qweight");
        entry.1 = Dtype::I32;
    });
    assert!(
        gptq.contains(name) && gptq.contains("they are quantised"),
        "{gptq}"
    );
    let resized = {
        let mut raw = Raw::of(&params);
        let entry = raw.0.iter_mut().find(|entry| entry.0 == EMBEDDING).unwrap();
        *entry = tensor(EMBEDDING, &[16, 8], 0.5);
        of_tensors(&config, &raw).unwrap_err().to_string()
    };
    assert!(resized.contains("vocab_size to 16"), "{resized}");
    let adapted = quantised(&|entry| entry.0 = name.replace("weight", "base_layer.weight"));
    assert!(adapted.contains("merge_and_unload"), "{adapted}");
}

#[test]
fn a_file_that_is_no_safetensors_or_not_whole_is_named_with_what_it_is() {
    let (config, params) = base(json!({}));
    let whole = Raw::of(&params).write(|_| true);
    let cases: [(&[u8], &str); 7] = [
        (b"", "the file is empty"),
        (&whole[..whole.len() - 9], "it is cut off"),
        (&whole[..40], "it is cut off in its header"),
        (b"PK\x03\x04 and more", "archive of PyTorch's"),
        (b"GGUF\x03\0\0\0 and more", "GGUF"),
        (b"<!DOCTYPE html><html>", "web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "git lfs pull",
        ),
    ];
    for (bytes, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        beside(dir.path(), &config);
        write(dir.path(), "model.safetensors", bytes);
        let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("model.safetensors") && message.contains(expected),
            "{message}"
        );
    }
}

#[test]
fn a_pointer_of_git_lfs_is_named_whichever_file_it_stands_for() {
    let (config, params) = base(json!({}));
    for file in [
        "config.json",
        "tokenizer.json",
        "special_tokens_map.json",
        "model.safetensors",
    ] {
        let dir = tempfile::tempdir().unwrap();
        beside(dir.path(), &config);
        write(
            dir.path(),
            "model.safetensors",
            params.to_safetensors().unwrap(),
        );
        write(
            dir.path(),
            file,
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        );
        let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains(file) && message.contains("git lfs pull"),
            "{message}"
        );
        assert!(
            ModelFolder::open_without_weights(dir.path()).is_err() || file == "model.safetensors"
        );
    }
}

#[test]
fn shards_are_found_by_index_or_number_and_the_missing_one_is_named() {
    let (config, params) = base(json!({}));
    let raw = Raw::of(&params);
    let dir = tempfile::tempdir().unwrap();
    beside(dir.path(), &config);
    let name = |at: usize| format!("model-0000{}-of-00002.safetensors", at + 1);
    for at in 0..2 {
        write(dir.path(), &name(at), raw.write(|i| i % 2 == at));
    }
    // The folder also has the same weights in Mistral's layout.
    write(dir.path(), "consolidated.safetensors", raw.write(|_| true));
    let open = || ModelFolder::open(dir.path());
    assert_eq!(bits(&open().unwrap().params), bits(&params));
    std::fs::remove_file(dir.path().join(name(1))).unwrap();
    let message = open().unwrap_err().to_string();
    assert!(
        message.contains(&name(1)) && message.contains("hf download"),
        "{message}"
    );
    let map: serde_json::Map<_, _> = raw
        .0
        .iter()
        .enumerate()
        .map(|(i, entry)| (entry.0.clone(), json!(name(i % 2))))
        .collect();
    let index = "model.safetensors.index.json";
    write(dir.path(), index, json!({"weight_map": map}).to_string());
    let message = open().unwrap_err().to_string();
    assert!(
        message.contains(&name(1)) && message.contains(index),
        "{message}"
    );
    write(dir.path(), &name(1), raw.write(|i| i % 2 == 1));
    assert_eq!(bits(&open().unwrap().params), bits(&params));
    let mut bad = Raw::of(&params);
    bad.0[1].2 = vec![1, 1, bad.0[1].3.len() / 4];
    write(dir.path(), &name(1), bad.write(|i| i % 2 == 1));
    let message = open().unwrap_err().to_string();
    assert!(
        message.contains(&bad.0[1].0) && message.contains(&name(1)),
        "{message}"
    );
}

#[test]
fn a_folder_that_is_something_else_says_what_and_how_to_make_a_model_of_it() {
    let (config, params) = base(json!({}));
    let adapter = json!({"peft_type": "LORA", "base_model_name_or_path": "Tiny/Base"}).to_string();
    let weights = params.to_safetensors().unwrap();
    let cases: Vec<(Files<'_>, &str, &[&str])> = vec![
        (
            vec![("pytorch_model.bin", b"PK"), ("training_args.bin", b"PK")],
            "model.safetensors",
            &[
                "pytorch_model.bin is a pickle",
                "AutoModelForCausalLM",
                "model.path",
            ],
        ),
        (
            vec![("tiny-q4_0.gguf", b"GGUF")],
            "model.safetensors",
            &["gguf_file='tiny-q4_0.gguf'"],
        ),
        (
            vec![
                ("adapter_config.json", adapter.as_bytes()),
                ("adapter_model.safetensors", b""),
            ],
            "model.safetensors",
            &[
                "adapter of Tiny/Base",
                "merge_and_unload",
                "T.from_pretrained('Tiny/Base')",
            ],
        ),
        (
            vec![
                ("consolidated.safetensors", &weights),
                ("params.json", b"{}"),
            ],
            "model.safetensors",
            &["Mistral", "config.json"],
        ),
        (
            vec![("weights.safetensors", &weights)],
            "model.safetensors",
            &["call it model.safetensors"],
        ),
        (
            vec![("vocab.json", b"{}"), ("merges.txt", b"")],
            "tokenizer.json",
            &["vocab.json and merges.txt", "AutoTokenizer"],
        ),
        (
            vec![("tokenizer.model", b"")],
            "tokenizer.json",
            &["tokenizer.model alone", "AutoTokenizer"],
        ),
        (
            vec![("tiny.gguf", b"GGUF")],
            "config.json",
            &["llama.cpp's format"],
        ),
        (
            vec![("adapter_config.json", adapter.as_bytes())],
            "config.json",
            &["adapter of Tiny/Base"],
        ),
    ];
    for (files, lacks, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        beside(dir.path(), &config);
        write(dir.path(), "model.safetensors", &weights);
        std::fs::remove_file(dir.path().join(lacks)).unwrap();
        for (name, bytes) in files {
            write(dir.path(), name, bytes);
        }
        if lacks == "config.json" {
            std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        }
        let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains(&format!("{lacks} is not there")),
            "{message}"
        );
        for part in expected {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    // A trainer's folder of checkpoints.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("checkpoint-20")).unwrap();
    beside(&dir.path().join("checkpoint-20"), &config);
    let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("name one of checkpoint-20"), "{message}");
}
