mod ends;
mod files;
mod missing;

use std::path::Path;

use self::ends::Ends;
use crate::notes::note_on;
use crate::params::load::Loaded;
use crate::tokenizer::SpecialTokens;
use crate::{
    chat::ChatTemplate,
    config::DecoderConfig,
    error::{Error, Result},
    params::ParamSet,
    tokenizer::Tokenizer,
};

/// Files beside config, tokenizer and weights, kept as they were read. They are all that is needed
/// to prompt the model as it was tuned.
const COMPANIONS: [&str; 5] = [
    TOKENIZER_CONFIG,
    GENERATION_CONFIG,
    CHAT_TEMPLATE,
    "special_tokens_map.json",
    "added_tokens.json",
];
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Model loaded from a Hugging Face model folder.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Contents of `config.json`, with the end-of-text ids of every file that names one.
    pub config: DecoderConfig,
    /// Tokenizer of `tokenizer.json`, with the special tokens that the files beside it add.
    pub tokenizer: Tokenizer,
    /// Template that turns messages into a prompt, if the folder has one.
    pub chat: Option<ChatTemplate>,
    /// Weights of the model, as f32.
    pub params: ParamSet,
    companions: Vec<(&'static str, Vec<u8>)>,
    of_generation: Vec<u32>,
    notes: Vec<String>,
}

