//! Token ids that end a completion, collected from every file of a folder that names some.

use serde_json::Value;

use super::GENERATION_CONFIG;
use crate::tokenizer::SpecialTokens;
use crate::{
    config::DecoderConfig,
    error::{Error, Result},
    tokenizer::Tokenizer,
};

/// Token ids that end a completion.
pub(super) struct Ends {
    /// Ids of all files; those at which transformers' `generate` stops come first.
    pub(super) ids: Vec<u32>,
    /// Ids that `generation_config.json` names; empty if it names none.
    pub(super) of_generation: Vec<u32>,
    /// Notes for the user about the ids.
    pub(super) notes: Vec<String>,
}

impl Ends {
    /// Collects the ids that `generation_config.json`, `config.json` and the tokenizer's files
    /// name.
    ///
    /// # Errors
    /// An id is outside the embedding; the error names the file that has it.
    pub(super) fn of_folder(
        generation: Option<&[u8]>,
        config: &DecoderConfig,
        tokenizer: &Tokenizer,
        special: &SpecialTokens,
    ) -> Result<Self> {
        let of_generation = generation.map_or(Ok(Vec::new()), end_of_text_ids)?;
        let of_config = config.eos_token_id.clone();
        let rows = config.vocab_size;
        for (file, ids) in [
            (GENERATION_CONFIG, &of_generation),
            ("config.json", &of_config),
        ] {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
                let problem = format!(
                    "key eos_token_id: id {id} is none of the model's {rows} tokens: mend the key"
                );
                return Err(Error::file(file, problem));
            }
        }
        let mut notes = Vec::new();
        let mut named = Vec::new();
        for (file, token) in special.ends() {
            match tokenizer.token_id(token) {
                Some(id) if (id as usize) < rows => named.push((*file, token.as_str(), id)),
                _ => notes.push(format!(
                    "{file} names {token:?} as eos_token, which the model has no row for: it ends \
                     no completion"
                )),
            }
        }
        let mut ids = Vec::new();
        let mut add = |id: u32| {
            let new = !ids.contains(&id);
            if new {
                ids.push(id);
            }
            new
        };
        for &id in &of_generation {
            add(id);
        }
        let only_generation = !of_generation.is_empty();
        for &id in &of_config {
            if add(id) && only_generation {
                let token = tokenizer.token(id).unwrap_or_default();
                notes.push(beyond(&token, id, "config.json"));
            }
        }
        let elsewhere = only_generation || !of_config.is_empty();
        for (file, token, id) in named {
            if add(id) && elsewhere {
                notes.push(beyond(token, id, file));
            }
        }
        if ids.is_empty() {
            // The built-in tokenizer spells its end of text so.
            ids = tokenizer.eos_ids().to_vec();
        }
        if ids.is_empty() {
            notes.push(
                "no file names a token that ends a text (eos_token_id in config.json): completions \
                 end at rollout.max_tokens alone"
                    .to_owned(),
            );
        }
        Ok(Self {
            ids,
            of_generation,
            notes,
        })
    }
}

fn beyond(token: &str, id: u32, file: &str) -> String {
    format!(
        "{token:?} (id {id}) ends a completion since {file} names it; generation_config.json, or \
         where that names none config.json, does not: transformers' generate would go on after it"
    )
}

fn end_of_text_ids(generation: &[u8]) -> Result<Vec<u32>> {
    let refuse = |problem: String| Error::file(GENERATION_CONFIG, problem);
    let parsed: Value = serde_json::from_slice(generation)
        .map_err(|error| refuse(format!("no valid JSON: {error}")))?;
    let map = parsed.as_object();
    let map = map.ok_or_else(|| refuse("not a JSON object".to_owned()))?;
    crate::config::token_ids_in(map, "eos_token_id").map_err(|error| match error {
        Error::Config { key, problem } => refuse(format!("key {key}: {problem}")),
        other => other,
    })
}
