//! Diagnosis of folders that lack a file every model has, and the commands that make models of
//! them.

use std::path::Path;

use serde_json::Value;

use super::io;
use crate::error::Error;

/// Folder to which the suggested commands write.
const OUT: &str = "NEW_FOLDER";
const THEN: &str = "and name NEW_FOLDER as model.path";

/// Returns the names of the entries of a folder, sorted.
pub(super) fn names(path: &Path) -> Vec<String> {
    let entries = path.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Creates an error about a folder as a whole.
pub(super) fn folder(path: &Path, problem: impl Into<String>) -> Error {
    Error::Folder {
        path: path.display().to_string(),
        problem: problem.into(),
    }
}

/// Creates the error for a `file` of the folder `path` that could not be read, naming what exists
/// instead.
pub(super) fn file(path: &Path, file: &str, source: std::io::Error) -> Error {
    let names = names(path);
    let inner = || {
        (file == "config.json")
            .then(|| inner(path, &names))
            .flatten()
    };
    match instead(path, file, &names).or_else(inner) {
        Some(problem) => folder(path, format!("{file} is not there: {problem}")),
        None => io("reading", &path.join(file))(source),
    }
}

/// Describes what a folder or hub repository with the files `names` has instead of `file`, and the
/// remedy.
pub(super) fn instead(path: &Path, file: &str, names: &[String]) -> Option<String> {
    match file {
        "tokenizer.json" => tokenizer(path, names),
        "config.json" => adapter(path, names).or_else(|| layout(path, names)),
        _ => adapter(path, names)
            .or_else(|| layout(path, names))
            .or_else(|| weights(path, names)),
    }
}

/// Describes a tokenizer in files of another kind.
fn tokenizer(path: &Path, names: &[String]) -> Option<String> {
    let kinds = [
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "spiece.model",
        "tekken.json",
        "tiktoken.model",
        "vocab.txt",
    ];
    let found: Vec<_> = kinds
        .into_iter()
        .filter(|kind| names.iter().any(|name| name == kind))
        .collect();
    if found.is_empty() {
        return None;
    }
    // A repository of the hub cannot be written to: its whole model goes to a new folder.
    let how = if path.is_dir() {
        let path = path.display();
        format!(
            "run `python -c \"from transformers import AutoTokenizer as T; \
             T.from_pretrained('{path}').save_pretrained('{path}')\"`, which writes the file"
        )
    } else {
        load(path, "")
    };
    let found = found.join(" and ");
    Some(format!("of the tokenizer there is {found} alone; {how}"))
}

/// Describes an adapter without its base model.
fn adapter(path: &Path, names: &[String]) -> Option<String> {
    let is_adapter =
        |name: &String| name == "adapter_config.json" || name.starts_with("adapter_model.");
    if !names.iter().any(is_adapter) {
        return None;
    }
    let config = std::fs::read(path.join("adapter_config.json")).unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    let base = config["base_model_name_or_path"].as_str();
    let base = base.filter(|base| !base.is_empty());
    let of = base.map_or_else(
        || "of the base that adapter_config.json names".to_owned(),
        |base| format!("of {base}"),
    );
    let path = path.display();
    Some(format!(
        "it is an adapter {of}, and no model of its own; merge the two with `python -c \"from peft \
         import AutoPeftModelForCausalLM as M; from transformers import AutoTokenizer as T; \
         M.from_pretrained('{path}').merge_and_unload().save_pretrained('{OUT}'); \
         T.from_pretrained('{}').save_pretrained('{OUT}')\"` {THEN}",
        base.unwrap_or("BASE")
    ))
}

/// Describes a model in a layout other than transformers'.
fn layout(path: &Path, names: &[String]) -> Option<String> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if let Some(file) = names.iter().find(|name| ends(name, &[".gguf"])) {
        let load = load(path, &format!(", gguf_file='{file}'"));
        return Some(format!(
            "{file} is in llama.cpp's format; take the model it was made of, or {load}"
        ));
    }
    (has("params.json") || has("consolidated.00.pth")).then(|| {
        "the weights are laid out as Meta and Mistral publish them; take the folder that is laid \
         out for transformers, with config.json, model.safetensors and tokenizer.json"
            .to_owned()
    })
}

/// Describes weights in another format than safetensors, or under another name.
fn weights(path: &Path, names: &[String]) -> Option<String> {
    let pickles = names.iter().filter(|name| {
        let others = ["training_args", "optimizer", "scheduler", "rng_state"];
        ends(name, &[".bin", ".pt", ".pth", ".ckpt"])
            && !others.iter().any(|other| name.starts_with(other))
    });
    if let Some(file) = pickles.min_by_key(|name| !name.starts_with("pytorch_model")) {
        return Some(format!(
            "{file} is a pickle of PyTorch's, which runs code when it is read and is not read \
             here; {}",
            load(path, "")
        ));
    }
    if let Some(file) = names.iter().find(|name| ends(name, &[".h5", ".msgpack"])) {
        return Some(format!(
            "{file} is of TensorFlow or Flax: take the model's weights in safetensors"
        ));
    }
    let file = names.iter().find(|name| ends(name, &[".safetensors"]))?;
    Some(format!(
        "{file} is; if it holds the whole model, call it model.safetensors, and if it is a part, \
         fetch model.safetensors.index.json and the other parts"
    ))
}

fn ends(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|end| name.ends_with(end))
}

/// Returns the command with which transformers reads a folder and writes one that can be loaded.
fn load(path: &Path, arguments: &str) -> String {
    let path = path.display();
    format!(
        "run `python -c \"from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; \
         M.from_pretrained('{path}'{arguments}).save_pretrained('{OUT}'); \
         T.from_pretrained('{path}'{arguments}).save_pretrained('{OUT}')\"` {THEN}"
    )
}

/// Describes a folder that contains model folders, such as a trainer's checkpoints.
fn inner(path: &Path, names: &[String]) -> Option<String> {
    let models = names
        .iter()
        .filter(|name| path.join(name).join("config.json").is_file());
    let models: Vec<_> = models.map(String::as_str).collect();
    let last = models.last()?;
    Some(format!(
        "it holds models and is none: name one of {}, such as {}",
        models.join(", "),
        path.join(last).display()
    ))
}
