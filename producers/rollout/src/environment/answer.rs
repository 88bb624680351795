//! Parser for one line of an environment command's output.

use serde_json::Value;

use crate::{
    command::{CommandFault, Line, keys, settings::CommandRole},
    prompts::raw,
    reward::{FailureReason, RewardFailure, RewardScore},
};

/// Keys that an answer may have.
pub(super) const KEYS: [&str; 6] = ["id", "messages", "reward", "parts", "done", "error"];
/// Instruction on the form of an answer, for error messages.
const FORM: &str = "write only {\"id\", \"messages\"} and {\"id\", \"reward\", \"done\": true} lines \
                    to standard output, and logs to standard error";
const MESSAGES: &str = "write [{\"role\": \"tool\", \"content\": …}], at least one message";

/// Reaction of the environment to a completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// Continues the conversation.
    Next {
        /// Messages as JSON objects.
        messages: Vec<String>,
        /// Score of the turn.
        score: Option<RewardScore>,
    },
    /// Ends the episode with the score of the last turn.
    Done(RewardScore),
}

/// Answer of the command to one question.
#[derive(Debug)]
pub(super) struct TurnAnswer {
    pub(super) id: String,
    pub(super) reply: Result<Reply, RewardFailure>,
    /// Keys that are not in [`KEYS`] and are ignored.
    pub(super) unread: Vec<String>,
}

/// Parses one output line of the command.
pub(super) fn parse_turn(line: &[u8]) -> Result<TurnAnswer, CommandFault> {
    let line = Line::parse(CommandRole::Environment, FORM, line)?;
    let reply = match line.refusal() {
        Some(failure) => Err(failure),
        None => reply(&line)?,
    };
    let unread = line.unread(&KEYS);
    let id = line.id;
    Ok(TurnAnswer { id, reply, unread })
}

fn reply(line: &Line) -> Result<Result<Reply, RewardFailure>, CommandFault> {
    let given = |key: &str| line.fields.get(key).filter(|value| !value.is_null());
    let done = match given("done") {
        None => false,
        Some(Value::Bool(done)) => *done,
        Some(other) => {
            let why = format!("whose \"done\" is {other}");
            return Err(line.garbage(&why, "write true or false"));
        }
    };
    match (given("messages"), done) {
        (Some(_), true) => Err(line.garbage(
            "which has \"messages\" and is \"done\"",
            "write messages to continue an episode, or \"done\": true to end it",
        )),
        (None, true) => {
            let score = line.score("write {\"id\": …, \"reward\": a number, \"done\": true}")?;
            Ok(score.map(Reply::Done))
        }
        (Some(_), false) => {
            let messages = messages(line)?;
            // A null would otherwise stand for what the command wrote in a message, too.
            if line.nulled || line.fields.contains_key("reward") {
                return Ok(line.score("")?.map(|score| Reply::Next {
                    messages,
                    score: Some(score),
                }));
            }
            let score = None;
            Ok(Ok(Reply::Next { messages, score }))
        }
        (None, false) => {
            let why = format!(
                "which has neither \"messages\" nor \"done\": true ({}); write one of them",
                keys(&line.fields)
            );
            Ok(Err(line.failure(FailureReason::Missing, &why)))
        }
    }
}

/// Reads the messages as they are written, with their keys in order.
fn messages(line: &Line) -> Result<Vec<String>, CommandFault> {
    let wrong = |why: &str| line.garbage(why, MESSAGES);
    let Some(Value::Array(list)) = line.fields.get("messages") else {
        return Err(wrong("whose \"messages\" are no list"));
    };
    if list.is_empty() {
        return Err(wrong("whose \"messages\" are none"));
    }
    for message in list {
        match &message["role"] {
            Value::String(role) if role == "assistant" => {
                let what = "an environment speaks as \"tool\", \"user\" or \"system\"";
                return Err(line.garbage("whose messages have one of the assistant", what));
            }
            Value::String(_) => {}
            _ => return Err(wrong("whose messages have one without a \"role\"")),
        }
        if !message["content"].is_string() {
            return Err(wrong(
                "whose messages have one without a text as \"content\"",
            ));
        }
    }
    let members = raw::members(line.text.trim()).unwrap_or_default();
    let text = members.iter().rev().find(|(key, _)| key == "messages");
    let written = text.and_then(|(_, text)| raw::elements(text).ok());
    match written {
        Some(written) => Ok(written.into_iter().map(raw::compact).collect()),
        // The line has numbers that are not JSON.
        None => Ok(list.iter().map(Value::to_string).collect()),
    }
}
