//! Methods of Python's strings, dictionaries and lists that templates may call. Methods that change
//! a value are left out, since transformers renders in an immutable sandbox.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::arguments::{Arguments, string, wrong};
use super::python::{is_space, pairs, text};

/// Calls the Python method `method` of `value`.
pub(super) fn call(
    _state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let given = Arguments::of(arguments)?;
    match value.kind() {
        ValueKind::String => {
            let own = value.as_str().unwrap_or_default();
            if method == "format" {
                return format(FormatStyle::StrFormat, own, arguments).map(Value::from);
            }
            of_string(own, method, &given)
        }
        ValueKind::Map => of_dictionary(value, method, &given),
        ValueKind::Seq | ValueKind::Iterable => of_list(value, method, &given),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn of_dictionary(value: &Value, method: &str, given: &Arguments) -> Result<Value, Error> {
    let entries = || pairs(value).into_iter();
    let listed = match method {
        "get" => {
            let key = given.value(0, "key")?.unwrap_or_default();
            let default = given
                .value(1, "default")?
                .unwrap_or_else(|| Value::from(()));
            given.end(2)?;
            let found = value.as_object().and_then(|object| object.get_value(&key));
            return Ok(found.unwrap_or(default));
        }
        "items" => entries()
            .map(|(key, value)| Value::from(Tuple::from([key, value])))
            .collect(),
        "keys" => entries().map(|(key, _)| key).collect(),
        "values" => entries().map(|(_, value)| value).collect(),
        "copy" => value.clone(),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    given.end(0)?;
    Ok(listed)
}

fn of_list(value: &Value, method: &str, given: &Arguments) -> Result<Value, Error> {
    let wanted = given.value(0, "value")?;
    let mut items = value.try_iter()?;
    match (method, wanted) {
        ("copy", None) => Ok(items.collect()),
        ("count", Some(wanted)) => {
            given.end(1)?;
            Ok(Value::from(items.filter(|item| *item == wanted).count()))
        }
        ("index", Some(wanted)) => {
            given.end(1)?;
            let place = items.position(|item| item == wanted);
            let missing = || wrong(format!("{} is not in the list", text(&wanted)));
            place.map(Value::from).ok_or_else(missing)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn of_string(own: &str, method: &str, given: &Arguments) -> Result<Value, Error> {
    // Maximum number of positional arguments.
    let mut most = 0;
    let result = match method {
        "upper" => Value::from(own.to_uppercase()),
        "lower" | "casefold" => Value::from(own.to_lowercase()),
        "capitalize" => Value::from(capitalized(own)),
        "title" => Value::from(titled(own)),
        "swapcase" => Value::from(swapped(own)),
        "strip" | "lstrip" | "rstrip" => {
            most = 1;
            let characters = given.string(0, "chars")?;
            let drop = |character| match &characters {
                None => is_space(character),
                Some(characters) => characters.contains(character),
            };
            Value::from(match method {
                "strip" => own.trim_matches(drop),
                "lstrip" => own.trim_start_matches(drop),
                _ => own.trim_end_matches(drop),
            })
        }
        "removeprefix" | "removesuffix" => {
            most = 1;
            let part = needed(given, 0, "prefix")?;
            let rest = if method == "removeprefix" {
                own.strip_prefix(&*part)
            } else {
                own.strip_suffix(&*part)
            };
            Value::from(rest.unwrap_or(own))
        }
        "replace" => {
            most = 3;
            let (old, new) = (needed(given, 0, "old")?, needed(given, 1, "new")?);
            let count = given.integer(2, "count")?.unwrap_or(-1);
            Value::from(match usize::try_from(count) {
                Ok(count) => own.replacen(&old, &new, count),
                Err(_) => own.replace(&old, &new),
            })
        }
        "split" | "rsplit" => {
            most = 2;
            let separator = given.string(0, "sep")?;
            let splits = given.integer(1, "maxsplit")?.unwrap_or(-1);
            let splits = usize::try_from(splits).ok();
            split(own, separator.as_deref(), splits, method == "rsplit")?
        }
        "splitlines" => {
            most = 1;
            lines(own, given.flag(0, "keepends")?.unwrap_or(false))
        }
        "partition" | "rpartition" => {
            most = 1;
            let separator = needed(given, 0, "sep")?;
            let (found, whole) = if method == "partition" {
                (own.split_once(&*separator), [own, "", ""])
            } else {
                (own.rsplit_once(&*separator), ["", "", own])
            };
            let parts = found.map_or(whole, |(before, after)| [before, &separator, after]);
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            most = 3;
            search(own, method, given)?
        }
        "startswith" | "endswith" => {
            most = 3;
            Value::from(begins_or_ends(own, method == "startswith", given)?)
        }
        "join" => {
            most = 1;
            let items = given.value(0, "iterable")?.unwrap_or_default();
            let items = items.try_iter()?.map(|item| string(&item));
            Value::from(items.collect::<Result<Vec<_>, _>>()?.join(own))
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            most = 2;
            Value::from(padded(own, method, given)?)
        }
        _ => Value::from(is_all(own, method).ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?),
    };
    given.end(most)?;
    Ok(result)
}

/// Returns a required string argument.
fn needed(given: &Arguments, place: usize, name: &str) -> Result<String, Error> {
    let found = given.string(place, name)?;
    found.ok_or_else(|| Error::from(ErrorKind::MissingArgument))
}

/// Evaluates tests of a string's characters, such as `isdigit`; `None` for another method.
fn is_all(own: &str, method: &str) -> Option<bool> {
    let every = |what: fn(char) -> bool| !own.is_empty() && own.chars().all(what);
    let cased = |wanted: fn(&char) -> bool, other: fn(char) -> bool| {
        own.chars().any(|character| wanted(&character)) && !own.chars().any(other)
    };
    Some(match method {
        "isspace" => every(is_space),
        // Python distinguishes three kinds of digits in other scripts.
        "isdigit" | "isdecimal" if own.chars().all(|c| c.is_ascii() || !c.is_numeric()) => {
            every(char::is_numeric)
        }
        "isnumeric" => every(char::is_numeric),
        "isalpha" => every(char::is_alphabetic),
        "isalnum" => every(char::is_alphanumeric),
        "isascii" => own.is_ascii(),
        "islower" => cased(|character| character.is_lowercase(), char::is_uppercase),
        "isupper" => cased(|character| character.is_uppercase(), char::is_lowercase),
        _ => return None,
    })
}

pub(super) fn capitalized(own: &str) -> String {
    let mut characters = own.chars();
    let first = characters.next().map(char::to_uppercase);
    let first: String = first.into_iter().flatten().collect();
    first + &characters.as_str().to_lowercase()
}

/// Capitalizes every letter that follows a character without case.
fn titled(own: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(own.len());
    for character in own.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        inside = character.is_lowercase() || character.is_uppercase();
    }
    out
}

fn swapped(own: &str) -> String {
    let mut out = String::with_capacity(own.len());
    for character in own.chars() {
        if character.is_uppercase() {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
    }
    out
}

fn split(
    own: &str,
    separator: Option<&str>,
    splits: Option<usize>,
    from_the_end: bool,
) -> Result<Value, Error> {
    let parts = splits.map_or(usize::MAX, |splits| splits.saturating_add(1));
    let mut found: Vec<&str> = match separator {
        Some("") => return Err(wrong("an empty separator splits nothing")),
        Some(separator) if from_the_end => own.rsplitn(parts, separator).collect(),
        Some(separator) => own.splitn(parts, separator).collect(),
        None => words(own, parts, from_the_end),
    };
    if from_the_end {
        found.reverse();
    }
    Ok(found.into_iter().map(Value::from).collect())
}

/// Splits into at most `parts` words; the last one has all the rest. From the end, words are
/// returned in reverse order.
fn words(own: &str, parts: usize, from_the_end: bool) -> Vec<&str> {
    let trimmed = |text: &'_ str| -> usize {
        if from_the_end {
            text.trim_end_matches(is_space).len()
        } else {
            text.len() - text.trim_start_matches(is_space).len()
        }
    };
    let mut found = Vec::new();
    let mut rest = own;
    loop {
        let cut = trimmed(rest);
        rest = if from_the_end {
            &rest[..cut]
        } else {
            &rest[cut..]
        };
        if rest.is_empty() {
            return found;
        }
        let space = if from_the_end {
            rest.rfind(is_space)
        } else {
            rest.find(is_space)
        };
        let (Some(space), true) = (space, found.len() + 1 < parts) else {
            found.push(rest);
            return found;
        };
        if from_the_end {
            let width = rest[space..].chars().next().map_or(1, char::len_utf8);
            found.push(&rest[space + width..]);
            rest = &rest[..space];
        } else {
            found.push(&rest[..space]);
            rest = &rest[space..];
        }
    }
}

fn lines(own: &str, keep_ends: bool) -> Value {
    let is_end = |character: char| matches!(character, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut found = Vec::new();
    let mut rest = own;
    while let Some(end) = rest.find(is_end) {
        let after = if rest[end..].starts_with("\r\n") {
            end + 2
        } else {
            end + rest[end..].chars().next().map_or(1, char::len_utf8)
        };
        found.push(Value::from(&rest[..if keep_ends { after } else { end }]));
        rest = &rest[after..];
    }
    if !rest.is_empty() {
        found.push(Value::from(rest));
    }
    Value::from(found)
}

/// Returns the part of `own` between the arguments `start` and `end`, which count characters, and
/// the position of its first character. `None` if it begins after its end.
fn window<'a>(own: &'a str, given: &Arguments) -> Result<Option<(&'a str, usize)>, Error> {
    let (start, end) = (given.integer(1, "start")?, given.integer(2, "end")?);
    let length = own.chars().count();
    let place = |at: i64| {
        let from_end = length.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(length));
        usize::try_from(at).unwrap_or(from_end)
    };
    let start = start.map_or(0, place);
    let end = end.map_or(length, place).min(length);
    if start > end {
        return Ok(None);
    }
    let byte = |place: usize| {
        own.char_indices()
            .nth(place)
            .map_or(own.len(), |(at, _)| at)
    };
    Ok(Some((&own[byte(start)..byte(end)], start)))
}

fn search(own: &str, method: &str, given: &Arguments) -> Result<Value, Error> {
    let wanted = needed(given, 0, "sub")?;
    let window = window(own, given)?;
    if method == "count" {
        let count = window.map_or(0, |(part, _)| part.matches(&*wanted).count());
        return Ok(Value::from(count));
    }
    let found = window.and_then(|(part, start)| {
        let at = if method.starts_with('r') {
            part.rfind(&*wanted)
        } else {
            part.find(&*wanted)
        };
        Some(start + part[..at?].chars().count())
    });
    match found {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(wrong(format!("{wanted:?} is not in the string"))),
    }
}

fn begins_or_ends(own: &str, begins: bool, given: &Arguments) -> Result<bool, Error> {
    let wanted = given.value(0, "prefix")?.unwrap_or_default();
    let several = match wanted.kind() {
        ValueKind::Seq if wanted.downcast_object_ref::<Tuple>().is_some() => {
            wanted.try_iter()?.collect()
        }
        _ => vec![wanted],
    };
    let window = window(own, given)?;
    for one in several {
        let one = string(&one)?;
        let fits = window.is_some_and(|(part, _)| {
            if begins {
                part.starts_with(&one)
            } else {
                part.ends_with(&one)
            }
        });
        if fits {
            return Ok(true);
        }
    }
    Ok(false)
}

fn padded(own: &str, method: &str, given: &Arguments) -> Result<String, Error> {
    const WIDEST: usize = 100_000;
    let width = usize::try_from(given.integer(0, "width")?.unwrap_or(0)).unwrap_or(0);
    if width > WIDEST {
        return Err(wrong(format!("a width of {width} is beyond {WIDEST}")));
    }
    let zeros = method == "zfill";
    let fill = given.string(1, "fillchar")?;
    let fill = fill.unwrap_or_else(|| if zeros { "0" } else { " " }.to_owned());
    let missing = width.saturating_sub(own.chars().count());
    let before = match method {
        "ljust" => 0,
        // Python puts the odd fill character before the text if the width is odd.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let sign = usize::from(zeros && own.starts_with(['+', '-']));
    let (head, tail) = own.split_at(sign);
    Ok(format!(
        "{head}{}{tail}{}",
        fill.repeat(before),
        fill.repeat(missing - before)
    ))
}
