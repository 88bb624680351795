//! Values in the spelling of Python's `str` and `repr`.

use std::fmt::Write as _;

use minijinja::value::{Tuple, Value, ValueKind};

/// Returns `str(value)`; the empty string for an undefined value.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => spelling(value),
    }
}

/// Returns `repr(value)`.
pub(super) fn spelling(value: &Value) -> String {
    let mut out = String::new();
    spell(value, &mut out);
    out
}

fn spell(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined => *out += "Undefined",
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Number => *out += &number(value),
        ValueKind::Map => {
            out.push('{');
            for (place, (key, value)) in pairs(value).into_iter().enumerate() {
                *out += if place > 0 { ", " } else { "" };
                spell(&key, out);
                *out += ": ";
                spell(&value, out);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.downcast_object_ref::<Tuple>().is_some();
            let mut count = 0;
            out.push(if tuple { '(' } else { '[' });
            for item in value.try_iter().into_iter().flatten() {
                *out += if count > 0 { ", " } else { "" };
                spell(&item, out);
                count += 1;
            }
            *out += match (tuple, count) {
                (true, 1) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            };
        }
        // `True`, `False`, `None`, and values that no template prints.
        _ => *out += &value.to_string(),
    }
}

/// Returns the entries of a dictionary, in its order.
pub(super) fn pairs(value: &Value) -> Vec<(Value, Value)> {
    let pairs = value.as_object().and_then(|object| {
        let pairs = object.try_iter_pairs()?;
        Some(pairs.collect())
    });
    pairs.unwrap_or_default()
}

/// Formats a number: an integer in all its digits, a float in the fewest digits that restore it.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        let whole = !plain.contains('.');
        return plain + if whole { ".0" } else { "" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Quotes a string with single quotes, or with double quotes if it contains single and no double
/// ones.
fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(mark);
    for character in text.chars() {
        match character {
            '\n' => *out += "\\n",
            '\r' => *out += "\\r",
            '\t' => *out += "\\t",
            '\\' => *out += "\\\\",
            _ if character == mark => {
                out.push('\\');
                out.push(mark);
            }
            _ if is_printable(character) => out.push(character),
            _ => {
                let code = u32::from(character);
                let _infallible = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(mark);
}

/// Evaluates Python's `str.isprintable` for one character.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // Rust escapes the same characters as Python. Combining marks are kept unescaped after another
    // character, which is why one precedes.
    ['a', character]
        .iter()
        .collect::<String>()
        .escape_debug()
        .count()
        == 2
}

/// Evaluates Python's `str.isspace` for one character: Unicode's white space and four ASCII
/// separators.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

#[cfg(test)]
mod tests {
    use minijinja::value::Value;

    use super::{spelling, text};

    #[test]
    fn values_are_spelled_as_python_spells_them() {
        let floats = [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (-1e300, "-1e+300"),
            (f64::INFINITY, "inf"),
        ];
        for (number, expected) in floats {
            assert_eq!(text(&Value::from(number)), expected);
        }
        let strings = [
            ("it's", r#""it's""#),
            (r#"it's "so""#, r#"'it\'s "so"'"#),
            (
                "a\n\t\\é\u{301}\u{200b}\u{7f}\u{1f600}",
                "'a\\n\\t\\\\é\u{301}\\u200b\\x7f😀'",
            ),
        ];
        for (string, expected) in strings {
            assert_eq!(spelling(&Value::from(string)), expected);
            assert_eq!(text(&Value::from(string)), string);
        }
    }
}
