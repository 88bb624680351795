//! JSON in the form that Python's `json.dumps` writes.

use std::fmt::Write as _;

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use super::arguments::{Arguments, string, wrong};
use super::python;

/// Filter `tojson` as transformers defines it: `json.dumps(value, ensure_ascii=False, indent=None,
/// separators=None, sort_keys=False)`.
pub(super) fn to_json(value: &Value, arguments: &[Value]) -> Result<String, Error> {
    let arguments = Arguments::of(arguments)?;
    let ensure_ascii = arguments.flag(0, "ensure_ascii")?.unwrap_or(false);
    let indent = match arguments.given(1, "indent")? {
        None => None,
        Some(text) if text.as_str().is_some() => Some(string(&text)?),
        Some(width) => Some(" ".repeat(usize::try_from(width)?)),
    };
    let [item, key] = match arguments.given(2, "separators")? {
        None if indent.is_some() => [",".to_owned(), ": ".to_owned()],
        None => [", ".to_owned(), ": ".to_owned()],
        Some(pair) => {
            let given = pair.try_iter()?.map(|text| string(&text));
            let given = given.collect::<Result<Vec<_>, _>>()?;
            <[String; 2]>::try_from(given).map_err(|given| {
                wrong(format!("tojson takes two separators, not {}", given.len()))
            })?
        }
    };
    let sort_keys = arguments.flag(3, "sort_keys")?.unwrap_or(false);
    arguments.end(4)?;
    let style = Style {
        ensure_ascii,
        indent,
        item,
        key,
        sort_keys,
    };
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(out)
}

struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl Style {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => *out += "null",
            ValueKind::Bool => *out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => *out += &number(value),
            ValueKind::String => self.quote(value.as_str().unwrap_or_default(), out),
            ValueKind::Map => {
                let mut entries = Vec::new();
                for (key, value) in python::pairs(value) {
                    entries.push((key_text(&key)?, value));
                }
                if self.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.list('{', entries, '}', depth, out, |(key, value), out| {
                    self.quote(&key, out);
                    *out += &self.key;
                    self.write(&value, depth + 1, out)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect();
                self.list('[', items, ']', depth, out, |value, out| {
                    self.write(&value, depth + 1, out)
                })?;
            }
            kind => return Err(wrong(format!("what is {kind} cannot be written as JSON"))),
        }
        Ok(())
    }

    fn list<T>(
        &self,
        open: char,
        items: Vec<T>,
        close: char,
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                *out += &indent.repeat(depth);
            }
        };
        let empty = items.is_empty();
        out.push(open);
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                *out += &self.item;
            }
            line(depth + 1, out);
            write(item, out)?;
        }
        if !empty {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn quote(&self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => *out += "\\\"",
                '\\' => *out += "\\\\",
                '\n' => *out += "\\n",
                '\r' => *out += "\\r",
                '\t' => *out += "\\t",
                '\u{8}' => *out += "\\b",
                '\u{c}' => *out += "\\f",
                _ if character < ' ' || (self.ensure_ascii && !character.is_ascii()) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _infallible = write!(out, "\\u{unit:04x}");
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
    }
}

fn number(value: &Value) -> String {
    match python::number(value) {
        infinite if infinite == "inf" => "Infinity".to_owned(),
        infinite if infinite == "-inf" => "-Infinity".to_owned(),
        none if none == "nan" => "NaN".to_owned(),
        number => number,
    }
}

/// Returns the text of a dictionary's key, which is always a string in JSON.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => string(key),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool if key.is_true() => Ok("true".to_owned()),
        ValueKind::Bool => Ok("false".to_owned()),
        ValueKind::Number => Ok(number(key)),
        kind => Err(wrong(format!(
            "a key that is {kind} cannot be written as JSON"
        ))),
    }
}
