//! From layers to one struct: names checked, types checked, ranges checked, all at once.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{ConfigError, Problem, SettingFault},
    key::Key,
    layers::Layers,
    layers::{Assignment, Written},
    origin::Origin,
    schema::{Kind, Schema},
    secret::is_reference,
    suggest, variable,
};
use vintage_settings::{RunConfig, Violation};

/// A struct of settings that layers resolve to.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// Settings that are paths; relative ones are made absolute.
    const PATHS: &'static [&'static str];
    /// Lists of words that are run, each with the setting that says in which folder.
    const COMMANDS: &'static [(&'static str, &'static str)];
    /// Tables of options of which some are paths, with the endings of the names of those.
    const PATH_OPTIONS: &'static [(&'static str, &'static [&'static str])];

    /// What is wrong with the values beyond their types.
    fn violations(&self) -> Vec<Violation>;

    /// Defaults that other settings change.
    fn derived(&self) -> Vec<Derived> {
        Vec::new()
    }
}

/// A default that differs because of other settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// The setting, dotted.
    pub key: &'static str,
    /// Its value where nobody sets it.
    pub value: toml::Value,
    /// Why, as its origin.
    pub why: &'static str,
}

/// Settings with the origin of each.
#[derive(Debug, Clone)]
pub struct Resolved<T = RunConfig> {
    /// The settings.
    pub config: T,
    pub(crate) entries: BTreeMap<Key, Entry>,
    pub(crate) schema: Schema,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// `None` = an optional setting that is not set.
    pub(crate) value: Option<toml::Value>,
    pub(crate) origin: Origin,
}

impl Layers {
    /// Puts the layers over the defaults of `T`.
    ///
    /// # Errors
    /// Every setting with an unknown name, or else a wrong type, or else a value out of range.
    pub fn resolve<T: Settings>(self) -> Result<Resolved<T>, ConfigError> {
        let schema = Schema::of::<T>();
        let mut entries = defaults(&T::default(), &schema);
        let near_misses = self.near_misses.iter();
        let mut problems: Vec<_> = near_misses
            .filter_map(|name| variable::misspelt(name, &schema))
            .collect();
        let mut place = None;
        for assignment in self.assignments {
            let (origin, base) = (assignment.origin.clone(), assignment.base.clone());
            match interpret::<T>(assignment, &schema) {
                Ok((key, value)) => {
                    place = command_folder::<T>(&key, value.as_ref(), base, &entries).or(place);
                    entries.insert(key, Entry { value, origin });
                }
                Err(problem) => problems.push(*problem),
            }
        }
        refuse(problems)?;
        if let Some(place) = place {
            place.record(&mut entries);
        }
        Resolved::of(entries, schema)
    }
}

impl<T: Settings> Resolved<T> {
    /// The settings of `entries`, whose defaults fit one another.
    fn of(mut entries: BTreeMap<Key, Entry>, schema: Schema) -> Result<Self, ConfigError> {
        let mut config: T = deserialize(&entries)?;
        let derived = config.derived();
        if !derived.is_empty() {
            for Derived { key, value, why } in derived {
                let entry = entries.get_mut(&Key::new(key.split('.')));
                let unset = |entry: &&mut Entry| {
                    matches!(entry.origin, Origin::Default | Origin::Derived(_))
                };
                if let Some(entry) = entry.filter(unset) {
                    *entry = Entry {
                        value: Some(value),
                        origin: Origin::Derived(why),
                    };
                }
            }
            config = deserialize(&entries)?;
        }
        let violations = config.violations().into_iter();
        refuse(
            violations
                .map(|v| bad_value(&entries, v.key, v.why))
                .collect(),
        )?;
        Ok(Self {
            config,
            entries,
            schema,
        })
    }

    /// The same once more: defaults may depend on files that were not there yet.
    ///
    /// # Errors
    /// As [`Layers::resolve`].
    pub fn again(&self) -> Result<Self, ConfigError> {
        Self::of(self.entries.clone(), self.schema.clone())
    }
}

fn deserialize<T: Settings>(entries: &BTreeMap<Key, Entry>) -> Result<T, ConfigError> {
    assemble(entries)
        .and_then(|table| {
            serde_path_to_error::deserialize(toml::Value::Table(table))
                .map_err(|error| (error.path().to_string(), error.inner().message().to_owned()))
        })
        .map_err(|(path, why)| bad_value(entries, &path, why))
        .map_err(|problem| ConfigError::Settings(vec![problem]))
}

