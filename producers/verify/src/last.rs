//! Final answer of a text without any mark, taken from its end.

use crate::{
    bold::{bold, is_bold_guess, is_letter, is_value},
    hedge::is_guess,
    sentence::{formulas, last_sentence, trimmed},
    stance::{Stance, stance, stated_part},
    talk::{unsure, untalked},
};

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

/// First words of a sentence that supposes something, if no conclusion is in it.
const SUPPOSING: [&str; 6] = ["if", "suppose", "assume", "imagine", "what if", "unless"];

/// End of a text without any mark.
pub(crate) struct Ending<'a> {
    /// Text without headings, horizontal rules, talk and a check at its end, and without reasons and
    /// asides in its last sentence.
    pub(crate) text: &'a str,
    /// Last line of that text.
    pub(crate) line: &'a str,
    /// Last line with all of its last sentence.
    pub(crate) whole: &'a str,
    /// Reason for which the end gives no single answer.
    pub(crate) doubt: Option<Doubt>,
}

/// Reason for which a last sentence states no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Sentence that denies or supposes a value, or has several below each other.
    Denied,
    /// Sentence that offers several values, which may be a list.
    Guess,
}

impl<'a> Ending<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let text = closed(unchecked(closed(untalked(closed(text)))));
        let whole = last_line(text);
        let sentence = last_sentence(whole);
        let would = sentence.contains(" would ");
        let (text, doubt) = match stance(sentence, would) {
            _ if is_note(sentence) || only_supposes(sentence) || is_row_guess(text) => {
                (text, Some(Doubt::Denied))
            }
            Stance::Denied | Stance::Supposed => (text, Some(Doubt::Denied)),
            Stance::Said(part) => {
                let doubt = is_guess(sentence) || is_bold_guess(sentence);
                let part = unsure(stated_part(part));
                // What is left of the sentence behind that part.
                let behind = part.as_ptr().addr() + part.len() - sentence.as_ptr().addr();
                let end = text.rfind(sentence).unwrap_or(0) + behind;
                let ends = part.is_empty() || behind == sentence.len();
                let cut = if ends { text } else { &text[..end] };
                (cut, doubt.then_some(Doubt::Guess))
            }
        };
        Self {
            text,
            line: last_line(text),
            whole,
            doubt,
        }
    }

    /// Returns the text in bold in the last line if it is an answer: a number, a formula, a letter.
    pub(crate) fn bold(&self) -> Option<&'a str> {
        let sentence = last_sentence(self.line);
        let inside = bold(sentence)?;
        let is_letter = is_letter(trimmed(inside));
        (is_letter || is_value(inside)).then_some(inside)
    }

    /// Returns the only text in bold of the last sentence if it is a word.
    pub(crate) fn bold_word(&self) -> Option<&'a str> {
        let sentence = last_sentence(self.line);
        let inside = bold(sentence).filter(|inside| !is_value(inside))?;
        let asks = sentence.ends_with(['?', '？']);
        let words = sentence.split(|c: char| !c.is_alphabetic() && c != '\'' && c != '’');
        let mut words = words.map(str::to_lowercase);
        let doubts = words.any(|word| {
            let never = matches!(&*word, "or" | "not" | "never" | "neither" | "nor" | "wrong");
            let unsure = matches!(
                &*word,
                "cannot" | "incorrect" | "false" | "maybe" | "perhaps"
            );
            let supposed = matches!(&*word, "if" | "whether" | "possibly" | "could" | "might");
            never || unsure || supposed || word.ends_with("n't") || word.ends_with("n’t")
        });
        (sentence.matches("**").count() == 2 && !asks && !doubts).then_some(inside)
    }

    /// Returns the last cell of a table's last row behind a label: `| Total | 24 |`.
    pub(crate) fn cell(&self) -> Option<&'a str> {
        let cells = cells(self.line)?;
        let [label, .., last] = cells.as_slice() else {
            return None;
        };
        let labels = trimmed(label).len() > 1 && !trimmed(label).contains(char::is_numeric);
        let letters = cells.iter().filter(|cell| is_letter(trimmed(cell))).count();
        (labels && letters < 2 && !trimmed(last).is_empty()).then_some(trimmed(last))
    }
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default().trim()
}

/// Cells of a table's row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inside = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inside.split('|').map(str::trim).collect())
}

