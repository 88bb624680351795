//! Reader for one row of a prompt file, in any of the published layouts.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use vintage_trajectory::REFERENCE_ANSWER;
use vintage_verify::{Number, boxed, hashes};

use super::chat::{self, Chat};
use super::choices;
use super::columns::Columns;
use super::prompt::{Form, Prompt, SLOT};
use super::raw::{self, kind};

/// Keys whose values are read, in any layout.
pub(super) const KNOWN: [&str; 20] = [
    "id",
    "messages",
    "prompt",
    "question",
    "problem",
    "conversations",
    "answer",
    "ground_truth",
    "reward_model",
    "solution",
    "completion",
    "metadata",
    "data_source",
    "extra_info",
    "tools",
    "documents",
    "chat_template_kwargs",
    "continue_final_message",
    "system",
    "system_prompt",
];

/// Prompt of a usable row, and all keys of the row.
pub(super) struct ReadRow {
    pub(super) prompt: Prompt,
    pub(super) keys: Vec<String>,
}

/// Keys and raw JSON values of a row. Pairs that are repeated with one value are kept once.
struct Row<'a>(Vec<(String, &'a str)>);

impl<'a> Row<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        if matches!(text.as_bytes().first(), Some(b'{')) {
            let mut entries: Vec<(String, &str)> = Vec::new();
            for (key, value) in raw::members(text).map_err(|why| not_json(text, &why))? {
                match entries.iter().find(|(name, _)| *name == key) {
                    None => entries.push((key, value)),
                    Some((_, first)) if *first == value => {}
                    Some(_) => return Err(format!("it has {key:?} twice; keep one")),
                }
            }
            return Ok(Self(entries));
        }
        raw::elements(text).map_err(|why| not_json(text, &why))?;
        let list = if text.starts_with('[') {
            ": it is a list, which `jq -c '.[]' FILE` writes as rows"
        } else {
            ""
        };
        Err(format!(
            "it is not a JSON object{list}; write one a line, {EXAMPLE}"
        ))
    }

    /// Returns the value of a key; null counts as absent.
    fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found
            .map(|(_, value)| *value)
            .filter(|value| *value != "null")
    }

    fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(value) if value.starts_with('"') => string(key, value).map(Some),
            Some(value) => Err(format!("its {key:?} is {}; write a string", kind(value))),
        }
    }

    /// Returns a string, or a number as it is written.
    fn scalar(&self, key: &str) -> Result<Option<String>, String> {
        self.get(key).map(|value| scalar(key, value)).transpose()
    }
}

pub(super) const EXAMPLE: &str = r#"such as {"prompt": "2+2=", "answer": "4"}"#;

/// Describes why a row is not JSON, with the usual cause and what to do.
fn not_json(text: &str, why: &str) -> String {
    let hint = if text.ends_with(',') && raw::members(text.trim_end_matches(',')).is_ok() {
        "take the comma at its end away and "
    } else if why.starts_with("EOF") && text.len() < 200 {
        "where an object takes several lines, `jq -c . FILE` brings it onto one; "
    } else {
        ""
    };
    format!("it is not JSON ({why}); {hint}write one JSON object a line, {EXAMPLE}")
}

fn string(key: &str, value: &str) -> Result<String, String> {
    raw::string(value).map_err(|why| format!("its {key:?} is no text ({why})"))
}

fn scalar(key: &str, value: &str) -> Result<String, String> {
    match kind(value) {
        "a string" => string(key, value),
        "a number" => Ok(value.to_owned()),
        other => Err(format!(
            "its {key:?} is {other}; write a string or a number"
        )),
    }
}

/// Reads one row. The error says what is wrong with it and what to do.
pub(super) fn read(text: &str, line: usize, columns: &mut Columns) -> Result<ReadRow, String> {
    let row = Row(columns.apply(Row::of(text)?.0)?);
    let (text, form, source) = asked(&row)?;
    refuse_system(&row, &text, form, source)?;
    let extras = chat::extras(|key| row.get(key))?;
    let text = match (form, extras.as_deref()) {
        (Form::Messages, Some(extras)) => chat::with_extras(&text, extras),
        _ => text,
    };
    let source = if columns.names("answer") {
        "prompt" // such an answer is the answer, and no worked solution
    } else {
        source
    };
    let answer = answer(&row, source)?;
    choices::refuse_index(|key| row.get(key), &text, answer.as_deref())?;
    let id = row.scalar("id")?.filter(|id| !id.is_empty());
    let id = match id {
        Some(id) => id,
        None => content_id(form, &text, extras.as_deref(), answer.as_deref())?,
    };
    let keys = row.0.iter().map(|(key, _)| key.clone());
    Ok(ReadRow {
        prompt: Prompt {
            id,
            text,
            form,
            chat: None,
            extras: extras.filter(|_| form == Form::Plain),
            answer,
            metadata: metadata(&row)?,
            file: 0,
            line,
        },
        keys: keys.collect(),
    })
}

