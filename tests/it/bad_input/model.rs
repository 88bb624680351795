//! Model folders whose files are missing, damaged or of another model.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::{USAGE, refused, safetensors_header};
use crate::small;

/// Changes the header of a file of tensors and cuts values nothing names any more from its end.
fn edited(bytes: &[u8], edit: impl FnOnce(&mut Map<String, Value>)) -> Result<Vec<u8>> {
    let (mut header, start) = safetensors_header(bytes)?;
    edit(&mut header);
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text);
    file.extend(&bytes[start..]);
    let end = super::safetensors_end(&file)?;
    file.truncate(end);
    Ok(file)
}

/// The tensor whose values are the last of the file.
fn last_tensor(bytes: &[u8]) -> Result<String> {
    let (header, _) = safetensors_header(bytes)?;
    let end = |tensor: &Value| tensor["data_offsets"][1].as_u64();
    let last = header.iter().max_by_key(|(_, tensor)| end(tensor));
    Ok(last.context("no tensors")?.0.clone())
}

#[test]
fn a_bad_model_folder_is_refused_by_file_and_tensor() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (folder, out) = (folder.path(), folder.path().join("run"));
    let whole = small::model()?;
    let (_, weights) = whole
        .iter()
        .find(|(name, _)| name == "model.safetensors")
        .context("no weights")?;
    let path = folder.join("model");
    let with = |name: &str, bytes: Option<Vec<u8>>| -> Result<()> {
        small::save(&path, &whole)?;
        let file = path.join(name);
        match bytes {
            Some(bytes) => std::fs::write(file, bytes)?,
            None => std::fs::remove_file(file)?,
        }
        Ok(())
    };
    let refuse = |words: &[&str]| -> Result<()> {
        let mut command = small::digits(folder, &out)?;
        command.args(["--set", &format!("model.path={}", path.display())]);
        let named = path.display().to_string();
        refused(&command, USAGE, &[words, &[&named]].concat())?;
        ensure!(
            !out.exists(),
            "the model is looked at before there is a folder"
        );
        Ok(())
    };

    refuse(&["config.json", "No such file", "model folder"])?;

    let gone = last_tensor(weights)?;
    let missing = edited(weights, |header| drop(header.remove(&gone)))?;
    with("model.safetensors", Some(missing))?;
    refuse(&[&gone, "missing"])?;

    let turned = "model.layers.0.mlp.up_proj.weight";
    let misshapen = edited(weights, |header| {
        if let Some(shape) = header[turned]["shape"].as_array_mut() {
            shape.reverse();
        }
    })?;
    with("model.safetensors", Some(misshapen))?;
    refuse(&[turned, "shape [", "config.json asks for ["])?;

    with(
        "model.safetensors",
        Some(weights[..weights.len() - 100].to_vec()),
    )?;
    refuse(&["model.safetensors", "fetch or export the file again"])?;

    with("tokenizer.json", None)?;
    refuse(&["tokenizer.json", "No such file"])?;
    with("tokenizer.json", Some(b"{}".to_vec()))?;
    refuse(&["tokenizer.json"])?;
    with("config.json", Some(b"{\"model_type\":\"mamba\"}".to_vec()))?;
    refuse(&["config.json", "model_type", "mamba"])?;

    mended(folder, &path, &out)
}

/// The same command, once the folder is whole.
fn mended(folder: &Path, model: &Path, out: &Path) -> Result<()> {
    small::save(model, &small::model()?)?;
    let mut command = small::digits(folder, out)?;
    command.args(["--set", &format!("model.path={}", model.display())]);
    small::finished(command)?;
    Ok(())
}
