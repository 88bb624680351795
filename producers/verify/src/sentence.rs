//! Cuts of a text: its first and last sentence, clauses, formulas, the text inside decoration.

use std::ops::Range;

/// Maximum number of bytes of a sentence that are read.
pub(crate) const LONGEST: usize = 2000;

/// Returns true for characters around a sentence that are not part of it: emphasis, decoration,
/// full stops.
fn decorates(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '*' | '_' | '`' | '"' | '“' | '”' | '。' | '！' | '.' | ',' | '~' | '>'
        )
        || is_pictograph(c)
}

/// Returns true for emoji, ticks, and the characters that join them.
pub(crate) fn is_pictograph(c: char) -> bool {
    matches!(c, '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{fe0f}' | '\u{200d}' | '\u{1f000}'..='\u{1faff}')
}

/// Returns the first sentence of a text without decoration; a displayed formula counts as a
/// sentence.
pub(crate) fn first_sentence(text: &str) -> &str {
    let text = head(text);
    for (open, close) in [("\\[", "\\]"), ("$$", "$$")] {
        if let Some(inside) = text.strip_prefix(open)
            && let Some(end) = inside.find(close)
        {
            return inside[..end].trim();
        }
    }
    let line = text.lines().next().unwrap_or_default();
    trimmed(&line[..sentence_end(line)])
}

/// Byte offset at which the first sentence of a line ends.
fn sentence_end(line: &str) -> usize {
    let ends = [". ", "。", "! ", "！", "? ", "？", ".\u{a0}"];
    let end = ends.iter().filter_map(|end| line.find(end)).min();
    end.unwrap_or(line.len())
}

/// Returns the last sentence of a line; of a long line only the last [`LONGEST`] bytes are read.
pub(crate) fn last_sentence(line: &str) -> &str {
    let mut begin = line.len().saturating_sub(LONGEST);
    while !line.is_char_boundary(begin) {
        begin += 1;
    }
    let line = &line[begin..];
    let line = line.trim_end_matches(|c: char| c == '.' || c == '。' || c.is_whitespace());
    let begins = [". ", "。", "! ", "！", "? ", "？"];
    let begin = begins
        .iter()
        .filter_map(|end| Some(line.rfind(end)? + end.len()));
    &line[begin.max().unwrap_or(0)..]
}

/// Returns at most the first [`LONGEST`] bytes of a text.
fn head(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Removes decoration at both ends and, from text without formulas, exclamation marks at the end.
pub(crate) fn trimmed(text: &str) -> &str {
    // A leading `.` is kept, since `.5` and `...` begin with one.
    let text = text.trim_start_matches(|c| c != '.' && decorates(c));
    let text = text.trim_end_matches(decorates);
    if text.contains('$') || text.contains('\\') {
        return text;
    }
    text.trim_end_matches(|c| c == '!' || decorates(c))
}

/// Returns the part of a sentence before its reasons.
pub(crate) fn clause(sentence: &str) -> &str {
    const ENDS: [&str; 9] = [
        ", ",
        "; ",
        " (",
        " because",
        " since",
        " rather ",
        " instead ",
        "，",
        "（",
    ];
    let end = ENDS.iter().filter_map(|end| sentence.find(end)).min();
    &sentence[..end.unwrap_or(sentence.len())]
}

/// Returns the part of a sentence before “because”, “since” or “given that”, since reasons may
/// mention other values.
pub(crate) fn unreasoned(sentence: &str) -> &str {
    let reasons = [" because", " since", " given that"].iter();
    let reasons = reasons.filter_map(|word| sentence.find(word)).min();
    &sentence[..reasons.unwrap_or(sentence.len())]
}

/// Byte ranges of the formulas in a text, inside their delimiters (`$…$`, `\(…\)`, `\[…\]`).
/// Currency signs (`$5 or $6`) delimit no formula.
pub(crate) fn formulas(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut open: Option<(u8, usize)> = None;
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (sign, length) = match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(&sign @ (b'(' | b')' | b'[' | b']'))) => (sign, 2),
            (b'\\', _) => (0, 2),
            (b'$', Some(b'$')) => (b'$', 2),
            (b'$', _) => (b'$', 1),
            _ => (0, 1),
        };
        match (sign, open) {
            (b'$' | b')' | b']', Some((opened, begin))) if closes(opened, sign) => {
                let spaced = |at: usize| bytes.get(at).is_none_or(u8::is_ascii_whitespace);
                let behind = bytes.get(at + length).is_some_and(u8::is_ascii_digit);
                let currency = length == 1 && (behind || spaced(begin) != spaced(at - 1));
                if sign == b'$' && currency {
                    open = Some((sign, at + length));
                } else {
                    found.push(begin..at);
                    open = None;
                }
            }
            (b'$' | b'(' | b'[', None) => open = Some((sign, at + length)),
            _ => {}
        }
        at += length;
    }
    found
}

fn closes(open: u8, close: u8) -> bool {
    matches!((open, close), (b'$', b'$') | (b'(', b')') | (b'[', b']'))
}
