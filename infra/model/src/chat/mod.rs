//! Chat templates: messages to the text a model was tuned on, as Hugging Face renders it.

mod environment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, context};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Error, Result};

/// Name the template has in messages of the engine.
const NAME: &str = "chat template";

/// Tokens that templates know by name.
const SPECIAL_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A conversation: a JSON list of objects with `role`, `content`, and whatever else the template
/// knows. Keys keep their order.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Messages(Value);

impl Messages {
    /// Reads them from JSON text.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| refuse("reading the messages of a chat", &error))
    }
}

/// A model's chat template: Jinja, from `chat_template.jinja` or `tokenizer_config.json`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are spellings by name, such as `bos_token`.
    ///
    /// # Errors
    /// The line that is no Jinja.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = environment::python_like();
        environment
            .add_template_owned(NAME, environment::without_generation_tags(source))
            .map_err(|error| refuse("compiling the chat template", &error))?;
        Ok(Self {
            environment,
            special_tokens,
        })
    }

    /// The template of a model folder, if it has one: `chat_template.jinja`, or what
    /// `tokenizer_config.json` holds under `chat_template` (of several the one called `default`).
    pub(crate) fn of_folder(
        tokenizer_config: Option<&[u8]>,
        jinja: Option<&[u8]>,
    ) -> Result<Option<Self>> {
        let config: Json = match tokenizer_config {
            None => Json::Null,
            Some(bytes) => serde_json::from_slice(bytes).map_err(|error| {
                Error::config(
                    "(tokenizer_config.json)",
                    format!("no valid JSON: {error}; fetch or export the file again"),
                )
            })?,
        };
        let source = match jinja {
            Some(bytes) => Some(String::from_utf8(bytes.to_vec()).map_err(|error| {
                Error::config("(chat_template.jinja)", format!("no UTF-8: {error}"))
            })?),
            None => in_config(&config["chat_template"])?,
        };
        if source
            .as_ref()
            .is_some_and(|source| source.trim().is_empty())
        {
            let problem = "it is empty; write one, or leave it out for prompts that are no chats";
            return Err(Error::config("(chat template)", problem));
        }
        source
            .map(|source| Self::new(&source, special_tokens(&config)))
            .transpose()
    }

    /// The text of `messages`, as `apply_chat_template(messages, tokenize=False)` gives it.
    /// `add_generation_prompt` ends it where the model is to answer. It holds every special token
    /// it needs: encode it with [`crate::Tokenizer::encode_rendered`].
    ///
    /// # Errors
    /// Messages that are no list, and whatever the template raises.
    pub fn render(&self, messages: &Messages, add_generation_prompt: bool) -> Result<String> {
        let messages = messages.0.clone();
        if messages.kind() != ValueKind::Seq {
            return Err(refuse("rendering a chat", &"its messages are no list"));
        }
        let special = Value::from_pairs(self.special_tokens.clone());
        // As transformers passes them where nothing is asked for.
        let none = Value::from(());
        let context = context! {
            messages, add_generation_prompt, tools => none.clone(), documents => none, ..special
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| refuse("rendering a chat", &error))
    }
}

fn in_config(value: &Json) -> Result<Option<String>> {
    let wrong = |problem: &str| Err(Error::config("chat_template", problem));
    match value {
        Json::Null => Ok(None),
        Json::String(source) => Ok(Some(source.clone())),
        Json::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            match default.and_then(|entry| entry["template"].as_str()) {
                Some(source) => Ok(Some(source.to_owned())),
                None => wrong("a list without a template called default"),
            }
        }
        _ => wrong("neither a string nor a list of named templates"),
    }
}

/// Spellings of the special tokens: strings, or objects with `content`.
fn special_tokens(config: &Json) -> BTreeMap<String, String> {
    let spelling = |name: &&str| {
        let value = &config[*name];
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        Some(((*name).to_owned(), text.to_owned()))
    };
    SPECIAL_TOKENS.iter().filter_map(spelling).collect()
}

fn refuse(action: &str, why: &dyn std::fmt::Display) -> Error {
    Error::ChatTemplate {
        action: action.to_owned(),
        problem: why.to_string(),
    }
}
