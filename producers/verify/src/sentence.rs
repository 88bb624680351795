//! Analysis of a sentence of prose: denials, reasons, guesses, and the value it states.

use std::ops::Range;

use crate::{
    bold::{bold, is_bold_guess},
    number::Number,
    runs::{last_stated, runs},
    scan,
    spelt::{is_number, spelt},
};

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

/// Words that deny what a sentence says, or make it a range.
const DENIALS: [&str; 12] = [
    "not",
    "cannot",
    "can't",
    "can’t",
    "isn't",
    "isn’t",
    "never",
    "wrong",
    "incorrect",
    "false",
    "neither",
    "between",
];
/// Denials that count only in front of a value: “it wasn't 24”, but not “24 pens that he didn't
/// sell”.
const VERBS: [&str; 8] = [
    "wasn't",
    "doesn't",
    "won't",
    "wouldn't",
    "couldn't",
    "shouldn't",
    "aren't",
    "weren't",
];

/// Returns true if a sentence says what the answer is not, or only a range that contains it.
pub(crate) fn is_denied(sentence: &str) -> bool {
    let clause = clause(sentence);
    // A lone `False` is an answer.
    clause.contains(|c: char| c.is_numeric() || c == '$') && denies(clause)
}

/// Returns true if a sentence denies anything, be it a number or a word.
pub(crate) fn is_negated(sentence: &str) -> bool {
    let clause = clause(sentence);
    clause.contains(' ') && denies(clause)
}

fn denies(clause: &str) -> bool {
    let value = clause.find(|c: char| c.is_numeric() || c == '$');
    let before = &clause[..value.unwrap_or(clause.len())];
    let before = before.replace('’', "'").to_lowercase();
    let words = |text| str::split(text, |c: char| !c.is_alphabetic() && c != '\'' && c != '’');
    words(clause).any(|word| DENIALS.contains(&word.to_lowercase().as_str()))
        || words(&before).any(|word| VERBS.contains(&word)) && value.is_some()
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

/// Returns true if a sentence offers several values to choose from: `24 or 25`, `24, 25`, `24 (or
/// 25)`, `24 and 25`, `24 to 25`, `24-25`, `24, maybe 25`. One value written twice, as in `1/2 or
/// 0.5`, does not count.
pub(crate) fn is_hedged(sentence: &str) -> bool {
    offered(sentence, false)
}

/// Returns true if a sentence offers one value instead of another: `24 or 25`, but not the steps of
/// a count, `22, 23, 24`.
pub(crate) fn is_guess(sentence: &str) -> bool {
    offered(sentence, true)
}

/// Returns the part of a sentence before “because”, “since” or “given that”, since reasons may
/// mention other values.
pub(crate) fn unreasoned(sentence: &str) -> &str {
    let reasons = [" because", " since", " given that"].iter();
    let reasons = reasons.filter_map(|word| sentence.find(word)).min();
    &sentence[..reasons.unwrap_or(sentence.len())]
}

fn offered(sentence: &str, instead: bool) -> bool {
    // Reasons may mention other values.
    let reasons = [" because", " since ", " given that"].iter();
    let reasons = reasons.filter_map(|word| sentence.find(word)).min();
    let sentence = &sentence[..reasons.unwrap_or(sentence.len())];
    let equation = sentence.contains('=');
    let mut before: Option<(Range<usize>, Option<Number>)> = None;
    for (begin, end, number) in values(sentence) {
        if let Some((last, known)) = before
            && let Some(between) = sentence.get(last.end..begin)
            && (offers(between, instead)
                || !(instead || equation) && matches!(between, "-" | "–" | "—"))
            && !matches!((&known, &number), (Some(a), Some(b)) if a.equals(b))
        {
            return true;
        }
        before = Some((begin..end, number));
    }
    false
}

/// Numbers and formulas of a sentence in order: begin, end and, if it is one number, the value.
fn values(sentence: &str) -> Vec<(usize, usize, Option<Number>)> {
    let formulas = formulas(sentence);
    // A formula's `$` may look like a currency sign.
    let apart = |(begin, lexeme): &(usize, scan::Lexeme)| {
        let overlaps = |found: &Range<usize>| *begin < found.end && found.start < lexeme.end;
        !formulas.iter().any(overlaps)
    };
    let mut all: Vec<_> = scan::numbers(sentence)
        .filter(apart)
        .map(|(begin, lexeme)| (begin, lexeme.end, lexeme.number))
        .collect();
    all.extend(spelt_numbers(sentence));
    all.extend(formulas.iter().map(|found| {
        let number = Number::parse(&sentence[found.clone()]);
        (found.start, found.end, number)
    }));
    all.sort_by_key(|&(begin, ..)| begin);
    all
}

/// Numbers in words of a sentence, other than “one”: begin, end and the value.
fn spelt_numbers(sentence: &str) -> Vec<(usize, usize, Option<Number>)> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(begin) = sentence[at..].find(char::is_alphabetic) {
        let begin = at + begin;
        let rest = &sentence[begin..];
        let end = rest.find(|c: char| !c.is_alphabetic());
        let word = &rest[..end.unwrap_or(rest.len())];
        let found = spelt(rest).filter(|_| is_number(word));
        let length = found.map_or(word.len(), |(_, length)| length);
        all.extend(found.map(|(value, length)| {
            let number = Number::parse(&value.to_string());
            (begin, begin + length, number)
        }));
        at = begin + length;
    }
    all
}

