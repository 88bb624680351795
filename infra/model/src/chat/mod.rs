//! Chat templates, which turn messages into the text a model was tuned on, as Hugging Face renders
//! it.

mod arguments;
mod environment;
mod filters;
mod following;
mod json;
mod lexer;
mod messages;
mod methods;
mod operators;
mod python;
mod rewrite;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use minijinja::value::Value;
use minijinja::{Environment, context};
use serde_json::Value as Json;

pub use following::{Following, Rewriting};
pub use messages::Messages;

use crate::error::{Error, Result};

/// Name of the template in the engine's error messages.
const NAME: &str = "chat template";

/// Name of the separate template for chats with tools, if a model has one.
const TOOL_USE: &str = "chat template for tools";

/// Text appended to a last message while it is rendered, so that its end can be found in the
/// result.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Chat template of a model: Jinja from `chat_template.jinja` or `tokenizer_config.json`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are spellings by name, such as `bos_token`.
    ///
    /// # Errors
    /// The source is not valid Jinja; the error names the line.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self> {
        let mut template = Self {
            environment: environment::python_like(),
            special_tokens,
        };
        template.add(NAME, source)?;
        Ok(template)
    }

    fn add(&mut self, name: &'static str, source: &str) -> Result<()> {
        let compiled = rewrite::rewrite(source).and_then(|rewritten| {
            let whole = rewritten.is_some();
            let source = rewritten.unwrap_or_else(|| source.to_owned());
            let added = self.environment.add_template_owned(name, source);
            added.map_err(|error| error.to_string())?;
            // If the source was not rewritten, the engine's error, which names the line, comes
            // first.
            let unclosed = || "its tags or brackets are not closed, or lie too deep".to_owned();
            whole.then_some(()).ok_or_else(unclosed)
        });
        compiled.map_err(|why| refuse(&format!("compiling the {name}"), &why))
    }

    /// Reads the template of a model folder, if it has one: `chat_template.jinja`, or the value of
    /// `chat_template` in `tokenizer_config.json` (from a list, the one named `default`, and
    /// `tool_use` for chats with tools). `special_tokens` are spellings by name.
    pub(crate) fn of_folder(
        tokenizer_config: Option<&[u8]>,
        jinja: Option<&[u8]>,
        special_tokens: BTreeMap<String, String>,
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
        let (source, for_tools) = match jinja {
            Some(bytes) => {
                let text = String::from_utf8(bytes.to_vec()).map_err(|error| {
                    Error::config("(chat_template.jinja)", format!("no UTF-8: {error}"))
                })?;
                (Some(text), None)
            }
            None => in_config(&config["chat_template"])?,
        };
        if source
            .as_ref()
            .is_some_and(|source| source.trim().is_empty())
        {
            let problem = "it is empty; write one, or leave it out for prompts that are no chats";
            return Err(Error::config("(chat template)", problem));
        }
        let Some(source) = source else {
            return Ok(None);
        };
        let mut template = Self::new(&source, special_tokens)?;
        if let Some(source) = for_tools {
            template.add(TOOL_USE, &source)?;
        }
        Ok(Some(template))
    }

    /// Renders a chat to text, as `apply_chat_template(messages, tokenize=False)` does.
    ///
    /// `add_generation_prompt` ends the text where the model is to answer, unless the chat's last
    /// message is to be continued. The text contains all special tokens that it needs, so encode it
    /// with [`crate::Tokenizer::encode_rendered`].
    ///
    /// # Errors
    /// The template raises an error, or leaves out the message that is to be continued.
    pub fn render(&self, chat: &Messages, add_generation_prompt: bool) -> Result<String> {
        let mut messages = chat.turns.clone();
        if chat.continues {
            marked(&mut messages)?;
        }
        let name = match self.environment.get_template(TOOL_USE) {
            Ok(_) if !chat.tools.is_none() => TOOL_USE,
            _ => NAME,
        };
        // Settings of the chat override special tokens, as in transformers.
        let names = self.special_tokens.iter();
        let mut given: BTreeMap<&str, Value> = names
            .map(|(name, token)| (name.as_str(), Value::from(token.as_str())))
            .collect();
        given.extend(
            chat.settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone())),
        );
        let context = context! {
            messages,
            add_generation_prompt => add_generation_prompt && !chat.continues,
            tools => chat.tools.clone(),
            documents => chat.documents.clone(),
            ..Value::from_pairs(given)
        };
        let failed = |error: minijinja::Error| refuse("rendering a chat", &error);
        let template = self.environment.get_template(name).map_err(failed)?;
        let text = template.render(context).map_err(failed)?;
        if chat.continues {
            // transformers also checks whether the template refers to content at all.
            let known = template.source().contains("content");
            return unfinished(&text, known);
        }
        Ok(text)
    }
}

