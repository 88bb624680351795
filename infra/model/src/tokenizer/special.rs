//! Special tokens named by the files beside `tokenizer.json`. If two files disagree, the one that
//! wins in transformers 5 wins here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::{
    error::{Error, Result},
    tokenizer::Tokenizer,
};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";

/// Token names to which transformers gives a meaning. A model may have others that end in `_token`.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Special tokens of a model folder, collected from its files.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpecialTokens {
    /// Tokens by name, such as `bos_token`, in the order in which they are added.
    named: Vec<(String, AddedToken)>,
    /// Special tokens without a name.
    extra: Vec<AddedToken>,
    /// Tokens whose properties a file states, in the order of their ids.
    stated: Vec<AddedToken>,
    /// True if the stated tokens take precedence over `tokenizer.json`.
    decides: bool,
    /// Every spelling of the end of a sequence, with the file that has it.
    ends: Vec<(&'static str, String)>,
    /// True if special tokens in a text are encoded as plain text.
    split: bool,
}

impl SpecialTokens {
    /// Reads `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, if `file`
    /// returns them.
    ///
    /// The first file wins if it has `added_tokens_decoder`, as files written since 2023 do.
    /// Otherwise everything that the second has wins, including nulls.
    ///
    /// # Errors
    /// A file is not a JSON object, or has something else in place of a token; the error names the
    /// file.
    pub(crate) fn of_folder<'a>(file: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self> {
        let config = object(TOKENIZER_CONFIG, file(TOKENIZER_CONFIG))?;
        let map = object(SPECIAL_TOKENS_MAP, file(SPECIAL_TOKENS_MAP))?;
        let mut special = Self {
            split: config.get("split_special_tokens") == Some(&Value::Bool(true)),
            ..Self::default()
        };
        special.take(TOKENIZER_CONFIG, &config)?;
        // The end token of either file may occur in completions, whichever file wins.
        for (name, source) in [(TOKENIZER_CONFIG, &config), (SPECIAL_TOKENS_MAP, &map)] {
            let end = source.get("eos_token").filter(|end| !end.is_null());
            if let Some(end) = end {
                let end = token(name, "eos_token", end, true)?;
                special.ends.push((name, end.content));
            }
        }
        if let Some(stated) = config.get("added_tokens_decoder") {
            special.decides = true;
            special.stated = decoder(stated)?;
        } else {
            special.take(SPECIAL_TOKENS_MAP, &map)?;
            let added = object(ADDED_TOKENS, file(ADDED_TOKENS))?;
            special.stated = special.encoder(&added)?;
        }
        special.ends.retain(|(_, end)| !end.is_empty());
        Ok(special)
    }

    /// Returns the spellings by name, as a chat template refers to them.
    pub(crate) fn spellings(&self) -> BTreeMap<String, String> {
        let named = self.named.iter();
        named
            .map(|(name, token)| (name.clone(), token.content.clone()))
            .collect()
    }

    /// Returns every spelling of the end of a sequence, with the file that has it.
    pub(crate) fn ends(&self) -> &[(&'static str, String)] {
        &self.ends
    }

    /// Adds the special tokens to a tokenizer as transformers does on loading. Returns the tokens
    /// that `tokenizer.json` lacks, which get ids after its own.
    pub(crate) fn add_to(&self, tokenizer: &mut Tokenizer) -> Result<Vec<String>> {
        let mut tokens = Vec::new();
        let first = |tokens: &mut Vec<AddedToken>, token: &AddedToken| {
            if tokens.iter().all(|known| known.content != token.content) {
                tokens.push(token.clone());
            }
        };
        if !self.decides {
            for token in tokenizer.added_tokens() {
                first(&mut tokens, &token);
            }
        }
        for token in &self.stated {
            first(&mut tokens, token);
        }
        let others = self.named.iter().map(|(_, token)| token).chain(&self.extra);
        for token in others.filter(|token| !tokenizer.has_added(&token.content)) {
            first(&mut tokens, token);
        }
        // A named token is always special.
        for token in &mut tokens {
            token.special |= self.has_name(&token.content);
        }
        tokens.retain(|token| !token.content.is_empty());
        let new = tokens.iter().map(|token| token.content.clone());
        let new = new.filter(|content| tokenizer.token_id(content).is_none());
        let new = new.collect();
        tokenizer.add(tokens, self.split)?;
        Ok(new)
    }

    fn has_name(&self, content: &str) -> bool {
        self.named.iter().any(|(_, token)| token.content == content)
    }

    /// Takes the tokens of one file, which override those of earlier files.
    fn take(&mut self, file: &'static str, source: &Map<String, Value>) -> Result<()> {
        let others = source.keys().map(String::as_str);
        let others = others.filter(|name| name.ends_with("_token") && !NAMES.contains(name));
        for name in NAMES.into_iter().chain(others) {
            match source.get(name) {
                Some(Value::Null) => self.named.retain(|(known, _)| known != name),
                // Flags such as add_bos_token have names that end the same way.
                None | Some(Value::Bool(_)) => {}
                Some(value) => self.name(name, token(file, name, value, true)?),
            }
        }
        let list = |key: &str, value: &Value| match value {
            Value::Array(tokens) => tokens
                .iter()
                .map(|value| token(file, key, value, true))
                .collect(),
            _ => Ok(Vec::new()),
        };
        for key in ["extra_special_tokens", "additional_special_tokens"] {
            let Some(value) = source.get(key) else {
                continue;
            };
            if let Value::Object(tokens) = value {
                for (name, value) in tokens {
                    self.name(name, token(file, key, value, true)?);
                }
            }
            // The older key counts only if the newer one gave no tokens.
            if key == "extra_special_tokens" || self.extra.is_empty() {
                self.extra.extend(list(key, value)?);
            }
        }
        Ok(())
    }

    fn name(&mut self, name: &str, token: AddedToken) {
        match self.named.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = token,
            None => self.named.push((name.to_owned(), token)),
        }
    }

    /// Reads `added_tokens.json`, which has ids by spelling.
    fn encoder(&self, ids: &Map<String, Value>) -> Result<Vec<AddedToken>> {
        let mut read = Vec::new();
        for (content, id) in ids {
            let id = id.as_u64().ok_or_else(|| {
                Error::file(
                    ADDED_TOKENS,
                    format!("{id} is no id of a token: {content:?}"),
                )
            })?;
            let extra = self.extra.iter().any(|token| token.content == *content);
            let special = extra || self.has_name(content);
            read.push((id, AddedToken::from(content.clone(), special)));
        }
        Ok(in_order(read))
    }
}

