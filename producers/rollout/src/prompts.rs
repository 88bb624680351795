use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{conversation::check_chat, error::Error};

mod chat;
mod choices;
mod file;
pub(crate) mod prompt;
pub(crate) mod raw;
mod row;

use prompt::{Form, Prompt};

/// Number of bad rows shown beside the first one if a file has several.
const SHOWN: usize = 3;

/// Prompts of one JSONL file, in file order; never empty.
///
/// Each row may have any of the published layouts (table in `docs/prompts.md`). The prompt is read
/// from `prompt`, `messages`, `question`, `problem` or `conversations`. The known answer is read
/// from `answer`, `ground_truth`, `reward_model.ground_truth`, or the result that a `solution` or a
/// `completion` marks. [`PromptSet::notes`] counts all other keys; blank lines are skipped.
#[derive(Debug, Clone)]
pub struct PromptSet {
    path: PathBuf,
    sha256: vintage_control::Sha256,
    prompts: Vec<Prompt>,
    /// Number of rows by key that is not read.
    unused: BTreeMap<String, usize>,
    /// Keys of the first row without an answer.
    unanswered: Vec<String>,
}

impl PromptSet {
    /// Reads the prompts of a file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::PromptFile {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        Self::from_reader(path, BufReader::new(file))
    }

    /// Reads prompts from any reader; messages name them by `path`.
    ///
    /// # Errors
    /// Rows that cannot be used: the error names the first ones and counts them all.
    pub fn from_reader(path: &Path, mut reader: impl BufRead) -> Result<Self, Error> {
        let mut set = Self {
            path: path.to_owned(),
            sha256: vintage_control::Sha256([0; 32]),
            prompts: Vec::new(),
            unused: BTreeMap::new(),
            unanswered: Vec::new(),
        };
        let unreadable = |source| Error::PromptFile {
            path: path.to_owned(),
            source,
        };
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut bad = BadRows::default();
        let begin = reader.fill_buf().map_err(unreadable)?;
        if let Some(what) = file::foreign(begin) {
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        if file::is_utf16(begin) {
            let what = "it is UTF-16; save the file as UTF-8, as with iconv -f UTF-16 -t UTF-8";
            return Err(Error::PromptRow {
                path: path.to_owned(),
                line: 1,
                reason: what.to_owned(),
            });
        }
        let mut bytes = Vec::new();
        let mut digest = Sha256::new();
        for line in 1.. {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
                break;
            }
            digest.update(&bytes);
            match set.add(line, &bytes, &mut places) {
                Ok(()) => {}
                Err(why) => bad.add(line, why),
            }
        }
        bad.refuse(path, set.prompts.len())?;
        if set.prompts.is_empty() {
            return Err(Error::NoPrompts {
                path: path.to_owned(),
            });
        }
        set.sha256 = vintage_control::Sha256(digest.finalize().into());
        Ok(set)
    }

    /// Adds the prompt of one line; blank lines add none.
    fn add(
        &mut self,
        line: usize,
        bytes: &[u8],
        places: &mut HashMap<String, usize>,
    ) -> Result<(), String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| "it is not UTF-8; save the file as UTF-8".to_owned())?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(());
        }
        let row = row::read(text, line)?;
        let prompt = row.prompt;
        if let Some(&first) = places.get(&prompt.id) {
            let earlier = &self.prompts[first];
            if (&earlier.text, &earlier.answer) != (&prompt.text, &prompt.answer) {
                return Err(format!(
                    "its id {:?} is that of another prompt in line {}; give each its own",
                    prompt.id, earlier.line
                ));
            }
        } else {
            places.insert(prompt.id.clone(), self.prompts.len());
        }
        if prompt.answer.is_none() && self.unanswered.is_empty() {
            self.unanswered.clone_from(&row.keys);
        }
        for key in row.keys {
            if !row::KNOWN.contains(&key.as_str()) {
                *self.unused.entry(key).or_default() += 1;
            }
        }
        self.prompts.push(prompt);
        Ok(())
    }

    /// Describes the parts of the file that are not read: keys that no layout has, with the number
    /// of rows that have them.
    pub fn notes(&self) -> Vec<String> {
        if self.unused.is_empty() {
            return Vec::new();
        }
        let of_key = |(key, rows): (&String, &usize)| {
            let meant = row::meant(key);
            let meant = meant.map_or(String::new(), |meant| {
                format!(", perhaps meant as {meant:?}")
            });
            format!("{key:?} ({rows} rows{meant})")
        };
        let keys: Vec<_> = self.unused.iter().map(of_key).collect();
        vec![format!(
            "{}: nothing is read from {}; what a reward is to see belongs into \"metadata\"",
            self.path.display(),
            keys.join(", ")
        )]
    }

    /// Refuses a set in which a row has no answer, naming the first such row.
    pub fn require_answers(&self) -> Result<(), Error> {
        let without = |prompt: &&Prompt| prompt.answer.is_none();
        match self.prompts.iter().find(without) {
            None => Ok(()),
            Some(first) => Err(self.refuse(
                first,
                format!(
                    "it has no \"answer\" (keys: {}){}, nor have {} of {} rows; add \"answer\" \
                     to each, or set rollout.reward.command to a reward that needs none",
                    self.unanswered.join(", "),
                    self.slip().map_or(String::new(), |(key, meant)| format!(
                        ": is {key:?} meant as {meant:?}?"
                    )),
                    self.prompts.iter().filter(without).count(),
                    self.prompts.len()
                ),
            )),
        }
    }

    /// Refuses a rendered set in which a row is no chat that can be continued, naming the first.
    pub fn require_chats(&self) -> Result<(), Error> {
        for prompt in &self.prompts {
            check_chat(prompt.chat.as_deref())
                .map_err(|why| self.refuse(prompt, format!("prompt {:?}: {why}", prompt.id)))?;
        }
        Ok(())
    }

    /// Returns a key of the first row without an answer that looks like a misspelt known key, and
    /// the key that is meant.
    fn slip(&self) -> Option<(&str, &'static str)> {
        let unknown = self.unanswered.iter().map(String::as_str);
        let mut unknown = unknown.filter(|key| !row::KNOWN.contains(key));
        unknown.find_map(|key| Some((key, row::meant(key)?)))
    }

    /// Turns every plain prompt into a chat with one message from the user.
    #[must_use]
    pub fn as_chats(mut self) -> Self {
        for prompt in &mut self.prompts {
            if prompt.form == Form::Plain {
                let messages = chat::of_user(&prompt.text);
                prompt.text = match prompt.extras.take() {
                    None => messages,
                    Some(extras) => chat::with_extras(&messages, &extras),
                };
                prompt.form = Form::Messages;
            }
        }
        self
    }

    /// Replaces every chat by the text that `render` makes of it.
    ///
    /// # Errors
    /// Rows that `render` refuses, and plain prompts with inputs for a chat template: the error
    /// names the first ones and counts them all.
    pub fn render(
        &mut self,
        mut render: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<(), Error> {
        let mut bad = BadRows::default();
        for prompt in &mut self.prompts {
            if prompt.form == Form::Messages {
                match render(&prompt.text) {
                    Ok(text) => {
                        prompt.chat = Some(std::mem::replace(&mut prompt.text, text));
                        prompt.form = Form::Rendered;
                    }
                    Err(why) => {
                        bad.add(
                            prompt.line,
                            format!("the messages of prompt {:?}: {why}", prompt.id),
                        );
                    }
                }
            } else if let (Form::Plain, Some(extras)) = (prompt.form, &prompt.extras) {
                let key = extras.split('"').nth(1).unwrap_or_default();
                bad.add(
                    prompt.line,
                    format!(
                        "it has {key:?}, which only chats have, and its prompt is plain text: write \
                         \"messages\", or set prompts.chat = true"
                    ),
                );
            }
        }
        let good = self.prompts.len() - bad.count;
        bad.refuse(&self.path, good)
    }

    /// Builds the error that refuses one row, naming its file and line.
    pub(crate) fn refuse(&self, prompt: &Prompt, reason: String) -> Error {
        Error::PromptRow {
            path: self.path.clone(),
            line: prompt.line,
            reason,
        }
    }

    /// Names the set by the file in which its prompts were written down.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file's bytes, as they were read.
    pub fn sha256(&self) -> vintage_control::Sha256 {
        self.sha256
    }

    /// Prompts in file order.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// Number of prompts, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a prompt set is never empty")]
    pub fn len(&self) -> usize {
        self.prompts.len()
    }
}

/// Rows that cannot be used: their number, and the first ones with line and reason.
#[derive(Default)]
struct BadRows {
    count: usize,
    first: Vec<(usize, String)>,
}

impl BadRows {
    fn add(&mut self, line: usize, why: String) {
        self.count += 1;
        if self.first.len() <= SHOWN {
            self.first.push((line, why));
        }
    }

    /// Returns an error about the first bad row, with the number of all, if there are any.
    fn refuse(self, path: &Path, good: usize) -> Result<(), Error> {
        let mut shown = self.first.into_iter();
        let Some((line, mut reason)) = shown.next() else {
            return Ok(());
        };
        if self.count > 1 {
            let further: Vec<_> = shown
                .map(|(line, why)| format!("line {line}: {}", excerpt(&why)))
                .collect();
            reason = format!(
                "{reason}; {} of {} rows cannot be used, among them {}",
                self.count,
                self.count + good,
                further.join("; ")
            );
        }
        Err(Error::PromptRow {
            path: path.to_owned(),
            line,
            reason,
        })
    }
}

/// Shortens a text to 120 characters, for messages about several rows.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod layouts;
#[cfg(test)]
mod tests;
