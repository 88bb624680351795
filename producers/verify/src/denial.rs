//! Denials in a sentence.

use crate::sentence::clause;

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
