//! Layers of settings, each overriding the ones before; every value keeps its origin.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml_edit::{Document, Item, TableLike};

use crate::{
    error::ConfigError,
    key::{ENV_PREFIX, Key},
    origin::Origin,
    presets,
    recorded::read_recorded,
};

/// Value as a layer wrote it.
#[derive(Debug, Clone)]
pub(crate) enum Written {
    /// TOML, from a file.
    Toml(toml::Value),
    /// Text from the environment or a flag; parsed as TOML if the setting's type is not text.
    Text(String),
}

/// Assignment of one setting in one layer.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) key: Key,
    pub(crate) value: Written,
    pub(crate) origin: Origin,
    /// Folder that relative paths start from; `None` = the working directory.
    pub(crate) base: Option<PathBuf>,
}

/// Settings that older builds did not have, with values that do what those builds did.
const OLDER: [(&str, &str); 1] = [("prompts.task", "sums")];

/// Layers of settings in the order of their precedence, lowest first. Add presets, then files, then
/// the environment, then `--set` and flags, and combine them with [`Layers::resolve`].
#[derive(Debug, Clone, Default)]
pub struct Layers {
    pub(crate) assignments: Vec<Assignment>,
    /// Variables that are no settings, and may have been meant for one.
    pub(crate) near_misses: Vec<String>,
}

impl Layers {
    /// Creates an empty stack of layers, which resolves to the defaults in code.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a preset that ships with the program.
    pub fn preset(self, name: &str) -> Result<Self, ConfigError> {
        let text = presets::find(name).ok_or_else(|| ConfigError::UnknownPreset {
            name: name.to_owned(),
            known: presets::names().collect(),
        })?;
        self.document(text, None, &format!("preset {name}"), |line| {
            Origin::Preset {
                name: name.to_owned(),
                line,
            }
        })
    }

    /// Adds a TOML file. Relative paths in it start from its folder.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        self.document(&text, path.parent(), &path.display().to_string(), |line| {
            Origin::File {
                path: path.to_owned(),
                line,
            }
        })
    }

    /// Adds TOML text, called `place` in messages. Relative paths in it start from the working
    /// directory.
    pub fn toml(self, text: &str, place: &str) -> Result<Self, ConfigError> {
        self.document(text, None, place, |line| Origin::File {
            path: place.into(),
            line,
        })
    }

    /// Adds the `config.toml` of a run to be resumed. Each value keeps the origin that the file
    /// gives. `metrics.listen` is left out, because it belongs to a process, not to the run.
    pub fn recorded(mut self, path: &Path) -> Result<Self, ConfigError> {
        let before = self.assignments.len();
        self = self.over_recorded(path)?;
        let of_process = Key::new(["metrics", "listen"]);
        let recorded = self.assignments.split_off(before);
        let of_run = recorded.into_iter().filter(|set| set.key != of_process);
        self.assignments.extend(of_run);
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let origins: BTreeMap<Key, String> = read_recorded(&text)
            .map_err(|source| ConfigError::Syntax {
                place: path.display().to_string(),
                source: Box::new(source),
            })?
            .into_iter()
            .filter_map(|line| Some((line.key, line.origin?)))
            .collect();
        for assignment in &mut self.assignments[before..] {
            if let Some(origin) = origins.get(&assignment.key) {
                assignment.origin = Origin::Recorded(origin.clone());
            }
        }
        Ok(self)
    }

    /// Adds a file that a run recorded, with values for settings that older builds did not have and
    /// whose default is not what they did.
    pub(crate) fn over_recorded(mut self, path: &Path) -> Result<Self, ConfigError> {
        let before = self.assignments.len();
        self = self.file(path)?;
        for (key, value) in OLDER {
            let key = Key::new(key.split('.'));
            let mut recorded = self.assignments[before..].iter();
            if recorded.all(|set| set.key != key) {
                let origin = Origin::Recorded("as before there was this setting".to_owned());
                self.push(key, Written::Text(value.to_owned()), origin);
            }
        }
        Ok(self)
    }

    /// Adds every variable that begins with [`ENV_PREFIX`]: `VINTAGE__LEARNER__STEPS=100` sets
    /// `learner.steps`. [`Layers::resolve`] refuses variables that begin with a single underscore
    /// after `VINTAGE`, or in lower case, if they spell the words of a setting or of its section.
    #[must_use]
    pub fn env(mut self, vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let (mut vars, unprefixed): (Vec<_>, Vec<_>) = vars
            .into_iter()
            .partition(|(name, _)| name.starts_with(ENV_PREFIX));
        vars.sort();
        // The prefix without its second underscore.
        let begun = &ENV_PREFIX[..ENV_PREFIX.len() - 1];
        let begun = |name: &String| name.to_uppercase().starts_with(begun);
        let unprefixed = unprefixed.into_iter().map(|(name, _)| name);
        self.near_misses.extend(unprefixed.filter(begun));
        self.near_misses.sort();
        for (name, value) in vars {
            let parts = name[ENV_PREFIX.len()..].split("__").map(str::to_lowercase);
            self.push(
                Key::new(parts),
                Written::Text(value),
                Origin::Env(name.clone()),
            );
        }
        self
    }

    /// Adds one `--set section.key=value`. The value is parsed as TOML where that fits the setting,
    /// else taken as text; `none` unsets an optional setting.
    pub fn set(mut self, text: &str) -> Result<Self, ConfigError> {
        let refuse = || ConfigError::Assignment {
            text: text.to_owned(),
        };
        let (key, value) = text.split_once('=').ok_or_else(refuse)?;
        let key = Key::parse(key).ok_or_else(refuse)?;
        self.push(key, Written::Text(value.trim().to_owned()), Origin::Set);
        Ok(self)
    }

    /// Adds the setting that a command-line flag sets.
    #[must_use]
    pub fn flag(mut self, flag: &'static str, key: &Key, value: &impl ToString) -> Self {
        self.push(
            key.clone(),
            Written::Text(value.to_string()),
            Origin::Flag(flag),
        );
        self
    }

    fn push(&mut self, key: Key, value: Written, origin: Origin) {
        self.assignments.push(Assignment {
            key,
            value,
            origin,
            base: None,
        });
    }

    fn document(
        mut self,
        text: &str,
        base: Option<&Path>,
        place: &str,
        origin: impl Fn(usize) -> Origin,
    ) -> Result<Self, ConfigError> {
        let syntax = |source: toml_edit::TomlError| ConfigError::Syntax {
            place: place.to_owned(),
            source: Box::new(source),
        };
        let document = Document::parse(text).map_err(syntax)?;
        let mut leaves = BTreeMap::new();
        collect(document.as_table(), &Key::root(), &mut leaves);
        for (key, (span_start, value)) in leaves {
            let line = text[..span_start]
                .bytes()
                .filter(|byte| *byte == b'\n')
                .count()
                + 1;
            self.assignments.push(Assignment {
                key,
                value: Written::Toml(value),
                origin: origin(line),
                base: base.map(Path::to_owned),
            });
        }
        Ok(self)
    }
}

