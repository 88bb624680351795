//! Reader for the chats of rows: messages in the published layouts, and further template inputs.

use serde_json::Value;

use super::raw::{self, kind};

const EXAMPLE: &str = r#"write [{"role": "user", "content": "2+2?"}]"#;

/// Keys whose values a chat template is given beside the messages.
const EXTRAS: [&str; 4] = [
    "tools",
    "documents",
    "chat_template_kwargs",
    "continue_final_message",
];

/// Messages of a chat, as a JSON list.
pub(super) struct Chat {
    pub(super) json: String,
    /// Index of the last message, from 0, if its role is the assistant's.
    pub(super) answered: Option<usize>,
}

impl Chat {
    /// Reads the list under `key`: objects with `role`, or with `from` and `value` as in ShareGPT.
    pub(super) fn read(key: &str, list: &str) -> Result<Self, String> {
        if !list.starts_with('[') {
            return Err(format!("its {key:?} is {}; {EXAMPLE}", kind(list)));
        }
        let messages = raw::elements(list)?;
        let mut written = Vec::with_capacity(messages.len());
        let mut last = String::new();
        for (at, message) in messages.iter().enumerate() {
            let (role, text) =
                one(message).map_err(|why| format!("message {at} {why}; {EXAMPLE}"))?;
            written.push(text);
            last = role;
        }
        let place = messages.len().checked_sub(1);
        let Some(place) = place else {
            return Err(format!("its {key:?} are none; {EXAMPLE}"));
        };
        Ok(Self {
            json: format!("[{}]", written.join(",")),
            answered: (last == "assistant").then_some(place),
        })
    }
}

/// Reads one message; returns its role and its JSON.
fn one(message: &str) -> Result<(String, String), String> {
    if !message.starts_with('{') {
        return Err(format!("is {}", kind(message)));
    }
    let members = raw::members(message)?;
    let find = |key: &str| {
        members
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| *value)
    };
    if let Some(role) = find("role").filter(|role| role.starts_with('"')) {
        return Ok((raw::string(role)?, raw::compact(message)));
    }
    let (Some(from), Some(value)) = (find("from"), find("value")) else {
        return Err("has no \"role\"".to_owned());
    };
    let from = raw::string(from).map_err(|_| "has a \"from\" that is no string".to_owned())?;
    let role = match from.as_str() {
        "human" | "user" => "user",
        "gpt" | "assistant" | "chatgpt" | "model" => "assistant",
        "system" => "system",
        other => {
            return Err(format!(
                "is from {other:?}, which is none of human, gpt and system: write messages with \
                 \"role\" and \"content\""
            ));
        }
    };
    Ok((
        role.to_owned(),
        format!(
            "{{\"role\":\"{role}\",\"content\":{}}}",
            raw::compact(value)
        ),
    ))
}

/// Turns plain text into a chat with one message from the user, as JSON.
pub(super) fn of_user(text: &str) -> String {
    format!(r#"[{{"role":"user","content":{}}}]"#, Value::from(text))
}

/// Returns the text of the system message that a list of messages begins with, if it does.
pub(super) fn system(messages: &str) -> Option<String> {
    let messages: Value = serde_json::from_str(messages).ok()?;
    let first = &messages[0];
    let is_system = first["role"] == "system";
    is_system.then(|| first["content"].as_str().map(str::to_owned))?
}

/// Reads the further inputs of a chat template as members of a JSON object; `None` if there are
/// none.
pub(super) fn extras<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Option<String>, String> {
    let mut members = Vec::new();
    for key in EXTRAS {
        let Some(value) = get(key) else {
            continue;
        };
        // Some data sets store their tools as JSON inside a string.
        let inner = if matches!(key, "tools" | "documents") && value.starts_with('"') {
            Some(raw::string(value)?)
        } else {
            None
        };
        let value = inner.as_deref().map_or(value, str::trim);
        let (fits, wanted) = match key {
            "chat_template_kwargs" => (value.starts_with('{'), "an object"),
            "continue_final_message" => (matches!(value, "true" | "false"), "true or false"),
            _ => (
                value.starts_with('[') && raw::elements(value).is_ok(),
                "a list of objects",
            ),
        };
        if !fits {
            let found = match inner {
                None => kind(value).to_owned(),
                Some(_) if value.is_empty() => "an empty string".to_owned(),
                Some(_) if raw::is_json(value) => format!("a string that holds {}", kind(value)),
                Some(_) => "a string that is no JSON".to_owned(),
            };
            return Err(format!("its {key:?} is {found}; write {wanted}"));
        }
        if value != "false" {
            members.push(format!("{key:?}:{}", raw::compact(value)));
        }
    }
    Ok((!members.is_empty()).then(|| members.join(",")))
}

/// Combines a list of messages and further template inputs into one JSON object.
pub(super) fn with_extras(messages: &str, extras: &str) -> String {
    format!("{{\"messages\":{messages},{extras}}}")
}

/// Returns the text of the last message of a list.
pub(super) fn last_text(list: &str) -> Result<String, String> {
    let none = || "its \"completion\" has no last message with a text as content".to_owned();
    let messages = raw::elements(list)?;
    let members = raw::members(messages.last().ok_or_else(none)?)?;
    let mut content = members.iter().filter(|(key, _)| key == "content");
    let content = content.next().filter(|(_, value)| value.starts_with('"'));
    raw::string(content.ok_or_else(none)?.1)
}
