//! Model folders whose files are missing, damaged or of another model.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use vintage_tests::models;

use super::{USAGE, refused, safetensors_header};
use crate::small;

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";

/// Name of the tensor to which most of the damage is done.
const TENSOR: &str = "model.layers.1.self_attn.k_norm.weight";

/// Change to an intact folder, and words that the refusal must contain.
type Case = (fn(&Path) -> Result<()>, &'static [&'static str]);

/// Reads a safetensors file, changes header or values, and writes it again.
fn weights(
    model: &Path,
    change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let path = model.join(WEIGHTS);
    let bytes = fs::read(&path)?;
    let (mut header, start) = safetensors_header(&bytes)?;
    let mut values = bytes[start..].to_vec();
    change(&mut header, &mut values)?;
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text);
    file.extend(values);
    Ok(fs::write(path, file)?)
}

/// Returns the offsets of the values of [`TENSOR`].
fn offsets(header: &Map<String, Value>) -> Result<[usize; 2]> {
    serde_json::from_value(header[TENSOR]["data_offsets"].clone()).context("no offsets")
}

/// Sets a key of a JSON file; null removes it.
fn set(model: &Path, file: &str, key: &str, value: Value) -> Result<()> {
    let path = model.join(file);
    let mut parsed: Map<String, Value> = serde_json::from_slice(&fs::read(&path)?)?;
    if value.is_null() {
        parsed.remove(key);
    } else {
        parsed.insert(key.to_owned(), value);
    }
    Ok(fs::write(path, serde_json::to_vec(&parsed)?)?)
}

/// Removes [`TENSOR`] and moves all tensors behind it up by its size, so that no gap is left.
fn without_tensor(header: &mut Map<String, Value>, values: &mut Vec<u8>) -> Result<()> {
    let [start, end] = offsets(header)?;
    header.remove(TENSOR);
    values.drain(start..end);
    for tensor in header.values_mut() {
        for at in 0..2 {
            if let Some(offset) = tensor["data_offsets"][at].as_u64()
                && offset as usize >= end
            {
                tensor["data_offsets"][at] = json!(offset as usize - (end - start));
            }
        }
    }
    Ok(())
}

