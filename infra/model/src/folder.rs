use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::params::{Shard, load};
use crate::{ChatTemplate, Error, ModelConfig, ParamSet, Result, Tokenizer, hub};

/// Files beside config, tokenizer and weights, kept as they were read: they are all one needs to
/// prompt the model as it was tuned.
const COMPANIONS: [&str; 4] = [
    TOKENIZER_CONFIG,
    GENERATION_CONFIG,
    CHAT_TEMPLATE,
    "special_tokens_map.json",
];
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// A Hugging Face model folder, loaded.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// `config.json`, end-of-text ids those of `generation_config.json` where that has any.
    pub config: ModelConfig,
    /// `tokenizer.json`.
    pub tokenizer: Tokenizer,
    /// How messages become a prompt, if the folder says.
    pub chat: Option<ChatTemplate>,
    /// The weights, as f32.
    pub params: ParamSet,
    companions: Vec<(&'static str, Vec<u8>)>,
}

impl ModelFolder {
    /// Files every folder has beside its weights.
    pub const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];

    /// Files a folder may have beside its weights, the needed ones first.
    pub const FILES: [&str; 6] = [
        Self::NEEDED[0],
        Self::NEEDED[1],
        COMPANIONS[0],
        COMPANIONS[1],
        COMPANIONS[2],
        COMPANIONS[3],
    ];

    /// Reads `config.json`, `tokenizer.json`, `model.safetensors` or the shards that
    /// `model.safetensors.index.json` names, and of the others of [`ModelFolder::FILES`] those
    /// that are there. `path` is a folder, or `hf://NAME[@REVISION]` for the snapshot that the
    /// local Hugging Face cache has of a model (`HF_HUB_CACHE`, `HF_HOME`).
    ///
    /// # Errors
    /// Names the file, config key or tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = &*hub::locate(path.as_ref())?;
        Self::build(&companions(path)?, |config| open_weights(path, config))
    }

    /// The same without any parameters, for whoever asks for shape, tokens or template only.
    ///
    /// # Errors
    /// As [`ModelFolder::open`].
    pub fn open_without_weights(path: impl AsRef<Path>) -> Result<Self> {
        let path = &*hub::locate(path.as_ref())?;
        let none = |_: &_| ParamSet::of(Vec::new(), |_| Ok(Vec::new()));
        Self::build(&companions(path)?, none)
    }

    /// The same from files by name, one of weights.
    ///
    /// # Errors
    /// As [`ModelFolder::open`].
    pub fn from_files<N: AsRef<str>, B: AsRef<[u8]>>(
        files: &[(N, B)],
        weights: &[u8],
    ) -> Result<Self> {
        Self::build(files, |config| ParamSet::from_safetensors(weights, config))
    }

    fn build<N: AsRef<str>, B: AsRef<[u8]>>(
        files: &[(N, B)],
        weights: impl FnOnce(&ModelConfig) -> Result<ParamSet>,
    ) -> Result<Self> {
        let file = |wanted: &str| {
            let found = files.iter().find(|(name, _)| name.as_ref() == wanted);
            found.map(|(_, bytes)| bytes.as_ref())
        };
        let needed = |name: &'static str| {
            file(name).ok_or_else(|| Error::config(name, "the file is missing from the model"))
        };
        let mut config = ModelConfig::from_json(needed("config.json")?)?;
        if let Some(bytes) = file(GENERATION_CONFIG) {
            let ids = end_of_text_ids(bytes)?;
            if !ids.is_empty() {
                config.eos_token_id = ids;
            }
        }
        let tokenizer = Tokenizer::from_json(needed("tokenizer.json")?)?;
        let chat = ChatTemplate::of_folder(file(TOKENIZER_CONFIG), file(CHAT_TEMPLATE))?;
        let companions = COMPANIONS.into_iter();
        let companions = companions
            .filter_map(|name| file(name).map(|bytes| (name, bytes.to_vec())))
            .collect();
        refuse_foreign(&config, &tokenizer)?;
        let params = weights(&config)?;
        Ok(Self {
            chat,
            companions,
            ..Self::new(config, tokenizer, params)?
        })
    }

    /// Puts the parts together. End-of-text ids are the config's, or where it has none the
    /// tokenizer's.
    ///
    /// # Errors
    /// A tokenizer with more tokens than the model's vocabulary, an end of text beyond it.
    pub fn new(mut config: ModelConfig, tokenizer: Tokenizer, params: ParamSet) -> Result<Self> {
        refuse_foreign(&config, &tokenizer)?;
        if config.eos_token_id.is_empty() {
            config.eos_token_id = tokenizer.eos_ids().to_vec();
        }
        let vocabulary = config.vocab_size;
        let ids = config.eos_token_id.iter();
        if let Some(id) = ids.copied().find(|&id| id as usize >= vocabulary) {
            let problem = format!(
                "id {id} is none of the model's {vocabulary} tokens: mend generation_config.json \
                 or config.json, whichever has it"
            );
            return Err(Error::config("eos_token_id", problem));
        }
        let tokenizer = tokenizer.with_eos_ids(config.eos_token_id.clone());
        Ok(Self {
            config,
            tokenizer,
            chat: None,
            params,
            companions: Vec::new(),
        })
    }

    /// Whether the ids that end a text come from a `generation_config.json`.
    pub fn has_generation_config(&self) -> bool {
        self.companions
            .iter()
            .any(|(name, _)| *name == GENERATION_CONFIG)
    }

    /// Name and bytes of every file of the folder, `model.safetensors` first.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut files = vec![
            ("model.safetensors", self.params.to_safetensors()?),
            ("config.json", self.config.to_json().into_bytes()),
            ("tokenizer.json", self.tokenizer.to_json()?.into_bytes()),
        ];
        if !self
            .companions
            .iter()
            .any(|(name, _)| *name == TOKENIZER_CONFIG)
        {
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
            files.push((
                TOKENIZER_CONFIG,
                format!("{tokenizer_config:#}\n").into_bytes(),
            ));
        }
        files.extend(self.companions.iter().cloned());
        Ok(files)
    }

    /// Writes [`ModelFolder::files`] into `path`, which is created, and gives their names.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Vec<&'static str>> {
        let path = path.as_ref();
        let files = self.files()?;
        std::fs::create_dir_all(path).map_err(io("creating", path))?;
        let write = |(name, bytes): (_, Vec<u8>)| {
            let file = path.join(name);
            std::fs::write(&file, bytes).map_err(io("writing", &file))?;
            Ok(name)
        };
        files.into_iter().map(write).collect()
    }
}

/// Refuses a tokenizer with tokens the model has no embedding for.
fn refuse_foreign(config: &ModelConfig, tokenizer: &Tokenizer) -> Result<()> {
    match tokenizer.last_token() {
        Some((token, id)) if id as usize >= config.vocab_size => Err(Error::config(
            "vocab_size",
            format!(
                "{} is too few for the tokenizer's {} tokens ({token:?} has id {id}); the two \
                 files are of different models",
                config.vocab_size,
                tokenizer.vocab_size()
            ),
        )),
        _ => Ok(()),
    }
}

/// Names and bytes of the files beside the weights.
fn companions(path: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    ModelFolder::FILES
        .into_iter()
        .filter(|name| ModelFolder::NEEDED.contains(name) || path.join(name).exists())
        .map(|name| Ok((name, read(&path.join(name))?)))
        .collect()
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
