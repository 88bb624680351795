use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::Error;

/// One task for the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Stable name: the row's `id`, or else 16 hexadecimal digits of a digest over text and
    /// answer, so that reordering or extending the file renames nothing.
    pub id: String,
    /// What the policy completes, in the form [`Prompt::form`] says.
    pub text: String,
    /// What the text is.
    pub form: Form,
    /// What the reward compares with.
    pub answer: Option<String>,
    /// Carried into every trajectory and to the reward command.
    pub metadata: BTreeMap<String, String>,
    /// Line of the file, from 1.
    pub line: usize,
}

/// What the text of a prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// To be completed as it stands.
    Plain,
    /// Messages of a chat, a JSON list, which the model's template makes a text of.
    Messages,
    /// Such a text: it holds every special token it needs.
    Rendered,
}

/// The prompts of one JSONL file, in file order; never empty.
///
/// Three layouts are read, row by row: `{"prompt", "answer"?, "id"?, "metadata"?}`, the same with
/// `"messages": [{"role", "content"}, …]` for the prompt, and GSM8K's `{"question", "answer"}` as
/// published, whose answer ends in `#### 42`. Other keys are left alone; blank lines are skipped.
#[derive(Debug, Clone)]
pub struct PromptSet {
    path: PathBuf,
    prompts: Vec<Prompt>,
}

impl PromptSet {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::PromptFile {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        Self::from_reader(path, BufReader::new(file))
    }

    /// Reads rows from anywhere; `path` names them in messages.
    pub fn from_reader(path: &Path, mut reader: impl BufRead) -> Result<Self, Error> {
        let mut prompts: Vec<Prompt> = Vec::new();
        let mut lines_by_id: HashMap<String, usize> = HashMap::new();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let read =
                reader
                    .read_until(b'\n', &mut bytes)
                    .map_err(|source| Error::PromptFile {
                        path: path.to_owned(),
                        source,
                    })?;
            if read == 0 {
                break;
            }
            let refuse = |reason| Error::PromptRow {
                path: path.to_owned(),
                line,
                reason,
            };
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| refuse("it is not UTF-8; save the file as UTF-8".to_owned()))?;
            let text = text.trim_start_matches('\u{feff}').trim();
            if text.is_empty() {
                continue;
            }
            let prompt = parse_row(text, line).map_err(refuse)?;
            if let Some(&first) = lines_by_id.get(&prompt.id) {
                let earlier = &prompts[first];
                if (&earlier.text, &earlier.answer) != (&prompt.text, &prompt.answer) {
                    return Err(refuse(format!(
                        "its id {:?} is that of another prompt in line {}; give each its own",
                        prompt.id, earlier.line
                    )));
                }
            } else {
                lines_by_id.insert(prompt.id.clone(), prompts.len());
            }
            prompts.push(prompt);
        }
        if prompts.is_empty() {
            return Err(Error::NoPrompts {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            prompts,
        })
    }

    /// Refuses a set in which a row has no answer, naming the first such row.
    pub fn require_answers(&self) -> Result<(), Error> {
        let without = |prompt: &&Prompt| prompt.answer.is_none();
        match self.prompts.iter().find(without) {
            None => Ok(()),
            Some(first) => Err(self.refuse(
                first,
                format!(
                    "it has no \"answer\", nor have {} of {} rows; add \"answer\" to each, or \
                     set rollout.reward.command to a reward that needs none",
                    self.prompts.iter().filter(without).count(),
                    self.prompts.len()
                ),
            )),
        }
    }

    /// The same with every plain prompt as what the user of a chat says.
    #[must_use]
    pub fn as_chats(mut self) -> Self {
        for prompt in &mut self.prompts {
            if prompt.form == Form::Plain {
                prompt.text = json!([{"role": "user", "content": prompt.text}]).to_string();
                prompt.form = Form::Messages;
            }
        }
        self
    }

    /// Puts what `render` makes of the messages in their place.
    ///
    /// # Errors
    /// Names the row whose messages it refuses.
    pub fn render(
        &mut self,
        mut render: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<(), Error> {
        for place in 0..self.prompts.len() {
            let prompt = &self.prompts[place];
            if prompt.form == Form::Messages {
                let text = render(&prompt.text).map_err(|why| {
                    self.refuse(
                        prompt,
                        format!("the messages of prompt {:?}: {why}", prompt.id),
                    )
                })?;
                let prompt = &mut self.prompts[place];
                (prompt.text, prompt.form) = (text, Form::Rendered);
            }
        }
        Ok(())
    }

    /// An error about one row, naming its place.
    pub(crate) fn refuse(&self, prompt: &Prompt, reason: String) -> Error {
        Error::PromptRow {
            path: self.path.clone(),
            line: prompt.line,
            reason,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The prompts, in file order.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// Number of prompts, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a prompt set is never empty")]
    pub fn len(&self) -> usize {
        self.prompts.len()
    }
}

/// One row, or what is wrong with it and what to do.
fn parse_row(text: &str, line: usize) -> Result<Prompt, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!("it is not JSON ({error}); write one JSON object a line, {EXAMPLE}")
    })?;
    let Value::Object(mut row) = value else {
        return Err(format!(
            "it is not a JSON object; write one a line, {EXAMPLE}"
        ));
    };
    let mut form = Form::Plain;
    let (text, answer) = if row.contains_key("messages") {
        if row.contains_key("prompt") {
            return Err("it has both \"prompt\" and \"messages\"; keep one".to_owned());
        }
        form = Form::Messages;
        (take_messages(&mut row)?, take_scalar(&mut row, "answer")?)
    } else if row.contains_key("prompt") {
        (
            take_text(&mut row, "prompt")?,
            take_scalar(&mut row, "answer")?,
        )
    } else if row.contains_key("question") {
        let solution = take_scalar(&mut row, "answer")?;
        (
            take_text(&mut row, "question")?,
            solution.as_deref().map(final_answer).transpose()?,
        )
    } else {
        let keys: Vec<_> = row.keys().map(String::as_str).collect();
        return Err(format!(
            "it has neither \"prompt\" nor \"question\" nor \"messages\" (keys: {}); write {EXAMPLE}",
            keys.join(", ")
        ));
    };
    if text.is_empty() {
        return Err("its prompt is empty; remove the row or fill it".to_owned());
    }
    let id = take_scalar(&mut row, "id")?
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| content_id(&text, answer.as_deref()));
    let metadata = take_metadata(&mut row)?;
    Ok(Prompt {
        id,
        text,
        form,
        answer,
        metadata,
        line,
    })
}

