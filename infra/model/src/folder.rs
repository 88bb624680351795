use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::params::{Shard, load};
use crate::{Error, ModelConfig, ParamSet, Result, Tokenizer};

/// A Hugging Face model folder, loaded.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// `config.json`, end-of-text ids those of `generation_config.json` where that has any.
    pub config: ModelConfig,
    /// `tokenizer.json`.
    pub tokenizer: Tokenizer,
    /// The weights, as f32.
    pub params: ParamSet,
}

impl ModelFolder {
    /// Reads `config.json`, `tokenizer.json`, and `model.safetensors` or the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Names the file, config key or tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = read(&path.join("config.json"))?;
        let tokenizer = read(&path.join("tokenizer.json"))?;
        let mut config = ModelConfig::from_json(&config)?;
        let generation = path.join("generation_config.json");
        if generation.exists() {
            let ids = end_of_text_ids(&read(&generation)?)?;
            if !ids.is_empty() {
                config.eos_token_id = ids;
            }
        }
        let params = open_weights(path, &config)?;
        Self::new(config, Tokenizer::from_json(tokenizer)?, params)
    }

    /// The same from the bytes of the three files, one file of weights.
    pub fn from_files(config: &[u8], tokenizer: &[u8], weights: &[u8]) -> Result<Self> {
        let config = ModelConfig::from_json(config)?;
        let params = ParamSet::from_safetensors(weights, &config)?;
        Self::new(config, Tokenizer::from_json(tokenizer)?, params)
    }

    /// Puts the parts together. End-of-text ids are the config's, or where it has none the
    /// tokenizer's.
    ///
    /// # Errors
    /// A tokenizer with more tokens than the model's vocabulary.
    pub fn new(mut config: ModelConfig, tokenizer: Tokenizer, params: ParamSet) -> Result<Self> {
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::config(
                "vocab_size",
                format!(
                    "{} is less than the tokenizer's {} tokens; the two files are of different \
                     models",
                    config.vocab_size,
                    tokenizer.vocab_size()
                ),
            ));
        }
        if config.eos_token_id.is_empty() {
            config.eos_token_id = tokenizer.eos_ids().to_vec();
        }
        let tokenizer = tokenizer.with_eos_ids(config.eos_token_id.clone());
        Ok(Self {
            config,
            tokenizer,
            params,
        })
    }

    /// Name and bytes of every file of the folder, `model.safetensors` first.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let eos = self
            .tokenizer
            .eos_ids()
            .first()
            .and_then(|&id| self.tokenizer.token(id));
        let tokenizer_config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.config.max_position_embeddings,
            "eos_token": eos,
        });
        Ok(vec![
            ("model.safetensors", self.params.to_safetensors()?),
            ("config.json", self.config.to_json().into_bytes()),
            ("tokenizer.json", self.tokenizer.to_json()?.into_bytes()),
            (
                "tokenizer_config.json",
                format!("{tokenizer_config:#}\n").into_bytes(),
            ),
        ])
    }

    /// Writes [`ModelFolder::files`] into `path`, which is created.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let files = self.files()?;
        std::fs::create_dir_all(path).map_err(io("creating", path))?;
        for (name, bytes) in files {
            let file = path.join(name);
            std::fs::write(&file, bytes).map_err(io("writing", &file))?;
        }
        Ok(())
    }
}

fn open_weights(path: &Path, config: &ModelConfig) -> Result<ParamSet> {
    let single = path.join("model.safetensors");
    let index = path.join("model.safetensors.index.json");
    if single.exists() || !index.exists() {
        let bytes = read(&single)?;
        return load(
            &[Shard {
                file: single.display().to_string(),
                bytes: &bytes,
            }],
            config,
        );
    }
    let damaged = |problem: &str| Error::Weights {
        file: index.display().to_string(),
        problem: problem.to_owned(),
    };
    let parsed: Value =
        serde_json::from_slice(&read(&index)?).map_err(|error| damaged(&error.to_string()))?;
    let map = parsed
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| damaged("no object weight_map"))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let file = file
            .as_str()
            .ok_or_else(|| damaged("weight_map holds a value that is no file name"))?;
        // A name from outside must not lead out of the folder.
        if Path::new(file).file_name().is_none_or(|name| name != file) {
            return Err(damaged(&format!("{file:?} is no plain file name")));
        }
        names.insert(file);
    }
    let files = names
        .into_iter()
        .map(|name| Ok((name, read(&path.join(name))?)))
        .collect::<Result<Vec<_>>>()?;
    let shards: Vec<_> = files
        .iter()
        .map(|(name, bytes)| Shard {
            file: (*name).to_owned(),
            bytes,
        })
        .collect();
    load(&shards, config)
}

fn end_of_text_ids(generation_config: &[u8]) -> Result<Vec<u32>> {
    let parsed: Value = serde_json::from_slice(generation_config).map_err(|error| {
        Error::config(
            "(generation_config.json)",
            format!("no valid JSON: {error}"),
        )
    })?;
    match parsed.as_object() {
        Some(map) => crate::config::token_ids_in(map, "eos_token_id"),
        None => Err(Error::config(
            "(generation_config.json)",
            "not a JSON object",
        )),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(io("reading", path))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
