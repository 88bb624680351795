use crate::extract::{Boxed, boxes, first_number, hashes_at, last_number};

/// Ways to announce an answer.
const PHRASES: [&str; 4] = ["answer is", "answer:", "answer**:", "answer ="];
/// Bytes of a completion that may be an answer as a whole.
const SHORT: usize = 200;

/// What may be the final answer of a completion, as it is written there, likeliest first; all of
/// them are from one place.
pub(crate) fn candidates(completion: &str) -> Vec<&str> {
    let boxes = boxes(completion);
    let hashes = hashes_at(completion);
    if let Some((at, line)) = hashes
        && boxes.last().is_none_or(|last| last.begin < at)
    {
        return vec![line];
    }
    if let Some(last) = boxes.last() {
        return vec![run(completion, &boxes).unwrap_or(&completion[last.content.clone()])];
    }
    if completion.contains("\\boxed{") {
        // Cut off in the middle of the answer.
        return Vec::new();
    }
    match announced(completion) {
        Some(sentence) if is_denied(sentence) => Vec::new(),
        Some(sentence) => {
            let inner = last_formula(sentence).map(|(formula, _)| formula);
            let inner = inner.or_else(|| announced_number(sentence));
            [sentence].into_iter().chain(inner).collect()
        }
        None => plain(completion),
    }
}

/// Several boxes in a row, from the first to the last: `\boxed{1} and \boxed{2}`.
fn run<'a>(completion: &'a str, boxes: &[Boxed]) -> Option<&'a str> {
    let mut first = boxes.len() - 1;
    while let Some(before) = first.checked_sub(1) {
        let between = completion.get(boxes[before].content.end + 1..boxes[first].begin)?;
        let joins = |c: char| c.is_whitespace() || "$,;".contains(c);
        let word = between.trim_matches(joins);
        if !(matches!(word, "and" | "or") || word.is_empty() && between.contains([',', ';'])) {
            break;
        }
        first = before;
    }
    let last = boxes.last().filter(|_| first + 1 < boxes.len())?;
    completion.get(boxes[first].begin..=last.content.end)
}

/// The sentence behind the last phrase that announces an answer.
fn announced(completion: &str) -> Option<&str> {
    let lower = completion.to_ascii_lowercase();
    let ends = PHRASES.iter().filter_map(|phrase| {
        let begin = lower.rfind(phrase)?;
        Some(begin + phrase.len())
    });
    let behind = completion[ends.max()?..].trim_start_matches([':', '*', ' ', '\n']);
    let line = behind.lines().next()?;
    let sentence = line.find(". ").map_or(line, |end| &line[..end]);
    let sentence = sentence.trim_matches(['.', '*', ' ']);
    (!sentence.is_empty()).then_some(sentence)
}

/// Whether a sentence says what the answer is not, or no more than where it lies.
fn is_denied(sentence: &str) -> bool {
    const DENIALS: [&str; 8] = [
        "not",
        "isn't",
        "never",
        "wrong",
        "incorrect",
        "false",
        "neither",
        "between",
    ];
    let clause = clause(sentence);
    let words = clause.split(|c: char| !c.is_alphabetic() && c != '\'');
    let mut words = words.filter(|word| !word.is_empty());
    // `False` alone is an answer.
    clause.contains(|c: char| c.is_numeric() || c == '$')
        && words.any(|word| DENIALS.contains(&word.to_lowercase().as_str()))
}

/// What a sentence says before it gives its reasons.
fn clause(sentence: &str) -> &str {
    const ENDS: [&str; 7] = [
        ", ",
        "; ",
        " (",
        " because",
        " since",
        " rather ",
        " instead ",
    ];
    let end = ENDS.iter().filter_map(|end| sentence.find(end)).min();
    &sentence[..end.unwrap_or(sentence.len())]
}

/// The number a sentence announces: the one it begins with, and else the last one before its
/// reasons, which is what an equation comes to.
fn announced_number(sentence: &str) -> Option<&str> {
    let clause = clause(sentence);
    let first = first_number(clause).filter(|first| clause.starts_with(first));
    match first {
        Some(first) if !clause.contains('=') => Some(first),
        _ => last_number(clause),
    }
}

fn plain(completion: &str) -> Vec<&str> {
    let text = completion.trim();
    let line = text.lines().next_back().unwrap_or_default();
    let sentence = line.trim_end_matches('.').rsplit(". ").next();
    if is_denied(sentence.unwrap_or_default()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if text.len() <= SHORT && !text.is_empty() && !text.contains('\n') {
        found.push(text);
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

/// The last formula between its signs (`$…$`, `\(…\)`, `\[…\]`), and what stands behind it.
fn last_formula(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut open: Option<(u8, usize)> = None;
    let mut found = None;
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
                found = Some((begin..at, at + length));
                open = None;
            }
            (b'$' | b'(' | b'[', None) => open = Some((sign, at + length)),
            _ => {}
        }
        at += length;
    }
    let (formula, end) = found?;
    let formula = text.get(formula)?.trim();
    (!formula.is_empty()).then_some((formula, text.get(end..)?))
}

fn closes(open: u8, close: u8) -> bool {
    matches!((open, close), (b'$', b'$') | (b'(', b')') | (b'[', b']'))
}
