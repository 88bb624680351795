//! Resolution of layers to one struct, with names, types and ranges checked together.

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

/// Struct of settings that layers resolve to.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// Settings that are paths; relative ones are made absolute.
    const PATHS: &'static [&'static str];
    /// Settings that are commands, each with the setting of the folder in which it runs.
    const COMMANDS: &'static [(&'static str, &'static str)];
    /// Tables of options of which some are paths, with the name endings of those.
    const PATH_OPTIONS: &'static [(&'static str, &'static [&'static str])];

    /// Returns the values that cannot be used although their types are right.
    fn violations(&self) -> Vec<Violation>;

    /// Returns the defaults that depend on other settings.
    fn derived(&self) -> Vec<Derived> {
        Vec::new()
    }
}

/// Default that depends on other settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// Dotted name of the setting.
    pub key: &'static str,
    /// Value of the setting if no layer sets it.
    pub value: toml::Value,
    /// Description used as the value's origin.
    pub why: &'static str,
}

/// Settings with the origin of each.
#[derive(Debug, Clone)]
pub struct Resolved<T = RunConfig> {
    /// Resolved settings.
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
    /// Resolves the layers over the defaults of `T`.
    ///
    /// # Errors
    /// Every setting with an unknown name or a value of the wrong type; if there is none, every
    /// setting with a value that cannot be used.
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
    /// Resolves `entries`, after adjusting the defaults that depend on other settings.
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

    /// Resolves the settings once more, because defaults may depend on files that did not exist
    /// before.
    ///
    /// # Errors
    /// [`ConfigError::Settings`], as from [`Layers::resolve`].
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

/// Returns the folder in which a command runs that an assignment gives: the folder of the file that
/// gives it, if a word of the command is a file there, else the working directory. `None` if the
/// setting is not a command, or is unchanged, in which case the command keeps its folder.
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

/// Folder in which a command runs, and the setting that names the folder.
struct Place {
    command: Key,
    setting: Key,
    folder: PathBuf,
}

impl Place {
    /// Records the folder with the origin of the command, unless the folder's setting is set.
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

/// Finds the setting that an assignment means, and converts the value to its type.
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
            if T::PATHS.iter().any(|path| *path == name.to_string()) {
                for text in texts(&mut value) {
                    *text = absolute(text, base.as_deref());
                }
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

/// Parses a text from the command line or the environment as a value of that kind.
fn read_text(text: &str, kind: &Kind) -> toml::Value {
    let string = || toml::Value::String(text.to_owned());
    match kind {
        Kind::TextOrList if !text.trim_start().starts_with('[') => {
            toml::Value::String(unquoted(text.to_owned()))
        }
        Kind::Text | Kind::OneOf(_) => toml::Value::String(unquoted(text.to_owned())),
        Kind::Float => text.parse().map_or_else(|_| string(), toml::Value::Float),
        _ => text.parse().unwrap_or_else(|_| string()),
    }
}

/// Returns the content of a quoted TOML string, or the text unchanged.
fn unquoted(text: String) -> String {
    match text.parse() {
        Ok(toml::Value::String(inner)) => inner,
        _ => text,
    }
}

/// Converts the value to the kind's type; `None` if that is impossible without loss.
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
        | (Kind::Text | Kind::TextOrList, Value::String(_))
        | (Kind::List, Value::Array(_))
        | (Kind::Map, Value::Table(_)) => Some(value),
        (Kind::TextOrList, Value::Array(list)) => list.iter().all(Value::is_str).then_some(value),
        _ => None,
    }
}

/// Returns the texts of a text or of a list.
fn texts(value: &mut toml::Value) -> Vec<&mut String> {
    match value {
        toml::Value::String(text) => vec![text],
        toml::Value::Array(list) => list.iter_mut().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn is_path_option<T: Settings>(table: &Key, option: &str) -> bool {
    let table = table.to_string();
    let known = T::PATH_OPTIONS.iter().filter(|(name, _)| *name == table);
    known
        .flat_map(|(_, ends)| *ends)
        .any(|end| option.ends_with(end))
}

/// Makes a path absolute. References (`env:`, `file:`) are resolved where they are used, and
/// librdkafka's `probe` is not a path; both are returned unchanged.
fn path_option(text: &str, base: Option<&Path>) -> String {
    if text.is_empty() || text == "probe" || is_reference(text) {
        return text.to_owned();
    }
    // Such an option counts from the working directory unless the file's folder has that path, as
    // in older builds.
    let base = base.filter(|base| base.join(text).exists());
    absolute(text, base)
}

fn absolute(text: &str, base: Option<&Path>) -> String {
    // A URL is not a path.
    if text.contains("://") {
        return text.to_owned();
    }
    let path = base.map_or_else(|| Path::new(text).to_owned(), |base| base.join(text));
    // Fails only on an empty path or a deleted working directory. The unchanged text is then the
    // clearest message when the file cannot be opened.
    std::path::absolute(path).map_or_else(|_| text.to_owned(), |path| path.display().to_string())
}

/// Builds the TOML tree that serde reads.
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

fn bad_value(entries: &BTreeMap<Key, Entry>, path: &str, reason: String) -> Problem {
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
            reason,
        },
        key: if key.parts().is_empty() {
            Key::new([path])
        } else {
            key
        },
    }
}