/// Where a command that an assignment gives runs: the folder of the file that gives it, where a word
/// of it is a file there, and else the working directory. `None` where it is no command, or the
/// one there was, which goes on where it ran.
fn command_folder<T: Settings>(
    key: &Key,
    value: Option<&toml::Value>,
    base: Option<PathBuf>,
    entries: &BTreeMap<Key, Entry>,
) -> Option<Place> {
    let name = key.to_string();
    let (_, setting) = T::COMMANDS.iter().find(|(command, _)| *command == name)?;
    let words = value?.as_array().filter(|words| !words.is_empty())?;
    if entries.get(key)?.value.as_ref() == value {
        return None;
    }
    let is_there = |base: &PathBuf| {
        let mut words = words.iter().filter_map(toml::Value::as_str);
        words.any(|word| base.join(word).is_file())
    };
    Some(Place {
        command: key.clone(),
        setting: Key::parse(setting)?,
        folder: base.filter(is_there).unwrap_or_default(),
    })
}

/// Where a command runs, and the setting that says so.
struct Place {
    command: Key,
    setting: Key,
    folder: PathBuf,
}

impl Place {
    /// Records it with the origin of the command, unless the setting is set.
    fn record(self, entries: &mut BTreeMap<Key, Entry>) {
        let Some(origin) = entries.get(&self.command).map(|entry| entry.origin.clone()) else {
            return;
        };
        let folder = absolute(".", Some(&self.folder));
        if let Some(entry) = entries.get_mut(&self.setting)
            && entry.value.is_none()
        {
            *entry = Entry {
                value: Some(toml::Value::String(folder)),
                origin,
            };
        }
    }
}

fn refuse(problems: Vec<Problem>) -> Result<(), ConfigError> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Settings(problems))
    }
}

fn defaults<T: Serialize>(defaults: &T, schema: &Schema) -> BTreeMap<Key, Entry> {
    let tree = toml::Value::try_from(defaults).unwrap_or(toml::Value::Table(toml::Table::new()));
    let mut entries = BTreeMap::new();
    for key in schema.settings() {
        let value = key
            .parts()
            .iter()
            .try_fold(&tree, |tree, part| tree.get(part));
        let is_map = schema
            .field(key)
            .is_some_and(|field| field.kind == Kind::Map);
        if let (true, Some(toml::Value::Table(map))) = (is_map, value) {
            for (name, value) in map {
                let entry = Entry {
                    value: Some(value.clone()),
                    origin: Origin::Default,
                };
                entries.insert(key.child(name), entry);
            }
        } else if !is_map {
            entries.insert(
                key.clone(),
                Entry {
                    value: value.cloned(),
                    origin: Origin::Default,
                },
            );
        }
    }
    entries
}

/// Finds the setting that an assignment means, and its value in the setting's type.
fn interpret<T: Settings>(
    assignment: Assignment,
    schema: &Schema,
) -> Result<(Key, Option<toml::Value>), Box<Problem>> {
    let Assignment {
        key,
        value,
        origin,
        base,
    } = assignment;
    let fail = |fault| {
        Box::new(Problem {
            key: key.clone(),
            origin: origin.clone(),
            fault,
        })
    };
    let known = (1..=key.parts().len()).rev().find_map(|n| {
        schema
            .field(&key.prefix(n))
            .map(|field| (key.prefix(n), field))
    });
    let Some((name, field)) = known else {
        return Err(fail(unknown(&key, schema)));
    };
    let rest = &key.parts()[name.parts().len()..];
    match (&field.kind, rest) {
        (Kind::Section(_), []) => {
            let example = schema
                .settings()
                .iter()
                .find(|setting| setting.parent() == name);
            Err(fail(SettingFault::IsSection {
                example: example.unwrap_or(&name).clone(),
            }))
        }
        (Kind::Section(_), _) => Err(fail(unknown(&key, schema))),
        (Kind::Map, [_, ..]) => {
            let text = match value {
                Written::Text(text) => unquoted(text),
                Written::Toml(toml::Value::String(text)) => text,
                Written::Toml(other @ (toml::Value::Array(_) | toml::Value::Table(_))) => {
                    return Err(fail(wrong_type(&other.to_string(), &Kind::Text)));
                }
                Written::Toml(other) => other.to_string(),
            };
            let option = rest.join(".");
            let text = if is_path_option::<T>(&name, &option) {
                path_option(&text, base.as_deref())
            } else {
                text
            };
            Ok((name.child(&option), Some(toml::Value::String(text))))
        }
        (kind, [_, ..]) => Err(fail(wrong_type("a table", kind))),
        (kind, []) => {
            let (shown, value) = match value {
                Written::Text(text) => (text.clone(), read_text(&text, kind)),
                Written::Toml(value) => (value.to_string(), value),
            };
            if field.optional && value.as_str() == Some("none") {
                return Ok((name, None));
            }
            let mut value = typed(value, kind).ok_or_else(|| fail(wrong_type(&shown, kind)))?;
            if let toml::Value::String(text) = &mut value
                && T::PATHS.iter().any(|path| *path == name.to_string())
            {
                *text = absolute(text, base.as_deref());
            }
            Ok((name, Some(value)))
        }
    }
}