/// Returns true if a text ends with values side by side: a row of a table without a
/// label, or lines in bold.
fn is_row_guess(text: &str) -> bool {
    let mut lines = text.lines().rev().map(str::trim);
    let mut lines = lines.by_ref().filter(|line| !line.is_empty());
    let Some(last) = lines.next() else {
        return false;
    };
    let before = lines.next().unwrap_or_default();
    if let Some(cells) = cells(last) {
        let value = |cell: &str| is_value(cell) && !cell.contains(' ');
        return cells.len() > 1 && cells.iter().all(|cell| value(cell)) && !before.starts_with('|');
    }
    let alone = |line: &'_ str| -> Option<String> {
        let item = line.trim_start_matches(|c: char| c.is_ascii_digit() || "-+.) ".contains(c));
        let inside = item.strip_prefix("**")?;
        let inside = inside.trim_end_matches(['.', ' ']).strip_suffix("**")?;
        let value = is_value(inside) && !inside.contains([' ', '*', ':']);
        value.then(|| inside.to_owned())
    };
    matches!((alone(before), alone(last)), (Some(a), Some(b)) if a != b)
}

/// Returns true for a note, which adds something to the answer before it.
fn is_note(sentence: &str) -> bool {
    let (words, _) = opening(sentence);
    let behind = words
        .strip_prefix("note")
        .map(|rest| rest.trim_start_matches(['*', ' ']));
    behind.is_some_and(|behind| behind.starts_with(':') || behind.starts_with("that "))
}

/// Returns true for a sentence that supposes something and concludes nothing.
fn only_supposes(sentence: &str) -> bool {
    let (words, _) = opening(sentence);
    let supposes = SUPPOSING.iter().any(|word| {
        let behind = words.strip_prefix(word);
        behind.is_some_and(|behind| behind.starts_with([' ', ',']))
    });
    let lower = sentence.to_lowercase();
    supposes
        && lower.contains("answer")
        && ![", ", " then ", "，"]
            .iter()
            .any(|sign| lower.contains(sign))
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
        for guess in ["24 or 25", "**A**, **B**"] {
            assert_eq!(Ending::of(guess).doubt, Some(Doubt::Guess), "{guess:?}");
        }
        for denied in [
            "It would be 24 if there were 4 boxes",
            "Suppose the answer is 24",
            "There are more than 20 pens",
            "24, but it could be 25",
            "**A**\n\n**B**",
            "- **24**\n- **25**",
            "| 24 | 25 |",
            "24 pens\nNote: each box costs 3 dollars",
        ] {
            assert_eq!(Ending::of(denied).doubt, Some(Doubt::Denied), "{denied:?}");
        }
        for (text, end) in [
            ("It is 24, not 25", "It is 24"),
            ("It is not 25 but 24", "It is not 25 but 24"),
            ("24 pens (4 boxes of 6)", "24 pens"),
            ("24 because 4 boxes hold 6", "24"),
            ("24 (95% sure)", "24"),
            ("24 pens.\n\nConfidence: 95%", "24 pens."),
        ] {
            let ending = Ending::of(text);
            assert_eq!(
                (ending.text.trim_end_matches('.'), ending.doubt),
                (end.trim_end_matches('.'), None),
                "{text:?}"
            );
        }
        assert_eq!(
            Ending::of("4 boxes\n**5** dollars out of 10").bold(),
            Some("5")
        );
        assert_eq!(Ending::of("so\n**B**").bold(), Some("B"));
        assert_eq!(Ending::of("**Total:** 24 **pens**").bold(), None);
        let word = |text: &'static str| Ending::of(text).bold_word();
        assert_eq!(word("It is **Paris** in France"), Some("Paris"));
        assert_eq!(word("It is not **Paris**"), None);
        assert_eq!(word("Is it **Paris**?"), None);
        assert_eq!(word("It is **Paris**, **London** for others"), None);
        let cell = |text: &'static str| Ending::of(text).cell();
        assert_eq!(
            cell("| a | b |\n|---|---|\n| Total | **x + 1** |"),
            Some("x + 1")
        );
        assert_eq!(cell("| Option | B |"), Some("B"));
        assert_eq!(cell("| Options | A | B |"), None);
        assert_eq!(cell("| A | B |"), None);
    }
}
