//! Resolved settings as text: output of `config show`, and content of a run's `config.toml`.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    key::Key,
    key::quoted,
    origin::Origin,
    resolve::Entry,
    resolve::Resolved,
    schema::{Kind, Schema},
    suggest,
};

impl<T> Resolved<T> {
    /// Returns the origin of a setting's value; `None` if there is no such setting.
    pub fn origin(&self, key: &Key) -> Option<&Origin> {
        self.entries.get(key).map(|entry| &entry.origin)
    }

    /// Formats the settings as TOML for a run's `config.toml`: in the order of declaration, each
    /// with its origin as a comment. Optional settings that are not set appear as comments.
    pub fn to_toml(&self) -> String {
        self.show(&Key::root(), true)
    }

    /// Formats the settings at or below `within` as TOML, with or without origins.
    pub fn show(&self, within: &Key, origins: bool) -> String {
        let mut sections: Vec<(Key, Vec<(String, &Entry)>)> = Vec::new();
        for (key, entry) in self.ordered(within) {
            let section = key.parent();
            let value = entry.value.as_ref().map(ToString::to_string);
            let name = quoted(key.last());
            let line = match value {
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} = none"),
            };
            match sections.last_mut().filter(|(last, _)| *last == section) {
                Some((_, lines)) => lines.push((line, entry)),
                None => sections.push((section, vec![(line, entry)])),
            }
        }
        let mut text = String::new();
        for (section, lines) in sections {
            if !section.parts().is_empty() {
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let width = lines
                .iter()
                .map(|(line, _)| line.chars().count())
                .max()
                .unwrap_or(0);
            for (line, entry) in lines {
                let _ = if origins {
                    writeln!(text, "{line:width$}  # {}", entry.origin)
                } else {
                    writeln!(text, "{line}")
                };
            }
        }
        text
    }

    /// Returns the settings at or below `within` as one JSON object: `{"learner.steps": {"value":
    /// 400, "origin": "--set"}}`.
    pub fn to_json(&self, within: &Key) -> serde_json::Value {
        let entries = self.ordered(within).into_iter().map(|(key, entry)| {
            let shown = serde_json::json!({
                "value": entry.value,
                "origin": entry.origin.to_string(),
            });
            (key.to_string(), shown)
        });
        serde_json::Value::Object(entries.collect())
    }

    /// Returns true if there is a setting or section of that name.
    pub fn has(&self, key: &Key) -> bool {
        self.schema.field(key).is_some() || self.entries.contains_key(key)
    }

    /// Returns the settings with the nearest names.
    pub fn nearest(&self, key: &Key) -> Vec<Key> {
        suggest::nearest_keys(key, self.schema.settings())
    }

    fn ordered(&self, within: &Key) -> Vec<(&Key, &Entry)> {
        let depth = within.parts().len();
        let mut entries = ordered(&self.entries, &self.schema);
        entries.retain(|(key, _)| key.prefix(depth) == *within);
        entries
    }
}

fn ordered<'a>(entries: &'a BTreeMap<Key, Entry>, schema: &Schema) -> Vec<(&'a Key, &'a Entry)> {
    let (maps, plain): (Vec<_>, Vec<_>) = schema.settings().iter().partition(|key| {
        schema
            .field(key)
            .is_some_and(|field| field.kind == Kind::Map)
    });
    let mut out: Vec<(&Key, &Entry)> = plain
        .into_iter()
        .filter_map(|key| entries.get_key_value(key))
        .collect();
    for map in maps {
        // Placed after every plain setting of the root, as TOML requires, and before its sections.
        let at = out
            .iter()
            .position(|(key, _)| key.parts().len() > map.parts().len());
        let of_map = entries.iter().filter(|(key, _)| key.parent() == *map);
        let at = at.unwrap_or(out.len());
        out.splice(at..at, of_map);
    }
    out
}
