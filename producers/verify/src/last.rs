//! Final answer of a text without any mark, taken from its end.

use crate::sentence::{bold, formulas, is_denied, is_guess, last_sentence, trimmed};

/// First words of a check of the answer, which is not part of the answer.
const CHECKS: [&str; 14] = [
    "check",
    "checking",
    "double check",
    "double-check",
    "sanity check",
    "verification",
    "verify",
    "to verify",
    "to check",
    "let's verify",
    "let's check",
    "let us verify",
    "we can verify",
    "we can check",
];
/// First words of a conclusion.
const CONCLUDING: [&str; 6] = [
    "so",
    "therefore",
    "thus",
    "hence",
    "finally",
    "consequently",
];

/// End of a text without any mark.
pub(crate) struct Ending<'a> {
    /// Text without headings, horizontal rules and a check at its end.
    pub(crate) text: &'a str,
    /// Last line of the text.
    pub(crate) line: &'a str,
    /// Reason for which the last sentence gives no single answer: it denies one, or offers several.
    pub(crate) doubt: Option<Doubt>,
}

/// Reason for which a last sentence states no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    Denied,
    Guess,
}

impl<'a> Ending<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let text = closed(unchecked(closed(text)));
        let line = text.lines().next_back().unwrap_or_default().trim();
        let sentence = last_sentence(line);
        let doubt = if is_denied(sentence) {
            Some(Doubt::Denied)
        } else if is_guess(sentence) {
            Some(Doubt::Guess)
        } else {
            None
        };
        Self { text, line, doubt }
    }

    /// Returns the text in bold in the last line if it is an answer: a number, a formula, a letter.
    pub(crate) fn bold(&self) -> Option<&'a str> {
        let sentence = last_sentence(self.line);
        let inside = bold(sentence)?;
        // Guess, such as `**A** or **B**`.
        let mut pieces = sentence.rsplit("**").skip(2);
        let before = pieces.next().filter(|_| pieces.next().is_some());
        if before.is_some_and(|before| before.split(' ').any(|word| word == "or")) {
            return None;
        }
        let letter = trimmed(inside).trim_matches(['(', ')']);
        let is_letter = letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_uppercase());
        let is_value = inside.contains(|c: char| c.is_numeric() || c == '$' || c == '\\');
        (is_letter || is_value).then_some(inside)
    }
}

/// Removes headings, horizontal rules and blank lines at the end.
fn closed(text: &str) -> &str {
    let mut text = text.trim();
    while let Some(begin) = text.rfind('\n') {
        let line = text[begin..].trim();
        let heading = line.trim_start_matches('#');
        let is_heading = heading.len() < line.len() && heading.starts_with(' ');
        let is_rule = line.len() >= 3 && line.chars().all(|c| matches!(c, '-' | '*' | '_' | '='));
        if !(is_heading || is_rule) {
            break;
        }
        text = text[..begin].trim_end();
    }
    text
}

/// Removes a check at the end, if a value is stated before it and no conclusion follows it.
fn unchecked(text: &str) -> &str {
    let mut cut = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let mut begin = at;
        for sentence in line.split_inclusive(". ") {
            if is_check(sentence) {
                cut = Some(begin);
            } else if concludes(sentence) {
                cut = None;
            }
            begin += sentence.len();
        }
        at += line.len();
    }
    let before = text[..cut.unwrap_or(text.len())].trim_end();
    if before.contains(char::is_numeric) || !formulas(before).is_empty() {
        before
    } else {
        text
    }
}

fn is_check(sentence: &str) -> bool {
    let (words, label) = opening(sentence);
    let check = CHECKS.iter().find_map(|check| words.strip_prefix(check));
    check.is_some_and(|behind| {
        let label = label || behind.trim_start().starts_with(':');
        let verb = words.starts_with("to ") || words.starts_with("let") || words.starts_with("we ");
        !behind.starts_with(char::is_alphanumeric) && (label || verb || behind.trim().is_empty())
    })
}

fn concludes(sentence: &str) -> bool {
    let (words, _) = opening(sentence);
    CONCLUDING.iter().any(|word| {
        let behind = words.strip_prefix(word);
        behind.is_some_and(|behind| !behind.starts_with(char::is_alphanumeric))
    })
}

/// Returns the first words of a sentence in lower case, and true if they are a heading or
/// emphasised.
fn opening(sentence: &str) -> (String, bool) {
    let begin = sentence.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '\n');
    let label = sentence.trim_start().starts_with(['#', '*', '_']);
    let words = begin
        .chars()
        .take(24)
        .map(|c| if c == '’' { '\'' } else { c });
    (words.collect::<String>().to_lowercase(), label)
}

#[cfg(test)]
mod tests {
    use super::{Doubt, Ending};

    #[test]
    fn a_check_is_no_answer_and_a_conclusion_is() {
        for (text, end) in [
            ("24 pens.\n\nCheck: 24/6 = 4", "24 pens."),
            ("24 pens. Check: 24/6 = 4.", "24 pens."),
            ("24 pens\n\n**Verification**\n\n24/6 = 4", "24 pens"),
            ("24 pens\n\n## Check\n24/6 = 4", "24 pens"),
            ("24 pens\nLet's verify: 24/6 = 4", "24 pens"),
            ("24 pens\n\n---\n\n### Note", "24 pens"),
            ("Check: 24/6 = 4", "Check: 24/6 = 4"),
            ("Check: 24/6 = 4. So 24 pens", "Check: 24/6 = 4. So 24 pens"),
            ("Check in 3 bags", "Check in 3 bags"),
        ] {
            assert_eq!(Ending::of(text).text, end, "{text:?}");
        }
    }

    #[test]
    fn doubt_and_emphasis_are_seen() {
        assert_eq!(Ending::of("so 24 or 25").doubt, Some(Doubt::Guess));
        assert_eq!(Ending::of("24 is wrong").doubt, Some(Doubt::Denied));
        assert_eq!(Ending::of("22, 23, 24").doubt, None);
        assert_eq!(
            Ending::of("4 boxes\n**5** dollars out of 10").bold(),
            Some("5")
        );
        assert_eq!(Ending::of("so\n**B**").bold(), Some("B"));
        assert_eq!(Ending::of("**Total:** 24 **pens**").bold(), None);
    }
}
