//! Reading the files of a model folder.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{ModelFolder, missing};
use crate::params::load::{Loaded, Shard, load};
use crate::{
    config::DecoderConfig,
    error::{Error, Result},
};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// First bytes of a Git LFS pointer, which Git stores in place of a large file.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Returns names and bytes of the files beside the weights.
pub(super) fn companions(path: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    ModelFolder::FILES
        .into_iter()
        .filter(|name| ModelFolder::NEEDED.contains(name) || path.join(name).exists())
        .map(|name| match read(&path.join(name)) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(missing::file(path, name, source))
            }
            read => Ok((name, read?)),
        })
        .collect()
}

/// Returns a note on chat templates that transformers would use for some chats and that are not
/// read here.
pub(super) fn unread_templates(path: &Path) -> Option<String> {
    let name = "additional_chat_templates/tool_use.jinja";
    path.join(name).exists().then(|| {
        format!(
            "{name} is not read: chats with tools are rendered by chat_template.jinja too, unless \
             chat_template in tokenizer_config.json lists both, as default and tool_use"
        )
    })
}

/// Reads `model.safetensors`; if it is missing, the shards of its index; if there is no index, the
/// shards numbered `model-00001-of-00002.safetensors` and so on.
pub(super) fn weights(path: &Path, config: &DecoderConfig) -> Result<Loaded> {
    let single = path.join(SINGLE);
    let index = path.join(INDEX);
    if single.exists() {
        return join(path, [SINGLE.to_owned()].into(), None, config);
    }
    if index.exists() {
        let names = indexed(&index)?;
        return join(path, names, Some(INDEX), config);
    }
    let names = numbered(path)?;
    if names.is_empty() {
        let absent = std::io::ErrorKind::NotFound.into();
        return Err(match std::fs::read(&single) {
            Err(source) => missing::file(path, SINGLE, source),
            Ok(_) => missing::file(path, SINGLE, absent),
        });
    }
    join(path, names, None, config)
}

/// Loads one model from the files `names` in `path`.
fn join(
    path: &Path,
    names: BTreeSet<String>,
    index: Option<&str>,
    config: &DecoderConfig,
) -> Result<Loaded> {
    let mut files = Vec::new();
    for name in names {
        let file = path.join(name);
        let bytes = read(&file).map_err(|error| match (error, index) {
            (Error::Io { source, .. }, Some(index))
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                let problem = format!(
                    "the file is not there, and {index} names it ({source}): fetch it again, with \
                     `hf download` or `git lfs pull`"
                );
                Error::file(file.display().to_string(), problem)
            }
            (error, _) => error,
        })?;
        files.push((file.display().to_string(), bytes));
    }
    let shards: Vec<_> = files
        .iter()
        .map(|(file, bytes)| Shard {
            file: file.clone(),
            bytes,
        })
        .collect();
    let mut loaded = load(&shards, config)?;
    if path.join("adapter_config.json").exists() {
        loaded.notes.push(
            "adapter_config.json is beside the weights: its adapter is not applied, which \
             transformers and peft would apply; merge it, or move it away"
                .to_owned(),
        );
    }
    Ok(loaded)
}

/// Returns the file names that an index lists.
fn indexed(index: &Path) -> Result<BTreeSet<String>> {
    let damaged = |problem: String| Error::Weights {
        file: index.display().to_string(),
        problem,
    };
    let parsed: Value =
        serde_json::from_slice(&read(index)?).map_err(|error| damaged(error.to_string()))?;
    let map = parsed.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| damaged("no object weight_map".to_owned()))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let file = file.as_str();
        let file = file
            .ok_or_else(|| damaged("weight_map holds a value that is no file name".to_owned()))?;
        // Names come from outside the program, and must not lead out of the folder.
        if Path::new(file).file_name().is_none_or(|name| name != file) {
            return Err(damaged(format!("{file:?} is no plain file name")));
        }
        names.insert(file.to_owned());
    }
    if names.is_empty() {
        return Err(damaged("weight_map names no file".to_owned()));
    }
    Ok(names)
}

/// Returns the names of numbered shards, for folders without an index: either none, or all of one
/// set.
fn numbered(path: &Path) -> Result<BTreeSet<String>> {
    let mut sets = BTreeSet::new();
    for name in missing::names(path) {
        let number = name
            .strip_prefix("model-")
            .and_then(|name| name.strip_suffix(".safetensors"));
        let number = number.and_then(|number| number.split_once("-of-"));
        let Some((_, of)) = number.filter(|(at, of)| at.len() == of.len()) else {
            continue;
        };
        if let Ok(count) = of.parse::<u32>() {
            sets.insert((count, of.len()));
        }
    }
    let Some(&(count, width)) = sets.first() else {
        return Ok(BTreeSet::new());
    };
    if sets.len() > 1 {
        let problem = format!(
            "shards of several models are in it and {INDEX} does not say which are meant: fetch \
             the folder again"
        );
        return Err(missing::folder(path, problem));
    }
    let name = |at: u32| format!("model-{at:0width$}-of-{count:0width$}.safetensors");
    let all: BTreeSet<_> = (1..=count).map(name).collect();
    match all.iter().find(|name| !path.join(name).exists()) {
        None => Ok(all),
        Some(gone) => {
            let problem = format!(
                "{gone} is not there, nor {INDEX}: fetch the shards that are missing, with `hf \
                 download` or `git lfs pull`"
            );
            Err(missing::folder(path, problem))
        }
    }
}

/// Reads the bytes of a file, and refuses a Git LFS pointer.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(super::io("reading", path))?;
    if bytes.starts_with(POINTER) {
        let folder = path.parent().unwrap_or(path).display();
        let problem = format!(
            "it is a Git LFS pointer, {} bytes instead of the file: run `git lfs pull` in \
             {folder}, or fetch the model with `hf download`",
            bytes.len()
        );
        return Err(Error::file(path.display().to_string(), problem));
    }
    Ok(bytes)
}
