//! Filters and tests for which the engine differs from Jinja2, whose filters accept whatever
//! Python's `str` and `len` accept.

use minijinja::value::{Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error};

use super::arguments::{Arguments, iterable, string, wrong};
use super::python::{is_space, pairs, text};
use super::{json, methods, operators::small};

/// Filters that the engine has and Jinja2 lacks; transformers refuses a template that uses one.
const FOREIGN_FILTERS: [&str; 5] = ["split", "lines", "bool", "chain", "zip"];
const FOREIGN_TESTS: [&str; 2] = ["startingwith", "endingwith"];

/// Adds the filters and tests to an environment, and removes those that Jinja2 lacks.
pub(super) fn add(environment: &mut Environment<'static>) {
    for name in FOREIGN_FILTERS {
        environment.remove_filter(name);
    }
    for name in FOREIGN_TESTS {
        environment.remove_test(name);
    }
    environment.remove_global("debug");
    environment.add_filter("tojson", |value: &Value, given: Rest<ValueOrKwargs>| {
        json::to_json(value, &given.into_values())
    });
    environment.add_filter("string", |value: &Value| text(value));
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("trim", |value: &Value, given: Rest<ValueOrKwargs>| {
        let given = given.into_values();
        let given = Arguments::of(&given)?;
        let characters = given.string(0, "chars")?;
        given.end(1)?;
        let own = text(value);
        let trimmed = match characters {
            None => own.trim_matches(is_space),
            Some(characters) => own.trim_matches(|character| characters.contains(character)),
        };
        Ok::<_, Error>(trimmed.to_owned())
    });
    environment.add_filter("upper", |value: &Value| text(value).to_uppercase());
    environment.add_filter("lower", |value: &Value| text(value).to_lowercase());
    environment.add_filter("capitalize", |value: &Value| {
        methods::capitalized(&text(value))
    });
    environment.add_filter("title", |value: &Value| titled(&text(value)));
    environment.add_filter("replace", |value: &Value, given: Rest<ValueOrKwargs>| {
        let given = given.into_values();
        let given = Arguments::of(&given)?;
        let part = |place, name| {
            let part = given.value(place, name)?;
            Ok::<_, Error>(text(&part.unwrap_or_default()))
        };
        let (own, old, new) = (text(value), part(0, "old")?, part(1, "new")?);
        let count = given.integer(2, "count")?;
        given.end(3)?;
        Ok::<_, Error>(match count.map(usize::try_from) {
            Some(Ok(count)) => own.replacen(&old, &new, count),
            _ => own.replace(&old, &new),
        })
    });
    environment.add_filter("int", int);
    for name in ["first", "last"] {
        environment.add_filter(name, move |value: &Value| end(value, name == "first"));
    }
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("join", join);
    environment.add_filter("items", |value: &Value| match value.kind() {
        ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::Map => {
            let entries = pairs(value).into_iter();
            let tuple = |(key, value)| Value::from(Tuple::from([key, value]));
            Ok(entries.map(tuple).collect())
        }
        kind => Err(wrong(format!("items takes a dictionary, not {kind}"))),
    });
    environment.add_filter("list", |value: Value| {
        Ok::<_, Error>(iterable(&value)?.try_iter()?.collect::<Vec<_>>())
    });
    environment.add_filter("wordcount", |value: &Value| {
        let own = text(value);
        let is_part = |character: char| character.is_alphanumeric() || character == '_';
        own.split(|character| !is_part(character))
            .filter(|word| !word.is_empty())
            .count()
    });
    environment.add_filter("center", |value: &Value, width: Option<usize>| {
        let own = text(value);
        let missing = width
            .unwrap_or(80)
            .min(100_000)
            .saturating_sub(own.chars().count());
        let before = missing / 2 + (missing & width.unwrap_or(80) & 1);
        format!(
            "{}{own}{}",
            " ".repeat(before),
            " ".repeat(missing - before)
        )
    });
    environment.add_test("iterable", |value: &Value| iterable(value).is_ok());
    environment.add_test("sequence", |value: &Value| {
        let has_length = matches!(
            value.kind(),
            ValueKind::Undefined
                | ValueKind::String
                | ValueKind::Seq
                | ValueKind::Iterable
                | ValueKind::Map
        );
        has_length
    });
    environment.add_test("callable", |value: &Value| {
        // Macros and functions; values of these kinds cannot be printed or counted.
        matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined)
    });
}

