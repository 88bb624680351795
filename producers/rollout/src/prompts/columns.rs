//! Columns that the settings name for a layout of one's own.

use std::collections::BTreeSet;

use vintage_settings::ColumnsConfig;

use super::{raw, row::KNOWN};

/// Keys whose values are read for checks only.
const CHECKED: [&str; 2] = ["choices", "options"];

/// Keys of which a row has one for its prompt.
const PROMPTS: [&str; 5] = ["prompt", "messages", "question", "problem", "conversations"];
/// Keys of which a row has one for its answer.
const ANSWERS: [&str; 5] = [
    "answer",
    "ground_truth",
    "reward_model",
    "solution",
    "completion",
];

/// Keys of a row with their raw values.
type Entries<'a> = Vec<(String, &'a str)>;

/// Keys that are read from other columns.
#[derive(Debug)]
pub(super) struct Columns {
    named: Vec<Named>,
    /// Columns that rows have, if any is named: for the error of one that no row has.
    seen: BTreeSet<String>,
}

#[derive(Debug)]
struct Named {
    key: &'static str,
    column: String,
    /// True once a row had the column.
    met: bool,
}

impl Columns {
    pub(super) fn of(config: &ColumnsConfig) -> Self {
        let named = config.named().map(|(key, column)| Named {
            key,
            column: column.to_owned(),
            met: false,
        });
        Self {
            named: named.collect(),
            seen: BTreeSet::new(),
        }
    }

    /// Returns true if anything is read from a column.
    pub(super) fn is_read(&self, column: &str) -> bool {
        let inside = |named: &Named| {
            let rest = named.column.strip_prefix(column);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        KNOWN.contains(&column) || CHECKED.contains(&column) || self.named.iter().any(inside)
    }

    /// Returns the first key and column that no row had.
    pub(super) fn unmet(&self) -> Option<(&'static str, &str)> {
        let unmet = self.named.iter().find(|named| !named.met);
        unmet.map(|named| (named.key, named.column.as_str()))
    }

    /// Lists the columns that rows have.
    pub(super) fn seen(&self) -> String {
        let seen: Vec<&str> = self.seen.iter().map(String::as_str).collect();
        seen.join(", ")
    }

    /// Returns true if a key is read from another column.
    pub(super) fn names(&self, key: &str) -> bool {
        self.named.iter().any(|named| named.key == key)
    }

    /// Returns a row with the values of named columns under the keys that they are read as, in the
    /// place of every other prompt or answer.
    pub(super) fn apply<'a>(&mut self, mut row: Entries<'a>) -> Result<Entries<'a>, String> {
        if self.named.is_empty() {
            return Ok(row);
        }
        for (key, _) in &row {
            if !self.seen.contains(key) {
                self.seen.insert(key.clone());
            }
        }
        let (mut values, mut sources) = (Entries::new(), Vec::new());
        for named in &mut self.named {
            if let Some((source, value)) = at(&row, &named.column)? {
                named.met = true;
                sources.push(source);
                values.push((named.key.to_owned(), value));
            }
        }
        let is_replaced = |key: &str| {
            let one_of =
                |keys: &[&str]| keys.contains(&key) && keys.iter().any(|key| self.names(key));
            one_of(&PROMPTS) || one_of(&ANSWERS) || self.names(key)
        };
        let is_read = |key: &String| sources.contains(key) && !KNOWN.contains(&key.as_str());
        row.retain(|(key, _)| !is_replaced(key) && !is_read(key));
        row.extend(values);
        Ok(row)
    }
}

/// Returns the value of a column, or of a member of one, and the name of the column.
fn at<'a>(row: &Entries<'a>, path: &str) -> Result<Option<(String, &'a str)>, String> {
    let find = |name: &str| row.iter().find(|(key, _)| key == name).cloned();
    if let Some(found) = find(path) {
        return Ok(Some(found));
    }
    let mut parts = path.split('.');
    let Some((column, mut value)) = find(parts.next().unwrap_or_default()) else {
        return Ok(None);
    };
    for part in parts {
        if !value.starts_with('{') {
            return Ok(None);
        }
        let mut members = raw::members(value)?.into_iter();
        match members.find(|(key, _)| key == part) {
            Some((_, inner)) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some((column, value)))
}
