//! Parser for one line of a command's output.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use vintage_trajectory::LARGEST_REWARD;

use super::{fault::CommandFault, settings::CommandRole};
use crate::reward::{FailureReason, RewardFailure, RewardOutcome, RewardScore};

/// Keys that an answer may have.
const KEYS: [&str; 4] = ["id", "reward", "parts", "error"];
/// Instruction on the form of an answer, for error messages.
const FORM: &str = "write only {\"id\", \"reward\"} lines to standard output, and logs to standard \
                    error";

/// Answer of the command to one question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) score: RewardOutcome,
    /// Keys that are not in [`KEYS`] and are ignored.
    pub(super) unread: Vec<String>,
}

/// Parses one output line of the command.
pub(super) fn parse_answer(line: &[u8]) -> Result<Answer, CommandFault> {
    let line = Line::parse(CommandRole::Reward, FORM, line)?;
    let score = match line.refusal() {
        Some(failure) => Err(failure),
        None => line.score("write {\"id\": …, \"reward\": a number}")?,
    };
    let unread = line.unread(&KEYS);
    let id = line.id;
    Ok(Answer { id, score, unread })
}

/// Output line of a command: a JSON object with an id.
#[derive(Debug)]
pub(crate) struct Line {
    role: CommandRole,
    pub(crate) text: String,
    pub(crate) id: String,
    pub(crate) fields: Map<String, Value>,
    /// True if the line had numbers that are not JSON, which are read as null.
    pub(crate) nulled: bool,
}

impl Line {
    /// Parses a line; `form` says what a command of this role writes.
    pub(crate) fn parse(role: CommandRole, form: &str, line: &[u8]) -> Result<Self, CommandFault> {
        let text = String::from_utf8_lossy(line).into_owned();
        let garbage = |why: &str, what: &str| garbage(role, &text, why, what);
        let mut nulled = false;
        // Python writes NaN and Infinity, which are not JSON.
        let value: Value = serde_json::from_str(&text)
            .or_else(|error| {
                nulled = true;
                let nulls = text
                    .replace("-Infinity", "null")
                    .replace("Infinity", "null");
                serde_json::from_str(&nulls.replace("NaN", "null")).map_err(|_| error)
            })
            .map_err(|error| garbage(&format!("which is no answer ({error})"), form))?;
        let Value::Object(fields) = value else {
            return Err(garbage("which is no answer (no JSON object)", form));
        };
        let id = match fields.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(other) => {
                let why = format!("whose \"id\" is {other}, {}", kind(other));
                return Err(garbage(&why, "send each id back as it came, as a text"));
            }
            None => {
                let why = format!("which has no \"id\" ({})", keys(&fields));
                return Err(garbage(&why, "send back the id of the question"));
            }
        };
        Ok(Self {
            role,
            text,
            id,
            fields,
            nulled,
        })
    }

    /// Builds the fault for a line that is no answer.
    pub(crate) fn garbage(&self, why: &str, what: &str) -> CommandFault {
        garbage(self.role, &self.text, why, what)
    }

    /// Builds the failure of what was asked for an answer that cannot be used.
    pub(crate) fn failure(&self, reason: FailureReason, why: &str) -> RewardFailure {
        let detail = format!(
            "the {} answered {:?}, {why}",
            self.role,
            shorten(&self.text)
        );
        RewardFailure { reason, detail }
    }

    /// Returns the failure if the command answered with an error of its own.
    pub(crate) fn refusal(&self) -> Option<RewardFailure> {
        let error = self.fields.get("error").filter(|error| !error.is_null())?;
        let detail = match error {
            Value::String(words) => format!("the {} refused: {words}", self.role),
            other => format!("the {} refused: {other}", self.role),
        };
        let reason = FailureReason::Refused;
        Some(RewardFailure { reason, detail })
    }

    /// Returns the keys that are not among the known ones.
    pub(crate) fn unread(&self, known: &[&str]) -> Vec<String> {
        let unread = self.fields.keys();
        let unread = unread.filter(|key| !known.contains(&key.as_str()));
        unread.cloned().collect()
    }

    /// Reads the reward and its parts; `instead` says what to write where there is none. `Err` is
    /// for a value of the wrong JSON type, which makes the line garbage.
    pub(crate) fn score(&self, instead: &str) -> Result<RewardOutcome, CommandFault> {
        let refuse = |reason, why: String| Ok(Err(self.failure(reason, &why)));
        let Some(reward) = self.fields.get("reward") else {
            let why = format!(
                "which has no \"reward\" ({}); {instead}",
                keys(&self.fields)
            );
            return refuse(FailureReason::Missing, why);
        };
        let none = Map::new();
        let parts = match self.fields.get("parts") {
            None | Some(Value::Null) => None,
            Some(Value::Object(parts)) => Some(parts),
            Some(other) => {
                let why = format!("whose \"parts\" are {other}, {}", kind(other));
                let what = "write an object of names and numbers, or leave it out";
                return Err(self.garbage(&why, what));
            }
        };
        let mut sound = Vec::new();
        let part_names = parts.unwrap_or(&none).iter();
        let part_names = part_names.map(|(name, value)| (format!("parts.{name}"), value));
        for (name, value) in std::iter::once(("reward".to_owned(), reward)).chain(part_names) {
            match number(value) {
                Ok(value) => sound.push(value),
                Err(NoReward::NoNumber(what)) => {
                    let why = format!("whose \"{name}\" is {value}, {}", kind(value));
                    return Err(self.garbage(&why, what));
                }
                Err(NoReward::NotFinite) => {
                    let why = format!(
                        "without a finite {name}; give every answer a finite \"reward\" and \
                         finite \"parts\""
                    );
                    return refuse(FailureReason::NonFinite, why);
                }
                Err(NoReward::OutOfRange) => {
                    let why = format!(
                        "whose {name} is outside of ±{LARGEST_REWARD}; scale rewards to the size \
                         of what they mean"
                    );
                    return refuse(FailureReason::OutOfRange, why);
                }
            }
        }
        let mut sound = sound.into_iter();
        let reward = sound.next().unwrap_or_default();
        let parts = parts.map(|parts| parts.keys().cloned().zip(sound).collect::<BTreeMap<_, _>>());
        Ok(Ok(RewardScore { reward, parts }))
    }
}