/// Returns the prompt's text, its form, and the key it was read from.
fn asked(row: &Row) -> Result<(String, Form, &'static str), String> {
    let continues = row.get("continue_final_message") == Some("true");
    let plain = |key: &'static str| -> Result<_, String> {
        if continues {
            return Err(format!(
                "it has \"continue_final_message\", and its {key:?} is plain text: write \"messages\""
            ));
        }
        let text = row.text(key)?.unwrap_or_default();
        if text.is_empty() {
            return Err("its prompt is empty; remove the row or fill it".to_owned());
        }
        // A template may surround the question.
        for other in ["question", "problem"]
            .into_iter()
            .filter(|other| *other != key)
        {
            let asks = row.text(other).ok().flatten().unwrap_or_default();
            if !text.contains(asks.trim()) {
                return Err(format!(
                    "its {key:?} and its {other:?} ask different things; keep one"
                ));
            }
        }
        Ok((text, Form::Plain, key))
    };
    let chat = |key: &'static str, chat: Chat| Ok((chat.json, Form::Messages, key));
    let closed = |key: &'static str, read: Chat| match read.answered {
        Some(at) if !continues => Err(format!(
            "its {key:?} end with what the assistant says (message {at}), so the model would be \
             shown an answer: take that message out and put the result into \"answer\", or write \
             \"continue_final_message\": true where the model is to continue it"
        )),
        None if continues => Err(format!(
            "it has \"continue_final_message\", but its {key:?} do not end with what the \
             assistant says"
        )),
        _ => chat(key, read),
    };
    let has = |key: &str| row.get(key).is_some();
    if has("messages") {
        if has("prompt") {
            return Err("it has both \"prompt\" and \"messages\"; keep one".to_owned());
        }
        let read = Chat::read("messages", row.get("messages").unwrap_or_default())?;
        // OpenR1's layout: the whole conversation beside the task it began with.
        if read.answered.is_some() && !continues {
            for key in ["problem", "question"] {
                if has(key) {
                    return plain(key);
                }
            }
        }
        return closed("messages", read);
    }
    match row.get("prompt") {
        Some(list) if list.starts_with('[') => {
            return closed("prompt", Chat::read("prompt", list)?);
        }
        Some(_) => return plain("prompt"),
        None => {}
    }
    for key in ["question", "problem"] {
        if has(key) {
            return plain(key);
        }
    }
    if let Some(list) = row.get("conversations") {
        return closed("conversations", Chat::read("conversations", list)?);
    }
    let keys: Vec<_> = row.0.iter().map(|(key, _)| key.as_str()).collect();
    Err(format!(
        "it has neither \"prompt\" nor \"question\" nor \"messages\" nor \"problem\" nor \
         \"conversations\" (keys: {}){}; write {EXAMPLE}",
        keys.join(", "),
        keys.iter()
            .find_map(|key| meant(key))
            .map_or(String::new(), |meant| format!(
                ": is one meant as {meant:?}?"
            ))
    ))
}

/// Refuses a system message beside the prompt: it would change the prompt,
/// and no layout says where it belongs.
fn refuse_system(row: &Row, text: &str, form: Form, source: &str) -> Result<(), String> {
    for key in ["system", "system_prompt"] {
        let Some(value) = row.get(key) else {
            continue;
        };
        let said = if value.starts_with('"') {
            Some(string(key, value)?)
        } else {
            None
        };
        let is_empty = said.as_deref() == Some("");
        let is_shown = form == Form::Messages && said.is_some() && chat::system(text) == said;
        if is_empty || is_shown {
            continue;
        }
        let todo = if form == Form::Messages {
            format!("put it in front of its {source:?} as a message of the role \"system\"")
        } else {
            format!(
                "write both as \"messages\": [{{\"role\": \"system\", \"content\": …}}, {{\"role\": \
                 \"user\", \"content\": …}}] instead of {source:?}"
            )
        };
        return Err(format!(
            "it has {key:?}, which the model would not be shown: {todo}, or take {key:?} out"
        ));
    }
    Ok(())
}

/// Returns the known answer, given as such or marked in a worked solution.
fn answer(row: &Row, source: &str) -> Result<Option<String>, String> {
    let nested = match row.get("reward_model") {
        None => None,
        Some(object) if object.starts_with('{') => {
            let members = raw::members(object)?.into_iter();
            let mut found = members.filter(|(key, _)| key == "ground_truth");
            let value = found
                .next()
                .map(|(_, value)| value)
                .filter(|value| *value != "null");
            value
                .map(|value| scalar("reward_model.ground_truth", value))
                .transpose()?
        }
        Some(other) => {
            return Err(format!(
                "its \"reward_model\" is {}; write an object",
                kind(other)
            ));
        }
    };
    let given = row.scalar("answer")?;
    // GSM8K publishes a worked solution under the key `answer`.
    let given = match given {
        Some(text) if source == "question" => {
            Some(marked(&text).or_else(|| number(&text)).ok_or(NO_HASHES)?)
        }
        other => other,
    };
    let stated = [
        ("answer", given),
        ("ground_truth", row.scalar("ground_truth")?),
        ("reward_model.ground_truth", nested),
    ];
    let mut stated = stated
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?)));
    if let Some((key, text)) = stated.next() {
        return match stated.find(|(_, other)| other.trim() != text.trim()) {
            Some((other, _)) => Err(format!("its {key:?} and {other:?} differ; keep one")),
            None => Ok(Some(text)),
        };
    }
    for key in ["solution", "completion"] {
        let Some(value) = row.get(key) else {
            continue;
        };
        let text = if value.starts_with('[') {
            chat::last_text(value)
        } else {
            scalar(key, value)
        }?;
        let short =
            || Some(text.trim().to_owned()).filter(|text| !text.contains(char::is_whitespace));
        let found = marked(&text).or_else(short).ok_or_else(|| {
            format!(
                "its {key:?} marks no result by \\boxed{{…}} or \"#### …\"; mark it, or add \
                 \"answer\""
            )
        })?;
        return Ok(Some(found).filter(|found| !found.is_empty()));
    }
    Ok(None)
}

