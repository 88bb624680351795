//! Number that a sentence of prose states.

use crate::{
    bold::{bold, is_bold_guess},
    hedge::is_hedged,
    runs::{last_stated, runs},
    scan,
    sentence::clause,
    spelt::is_number,
};

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

#[cfg(test)]
mod tests {
    use super::stated_number;

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
