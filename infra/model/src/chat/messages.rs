//! Conversations as rows of prompts contain them, converted to what chat templates receive.

use std::fmt;

use minijinja::value::{Value, ValueKind};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::{python::pairs, refuse};
use crate::error::Result;

/// Keys under which a message may have its reasoning. Templates read the first or the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Names that `chat_template_kwargs` cannot set: transformers uses them otherwise, or a row has
/// keys of its own for them.
const TAKEN: [&str; 15] = [
    "messages",
    "conversation",
    "tools",
    "documents",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
];

/// Conversation to be rendered by a chat template.
///
/// In JSON it is a list of objects with `role`, `content` and whatever else the template knows. Or
/// it is an object with that list as `messages`, and with other inputs of the template: `tools`,
/// `documents`, `chat_template_kwargs`, `continue_final_message`. Keys keep their order.
#[derive(Debug, Clone)]
pub struct Messages {
    pub(super) turns: Vec<Value>,
    pub(super) tools: Value,
    pub(super) documents: Value,
    /// Names and values of `chat_template_kwargs`, which only the template interprets.
    pub(super) settings: Vec<(String, Value)>,
    /// True if the last message is the beginning of the text that the model continues.
    pub(super) continues: bool,
}

impl Messages {
    /// Parses a conversation from JSON text.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| refuse("reading the messages of a chat", &error))
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Plain(value) = Plain::deserialize(deserializer)?;
        Self::of(&value).map_err(D::Error::custom)
    }
}

impl Messages {
    fn of(value: &Value) -> Result<Self, String> {
        let none = || Value::from(());
        let mut chat = Self {
            turns: Vec::new(),
            tools: none(),
            documents: none(),
            settings: Vec::new(),
            continues: false,
        };
        let entries = if value.kind() == ValueKind::Map {
            pairs(value)
        } else {
            vec![(Value::from("messages"), value.clone())]
        };
        for (key, value) in entries {
            match key.as_str().unwrap_or_default() {
                "messages" => chat.turns = prepared(&objects(&value, "messages")?),
                "tools" if !value.is_none() => {
                    chat.tools = Value::from(objects(&value, "tools")?);
                }
                "documents" if !value.is_none() => {
                    chat.documents = Value::from(objects(&value, "documents")?);
                }
                "chat_template_kwargs" if !value.is_none() => chat.settings = settings(&value)?,
                "continue_final_message" => chat.continues = value.is_true(),
                "tools" | "documents" | "chat_template_kwargs" => {}
                other => return Err(format!("a chat has no {other:?}")),
            }
        }
        if chat.turns.is_empty() {
            return Err("it has no messages".to_owned());
        }
        Ok(chat)
    }
}

/// Reads a list of objects, the only valid form of messages, tools and documents.
fn objects(value: &Value, name: &str) -> Result<Vec<Value>, String> {
    let list = match value.kind() {
        ValueKind::Seq => value.try_iter().map_err(|error| error.to_string())?,
        _ => return Err(format!("its {name} are no list")),
    };
    let list: Vec<Value> = list.collect();
    match list.iter().position(|item| item.kind() != ValueKind::Map) {
        Some(at) => Err(format!(
            "its {name} are objects, and number {at}, counted from 0, is none"
        )),
        None => Ok(list),
    }
}

fn settings(value: &Value) -> Result<Vec<(String, Value)>, String> {
    if value.kind() != ValueKind::Map {
        return Err("its chat_template_kwargs are no object".to_owned());
    }
    let pairs = pairs(value).into_iter();
    let settings = pairs.map(|(key, value)| {
        let key = key.as_str().unwrap_or_default().to_owned();
        if TAKEN.contains(&key.as_str()) {
            return Err(format!(
                "{key:?} is nothing that chat_template_kwargs can set"
            ));
        }
        Ok((key, value))
    });
    settings.collect()
}

/// Prepares messages as transformers passes them to templates: without keys whose value is null,
/// and with reasoning under the names that templates read.
fn prepared(messages: &[Value]) -> Vec<Value> {
    let of_one = |message: &Value| {
        let mut entries = pairs(message);
        entries.retain(|(_, value)| !value.is_none());
        let find = |name: &&str| entries.iter().find(|(key, _)| key.as_str() == Some(*name));
        let reasoning = REASONING
            .iter()
            .find_map(find)
            .map(|(_, value)| value.clone());
        if let Some(reasoning) = reasoning {
            let place = |entries: &[(Value, Value)], name: &str| {
                entries
                    .iter()
                    .position(|(key, _)| key.as_str() == Some(name))
            };
            if place(&entries, "thinking").is_none() {
                entries.insert(0, (Value::from("thinking"), reasoning.clone()));
            }
            let entry = (Value::from(REASONING[0]), reasoning);
            match place(&entries, REASONING[0]) {
                Some(at) => entries[at] = entry,
                None => entries.push(entry),
            }
        }
        Value::from_pairs(entries)
    };
    messages.iter().map(of_one).collect()
}

/// JSON value that keeps the order of its objects' keys and all digits of its numbers.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain(Value::from(())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain(Value::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain(Value::from(value)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Plain, E> {
        // An integer of more than 64 bits arrives as a float, and cannot be distinguished from one any more.
        if value.abs() >= 18_446_744_073_709_551_615.0 {
            return Err(E::custom(format!(
                "the number {value:e} is beyond 64 bits and would lose digits; write it as a string"
            )));
        }
        Ok(Plain(Value::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Plain, E> {
        Ok(Plain(Value::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Plain, A::Error> {
        let mut items = Vec::new();
        while let Some(Plain(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Plain(Value::from(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        while let Some((key, Plain(value))) = map.next_entry::<String, Plain>()? {
            entries.push((Value::from(key), value));
        }
        // If a key occurs twice, its last value counts, at the position of the first.
        Ok(Plain(Value::from_pairs(entries)))
    }
}