const NO_HASHES: &str = "its answer has no \"#### <result>\" at the end, as GSM8K's rows do; add \
                         it, or name the fields \"prompt\" and \"answer\"";

/// Returns the result that a worked solution marks: the text after the last `####`, or in the last
/// box, whichever comes last.
fn marked(solution: &str) -> Option<String> {
    let hashes = hashes(solution)
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let boxed = boxed(solution)
        .map(str::trim)
        .filter(|text| !text.is_empty());
    // Both are slices of the solution, so their addresses give their order.
    let place = |part: &str| part.as_ptr() as usize;
    let last = match (hashes, boxed) {
        (Some(hashes), Some(boxed)) if place(boxed) > place(hashes) + hashes.len() => boxed,
        (Some(hashes), _) => hashes,
        (None, boxed) => boxed?,
    };
    Some(last.to_owned())
}

fn number(text: &str) -> Option<String> {
    Number::parse(text).map(|_| text.trim().to_owned())
}

/// Collects the metadata of a row: `metadata`, and verl's `data_source` and `extra_info`.
fn metadata(row: &Row) -> Result<BTreeMap<String, String>, String> {
    let mut all: BTreeMap<String, (String, &str)> = BTreeMap::new();
    let mut add = |source: &'static str, name: String, value: &str| {
        let text = match kind(value) {
            "a string" => string(&name, value)?,
            _ => raw::compact(value),
        };
        match all.get(&name) {
            Some((other, first)) if *other != text && *first == source => {
                Err(format!("its {source:?} has {name:?} twice; keep one"))
            }
            Some((other, first)) if *other != text => Err(format!(
                "its {first:?} and {source:?} give {name:?} two values, and metadata can have one; \
                 rename or remove one"
            )),
            Some(_) => Ok(()),
            None => {
                all.insert(name, (text, source));
                Ok(())
            }
        }
    };
    if let Some(value) = row.get("data_source") {
        add("data_source", "data_source".to_owned(), value)?;
    }
    for key in ["extra_info", "metadata"] {
        match row.get(key) {
            None => {}
            Some(object) if object.starts_with('{') => {
                for (name, value) in raw::members(object)? {
                    if [SLOT, REFERENCE_ANSWER].contains(&name.as_str()) {
                        return Err(format!(
                            "its {key:?} has the key {name:?}, under which every rollout records \
                             {}; rename the key",
                            if name == SLOT {
                                "its place in the order of prompts"
                            } else {
                                "the prompt's answer"
                            }
                        ));
                    }
                    add(key, name, value)?;
                }
            }
            Some(other) => {
                return Err(format!("its {key:?} is {}; write an object", kind(other)));
            }
        }
    }
    let all = all.into_iter();
    Ok(all.map(|(name, (text, _))| (name, text)).collect())
}

/// Computes a prompt id of 16 hexadecimal digits from its content. The JSON formatting of a chat
/// does not change it.
fn content_id(
    form: Form,
    text: &str,
    extras: Option<&str>,
    answer: Option<&str>,
) -> Result<String, String> {
    let mut digest = Sha256::new();
    if form == Form::Messages {
        let parsed: serde_json::Value =
            serde_json::from_str(text).map_err(|error| format!("its messages: {error}"))?;
        digest.update(parsed.to_string().as_bytes());
    } else {
        digest.update(text.as_bytes());
        digest.update(extras.unwrap_or_default().as_bytes());
    }
    digest.update([0]);
    digest.update(answer.unwrap_or_default().as_bytes());
    let digits = digest.finalize();
    let mut id = String::with_capacity(16);
    for byte in &digits[..8] {
        use std::fmt::Write as _;
        let _infallible = write!(id, "{byte:02x}");
    }
    Ok(id)
}

/// Returns the known key that `key` is probably a misspelling of: at most two edits away.
pub(super) fn meant(key: &str) -> Option<&'static str> {
    let close = |known: &&&str| key.len() > 3 && known.len() > 3 && distance(key, known) <= 2;
    KNOWN.iter().find(close).copied()
}

/// Edit distance: number of letters to change, insert, delete or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut now = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(now[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            now.push(best);
        }
        before = std::mem::replace(&mut last, now);
    }
    last[b.len()]
}
