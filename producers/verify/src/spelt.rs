//! Numbers in words: `three`, `twenty-four`, `two hundred and five`.

use crate::{
    decimal::Decimal,
    number::Number,
    scale,
    sentence::{trimmed, unreasoned},
};

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
/// Words behind a number that make another number, a count of something else, or a guess of it.
const CHANGING: [&str; 38] = [
    "point",
    "over",
    "plus",
    "times",
    "minus",
    "divided",
    "multiplied",
    "squared",
    "cubed",
    "half",
    "halves",
    "third",
    "fourth",
    "fourths",
    "quarter",
    "quarters",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "of",
    "more",
    "less",
    "fewer",
    "that",
    "which",
    "or",
    "to",
    "and",
    "power",
    "factorial",
    "maybe",
    "perhaps",
    "possibly",
    "not",
    "is",
];

/// Reads the number in words that a text begins with: its value and its length in bytes.
pub(crate) fn spelt(text: &str) -> Option<(u64, usize)> {
    let (mut total, mut current, mut end) = (0_u64, 0_u64, 0);
    // Value of the last word, which bounds that of the next; 0 before the first.
    let mut last = 0;
    let mut joined = false;
    for (at, word) in words(text) {
        let lower = word.to_ascii_lowercase();
        let small = SMALL.iter().position(|name| *name == lower);
        let tens = TENS.iter().position(|name| *name == lower);
        let small = small.map(|value| value as u64);
        let value = small.or(tens.map(|place| 20 + 10 * place as u64));
        if let Some(value) = value {
            let follows = match last {
                0 => end == 0,
                20..=90 => (1..10).contains(&value),
                100.. => true,
                _ => false,
            };
            if !follows {
                break;
            }
            current += value;
            last = value;
        } else if let Some((factor, 1)) = scale::factor(&lower).filter(|_| end > 0 || joined) {
            let base = current.max(u64::from(joined && current == 0));
            if last >= factor || base == 0 {
                break;
            }
            let product = base.checked_mul(factor)?;
            if factor >= 1000 {
                total = total.checked_add(product)?;
                current = 0;
            } else {
                current = product;
            }
            last = factor.max(100);
        } else if matches!(&*lower, "a" | "and") && !joined && (lower == "and") == (last >= 100) {
            joined = lower == "a" && end == 0;
            if lower == "a" && end > 0 {
                break;
            }
            continue;
        } else {
            break;
        }
        joined = false;
        end = at + word.len();
    }
    (end > 0).then_some((total.checked_add(current)?, end))
}

/// Returns the only number of a sentence that begins with it and has it in words: its value, and
/// the words.
pub(crate) fn spelt_alone(sentence: &str) -> Option<(Number, &str)> {
    let sentence = trimmed(unreasoned(sentence));
    let (value, end) = spelt(sentence)?;
    let behind = &sentence[end..];
    let unbold = behind.strip_prefix("**").unwrap_or(behind);
    let joins = unbold.starts_with(['-', '/', '^', '*', '+', ':']);
    let says = behind.contains(|c: char| c.is_numeric() || "=<>?$\\".contains(c));
    if joins || says || behind.contains("**") && !behind.starts_with("**") {
        return None;
    }
    let following: Vec<_> = words(behind).map(|(_, word)| word).collect();
    let changes = |word: &&str| {
        scale::factor(word).is_some()
            || CHANGING.contains(&&*word.to_ascii_lowercase())
            || is_number(word)
    };
    if following.len() > 4 || following.iter().any(changes) {
        return None;
    }
    let number = Number {
        numerator: Decimal::new(false, &value.to_string(), "", 0),
        denominator: Decimal::one(),
        percent: following.first().is_some_and(|word| *word == "percent"),
    };
    Some((number, &sentence[..end]))
}

/// Returns true for a word that is a number, other than “one”, which is a pronoun too.
pub(crate) fn is_number(word: &str) -> bool {
    let is = |name: &&str| name.eq_ignore_ascii_case(word);
    SMALL.iter().chain(&TENS).any(is) && !is(&"one")
}

/// Words of a text, which blanks or hyphens separate; other signs end the last one.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    let parts = text.split_inclusive([' ', '-', '\u{a0}']);
    parts.filter_map(move |part| {
        let begin = at;
        at += part.len();
        let end = part
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(part.len());
        (end > 0).then(|| (begin, &part[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::{spelt, spelt_alone};

    #[test]
    fn numbers_are_read_from_words() {
        for (text, value) in [
            ("zero", 0),
            ("three", 3),
            ("Twenty-four", 24),
            ("twenty four", 24),
            ("one hundred and five", 105),
            ("two thousand three hundred", 2300),
            ("a hundred", 100),
            ("two hundred thousand", 200_000),
            ("one million two hundred thousand", 1_200_000),
            ("two dozen", 24),
        ] {
            assert_eq!(spelt(text), Some((value, text.len())), "{text:?}");
        }
        assert_eq!(spelt("three four"), Some((3, 5)));
        for none in ["", "pens", "a pen", "hundred", "and three"] {
            assert_eq!(spelt(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_sentence_states_a_number_in_words() {
        for (sentence, words) in [
            ("three", "three"),
            ("**three** pens", "three"),
            ("twenty-four red pens.", "twenty-four"),
        ] {
            let found = spelt_alone(sentence).map(|(_, words)| words);
            assert_eq!(found, Some(words), "{sentence:?}");
        }
        for none in [
            "three or four",
            "three pens in 4 boxes",
            "two-thirds",
            "two thirds",
            "three point five",
            "one of them",
            "six times 4",
            "three pens and two boxes",
            "three, maybe four",
        ] {
            assert!(spelt_alone(none).is_none(), "{none:?}");
        }
    }
}