/// Reads `added_tokens_decoder`, which has tokens by id.
fn decoder(tokens: &Value) -> Result<Vec<AddedToken>> {
    let wrong =
        |what: String| Error::file(TOKENIZER_CONFIG, format!("added_tokens_decoder: {what}"));
    let tokens = tokens.as_object();
    let tokens = tokens.ok_or_else(|| wrong("not an object of tokens by id".to_owned()))?;
    let mut read = Vec::new();
    for (id, value) in tokens {
        let parsed = id.parse::<u64>();
        let id = parsed.map_err(|_| wrong(format!("{id:?} is no id of a token")))?;
        read.push((
            id,
            token(TOKENIZER_CONFIG, "added_tokens_decoder", value, false)?,
        ));
    }
    Ok(in_order(read))
}

fn in_order(mut tokens: Vec<(u64, AddedToken)>) -> Vec<AddedToken> {
    tokens.sort_by_key(|(id, _)| *id);
    tokens.into_iter().map(|(_, token)| token).collect()
}

/// Reads a token given by its spelling or as an object with `content`.
fn token(file: &str, key: &str, value: &Value, special: bool) -> Result<AddedToken> {
    let object = match value {
        Value::String(content) => return Ok(AddedToken::from(content.clone(), special)),
        Value::Object(object) => object,
        _ => &Map::new(),
    };
    let Some(content) = object.get("content").and_then(Value::as_str) else {
        let problem = format!("key {key}: {value} is no token: give its spelling");
        return Err(Error::file(file, problem));
    };
    let flag = |key: &str| object.get(key).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(special);
    let normalized = flag("normalized").unwrap_or(!special);
    Ok(AddedToken::from(content, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(normalized))
}

/// Parses a file that is absent or a JSON object.
fn object(file: &str, bytes: Option<&[u8]>) -> Result<Map<String, Value>> {
    let Some(bytes) = bytes else {
        return Ok(Map::new());
    };
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::file(file, "not a JSON object".to_owned())),
        Err(error) => Err(Error::file(file, format!("no valid JSON: {error}"))),
    }
}