/// Returns true if the text between two values offers the second instead of the first; unless
/// `instead` is set, also if it offers the second beside the first.
fn offers(between: &str, instead: bool) -> bool {
    const CHOICE: [&str; 7] = [
        "or",
        "maybe",
        "perhaps",
        "possibly",
        "alternatively",
        "oder",
        "ou",
    ];
    const BESIDE: [&str; 3] = ["and", "to", "through"];
    let signs = |c: char| !c.is_alphanumeric();
    let words: Vec<String> = between
        .split(signs)
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let is = |names: &[&str], word: &String| names.contains(&word.as_str());
    if let Some(at) = words.iter().position(|word| is(&CHOICE, word)) {
        // Choice: `24 pens or about 25`; not a choice: `24, or we would have lost the other 6
        // pens`.
        return words.len() - at <= 3;
    }
    match words.as_slice() {
        _ if between.contains('或') => true,
        _ if instead => false,
        [] => between.contains([',', ';', '/', '|', '、', '，']) && !between.contains('='),
        [word] => is(&BESIDE, word) || word == "和",
        _ => false,
    }
}

/// Returns the number that a sentence states: the one it begins with, else the one in bold, else
/// the last one before its reasons, which is the result of an equation.
pub(crate) fn stated_number(sentence: &str) -> Option<&str> {
    if is_hedged(sentence) || is_bold_guess(sentence) {
        return None;
    }
    let clause = clause(sentence);
    let equation = clause.contains('=');
    let all = runs(clause);
    let first = all.first().filter(|run| run.begin == 0);
    if let Some(first) = first.filter(|_| !equation) {
        // `6 more than 18` is not its first number, nor are `24 25` and `3 : 1`.
        let behind = clause[first.end..].trim_start();
        let mut sums = ["more than", "less than", "times", "plus", "minus"].iter();
        let sum = sums.any(|words| behind.starts_with(words)) && all.len() > 1;
        let second = all.get(1).map(|second| &clause[first.end..second.begin]);
        let beside = second.is_some_and(|between| matches!(between.trim(), "" | ":"));
        return first.text(clause).filter(|_| !(sum || beside));
    }
    let words = clause.split(|c: char| !c.is_alphabetic()).next();
    if words.is_some_and(is_number) && !equation {
        // `three pens in 4 boxes` states no number in digits.
        return None;
    }
    bold(sentence)
        .and_then(|inside| stated_alone(inside).filter(|_| !equation))
        .or_else(|| last_stated(&all, clause))
}

/// Returns the number that a text begins with, if it is the text's only number: `24`, `24 pens`.
fn stated_alone(text: &str) -> Option<&str> {
    let mut numbers = scan::numbers(text);
    let (begin, lexeme) = numbers.next()?;
    lexeme.number.as_ref()?;
    (begin == 0 && numbers.next().is_none()).then(|| text[..lexeme.end].trim())
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

#[cfg(test)]
mod tests {
    use super::{is_hedged, stated_number};

    #[test]
    fn guesses_are_told_from_a_value() {
        for hedged in [
            "24 or 25",
            "24, 25",
            "24, 25 or 26",
            "24 (or 25)",
            "24 (or maybe 25)",
            "24; maybe 25",
            "24 pens or 25 pens",
            "$24$ or $25$",
            "$24$ and $25$",
            "either 24 or 25",
            "24 to 25",
            "24-25",
            "24 / 25",
            "24或25",
            "24 or twenty-five",
            "three or four",
        ] {
            assert!(is_hedged(hedged), "{hedged}");
        }
        for certain in [
            "24",
            "1/2 or 0.5",
            "50% or 1/2",
            "24 pens, because 4 boxes hold 6 each",
            "24 (4 times 6)",
            "4 * 6 = 24",
            "30-6 = 24",
            "366 downloads over the 3 months",
            "1,234",
        ] {
            assert!(!is_hedged(certain), "{certain}");
        }
    }

    #[test]
    fn a_sentence_states_one_number() {
        assert_eq!(stated_number("24 pens of 30"), Some("24"));
        assert_eq!(stated_number("4 * 6 = 24"), Some("24"));
        assert_eq!(stated_number("she has **24** pens in 4 boxes"), Some("24"));
        for none in [
            "24 or 25",
            "**24** **25**",
            "three pens in 4 boxes",
            "6 more than 18",
        ] {
            assert_eq!(stated_number(none), None, "{none:?}");
        }
    }
}