/// Collects everything that is not a table, with the byte offset at which its key begins.
fn collect(table: &dyn TableLike, at: &Key, leaves: &mut BTreeMap<Key, (usize, toml::Value)>) {
    for (name, item) in table.iter() {
        let key = at.child(name);
        if let Some(table) = item.as_table_like() {
            collect(table, &key, leaves);
            continue;
        }
        let span = table
            .key(name)
            .and_then(toml_edit::Key::span)
            .or_else(|| item.span());
        let value = match item {
            Item::Value(value) => to_value(value),
            Item::ArrayOfTables(tables) => {
                toml::Value::Array(tables.iter().map(|table| to_table(table)).collect())
            }
            Item::None | Item::Table(_) => continue,
        };
        leaves.insert(key, (span.map_or(0, |span| span.start), value));
    }
}

fn to_table(table: &dyn TableLike) -> toml::Value {
    let mut out = toml::Table::new();
    for (name, item) in table.iter() {
        let value = match item {
            Item::Value(value) => to_value(value),
            Item::ArrayOfTables(tables) => {
                toml::Value::Array(tables.iter().map(|table| to_table(table)).collect())
            }
            Item::Table(table) => to_table(table),
            Item::None => continue,
        };
        out.insert(name.to_owned(), value);
    }
    toml::Value::Table(out)
}

fn to_value(value: &toml_edit::Value) -> toml::Value {
    match value {
        toml_edit::Value::String(text) => toml::Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => toml::Value::Integer(*number.value()),
        toml_edit::Value::Float(number) => toml::Value::Float(*number.value()),
        toml_edit::Value::Boolean(flag) => toml::Value::Boolean(*flag.value()),
        toml_edit::Value::Datetime(when) => toml::Value::Datetime(*when.value()),
        toml_edit::Value::Array(items) => toml::Value::Array(items.iter().map(to_value).collect()),
        toml_edit::Value::InlineTable(table) => to_table(table),
    }
}