impl ModelFolder {
    /// Names of the files that every folder has beside its weights.
    pub const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];

    /// Names of the files that a folder may have beside its weights, the needed ones first.
    pub const FILES: [&str; 7] = [
        Self::NEEDED[0],
        Self::NEEDED[1],
        COMPANIONS[0],
        COMPANIONS[1],
        COMPANIONS[2],
        COMPANIONS[3],
        COMPANIONS[4],
    ];

    /// Files that a download from the hub fetches.
    pub const WANTED: vintage_hub::Wanted = vintage_hub::Wanted {
        files: &Self::FILES,
        needed: &Self::NEEDED,
        instead_of: |file, name, there| Self::instead_of(file, Path::new(name), there),
    };

    /// Reads `config.json`, `tokenizer.json`, `model.safetensors` or the shards that
    /// `model.safetensors.index.json` names (or that are numbered, without one), and of the others of [`ModelFolder::FILES`] those
    /// that are there. `path` is a folder, or `hf://NAME[@REVISION]` for the snapshot that the
    /// local Hugging Face cache has of a model (`HF_HUB_CACHE`, `HF_HOME`).
    ///
    /// # Errors
    /// Names the file, config key or tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = &*vintage_hub::locate(path.as_ref())?;
        let mut model = Self::build(&files::companions(path)?, |config| {
            files::weights(path, config)
        })?;
        model.notes.extend(files::unread_templates(path));
        Ok(model)
    }

    /// Opens a model folder without its weights, for callers that need only shape, tokens or
    /// template.
    ///
    /// # Errors
    /// The same errors as [`ModelFolder::open`], except those about weights.
    pub fn open_without_weights(path: impl AsRef<Path>) -> Result<Self> {
        let path = &*vintage_hub::locate(path.as_ref())?;
        let none = |config: &DecoderConfig| Loaded::none(config);
        Self::build(&files::companions(path)?, none)
    }

    /// Reads the weights of a folder that was opened without them. Its other files are not read
    /// again. Opened this way in two steps, a folder equals that of [`ModelFolder::open`].
    ///
    /// # Errors
    /// The errors of [`ModelFolder::open`] about weights.
    pub fn read_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = &*vintage_hub::locate(path.as_ref())?;
        let loaded = files::weights(path, &self.config)?;
        self.config.tie_word_embeddings = loaded.tied;
        self.params = loaded.params;
        self.notes.extend(loaded.notes);
        self.notes.extend(files::unread_templates(path));
        Ok(())
    }

    /// Loads a model from the bytes of its files, given by name, and of one weights file.
    ///
    /// # Errors
    /// The same errors as [`ModelFolder::open`].
    pub fn from_files<N: AsRef<str>, B: AsRef<[u8]>>(
        files: &[(N, B)],
        weights: &[u8],
    ) -> Result<Self> {
        Self::build(files, |config| Loaded::of_file(weights, config))
    }

    /// Loads a model from the bytes of its files, given by name, without weights.
    ///
    /// # Errors
    /// The same errors as [`ModelFolder::open_without_weights`].
    pub fn from_files_without_weights<N: AsRef<str>, B: AsRef<[u8]>>(
        files: &[(N, B)],
    ) -> Result<Self> {
        Self::build(files, Loaded::none)
    }

    fn build<N: AsRef<str>, B: AsRef<[u8]>>(
        files: &[(N, B)],
        weights: impl FnOnce(&DecoderConfig) -> Result<Loaded>,
    ) -> Result<Self> {
        let file = |wanted: &str| {
            let found = files.iter().find(|(name, _)| name.as_ref() == wanted);
            found.map(|(_, bytes)| bytes.as_ref())
        };
        let needed = |name: &'static str| {
            file(name).ok_or_else(|| Error::file(name, "the file is missing from the model"))
        };
        let mut config = DecoderConfig::from_json(needed("config.json")?)?;
        let mut tokenizer = Tokenizer::from_json(needed("tokenizer.json")?)?;
        let special = SpecialTokens::of_folder(file)?;
        let mut notes = Vec::new();
        let new = special.add_to(&mut tokenizer)?;
        let new: Vec<_> = new.iter().map(|token| format!("{token:?}")).collect();
        let what = "special tokens of tokenizer_config.json, special_tokens_map.json or \
                    added_tokens.json that are not in tokenizer.json and got ids behind its own";
        notes.extend(note_on(what, &new));
        let chat = ChatTemplate::of_folder(
            file(TOKENIZER_CONFIG),
            file(CHAT_TEMPLATE),
            special.spellings(),
        )?;
        let companions = COMPANIONS.into_iter();
        let companions = companions
            .filter_map(|name| file(name).map(|bytes| (name, bytes.to_vec())))
            .collect();
        notes.extend(rows(&config, &tokenizer)?);
        let ends = Ends::of_folder(file(GENERATION_CONFIG), &config, &tokenizer, &special)?;
        notes.extend(ends.notes);
        config.eos_token_id = ends.ids;
        let loaded = weights(&config)?;
        notes.extend(loaded.notes);
        config.tie_word_embeddings = loaded.tied;
        Ok(Self {
            chat,
            companions,
            of_generation: ends.of_generation,
            notes,
            ..Self::new(config, tokenizer, loaded.params)?
        })
    }

    /// Combines config, tokenizer and parameters to a model without a chat template. End-of-text
    /// ids are the config's, or the tokenizer's if the config has none.
    ///
    /// # Errors
    /// The tokenizer has more tokens than the model's vocabulary, or an end-of-text id is outside
    /// it.
    pub fn new(mut config: DecoderConfig, tokenizer: Tokenizer, params: ParamSet) -> Result<Self> {
        let notes = rows(&config, &tokenizer)?.into_iter().collect();
        if config.eos_token_id.is_empty() {
            config.eos_token_id = tokenizer.eos_ids().to_vec();
        }
        let vocabulary = config.vocab_size;
        let ids = config.eos_token_id.iter();
        if let Some(id) = ids.copied().find(|&id| id as usize >= vocabulary) {
            let problem = format!("id {id} is none of the model's {vocabulary} tokens");
            return Err(Error::config("eos_token_id", problem));
        }
        let tokenizer = tokenizer
            .with_eos_ids(config.eos_token_id.clone())
            .with_rows(vocabulary);
        Ok(Self {
            config,
            tokenizer,
            chat: None,
            params,
            companions: Vec::new(),
            of_generation: Vec::new(),
            notes,
        })
    }

    /// Describes what a folder has instead of `file`, with the command that makes a model of it.
    /// `path` is the folder or the name of a repository on the hub, and `names` are all its files.
    pub fn instead_of(file: &str, path: &Path, names: &[String]) -> Option<String> {
        missing::instead(path, file, names)
    }

    /// Returns the end-of-text ids that `generation_config.json` names, at which transformers'
    /// `generate` stops. The slice is empty if that file names none.
    pub fn generation_eos_ids(&self) -> &[u32] {
        &self.of_generation
    }

    /// Returns notes on everything that was left out, substituted or found to differ between files,
    /// each with the file or tensor concerned. Users should read them before training.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns name and bytes of every file of the folder, `model.safetensors` first.
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

    /// Writes [`ModelFolder::files`] into `path`, creating the folder, and returns their names.
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

/// Refuses a tokenizer whose own vocabulary exceeds the model's embedding, and reports added tokens
/// without a row in it. Adding a padding token does not require resizing the embedding.
fn rows(config: &DecoderConfig, tokenizer: &Tokenizer) -> Result<Option<String>> {
    let rows = config.vocab_size;
    let beyond = tokenizer.beyond(rows);
    if let Some((id, token, _)) = beyond.iter().find(|(_, _, added)| !added) {
        return Err(Error::config(
            "vocab_size",
            format!(
                "{rows} is too few for the tokenizer's {} tokens ({token:?} has id {id}); the two \
                 files are of different models",
                tokenizer.vocab_size()
            ),
        ));
    }
    let named: Vec<_> = beyond
        .iter()
        .map(|(id, token, _)| format!("{token:?} (id {id})"))
        .collect();
    Ok(note_on(
        "tokens of the tokenizer without a row in the model's embedding",
        &named,
    )
    .map(|note| {
        format!(
            "{note}: no prompt may have one, and none is sampled; take them out of \
                 tokenizer.json, or add rows with transformers' resize_token_embeddings"
        )
    }))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