/// Appends the mark to the last message's text.
fn marked(messages: &mut [Value]) -> Result<()> {
    let nothing = || {
        refuse(
            "rendering a chat",
            &"its last message has no text to continue",
        )
    };
    let last = messages.last_mut().ok_or_else(nothing)?;
    let with = |map: &Value, key: &str, value: Value| {
        let entries = python::pairs(map).into_iter();
        Value::from_pairs(entries.map(|(name, old)| {
            let new = if name.as_str() == Some(key) {
                value.clone()
            } else {
                old
            };
            (name, new)
        }))
    };
    let content = last.get_attr("content").unwrap_or_default();
    let longer = |text: &str| Value::from(format!("{text}{MARK}"));
    let content = if let Some(text) = content.as_str() {
        longer(text)
    } else {
        let mut blocks: Vec<Value> = content.try_iter().map_err(|_| nothing())?.collect();
        let text_of = |block: &Value| {
            block
                .get_attr("text")
                .ok()
                .filter(|text| text.as_str().is_some())
        };
        let last = blocks
            .iter()
            .rposition(|block| text_of(block).is_some())
            .ok_or_else(nothing)?;
        let text = text_of(&blocks[last]).unwrap_or_default();
        blocks[last] = with(
            &blocks[last],
            "text",
            longer(text.as_str().unwrap_or_default()),
        );
        Value::from(blocks)
    };
    *last = with(last, "content", content);
    Ok(())
}

/// Returns the text up to the mark.
fn unfinished(text: &str, known: bool) -> Result<String> {
    let end = text
        .rfind(MARK.trim_end())
        .filter(|_| known)
        .ok_or_else(|| {
            refuse(
                "rendering a chat",
                &"its template leaves out the message that is to be continued",
            )
        })?;
    let kept = &text[..end];
    Ok(if text[end..].starts_with(MARK) {
        kept.to_owned()
    } else {
        // The template trims the text of messages.
        kept.trim_end_matches(python::is_space).to_owned()
    })
}

/// Default template, and the one for chats with tools.
type Templates = (Option<String>, Option<String>);

fn in_config(value: &Json) -> Result<Templates> {
    let wrong = |problem: &str| Err(Error::config("chat_template", problem));
    match value {
        Json::Null => Ok((None, None)),
        Json::String(source) => Ok((Some(source.clone()), None)),
        Json::Array(named) => {
            let called = |name: &str| {
                let found = named.iter().find(|entry| entry["name"] == name);
                found.and_then(|entry| entry["template"].as_str().map(str::to_owned))
            };
            match called("default") {
                Some(source) => Ok((Some(source), called("tool_use"))),
                None => wrong("a list without a template called default"),
            }
        }
        _ => wrong("neither a string nor a list of named templates"),
    }
}

fn refuse(action: &str, why: &dyn std::fmt::Display) -> Error {
    Error::ChatTemplate {
        action: action.to_owned(),
        problem: why.to_string(),
    }
}
