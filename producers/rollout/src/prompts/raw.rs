//! JSON parser that keeps values as raw text: numbers and key order stay exactly as written in a
//! row.

use serde::de::IgnoredAny;

/// Returns the names and values of an object in written order, repeated names included.
pub(crate) fn members(text: &str) -> Result<Vec<(String, &str)>, String> {
    valid(text)?;
    let mut members = Vec::new();
    let mut parts = parts(text);
    while let Some(key) = parts.next() {
        let value = parts.next().unwrap_or_default();
        members.push((string(key)?, value));
    }
    Ok(members)
}

/// Returns the elements of a list.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, String> {
    valid(text)?;
    Ok(parts(text).collect())
}

/// Decodes a JSON string.
pub(crate) fn string(text: &str) -> Result<String, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Removes the white space between the parts of a value.
pub(crate) fn compact(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = if bytes[at] == b'"' {
            end_of_string(bytes, at)
        } else {
            at + 1
        };
        // JSON is ASCII outside of strings.
        if !bytes[at].is_ascii_whitespace() {
            out += &text[at..end];
        }
        at = end;
    }
    out
}

/// Describes the JSON type of a value, for error messages.
pub(crate) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        None => "nothing",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(_) => "a number",
    }
}

/// Returns true if a text is one JSON value.
pub(crate) fn is_json(text: &str) -> bool {
    valid(text).is_ok()
}

fn valid(text: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Splits the inside of a valid list or object into its elements, or its alternating keys and
/// values.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = bytes
        .iter()
        .position(|byte| matches!(byte, b'[' | b'{'))
        .map_or(text.len(), |at| at + 1);
    std::iter::from_fn(move || {
        let between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b':');
        at += bytes[at..].iter().take_while(|byte| between(byte)).count();
        let begin = at;
        if matches!(bytes.get(at)?, b']' | b'}') {
            return None;
        }
        at = end_of_value(bytes, at);
        Some(&text[begin..at])
    })
}

fn end_of_value(bytes: &[u8], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_string(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth <= 1 => return at + depth,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => return at,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::{compact, elements, members};

    #[test]
    fn values_are_as_they_are_written() {
        let text = r#" {"b": 0.10, "a\"]": [1e400, {"x": "}, ]"}] , "n":null,"e": {}, "b": "" }"#;
        let found = members(text).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.as_str(), *value))
            .collect();
        let expected = [
            ("b", "0.10"),
            ("a\"]", r#"[1e400, {"x": "}, ]"}]"#),
            ("n", "null"),
            ("e", "{}"),
            ("b", "\"\""),
        ];
        assert_eq!(shown, expected);
        assert_eq!(
            elements("[1, [2,3], \"a,b\" ,{}]").unwrap(),
            ["1", "[2,3]", "\"a,b\"", "{}"]
        );
        assert!(elements("[]").unwrap().is_empty());
        assert_eq!(
            compact(r#" [ 1 , { "a b" : "c \" d" } ] "#),
            r#"[1,{"a b":"c \" d"}]"#
        );
        assert!(members("{\"a\": 1,}").is_err());
    }
}
