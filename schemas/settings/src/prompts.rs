use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

/// Name under which a setting that is a text or a list of texts is deserialized; readers of settings
/// know its type by it.
pub const TEXT_OR_LIST: &str = "TextOrList";

/// Section `[prompts]`: files of prompts, as JSON lines (also under gzip) or Parquet. A row has `prompt`
/// or `messages` and an `answer`, or the keys of another published layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// Built-in task whose prompts are used where no files are given.
    pub task: BuiltInTask,
    /// File of prompts to train on, or a list of files; unset = those of the built-in task.
    pub train: Option<PromptFiles>,
    /// File of prompts to evaluate on, or a list of files, which are never trained on; unset = the
    /// built-in ones, or no evaluation if `train` is set.
    pub heldout: Option<PromptFiles>,
    /// True to turn plain prompts into the user's message of a chat, rendered by the model's chat
    /// template. Rows with `messages` are always rendered by it.
    pub chat: bool,
    /// Columns of a layout that is not known.
    pub columns: ColumnsConfig,
}

/// Task that the program has prompts of: six digits and `=`, and the right answer to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuiltInTask {
    /// The digits in ascending order: `472913=` and `123479`. The warm start shows them in random order,
    /// so that the order is found by the reward alone.
    #[default]
    Sort,
    /// The even digits and then the odd ones, each in the prompt's order: `472913=` and `427913`. The warm
    /// start shows them in random order.
    EvensFirst,
    /// The running sums of the digits, modulo 10: `472913=` and `413236`. The warm start shows right
    /// answers with slips, so that rewards sharpen what is known already.
    Sums,
}

/// Section `[prompts.columns]`: columns by which rows of a layout of your own are read. `a.b` is the
/// member `b` of column `a`. A prompt or answer that is named here takes the place of every other one
/// that a row has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnsConfig {
    /// Column of the prompt: text, or messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Column of the known answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Column of a worked solution, whose marked result is the known answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
    /// Column of the row's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Column of an object that is carried along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

impl ColumnsConfig {
    /// Keys that are read from other columns, with these columns.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("prompt", &self.prompt),
            ("answer", &self.answer),
            ("solution", &self.solution),
            ("id", &self.id),
            ("metadata", &self.metadata),
        ];
        all.into_iter()
            .filter_map(|(key, column)| Some((key, column.as_deref()?)))
    }
}

/// Files of one set of prompts, in their order; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFiles(Vec<PathBuf>);

impl PromptFiles {
    /// Paths of the files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.0
    }
}

impl<P: AsRef<Path>> From<P> for PromptFiles {
    fn from(path: P) -> Self {
        Self(vec![path.as_ref().to_owned()])
    }
}

impl Serialize for PromptFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [only] => only.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PromptFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(TEXT_OR_LIST, PathOrList)
    }
}

struct PathOrList;

impl<'de> Visitor<'de> for PathOrList {
    type Value = PromptFiles;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("the path of a file, or a list of paths")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<PromptFiles, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<PromptFiles, E> {
        Ok(path.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PromptFiles, A::Error> {
        let mut paths = Vec::new();
        while let Some(path) = list.next_element()? {
            paths.push(path);
        }
        if paths.is_empty() {
            return Err(de::Error::custom("name at least one file"));
        }
        Ok(PromptFiles(paths))
    }
}
