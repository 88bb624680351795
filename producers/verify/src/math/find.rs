use crate::{
    answer::{Final, final_answer},
    extract::last_number,
    last::{Doubt, Ending},
    sentence::{bold, formulas, is_hedged, stated_number, trimmed, unreasoned},
};

/// Maximum number of bytes of a line that may be an answer as a whole.
const SHORT: usize = 200;

/// Candidate for the final answer of a completion.
pub(crate) struct Candidate<'a> {
    /// Text of the candidate, as it is written in the completion.
    pub(crate) text: &'a str,
    /// Separate answers in the text: the contents of several boxes, otherwise the text itself.
    pub(crate) parts: Vec<&'a str>,
}

impl<'a> Candidate<'a> {
    fn of(text: &'a str) -> Self {
        let parts = vec![text];
        Self { text, parts }
    }
}

/// Lists the candidates for the final answer of a completion, likeliest first; all are from one
/// place.
pub(crate) fn candidates(completion: &str, open: bool) -> Vec<Candidate<'_>> {
    let found = match final_answer(completion, open) {
        None => Vec::new(),
        Some(Final::Boxed(content)) => vec![content],
        Some(Final::Boxes(text, parts)) => return vec![Candidate { text, parts }],
        Some(Final::Hashes(sentence) | Final::Announced(sentence)) => announced(sentence),
        Some(Final::Ending(ending)) => last(&ending),
    };
    found.into_iter().map(Candidate::of).collect()
}

/// Candidates of a sentence that announces an answer: the whole of it, and the one value it states.
fn announced(sentence: &str) -> Vec<&str> {
    let mut found = vec![trimmed(sentence)];
    if !is_hedged(sentence) {
        let said = unreasoned(sentence);
        if said.len() < sentence.len() {
            found.push(trimmed(said));
        }
        let inner = bold(sentence).or_else(|| last_formula(sentence).map(|(formula, _)| formula));
        found.extend(inner);
        if inner.is_none_or(|inner| !inner.contains(['$', '\\'])) {
            found.extend(stated_number(sentence));
        }
    }
    found
}

/// Candidates of a text without any mark: its last line, and the value at its end.
fn last<'a>(ending: &Ending<'a>) -> Vec<&'a str> {
    let Ending { text, line, doubt } = *ending;
    if doubt == Some(Doubt::Denied) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if line.len() <= SHORT && !trimmed(line).is_empty() {
        found.push(trimmed(line));
    }
    if doubt.is_some() {
        return found;
    }
    if let Some(bold) = ending.bold() {
        found.push(bold);
        return found;
    }
    match last_formula(text) {
        Some((formula, tail)) if last_number(tail).is_none() => found.push(formula),
        _ => {
            let behind = line.rfind('=').map(|at| line[at + 1..].trim());
            found.extend(behind.filter(|behind| !behind.is_empty()));
            found.extend(last_number(text));
        }
    }
    found
}

/// Returns the last formula inside its delimiters, and the text after it.
fn last_formula(text: &str) -> Option<(&str, &str)> {
    let last = formulas(text).pop()?;
    let behind = &text[last.end..];
    let formula = text[last].trim();
    let sign = behind.find(|c: char| !matches!(c, '\\' | ')' | ']' | '$'));
    (!formula.is_empty()).then(|| (formula, &behind[sign.unwrap_or(behind.len())..]))
}