const EXAMPLE: &str = r#"such as {"prompt": "2+2=", "answer": "4"}"#;

/// GSM8K's convention: what follows the last `####`.
fn final_answer(solution: &str) -> Result<String, String> {
    let refuse = "its answer has no \"#### <result>\" at the end, as GSM8K's rows do; add it, or \
                  name the fields \"prompt\" and \"answer\"";
    let (_, answer) = solution.rsplit_once("####").ok_or(refuse)?;
    let answer = answer.trim();
    if answer.is_empty() {
        Err(refuse.to_owned())
    } else {
        Ok(answer.to_owned())
    }
}

fn take_text(row: &mut Map<String, Value>, key: &str) -> Result<String, String> {
    match row.remove(key) {
        Some(Value::String(text)) => Ok(text),
        other => {
            let found = other.as_ref().map_or("nothing", kind);
            Err(format!("its {key:?} is {found}; write a string"))
        }
    }
}

/// A string, or a number as written; JSON's null counts as absent.
fn take_scalar(row: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match row.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!(
            "its {key:?} is {}; write a string or a number",
            kind(&other)
        )),
    }
}

/// The messages as JSON.
fn take_messages(row: &mut Map<String, Value>) -> Result<String, String> {
    const EXAMPLE: &str = r#"write [{"role": "user", "content": "2+2?"}]"#;
    let messages = row.remove("messages").unwrap_or_default();
    let Value::Array(list) = &messages else {
        return Err(format!(
            "its \"messages\" is {}; {EXAMPLE}",
            kind(&messages)
        ));
    };
    if list.is_empty() {
        return Err(format!("its \"messages\" are none; {EXAMPLE}"));
    }
    match list.iter().position(|message| !message["role"].is_string()) {
        Some(at) => Err(format!("message {at} has no \"role\"; {EXAMPLE}")),
        None => Ok(messages.to_string()),
    }
}

fn take_metadata(row: &mut Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let entries = match row.remove("metadata") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            return Err(format!(
                "its \"metadata\" is {}; write an object",
                kind(&other)
            ));
        }
    };
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(entries
        .into_iter()
        .map(|(key, value)| (key, text(value)))
        .collect())
}

fn content_id(text: &str, answer: Option<&str>) -> String {
    let mut digest = Sha256::new();
    digest.update(text.as_bytes());
    digest.update([0]);
    digest.update(answer.unwrap_or_default().as_bytes());
    digest.finalize()[..8]
        .iter()
        .fold(String::with_capacity(16), |mut id, byte| {
            use std::fmt::Write as _;
            let _ = write!(id, "{byte:02x}");
            id
        })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