fn unknown(key: &Key, schema: &Schema) -> SettingFault {
    SettingFault::Unknown {
        near: suggest::nearest_keys(key, schema.settings()),
    }
}

fn wrong_type(value: &str, kind: &Kind) -> SettingFault {
    let suggestion = match kind {
        Kind::OneOf(names) => {
            suggest::nearest(value.trim_matches(['"', '\'']), names.iter().copied())
        }
        _ => None,
    };
    SettingFault::Type {
        value: value.to_owned(),
        expected: kind.expected(),
        suggestion: suggestion.map(str::to_owned),
    }
}

/// Reads a text from the command line or the environment as a value of that kind.
fn read_text(text: &str, kind: &Kind) -> toml::Value {
    let string = || toml::Value::String(text.to_owned());
    match kind {
        Kind::Text | Kind::OneOf(_) => toml::Value::String(unquoted(text.to_owned())),
        Kind::Float => text.parse().map_or_else(|_| string(), toml::Value::Float),
        _ => text.parse().unwrap_or_else(|_| string()),
    }
}

/// `"a"` as TOML writes a text, or the text as it is.
fn unquoted(text: String) -> String {
    match text.parse() {
        Ok(toml::Value::String(inner)) => inner,
        _ => text,
    }
}

/// The value in the kind's own type, if it can be had without loss.
fn typed(value: toml::Value, kind: &Kind) -> Option<toml::Value> {
    use toml::Value;
    match (kind, &value) {
        (Kind::Float, Value::Integer(number)) => Some(Value::Float(*number as f64)),
        (Kind::OneOf(names), Value::String(text)) => {
            names.contains(&text.as_str()).then_some(value)
        }
        (Kind::Bool, Value::Boolean(_))
        | (Kind::Integer, Value::Integer(_))
        | (Kind::Float, Value::Float(_))
        | (Kind::Text, Value::String(_))
        | (Kind::List, Value::Array(_))
        | (Kind::Map, Value::Table(_)) => Some(value),
        _ => None,
    }
}

fn is_path_option<T: Settings>(table: &Key, option: &str) -> bool {
    let table = table.to_string();
    let known = T::PATH_OPTIONS.iter().filter(|(name, _)| *name == table);
    known
        .flat_map(|(_, ends)| *ends)
        .any(|end| option.ends_with(end))
}

/// A path as [`absolute`] makes it. What is written as `env:` or `file:` is read where it is used,
/// and librdkafka's `probe` is no path.
fn path_option(text: &str, base: Option<&Path>) -> String {
    if text.is_empty() || text == "probe" || is_reference(text) {
        return text.to_owned();
    }
    // Before there were such options they always started from the working directory.
    let base = base.filter(|base| base.join(text).exists());
    absolute(text, base)
}

fn absolute(text: &str, base: Option<&Path>) -> String {
    // A URL is no path.
    if text.contains("://") {
        return text.to_owned();
    }
    let path = base.map_or_else(|| Path::new(text).to_owned(), |base| base.join(text));
    // Fails on an empty path or a lost working directory only; then the user's own text is the
    // clearest thing to show when the file cannot be opened.
    std::path::absolute(path).map_or_else(|_| text.to_owned(), |path| path.display().to_string())
}

/// Builds the tree that serde reads.
fn assemble(entries: &BTreeMap<Key, Entry>) -> Result<toml::Table, (String, String)> {
    let mut root = toml::Table::new();
    for (key, entry) in entries {
        let Some(value) = &entry.value else { continue };
        let mut table = &mut root;
        for part in key.parent().parts() {
            let next = table
                .entry(part.clone())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table = next.as_table_mut().ok_or_else(|| {
                (
                    key.to_string(),
                    "a setting stands in for a section".to_owned(),
                )
            })?;
        }
        table.insert(key.last().to_owned(), value.clone());
    }
    Ok(root)
}

fn bad_value(entries: &BTreeMap<Key, Entry>, path: &str, why: String) -> Problem {
    let mut key = Key::parse(path.split('[').next().unwrap_or(path)).unwrap_or_else(Key::root);
    while !entries.contains_key(&key) && !key.parts().is_empty() {
        key = key.parent();
    }
    let entry = entries.get(&key);
    let value = entry.and_then(|entry| entry.value.as_ref());
    Problem {
        origin: entry.map_or(Origin::Default, |entry| entry.origin.clone()),
        fault: SettingFault::Value {
            value: value.map_or_else(|| "none".to_owned(), ToString::to_string),
            why,
        },
        key: if key.parts().is_empty() {
            Key::new([path])
        } else {
            key
        },
    }
}
