mod special;

use std::collections::BTreeSet;

use serde_json::json;
use tokenizers::AddedToken;

pub(crate) use self::special::SpecialTokens;
use crate::error::{Error, Result};

/// Tokenizer from a Hugging Face `tokenizer.json`: text to token ids and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    eos_ids: Vec<u32>,
    /// Number of rows of the model's embedding, if it is known.
    rows: Option<usize>,
}

impl Tokenizer {
    /// Id of `<pad>` in [`Tokenizer::characters`].
    pub const CHARACTERS_PAD: u32 = 0;
    /// Id of `<eos>` in [`Tokenizer::characters`].
    pub const CHARACTERS_EOS: u32 = 1;

    /// Reads a `tokenizer.json`. A token named `<eos>` counts as end of text; for other spellings
    /// set the ids from `config.json` with [`Tokenizer::with_eos_ids`].
    ///
    /// Truncation and padding in the file are left over from the last call before it was saved.
    /// They are ignored, as in transformers, so a prompt is encoded whole.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self> {
        let refuse = |error: tokenizers::Error| Error::Tokenizer {
            action: "reading tokenizer.json".to_owned(),
            problem: format!("{error}; use the file as `tokenizers` writes it"),
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(refuse)?;
        inner.with_truncation(None).map_err(refuse)?;
        inner.with_padding(None);
        let eos_ids = inner.token_to_id("<eos>").into_iter().collect();
        Ok(Self {
            inner,
            eos_ids,
            rows: None,
        })
    }

    /// Creates a tokenizer with one token per character, ascending from id 2 after `<pad>` (0) and
    /// `<eos>` (1). Encoding a text with a character outside `chars` is an error.
    pub fn characters(chars: &BTreeSet<char>) -> Result<Self> {
        let mut vocab = serde_json::Map::new();
        let names = ["<pad>".to_owned(), "<eos>".to_owned()];
        let names = names.into_iter().chain(chars.iter().map(char::to_string));
        for (id, name) in names.enumerate() {
            vocab.insert(name, json!(id));
        }
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        };
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [special(0, "<pad>"), special(1, "<eos>")],
            "normalizer": null,
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"},
                "behavior": "Isolated", "invert": false},
            "post_processor": null,
            "decoder": {"type": "Fuse"},
            // No entry is named `<unk>`, so an unknown character is an error, not a token.
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        Self::from_json(file.to_string())
    }

    /// Returns the tokenizer with these ids as end of text.
    #[must_use]
    pub fn with_eos_ids(mut self, ids: Vec<u32>) -> Self {
        self.eos_ids = ids;
        self
    }

    /// Returns the tokenizer for an embedding of `rows` rows; texts with a token beyond them are
    /// refused.
    #[must_use]
    pub(crate) fn with_rows(mut self, rows: usize) -> Self {
        self.rows = Some(rows);
        self
    }

    /// Returns the token ids that end a text.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// Encodes `text` to token ids, with the special tokens that the file's template adds.
    ///
    /// # Errors
    /// The text has a character that the vocabulary lacks, and the file has no token for unknown
    /// ones; or a token has no row in the model's embedding.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    /// Encodes a text that already contains the special tokens it needs, such as a rendered chat;
    /// none are added.
    ///
    /// # Errors
    /// The same errors as [`Tokenizer::encode`].
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    /// Encodes the rendered text that follows a completion, as it is encoded behind the completion's
    /// last token where that is the stop token `stop`. If the text begins with that token itself,
    /// which is in the completion already, it is left out.
    ///
    /// A completion without a stop token is followed by the whole text.
    ///
    /// # Errors
    /// The same errors as [`Tokenizer::encode`].
    pub fn encode_following(&self, stop: Option<u32>, text: &str) -> Result<Vec<u32>> {
        let Some(stop) = stop else {
            return self.encode_rendered(text);
        };
        let spelled = self.decode_all(&[stop])?;
        // Some templates have a space between a completion and its end.
        let ended = [text, text.trim_start()]
            .into_iter()
            .find_map(|text| text.strip_prefix(&spelled))
            .filter(|_| !spelled.is_empty());
        let rest = ended.unwrap_or(text);
        // Encoded together with the token before: at the beginning of a text, many tokenizers
        // encode other tokens than behind a special one.
        let mut ids = self.encode_rendered(&format!("{spelled}{rest}"))?;
        if ids.first() == Some(&stop) {
            ids.remove(0);
            return Ok(ids);
        }
        self.encode_rendered(rest)
    }

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| Error::Tokenizer {
                action: format!("encoding {:?}", excerpt(text)),
                problem: self.unknown(text).map_or_else(
                    || error.to_string(),
                    |character| {
                        format!(
                            "character {character:?} is not in the tokenizer's vocabulary; \
                             remove it or use a tokenizer that knows it"
                        )
                    },
                ),
            })?;
        let ids = encoding.get_ids().to_vec();
        let beyond = |id: &&u32| self.rows.is_some_and(|rows| **id as usize >= rows);
        if let (Some(&id), Some(rows)) = (ids.iter().find(beyond), self.rows) {
            let token = self.token(id).unwrap_or_default();
            return Err(Error::Tokenizer {
                action: format!("encoding {:?}", excerpt(text)),
                problem: format!(
                    "token {token:?} (id {id}) has no row in the model's embedding of {rows}: \
                     remove it from the text, or add a row for it with transformers' \
                     resize_token_embeddings"
                ),
            });
        }
        Ok(ids)
    }

    /// Decodes `ids` to text without special tokens. Unknown ids are left out too.
    ///
    /// # Errors
    /// The decoder of the file is broken.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.text(ids, true)
    }

    /// Decodes `ids` to text with special tokens spelled out.
    ///
    /// # Errors
    /// The same errors as [`Tokenizer::decode`].
    pub fn decode_all(&self, ids: &[u32]) -> Result<String> {
        self.text(ids, false)
    }

    fn text(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        self.inner
            .decode(ids, skip_special_tokens)
            .map_err(|error| Error::Tokenizer {
                action: format!("decoding {} tokens", ids.len()),
                problem: error.to_string(),
            })
    }

    /// Returns the number of tokens, including added ones.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Returns the tokens with an id of `rows` or more, in the order of their ids. The flag is true
    /// for tokens that were added to the vocabulary.
    pub(crate) fn beyond(&self, rows: usize) -> Vec<(u32, String, bool)> {
        let vocabulary = self.inner.get_vocab(true).into_iter();
        let mut beyond: Vec<_> = vocabulary
            .filter(|(_, id)| *id as usize >= rows)
            .map(|(token, id)| (id, self.has_added(&token), token))
            .map(|(id, added, token)| (id, token, added))
            .collect();
        beyond.sort();
        beyond
    }

    /// Returns the tokens that were added to the vocabulary, in the order of their ids.
    fn added_tokens(&self) -> Vec<AddedToken> {
        let mut added: Vec<_> = self.inner.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        added.into_iter().map(|(_, token)| token).collect()
    }

    fn has_added(&self, token: &str) -> bool {
        self.inner
            .get_added_vocabulary()
            .get_vocab()
            .contains_key(token)
    }

    /// Adds tokens, or changes the properties of existing ones. With `split`, special tokens in a
    /// text are encoded as plain text.
    fn add(&mut self, tokens: Vec<AddedToken>, split: bool) -> Result<()> {
        self.inner.set_encode_special_tokens(split);
        let added = self.inner.add_tokens(tokens);
        added.map(|_count| ()).map_err(|error| Error::Tokenizer {
            action: "adding the special tokens of the model folder".to_owned(),
            problem: error.to_string(),
        })
    }

    /// Returns the id of the token spelled `token`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Returns the spelling of token `id`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Serializes to `tokenizer.json`.
    pub fn to_json(&self) -> Result<String> {
        self.inner
            .to_string(true)
            .map_err(|error| Error::Tokenizer {
                action: "writing tokenizer.json".to_owned(),
                problem: error.to_string(),
            })
    }

    fn unknown(&self, text: &str) -> Option<char> {
        let mut buffer = [0; 4];
        text.chars()
            .find(|c| self.inner.token_to_id(c.encode_utf8(&mut buffer)).is_none())
    }
}

