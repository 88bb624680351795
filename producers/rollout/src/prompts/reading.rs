//! Reading of a set: file by file, row by row.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read},
    path::Path,
};

use vintage_settings::ColumnsConfig;
use vintage_table::Table;

use super::{BadRows, PromptFile, PromptSet, columns::Columns, file, row};
use crate::error::Error;

/// Set that is being read.
pub(super) struct Reading {
    set: PromptSet,
    columns: Columns,
    /// Index of the first prompt of each id.
    places: HashMap<String, usize>,
}

impl Reading {
    pub(super) fn new(columns: &ColumnsConfig) -> Self {
        Self {
            set: PromptSet {
                files: Vec::new(),
                prompts: Vec::new(),
                unused: BTreeMap::new(),
                unanswered: Vec::new(),
            },
            columns: Columns::of(columns),
            places: HashMap::new(),
        }
    }

    /// Adds the prompts of a file.
    ///
    /// # Errors
    /// The file cannot be read, or has rows that cannot be used: the error names the first ones and
    /// counts them all.
    pub(super) fn read(&mut self, path: &Path, reader: impl Read) -> Result<(), Error> {
        let unreadable = |source| Error::PromptFile {
            path: path.to_owned(),
            source,
        };
        let table = Table::of(reader, &|column| self.columns.is_read(column));
        let mut table = table.map_err(unreadable)?;
        let begin = table.begin().map_err(unreadable)?;
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
        let before = self.set.prompts.len();
        self.set.files.push(PromptFile {
            path: path.to_owned(),
            sha256: vintage_control::Sha256([0; 32]),
        });
        let place = self.set.files.len() - 1;
        let (mut bytes, mut bad) = (Vec::new(), BadRows::default());
        for line in 1.. {
            if !table.next(&mut bytes).map_err(unreadable)? {
                break;
            }
            match self.add(line, &bytes) {
                Ok(()) => {}
                Err(why) => bad.add((place, line), why),
            }
        }
        bad.refuse(&self.set.files, self.set.prompts.len() - before)?;
        if self.set.prompts.len() == before {
            return Err(Error::NoPrompts {
                path: path.to_owned(),
            });
        }
        let sha256 = table.sha256().map_err(unreadable)?;
        if let Some(file) = self.set.files.last_mut() {
            file.sha256 = sha256;
        }
        Ok(())
    }

    /// Returns the set.
    ///
    /// # Errors
    /// A named column that no row has.
    pub(super) fn finish(self) -> Result<PromptSet, Error> {
        let Some((key, column)) = self.columns.unmet() else {
            return Ok(self.set);
        };
        Err(Error::PromptColumn {
            key,
            column: column.to_owned(),
            files: self.set.name(),
            keys: self.columns.seen(),
        })
    }

    /// Adds the prompt of one line; blank lines add none.
    fn add(&mut self, line: usize, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| "it is not UTF-8; save the file as UTF-8".to_owned())?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(());
        }
        let row = row::read(text, line, &mut self.columns)?;
        let mut prompt = row.prompt;
        prompt.file = self.set.files.len().saturating_sub(1);
        if let Some(&first) = self.places.get(&prompt.id) {
            let earlier = &self.set.prompts[first];
            if (&earlier.text, &earlier.answer) != (&prompt.text, &prompt.answer) {
                let place = if earlier.file == prompt.file {
                    format!("in line {}", earlier.line)
                } else {
                    let path = self.set.path_of(earlier).display();
                    format!("in line {} of {path}", earlier.line)
                };
                return Err(format!(
                    "its id {:?} is that of another prompt {place}; give each its own",
                    prompt.id
                ));
            }
        } else {
            self.places
                .insert(prompt.id.clone(), self.set.prompts.len());
        }
        if prompt.answer.is_none() && self.set.unanswered.is_empty() {
            self.set.unanswered.clone_from(&row.keys);
        }
        for key in row.keys {
            if !row::KNOWN.contains(&key.as_str()) {
                *self.set.unused.entry(key).or_default() += 1;
            }
        }
        self.set.prompts.push(prompt);
        Ok(())
    }
}
