//! Messages of a conversation, as JSON texts in the order of their keys.

use serde_json::Value;

use crate::prompts::raw;

/// Conversation so far: what the prompt had, completions, and messages of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialogue {
    messages: Vec<String>,
    /// Further inputs of the chat template, as members of a JSON object, each after a comma.
    extras: String,
}

impl Dialogue {
    /// Reads a chat: a list of messages, or an object with that list and further template inputs.
    pub(super) fn of_chat(chat: &str) -> Result<Self, String> {
        let chat = chat.trim();
        let (mut list, mut extras) = (chat, String::new());
        if chat.starts_with('{') {
            for (key, value) in raw::members(chat)? {
                if key == "messages" {
                    list = value;
                } else {
                    extras.extend([",", &Value::from(key).to_string(), ":", value]);
                }
            }
        }
        let messages = raw::elements(list)?.into_iter().map(raw::compact);
        Ok(Self {
            messages: messages.collect(),
            extras,
        })
    }

    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Appends a completion as a message of the assistant.
    pub(super) fn push_completion(&mut self, text: &str) {
        let content = Value::from(text);
        let message = format!("{{\"role\":\"assistant\",\"content\":{content}}}");
        self.messages.push(message);
    }

    /// Appends messages of the environment.
    pub(super) fn extend(&mut self, messages: Vec<String>) {
        self.messages.extend(messages);
    }

    /// Messages as a JSON list.
    pub(super) fn list(&self) -> String {
        format!("[{}]", self.messages.join(","))
    }

    /// Chat as the template takes it.
    pub(super) fn chat(&self) -> String {
        format!("{{\"messages\":{}{}}}", self.list(), self.extras)
    }
}

/// Checks that a chat can be continued over several turns. The error says why not, and what to do.
pub(crate) fn check_chat(chat: Option<&str>) -> Result<(), String> {
    let Some(chat) = chat else {
        return Err(
            "it is plain text, and rollout.environment.command holds conversations: write \
             \"messages\", or set prompts.chat = true"
                .to_owned(),
        );
    };
    let dialogue = Dialogue::of_chat(chat)?;
    if dialogue.extras.contains("\"continue_final_message\":true") {
        return Err(
            "it has \"continue_final_message\", and a conversation begins with a whole answer: \
             leave it out, or take no environment"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Dialogue, check_chat};

    #[test]
    fn messages_are_kept_as_they_are_written() {
        let tools = r#"{"tools":[{"name":"f"}],"messages":[{"role":"user","b":1, "a":2}]}"#;
        let mut dialogue = Dialogue::of_chat(tools).unwrap();
        dialogue.push_completion("say \"hi\"\n");
        dialogue.extend(vec![r#"{"role":"tool","content":"4"}"#.to_owned()]);
        assert_eq!(dialogue.len(), 3);
        assert_eq!(
            dialogue.chat(),
            r#"{"messages":[{"role":"user","b":1,"a":2},{"role":"assistant","content":"say \"hi\"\n"},{"role":"tool","content":"4"}],"tools":[{"name":"f"}]}"#
        );
        let list = Dialogue::of_chat(r#" [{"role": "user"}] "#).unwrap();
        assert_eq!(list.chat(), r#"{"messages":[{"role":"user"}]}"#);
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        assert!(check_chat(Some(r#"[{"role":"user","content":"a"}]"#)).is_ok());
        assert!(check_chat(None).unwrap_err().contains("prompts.chat"));
        let begun = r#"{"messages":[{"role":"assistant"}],"continue_final_message":true}"#;
        assert!(
            check_chat(Some(begun))
                .unwrap_err()
                .contains("whole answer")
        );
    }
}
