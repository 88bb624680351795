//! Settings as a run's `config.toml` holds them.

use toml_edit::{Document, TableLike};

use crate::key::Key;

/// Setting of a recorded `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Name of the setting.
    pub key: Key,
    /// Value as TOML.
    pub value: String,
    /// Origin of the value, if the file gives it.
    pub origin: Option<String>,
}

/// Parses what [`Resolved::to_toml`] wrote, origins included; to show settings, not to run them.
pub fn read_recorded(text: &str) -> Result<Vec<Recorded>, toml_edit::TomlError> {
    let document = Document::parse(text)?;
    let mut out = Vec::new();
    recorded(document.as_table(), &Key::root(), text, &mut out);
    Ok(out)
}

fn recorded(table: &dyn TableLike, at: &Key, text: &str, out: &mut Vec<Recorded>) {
    for (name, item) in table.iter() {
        let key = at.child(name);
        if let Some(value) = item.as_value() {
            let rest = value
                .span()
                .and_then(|span| text.get(span.end..))
                .unwrap_or_default();
            let comment = rest.lines().next().unwrap_or_default().trim();
            let origin = comment
                .strip_prefix('#')
                .map(|origin| origin.trim().to_owned());
            let shown = value
                .span()
                .and_then(|span| text.get(span))
                .unwrap_or_default();
            out.push(Recorded {
                key,
                value: shown.to_owned(),
                origin,
            });
        } else if let Some(table) = item.as_table_like() {
            recorded(table, &key, text, out);
        }
    }
}