fn garbage(role: CommandRole, text: &str, why: &str, what: &str) -> CommandFault {
    CommandFault {
        reason: FailureReason::Garbage,
        detail: format!("the {role} wrote {:?}, {why}; {what}", shorten(text)),
    }
}

/// Reason for which a JSON value cannot be a reward.
enum NoReward {
    /// Value that is not a number; holds the advice on what to write instead.
    NoNumber(&'static str),
    NotFinite,
    OutOfRange,
}

fn number(value: &Value) -> Result<f32, NoReward> {
    match value {
        // NaN and Infinity were replaced by null before parsing.
        Value::Null => Err(NoReward::NotFinite),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if !number.is_finite() {
                return Err(NoReward::NotFinite);
            }
            if number.abs() > f64::from(LARGEST_REWARD) {
                return Err(NoReward::OutOfRange);
            }
            Ok(number as f32)
        }
        Value::Bool(_) => Err(NoReward::NoNumber(
            "write 1.0 for what is right and 0.0 for what is wrong",
        )),
        Value::String(_) => Err(NoReward::NoNumber(
            "write the number without quotation marks",
        )),
        Value::Array(_) | Value::Object(_) => {
            Err(NoReward::NoNumber("write one number for each completion"))
        }
    }
}

/// Describes the JSON type of a value for an error message.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "which is nothing",
        Value::Bool(_) => "which is no number but a truth value",
        Value::Number(_) => "which is a number",
        Value::String(_) => "which is no number but a text",
        Value::Array(_) => "which is a list",
        Value::Object(_) => "which is an object",
    }
}

pub(crate) fn keys(fields: &Map<String, Value>) -> String {
    let names: Vec<_> = fields.keys().map(|key| format!("{key:?}")).collect();
    match names.as_slice() {
        [] => "it has no key".to_owned(),
        names => format!("its keys: {}", names.join(", ")),
    }
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut short: String = text.trim_end().chars().take(LONGEST).collect();
    if text.trim_end().chars().count() > LONGEST {
        short.push('…');
    }
    short
}