const CASES: [Case; 29] = [
    // Files.
    (
        |model| Ok(fs::remove_dir_all(model)?),
        &["No such file", "hf://", CONFIG],
    ),
    (
        |model| Ok(fs::remove_file(model.join(CONFIG))?),
        &[CONFIG, "No such file", "model folder"],
    ),
    (
        |model| Ok(fs::remove_file(model.join(WEIGHTS))?),
        &[WEIGHTS, "No such file"],
    ),
    (
        |model| Ok(fs::remove_file(model.join("tokenizer.json"))?),
        &["tokenizer.json", "No such"],
    ),
    (
        |model| {
            Ok(fs::rename(
                model.join(WEIGHTS),
                model.join("pytorch_model.bin"),
            )?)
        },
        &[WEIGHTS, "pytorch_model.bin is a pickle", "save_pretrained"],
    ),
    (
        |model| {
            let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
            Ok(fs::write(model.join("tokenizer.json"), pointer)?)
        },
        &["tokenizer.json", "git lfs pull"],
    ),
    (
        |model| Ok(fs::write(model.join("tokenizer.json"), "{}")?),
        &["reading tokenizer.json"],
    ),
    // Weights.
    (
        |model| weights(model, without_tensor),
        &[TENSOR, "missing", "with shape [16]"],
    ),
    (
        |model| {
            weights(model, |header, values| {
                let end = values.len();
                values.extend([1; 64]);
                let extra = json!({"dtype": "F32", "shape": [16], "data_offsets": [end, end + 64]});
                header.insert("model.layers.1.self_attn.k_proj.bias".to_owned(), extra);
                Ok(())
            })
        },
        &["model.layers.1.self_attn.k_proj.bias", "not expected"],
    ),
    (
        |model| {
            weights(model, |header, _| {
                header[TENSOR]["shape"] = json!([4, 4]);
                Ok(())
            })
        },
        &[TENSOR, "shape [4, 4]", "config.json asks for [16]"],
    ),
    (
        |model| {
            weights(model, |header, values| {
                let [start, _] = offsets(header)?;
                values[start + 8..start + 12].copy_from_slice(&f32::NAN.to_le_bytes());
                Ok(())
            })
        },
        &[TENSOR, "value 2 is NaN"],
    ),
    (
        |model| {
            weights(model, |header, _| {
                header[TENSOR]["dtype"] = json!("I32");
                Ok(())
            })
        },
        &[TENSOR, "I32", "F32, F16 or BF16"],
    ),
    // A header with a wrong tensor size, a wrong offset, a wrong length of its own or of the file.
    (
        |model| {
            weights(model, |header, _| {
                header[TENSOR]["shape"] = json!([17]);
                Ok(())
            })
        },
        &[WEIGHTS, "fetch or export the file again"],
    ),
    (
        |model| {
            weights(model, |header, values| {
                let end = values.len();
                header[TENSOR]["data_offsets"] = json!([end, end + 64]);
                Ok(())
            })
        },
        &[WEIGHTS, "fetch or export the file again"],
    ),
    (
        |model| {
            let mut bytes = fs::read(model.join(WEIGHTS))?;
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            Ok(fs::write(model.join(WEIGHTS), bytes)?)
        },
        &[WEIGHTS, "fetch or export the file again"],
    ),
    (
        |model| {
            let bytes = fs::read(model.join(WEIGHTS))?;
            Ok(fs::write(model.join(WEIGHTS), &bytes[..bytes.len() - 100])?)
        },
        &[WEIGHTS, "fetch or export the file again"],
    ),
    // Config.
    (
        |model| set(model, CONFIG, "model_type", json!("mamba")),
        &["config.json: key model_type", "mamba", "qwen3"],
    ),
    (
        |model| {
            set(
                model,
                CONFIG,
                "architectures",
                json!(["Qwen3ForSequenceClassification"]),
            )
        },
        &[
            "key architectures",
            "Qwen3ForSequenceClassification",
            "Qwen3ForCausalLM",
        ],
    ),
    (
        |model| {
            set(
                model,
                CONFIG,
                "rope_scaling",
                json!({"rope_type": "yarn", "factor": 2.0}),
            )
        },
        &["key rope_scaling.rope_type", "yarn"],
    ),
    (
        |model| {
            set(
                model,
                CONFIG,
                "rope_parameters",
                json!({"rope_type": "longrope"}),
            )
        },
        &["key rope_parameters.rope_type", "longrope"],
    ),
    (
        |model| set(model, CONFIG, "hidden_size", Value::Null),
        &["key hidden_size", "missing"],
    ),
    (
        |model| set(model, CONFIG, "num_hidden_layers", json!(3)),
        &["model.layers.2.", "missing"],
    ),
    // The tokenizer has 283 tokens.
    (
        |model| set(model, CONFIG, "vocab_size", json!(282)),
        &["generation_config.json", "key eos_token_id", "282 tokens"],
    ),
    (
        |model| set(model, CONFIG, "vocab_size", json!(200)),
        &["key vocab_size", "200", "283 tokens", "different models"],
    ),
    (
        |model| {
            set(
                model,
                "generation_config.json",
                "eos_token_id",
                json!("</s>"),
            )
        },
        &["key eos_token_id", "</s>"],
    ),
    // Chat template.
    (
        |model| {
            set(
                model,
                "tokenizer_config.json",
                "chat_template",
                json!("{% if %}"),
            )
        },
        &["compiling the chat template", "chat_template"],
    ),
    (
        |model| {
            let raises = "{{ raise_exception('system first') }}";
            set(
                model,
                "tokenizer_config.json",
                "chat_template",
                json!(raises),
            )
        },
        &["digits.jsonl:1", "rendering a chat", "system first"],
    ),
    (
        |model| {
            Ok(fs::write(
                model.join("chat_template.jinja"),
                "{{ messages.0.mend() }}",
            )?)
        },
        &["digits.jsonl:1", "rendering a chat", "mend"],
    ),
    (
        |model| set(model, "tokenizer_config.json", "chat_template", Value::Null),
        &["digits.jsonl:1", "no chat template", "chat_template.jinja"],
    ),
];

#[test]
fn a_bad_model_folder_is_refused_by_file_tensor_and_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let model = folder.join("model");
    let command = |model: &Path| -> Result<_> {
        let mut command = small::digits(folder, &out)?;
        command.args(["--set", "prompts.chat=true"]);
        command.args(["--set", &format!("model.path={}", model.display())]);
        Ok(command)
    };
    for (number, (damage, words)) in CASES.iter().enumerate() {
        vintage_tests::copy(&models().join("qwen3"), &model)?;
        damage(&model)?;
        refused(&command(&model)?, USAGE, words).with_context(|| format!("case {number}"))?;
        ensure!(
            !out.exists(),
            "case {number}: the model is looked at before there is a folder"
        );
        if model.exists() {
            fs::remove_dir_all(&model)?;
        }
    }
    // The same command with an intact folder.
    vintage_tests::copy(&models().join("qwen3"), &model)?;
    small::finished(command(&model)?)?;
    Ok(())
}