fn length(value: &Value) -> Result<usize, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(0),
        kind => value
            .len()
            .ok_or_else(|| wrong(format!("what is {kind} has no length"))),
    }
}

/// Capitalizes the start of every word; words begin after spaces, hyphens and opening brackets.
fn titled(own: &str) -> String {
    let mut begins = true;
    let mut out = String::with_capacity(own.len());
    for character in own.chars() {
        let between = matches!(character, '-' | '(' | '{' | '[' | '<') || is_space(character);
        if begins && !between {
            out.extend(character.to_uppercase());
        } else {
            out.extend(character.to_lowercase());
        }
        begins = between;
    }
    out
}

/// Returns the first or the last item; undefined if there are no items.
fn end(value: &Value, first: bool) -> Result<Value, Error> {
    let mut items = iterable(value)?.try_iter()?;
    let found = if first { items.next() } else { items.last() };
    Ok(found.unwrap_or_default())
}

/// Converts to an integer; returns the default for a text that is not a number.
fn int(value: &Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = given.into_values();
    let given = Arguments::of(&given)?;
    let default = given.value(0, "default")?;
    let base = given.integer(1, "base")?.unwrap_or(10);
    given.end(2)?;
    let found = match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => return Ok(value.clone()),
        ValueKind::Number => whole(f64::try_from(value.clone())?),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let (digits, base) = match (text.get(..2), base) {
                (Some("0x" | "0X"), 16) | (Some("0b" | "0B"), 2) | (Some("0o" | "0O"), 8) => {
                    (&text[2..], base)
                }
                _ => (text.as_str(), base),
            };
            let base = u32::try_from(base)
                .ok()
                .filter(|base| (2..=36).contains(base));
            let base = base.ok_or_else(|| wrong("int takes a base from 2 to 36"))?;
            let integer = i128::from_str_radix(digits, base).ok();
            integer.or_else(|| whole(text.parse().ok()?))
        }
        _ => None,
    };
    Ok(found.map_or_else(|| default.unwrap_or_else(|| Value::from(0)), small))
}

/// Truncates a float to an integer.
fn whole(number: f64) -> Option<i128> {
    (number.is_finite() && number.abs() < 1e38).then_some(number as i128)
}

fn default(value: &Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = given.into_values();
    let given = Arguments::of(&given)?;
    let other = given.value(0, "default_value")?;
    let falsy_too = given.flag(1, "boolean")?.unwrap_or(false);
    given.end(2)?;
    let lacks = value.is_undefined() || (falsy_too && !value.is_true());
    Ok(if lacks {
        other.unwrap_or_else(|| Value::from(""))
    } else {
        value.clone()
    })
}

fn join(value: &Value, given: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let given = given.into_values();
    let given = Arguments::of(&given)?;
    let separator = given
        .value(0, "d")?
        .map(|value| text(&value))
        .unwrap_or_default();
    let attribute = given.given(1, "attribute")?;
    given.end(2)?;
    let mut parts = Vec::new();
    for item in iterable(value)?.try_iter()? {
        let part = match &attribute {
            None => item,
            Some(path) => {
                let path = string(path)?;
                let mut part = item;
                for name in path.split('.') {
                    part = part.get_attr(name)?;
                }
                part
            }
        };
        parts.push(text(&part));
    }
    Ok(parts.join(&separator))
}