/// Returns at most 40 characters of a text, for messages.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits() -> Tokenizer {
        Tokenizer::characters(&"0123456789+= \n".chars().collect()).unwrap()
    }

    #[test]
    fn characters_round_trip_through_json() {
        let tokenizer = digits();
        assert_eq!(tokenizer.vocab_size(), 16);
        assert_eq!(tokenizer.eos_ids(), [Tokenizer::CHARACTERS_EOS]);
        let text = "12 + 3=\n15";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids.len(), text.len());
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let again = Tokenizer::from_json(tokenizer.to_json().unwrap()).unwrap();
        assert_eq!(again.encode(text).unwrap(), ids);
        assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap());
        assert_eq!(again.eos_ids(), tokenizer.eos_ids());
    }

    #[test]
    fn special_tokens_vanish_in_decoded_text() {
        let tokenizer = digits();
        let mut ids = tokenizer.encode("7").unwrap();
        ids.push(Tokenizer::CHARACTERS_EOS);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "7");
        assert_eq!(tokenizer.encode("7<eos>").unwrap(), ids);
    }

    #[test]
    fn what_follows_a_completion_begins_behind_its_stop_token() {
        let tokenizer = digits();
        let eos = Tokenizer::CHARACTERS_EOS;
        let plain = tokenizer.encode("\n7=").unwrap();
        let following = |stop, text: &str| tokenizer.encode_following(stop, text).unwrap();
        assert_eq!(following(Some(eos), "<eos>\n7="), plain);
        assert_eq!(following(Some(eos), " <eos>\n7="), plain);
        // A template without the stop token is written behind it.
        assert_eq!(following(Some(eos), "\n7="), plain);
        // A completion that was cut off gets the end that the template writes.
        let ended = [&[eos][..], &plain].concat();
        assert_eq!(following(None, "<eos>\n7="), ended);
        // Only one end is the completion's own.
        assert_eq!(following(Some(eos), "<eos><eos>\n7="), ended);
        // A stop token that is no special one is found all the same.
        let newline = tokenizer.token_id("\n");
        let seven = tokenizer.encode("7=").unwrap();
        assert_eq!(following(newline, "\n7="), seven);
    }

    #[test]
    fn an_unknown_character_is_named() {
        let message = digits().encode("12x").unwrap_err().to_string();
        assert!(message.contains("'x'"), "{message}");
    }

    #[test]
    fn a_broken_file_is_refused() {
        let message = Tokenizer::from_json("{}").unwrap_err().to_string();
        assert!(message.contains("tokenizer.json"), "{message}");
    }
}
