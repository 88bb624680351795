//! Sentences that offer several values to choose from.

use std::ops::Range;

use crate::{
    number::Number,
    scan,
    sentence::formulas,
    spelt::{is_number, spelt},
};

/// Offers of a second value that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    /// Value beside the first one, or instead of it.
    Any,
    /// Value instead of the first one.
    Instead,
}

/// Returns true if a sentence offers several values to choose from: `24 or 25`, `24, 25`, `24 (or
/// 25)`, `24 and 25`, `24 to 25`, `24-25`, `24, maybe 25`. One value written twice, as in `1/2 or
/// 0.5`, does not count.
pub(crate) fn is_hedged(sentence: &str) -> bool {
    offers_several(sentence, Offer::Any)
}

/// Returns true if a sentence offers one value instead of another: `24 or 25`, but not the steps of
/// a count, `22, 23, 24`.
pub(crate) fn is_guess(sentence: &str) -> bool {
    offers_several(sentence, Offer::Instead)
}

fn offers_several(sentence: &str, offer: Offer) -> bool {
    // Reasons may mention other values.
    let reasons = [" because", " since ", " given that"].iter();
    let reasons = reasons.filter_map(|word| sentence.find(word)).min();
    let sentence = &sentence[..reasons.unwrap_or(sentence.len())];
    let equation = sentence.contains('=');
    let mut before: Option<(Range<usize>, Option<Number>)> = None;
    for (begin, end, number) in values(sentence) {
        if let Some((last, known)) = before
            && let Some(between) = sentence.get(last.end..begin)
            && (offers(between, offer)
                || offer == Offer::Any && !equation && matches!(between, "-" | "–" | "—"))
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

/// Returns true if the text between two values offers the second instead of the first; for
/// [`Offer::Any`], also if it offers the second beside the first.
fn offers(between: &str, offer: Offer) -> bool {
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
        _ if offer == Offer::Instead => false,
        [] => between.contains([',', ';', '/', '|', '、', '，']) && !between.contains('='),
        [word] => is(&BESIDE, word) || word == "和",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_hedged;

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
}
