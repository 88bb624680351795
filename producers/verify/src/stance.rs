//! Assertion of a sentence: the part of it that says what the answer is, or that it denies one,
//! bounds one or only supposes one.

use crate::{
    denial::is_denied,
    scan,
    sentence::{clause, formulas, unreasoned},
    spelt::{is_number, spelt},
};

/// Assertion of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance<'a> {
    /// Part of the sentence that says what the answer is.
    Said(&'a str),
    /// The sentence says what the answer is not, a bound of it, or several things that differ.
    Denied,
    /// The sentence says what the answer would be in another case.
    Supposed,
}

/// Beginnings of the part of a sentence that names the values that were dropped.
const INSTEAD: [&str; 9] = [
    " and not ",
    ", not ",
    ", and not ",
    " but not ",
    ", but not ",
    " rather than ",
    " instead of ",
    " as opposed to ",
    " (not ",
];
/// Beginnings of a conclusion inside a sentence.
const CONCLUDING: [&str; 9] = [
    ", so ",
    "; so ",
    " so that ",
    ", therefore ",
    ", thus ",
    ", hence ",
    ", and so ",
    " therefore ",
    " hence ",
];
/// Words before a value that make it a bound. A least or greatest value may be the answer itself.
const BOUNDS: [&str; 18] = [
    "no longer",
    "hardly",
    "except",
    "unlikely",
    "more than",
    "greater than",
    "larger than",
    "bigger than",
    "higher than",
    "less than",
    "fewer than",
    "smaller than",
    "lower than",
    "other than",
    "different from",
    "anything but",
    "far from",
    "exceeds",
];
/// Words behind “but” that replace what was said before it.
const REPLACING: [&str; 16] = [
    "it", "it's", "actually", "could", "might", "maybe", "perhaps", "possibly", "should", "really",
    "so", "answer", "correct", "true", "also", "or",
];
/// Words that state a value directly: `so it is 24`.
const STATING: [&str; 27] = [
    "rather", "instead", "actually", "it", "it's", "it’s", "is", "that", "that's", "must", "be",
    "should", "has", "to", "we", "get", "have", "the", "answer", "exactly", "then", "makes",
    "just", "equals", "there", "are", "gives",
];

/// Returns what a sentence asserts. `would` is true if a conditional introduces it (“the answer
/// would be”).
pub(crate) fn stance(sentence: &str, would: bool) -> Stance<'_> {
    let lower = sentence.to_ascii_lowercase();
    if let Some(other) = replaced(sentence, &lower) {
        return if is_denied(other) {
            Stance::Denied
        } else {
            Stance::Said(other)
        };
    }
    let concluded = || concluded(sentence, &lower).filter(|said| !is_denied(said));
    if lower.contains("which is wrong")
        || lower.contains("which is incorrect")
        || lower.contains("which is false")
        || lower.contains("which is not ")
    {
        return Stance::Denied;
    }
    match supposed(&lower, would) {
        Some(Condition::Other) => {
            return concluded().map_or(Stance::Supposed, Stance::Said);
        }
        Some(Condition::Several) => return Stance::Denied,
        Some(Condition::Given(end)) if has_value(&sentence[..end]) => {
            return stance(&sentence[..end], false);
        }
        _ => {}
    }
    let kept = INSTEAD.iter().filter_map(|words| {
        let at = lower.find(words)?;
        has_value(&sentence[..at]).then_some((at, at + words.len()))
    });
    if let Some((end, dropped)) = kept.min() {
        // `24 and not 25, or maybe 26` is a guess.
        let guess = words(&lower[dropped..])
            .any(|word| matches!(word, "or" | "maybe" | "perhaps" | "possibly"));
        return if guess || is_denied(&sentence[..end]) {
            Stance::Denied
        } else {
            Stance::Said(&sentence[..end])
        };
    }
    if is_denied(sentence) || is_bound(sentence, &lower) || is_replaced(sentence, &lower) {
        return concluded().map_or(Stance::Denied, Stance::Said);
    }
    Stance::Said(sentence)
}

/// Condition of a sentence.
enum Condition {
    /// The sentence speaks of a case that is not given.
    Other,
    /// Every case has a value of its own.
    Several,
    /// The condition that begins at this offset is one of the question.
    Given(usize),
}

