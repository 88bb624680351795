use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use vintage_settings::ColumnsConfig;

use crate::{conversation::check_chat, error::Error};

mod chat;
mod choices;
mod columns;
mod file;
pub(crate) mod prompt;
pub(crate) mod raw;
mod reading;
mod row;

use prompt::{Form, Prompt};
use reading::Reading;

/// Number of bad rows shown beside the first one if a file has several.
const SHOWN: usize = 3;

/// File of a set of prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFile {
    /// Path of the file.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, as they were read.
    pub sha256: vintage_control::Sha256,
}

/// Prompts of one file or of several, in their order; never empty.
///
/// Each row may have any of the published layouts (table in `docs/prompts.md`). The prompt is read
/// from `prompt`, `messages`, `question`, `problem` or `conversations`. The known answer is read
/// from `answer`, `ground_truth`, `reward_model.ground_truth`, or the result that a `solution` or a
/// `completion` marks. [`PromptSet::notes`] counts all other keys; blank lines are skipped.
#[derive(Debug, Clone)]
pub struct PromptSet {
    files: Vec<PromptFile>,
    prompts: Vec<Prompt>,
    /// Number of rows by key that is not read.
    unused: BTreeMap<String, usize>,
    /// Keys of the first row without an answer.
    unanswered: Vec<String>,
}

impl PromptSet {
    /// Reads the prompts of a file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_all(&[path.to_owned()], &ColumnsConfig::default())
    }

    /// Reads the prompts of files, with the columns of a layout that is not known.
    ///
    /// # Errors
    /// A file that cannot be read, rows that cannot be used, one id for two prompts, and a column that
    /// no row has.
    pub fn load_all(paths: &[PathBuf], columns: &ColumnsConfig) -> Result<Self, Error> {
        let mut reading = Reading::new(columns);
        for path in paths {
            let unreadable = |source| Error::PromptFile {
                path: path.to_owned(),
                source,
            };
            reading.read(path, File::open(path).map_err(unreadable)?)?;
        }
        reading.finish()
    }

    /// Reads prompts from any reader; messages name them by `path`.
    ///
    /// # Errors
    /// Rows that cannot be used: the error names the first ones and counts them all.
    pub fn from_reader(path: &Path, reader: impl Read) -> Result<Self, Error> {
        let mut reading = Reading::new(&ColumnsConfig::default());
        reading.read(path, reader)?;
        reading.finish()
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
            self.name(),
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
                            (prompt.file, prompt.line),
                            format!("the messages of prompt {:?}: {why}", prompt.id),
                        );
                    }
                }
            } else if let (Form::Plain, Some(extras)) = (prompt.form, &prompt.extras) {
                let key = extras.split('"').nth(1).unwrap_or_default();
                bad.add(
                    (prompt.file, prompt.line),
                    format!(
                        "it has {key:?}, which only chats have, and its prompt is plain text: write \
                         \"messages\", or set prompts.chat = true"
                    ),
                );
            }
        }
        let good = self.prompts.len() - bad.count;
        bad.refuse(&self.files, good)
    }

    /// Builds the error that refuses one row, naming its file and line.
    pub(crate) fn refuse(&self, prompt: &Prompt, reason: String) -> Error {
        Error::PromptRow {
            path: self.path_of(prompt).to_owned(),
            line: prompt.line,
            reason,
        }
    }

    /// Names a set of one file by another file, in which its prompts were written down.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        if let [only] = &mut self.files[..] {
            path.clone_into(&mut only.path);
        }
        self
    }

    /// Name of the set in messages: its file, or the first of several.
    pub fn name(&self) -> String {
        let first = self.files.first();
        let first = first.map_or_else(String::new, |file| file.path.display().to_string());
        match self.files.len() {
            0 | 1 => first,
            count => format!("{first} and {} more", count - 1),
        }
    }

    /// Files of the set, in their order.
    pub fn files(&self) -> &[PromptFile] {
        &self.files
    }

    /// Path of the file that a prompt is in.
    pub fn path_of(&self, prompt: &Prompt) -> &Path {
        let file = self.files.get(prompt.file);
        file.map_or(Path::new(""), |file| &file.path)
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

/// Rows that cannot be used: their number, and the first ones with file, line and reason.
#[derive(Default)]
struct BadRows {
    count: usize,
    first: Vec<((usize, usize), String)>,
}

impl BadRows {
    fn add(&mut self, place: (usize, usize), why: String) {
        self.count += 1;
        if self.first.len() <= SHOWN {
            self.first.push((place, why));
        }
    }

    /// Returns an error about the first bad row, with the number of all, if there are any.
    fn refuse(self, files: &[PromptFile], good: usize) -> Result<(), Error> {
        let path = |file: usize| files.get(file).map_or(Path::new(""), |file| &file.path);
        let mut shown = self.first.into_iter();
        let Some(((file, line), mut reason)) = shown.next() else {
            return Ok(());
        };
        if self.count > 1 {
            let of_place = |(other, line): (usize, usize)| {
                if other == file {
                    format!("line {line}")
                } else {
                    format!("line {line} of {}", path(other).display())
                }
            };
            let further: Vec<_> = shown
                .map(|(place, why)| format!("{}: {}", of_place(place), excerpt(&why)))
                .collect();
            reason = format!(
                "{reason}; {} of {} rows cannot be used, among them {}",
                self.count,
                self.count + good,
                further.join("; ")
            );
        }
        Err(Error::PromptRow {
            path: path(file).to_owned(),
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
mod files;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod tests;
