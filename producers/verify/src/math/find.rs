use crate::{
    announce::announced_in_box,
    answer::{Final, final_answer},
    bold::{bold, is_bold_guess},
    denial::is_negated,
    extract::last_number,
    hedge::is_hedged,
    last::{Doubt, Ending},
    number::Number,
    runs::last_value,
    scale,
    sentence::{formulas, trimmed, unreasoned},
    spelt::spelt_alone,
    stance::{Stance, stance},
    stated::stated_number,
};

/// Maximum number of bytes of a line that may be an answer as a whole.
const SHORT: usize = 200;

/// Candidate for the final answer of a completion.
pub(crate) struct Candidate<'a> {
    /// Text of the candidate, as it is written in the completion.
    pub(crate) text: &'a str,
    /// Separate answers in the text: the contents of several boxes, otherwise the text itself.
    pub(crate) parts: Vec<&'a str>,
    /// Value of a number in words, which counts in a sentence only.
    pub(crate) spelt: Option<Number>,
}

impl<'a> Candidate<'a> {
    fn of(text: &'a str) -> Self {
        let (parts, spelt) = (vec![text], None);
        Self { text, parts, spelt }
    }

    fn spelt(sentence: &'a str) -> Option<Self> {
        let (number, text) = spelt_alone(sentence)?;
        let (parts, spelt) = (vec![text], Some(number));
        Some(Self { text, parts, spelt })
    }
}

/// Lists the candidates for the final answer of a completion, likeliest first; all are from one
/// place.
pub(crate) fn candidates(completion: &str, open: bool) -> Vec<Candidate<'_>> {
    match final_answer(completion, open) {
        None => Vec::new(),
        Some(Final::Boxed(content)) => of_box(content),
        Some(Final::Boxes(text, parts)) => {
            let spelt = None;
            vec![Candidate { text, parts, spelt }]
        }
        Some(Final::Hashes(line)) => match stance(line, false) {
            Stance::Said(sentence) => of_sentence(sentence),
            Stance::Denied | Stance::Supposed => vec![Candidate::of(trimmed(line))],
        },
        Some(Final::Announced(sentence)) => of_sentence(sentence),
        Some(Final::Ending(ending)) => of_ending(&ending),
    }
}

/// Candidates of a box: what it holds, and the answer that a sentence in it announces.
fn of_box(content: &str) -> Vec<Candidate<'_>> {
    let mut candidates = vec![Candidate::of(content)];
    candidates.extend(announced_in_box(content).into_iter().flat_map(of_sentence));
    candidates
}

/// Candidates of a sentence that announces an answer: the whole of it, and the one value it states.
fn of_sentence(sentence: &str) -> Vec<Candidate<'_>> {
    let mut candidates = vec![Candidate::of(trimmed(sentence))];
    if is_hedged(sentence) || is_bold_guess(sentence) || is_negated(sentence) {
        return candidates;
    }
    let said = unreasoned(sentence);
    if said.len() < sentence.len() {
        candidates.push(Candidate::of(trimmed(said)));
    }
    let inner = bold(sentence).or_else(|| last_formula(sentence).map(|(formula, _)| formula));
    candidates.extend(inner.map(Candidate::of));
    if inner.is_none_or(|inner| !inner.contains(['$', '\\'])) {
        candidates.extend(Candidate::spelt(sentence));
        candidates.extend(stated_number(sentence).map(Candidate::of));
    }
    candidates
}

/// Candidates of a text without any mark: its last line, and the value at its end.
fn of_ending<'a>(ending: &Ending<'a>) -> Vec<Candidate<'a>> {
    let Ending {
        text,
        line,
        whole,
        doubt,
    } = *ending;
    if doubt == Some(Doubt::Denied) {
        return Vec::new();
    }
    let mut candidates = Vec::new();
    if whole.len() <= SHORT && !trimmed(whole).is_empty() {
        candidates.push(Candidate::of(trimmed(whole)));
    }
    if doubt.is_some() {
        return candidates;
    }
    if let Some(bold) = ending.bold() {
        candidates.push(Candidate::of(bold));
        return candidates;
    }
    candidates.extend(ending.bold_word().map(Candidate::of));
    candidates.extend(ending.cell().map(Candidate::of));
    candidates.extend(Candidate::spelt(line).filter(|spelt| spelt.text == trimmed(line)));
    match last_formula(text) {
        Some((formula, tail)) if last_number(tail).is_none() => {
            candidates.push(Candidate::of(formula));
        }
        _ => {
            let behind = line.rfind('=').map(|at| line[at + 1..].trim());
            let behind = behind.filter(|behind| !behind.is_empty());
            candidates.extend(behind.map(Candidate::of));
            candidates.extend(last_value(text).map(Candidate::of));
        }
    }
    candidates
}

/// Returns the last formula inside its delimiters, and the text after it.
fn last_formula(text: &str) -> Option<(&str, &str)> {
    let last = formulas(text).pop()?;
    let behind = &text[last.end..];
    let formula = text[last].trim();
    let sign = behind.find(|c: char| !matches!(c, '\\' | ')' | ']' | '$'));
    // `$1$ million` is not 1.
    let scaled = behind[sign.unwrap_or(behind.len())..].trim_end();
    (!formula.is_empty() && scale::take(scaled).is_none())
        .then(|| (formula, &behind[sign.unwrap_or(behind.len())..]))
}