fn supposed(lower: &str, would: bool) -> Option<Condition> {
    let begin = [" if ", " unless ", " provided ", " assuming "].iter();
    let begin = begin.filter_map(|word| lower.find(word)).min()?;
    let condition = &lower[begin..];
    let other = words(condition).any(|word| matches!(word, "were" | "had" | "would" | "did"));
    if would || other {
        return Some(Condition::Other);
    }
    let cases = lower.matches(" if ").count() > 1
        || words(condition).any(|word| matches!(word, "otherwise" | "else"));
    Some(if cases {
        Condition::Several
    } else {
        Condition::Given(begin)
    })
}

/// Returns what a sentence says instead of what it denies: `not 25 but 24`.
fn replaced<'a>(sentence: &'a str, lower: &str) -> Option<&'a str> {
    let not = if lower.starts_with("not ") {
        0
    } else {
        let marks = [" not ", "n't ", "n’t "].iter();
        marks.filter_map(|word| lower.find(word)).min()?
    };
    if has_value(&sentence[..not]) {
        return None;
    }
    let separators = [" but ", "; ", ", "].iter();
    let separator = separators.filter_map(|mark| {
        let at = not + lower[not..].find(mark)?;
        let denied = &sentence[not..at];
        // Elsewhere in a sentence `A` is an article.
        let value = has_value(denied) || denied.ends_with(" A");
        value.then_some((at, at + mark.len(), *mark))
    });
    let (_, behind, mark) = separator.min()?;
    let rest = &sentence[behind..];
    let rest = rest.strip_prefix("but ").unwrap_or(rest);
    let said = direct(rest)?;
    // Behind a mere comma a list may continue: `not 24, 25`.
    (mark == " but " || said.len() < sentence.len() - behind).then_some(said)
}

/// Returns the value that the last conclusion of a sentence states: `…, so it is 24`.
fn concluded<'a>(sentence: &'a str, lower: &str) -> Option<&'a str> {
    let ends = CONCLUDING.iter();
    let begin = ends.filter_map(|words| Some(lower.rfind(words)? + words.len()));
    direct(&sentence[begin.max()?..])
}

/// Returns the value that a text states directly, with at most two words behind it: `it is 24
/// pens`. A longer text may say something else of another value.
fn direct(text: &str) -> Option<&str> {
    let mut rest = text.trim_start();
    for _ in 0..6 {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        if !STATING.contains(&&*rest[..end].to_ascii_lowercase()) {
            break;
        }
        rest = rest[end..].trim_start_matches([' ', ',']);
    }
    let letter = rest.trim_matches(['*', '(', ')', ' ']);
    let letter = letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_uppercase());
    let value = rest.trim_start_matches(['*', '_', '`', '(', '-', '−', '+', '.']);
    let begins = value.starts_with(|c: char| c.is_ascii_digit() || c == '$' || c == '\\')
        || value.starts_with(['€', '£', '¥']);
    if letter || spelt(value).is_some() {
        return Some(rest);
    }
    let verbs = [
        "is", "are", "was", "were", "remain", "remains", "left", "missing",
    ];
    let behind: Vec<_> = words(clause(rest)).collect();
    (begins && behind.len() <= 2 && !behind.iter().any(|word| verbs.contains(word))).then_some(rest)
}

/// Returns true if the first value of a sentence is a bound, and no equation follows.
fn is_bound(sentence: &str, lower: &str) -> bool {
    let numbers = scan::numbers(sentence).map(|(begin, _)| begin);
    let first = numbers.chain(formulas(sentence).into_iter().map(|found| found.start));
    first.min().is_some_and(|first| {
        let before = &lower[..first];
        // `no more than 24` is a greatest value; `less than expected: 24` states one.
        let bounds = |words: &&str| {
            let at = before.find(words);
            at.is_some_and(|at| !before[at..].contains(':') && !before[..at].ends_with("no "))
        };
        let near = before.trim_end_matches([' ', '*', '$', '\\', '(']);
        let beside = ["below", "above", "under", "over"].iter();
        let beside = beside.clone().any(|word| {
            let ahead = near.strip_suffix(word);
            ahead.is_some_and(|ahead| !ahead.ends_with(char::is_alphanumeric))
        });
        (beside || BOUNDS.iter().any(bounds)) && !sentence[first..].contains('=')
    })
}

/// Returns true if a sentence takes back its value: `24, but it could be 25`.
fn is_replaced(sentence: &str, lower: &str) -> bool {
    let marks = [" but ", ", however", " although ", " though "].iter();
    let ends = marks.filter_map(|mark| Some((lower.find(mark)?, mark.len())));
    let Some((at, length)) = ends.min() else {
        return false;
    };
    let (before, behind) = (&sentence[..at], &sentence[at + length..]);
    let last = |text| {
        scan::numbers(text)
            .last()
            .and_then(|(_, found)| found.number)
    };
    let first = |text| {
        scan::numbers(text)
            .next()
            .and_then(|(_, found)| found.number)
    };
    // A check may end in the value again: `24, but let me check: 4 * 6 = 24`.
    let same = matches!((first(before), last(behind)), (Some(a), Some(b)) if a.equals(&b));
    let states = has_value(before) && has_value(behind) && !same;
    states
        && words(&lower[at + length..])
            .take(4)
            .any(|word| REPLACING.contains(&word))
}

fn has_value(text: &str) -> bool {
    let letter = |word: &str| word.len() == 1 && ("B".."J").contains(&word);
    text.contains(|c: char| c.is_numeric() || c == '$')
        || words(text).any(|word| is_number(word) || letter(word))
        || text.contains("**")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(|c: char| !c.is_alphabetic() && c != '\'' && c != '’');
    parts.filter(|word| !word.is_empty())
}

/// Returns the part of a sentence before its reasons and asides, if a value is in it: `24` of `24,
/// because 4 boxes hold 6` and of `24 (4 boxes of 6)`.
pub(crate) fn stated_part(sentence: &str) -> &str {
    let said = unreasoned(sentence);
    let said = if has_value(said) { said } else { sentence };
    let end = said.trim_end_matches(['.', '!', '*', ' ']).len();
    let Some(open) = said[..end]
        .strip_suffix(')')
        .and_then(|inside| inside.rfind(" ("))
    else {
        return said;
    };
    let inside = words(&said[open..end])
        .filter(|word| word.len() > 1)
        .count();
    let before = &said[..open];
    let value = scan::numbers(before).last().filter(|(_, found)| {
        let behind = words(&before[found.end..]).count();
        behind <= 2
    });
    if inside > 0 && value.is_some() {
        before
    } else {
        said
    }
}

#[cfg(test)]
mod tests {
    use super::{Stance, stance, stated_part};

    #[test]
    fn a_sentence_says_denies_or_supposes() {
        for (sentence, said) in [
            ("24", "24"),
            ("24 and not 25", "24"),
            ("24, not 25", "24"),
            ("24 rather than 25", "24"),
            ("not 25 but 24", "24"),
            ("not 25, it is 24 pens", "24 pens"),
            ("not **A** but **B**", "**B**"),
            ("not A but B", "B"),
            ("greater than 20, so it is 24", "24"),
            ("24 if each box holds 6", "24"),
            ("24 if there were 4 boxes, but there are 5, so 30", "30"),
            (
                "24, but 2 of them are broken",
                "24, but 2 of them are broken",
            ),
            ("at least 24", "at least 24"),
            ("no more than 24", "no more than 24"),
            ("less than expected: 24", "less than expected: 24"),
            ("24 is more than 20", "24 is more than 20"),
        ] {
            assert_eq!(stance(sentence, false), Stance::Said(said), "{sentence:?}");
        }
        for denied in [
            "not 24",
            "greater than 20",
            "greater than 20 and less than 25",
            "24, but it could be 25",
            "24 if n is even, 25 if n is odd",
            "24 if n is even and 25 otherwise",
            "24 and not 25, or maybe 26",
            "24, which is wrong",
            "not 25, 24",
            "not 24 but between 20 and 23",
            "greater than 20, so 4 boxes are missing",
        ] {
            assert_eq!(stance(denied, false), Stance::Denied, "{denied:?}");
        }
        let supposed = stance("24 if there were 4 boxes", false);
        assert_eq!(supposed, Stance::Supposed);
        assert_eq!(stance("24 if there are 4 boxes", true), Stance::Supposed);
    }

    #[test]
    fn reasons_and_asides_are_cut() {
        for (sentence, part) in [
            ("24, because 4 boxes hold 6", "24,"),
            ("24 pens (4 boxes of 6)", "24 pens"),
            ("the point (3, 4)", "the point (3, 4)"),
            (
                "4 * 6 gives the whole total (24 pens)",
                "4 * 6 gives the whole total (24 pens)",
            ),
        ] {
            assert_eq!(stated_part(sentence), part, "{sentence:?}");
        }
    }
}
