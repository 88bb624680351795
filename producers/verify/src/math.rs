//! Mathematical answers: located, parsed and compared as values.
//!
//! The stages are `find` (candidates for the answer of a completion) → `lex` → `parse`, `term` (to
//! a `tree`) → `canon` (to a quotient of sums, exactly; its types are in `form`, its arithmetic in
//! `poly` and `ratio`) and `value` (sets, intervals, relations) → `compare`. Equality of two
//! quotients is in `equal`; where the normal form does not decide it, values to 256 bits do
//! (`approx`, `float`). `wording` and `choice` handle what is around a value. All stages burn
//! `fuel`, which bounds their time.

mod approx;
mod canon;
mod choice;
mod clock;
mod compare;
mod echo;
mod equal;
mod find;
mod float;
mod form;
mod fuel;
mod lex;
mod numeral;
mod parse;
mod poly;
mod power;
mod ratio;
mod rational;
mod region;
mod term;
mod token;
mod tree;
mod unit;
mod value;
mod wording;

use crate::{extract::known_answer, number::Number};
use canon::Reading;
use choice::{leading_choice, only_choice};
use clock::read_clock;
use find::Candidate;
use fuel::{Fuel, Stop};
use token::Token;
use wording::{affirms, is_same_text, without_bold, without_end_marks, without_name};

/// Compares a completion's final answer with the known one; returns true if they are equal, and the
/// answer found. `open` is true if the prompt ends with an opening reasoning tag. An answer that only
/// repeats `question` is not right.
pub(crate) fn judge<'a>(
    question: &str,
    completion: &'a str,
    answer: &str,
    open: bool,
) -> (bool, Option<&'a str>) {
    let candidates = find::candidates(completion, open);
    let first = candidates.first().map(|candidate| candidate.text);
    if check(answer).is_err() {
        return (false, first);
    }
    // One tank for all candidates bounds the whole comparison.
    let mut fuel = Fuel::full();
    let known = known_answer(answer);
    let right = candidates.into_iter().find(|candidate| {
        equal(known, candidate, &mut fuel) == Ok(true)
            && !echo::repeats(question, known, candidate.text)
    });
    (right.is_some(), right.map(|right| right.text).or(first))
}

/// Checks that a known answer can be compared with; the error is the reason.
pub(crate) fn check(answer: &str) -> Result<(), &'static str> {
    let known = known_answer(answer);
    let tokens = lex::tokens(known, &mut Fuel::full()).map_err(|_| {
        "it is too long to be compared with; an answer has 2000 bytes and its numbers 2000 digits \
         at most"
    })?;
    if without_end_marks(&tokens).is_empty() {
        return Err("it is empty; give every prompt an answer");
    }
    let mut depth = 0_i32;
    for token in &tokens {
        depth += i32::from(token.is('{')) - i32::from(token.is('}'));
        if depth < 0 {
            break;
        }
    }
    if depth != 0 || answer.contains("\\boxed{") && known.len() == answer.trim().len() {
        return Err("its braces are not closed; look whether it was cut off");
    }
    Ok(())
}

fn equal(known: &str, given: &Candidate<'_>, fuel: &mut Fuel) -> Result<bool, Stop> {
    if let (Some(known), Some(given)) = (Number::parse(known), &given.spelt) {
        return Ok(known.equals(given));
    }
    if let (Some(known), [given]) = (Number::parse(known), given.parts.as_slice())
        && Number::parse(given).is_some_and(|given| known.equals(&given))
    {
        return Ok(true);
    }
    let known = lex::tokens(known, fuel)?;
    // Several boxes make a list, whatever text joins them.
    let mut all = Vec::new();
    for part in &given.parts {
        if !all.is_empty() {
            all.push(Token::Mark(','));
        }
        all.extend(lex::tokens(&without_bold(part), fuel)?);
    }
    let given = all;
    let (known, given) = (without_end_marks(&known), without_end_marks(&given));
    if known.is_empty() || given.is_empty() {
        return Ok(false);
    }
    let given = if is_same_text(known, given) {
        given
    } else {
        without_name(given)
    };
    if is_same_text(known, given) {
        return Ok(true);
    }
    if let (Some(known), Some(given)) = (read_clock(known), read_clock(given)) {
        if known.may_equal(given) {
            return Ok(true);
        }
        if known.half.is_some() || given.half.is_some() {
            return Ok(false);
        }
    }
    if affirms(known, given) {
        return Ok(true);
    }
    if let Some(known) = only_choice(known) {
        let given_choice = leading_choice(given);
        // A letter that begins a sentence is a word of it, not a choice.
        let is_sentence = given.iter().any(|token| matches!(token, Token::Word(_)));
        if given_choice.is_some() || is_sentence {
            return Ok(given_choice == Some(known));
        }
    }
    // A ratio is a fraction, but not a number that is written without one.
    let in_plain_number =
        |token: &Token| matches!(token, Token::Number(..) | Token::Word(_)) || token.is('-');
    if known.iter().all(in_plain_number) && given.iter().any(|token| token.is(':')) {
        return Ok(false);
    }
    if same_value(known, given, fuel)? {
        return Ok(true);
    }
    match given {
        // The letter of a choice, followed by the content of that choice.
        [open, Token::Symbol(_) | Token::Word(_), close, chosen @ ..]
            if open.is('(') && close.is(')') && !chosen.is_empty() =>
        {
            same_value(known, chosen, fuel)
        }
        _ => Ok(false),
    }
}

fn same_value(known: &[Token], given: &[Token], fuel: &mut Fuel) -> Result<bool, Stop> {
    let known = parse::parse(known, fuel)?;
    let given = parse::parse(given, fuel)?;
    let mut readings = vec![Reading::default()];
    if has_bare_log(&known) || has_bare_log(&given) {
        readings.push(Reading {
            decimal_log: true,
            ..Reading::default()
        });
    }
    for reading in readings {
        let known = value::Value::new(&known, reading, fuel)?;
        let given = value::Value::new(&given, reading, fuel)?;
        if compare::equal(&known, &given, fuel)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_bare_log(tree: &tree::Tree) -> bool {
    matches!(tree, tree::Tree::Call(tree::FunctionName::BareLog, _))
        || tree.children().into_iter().any(has_bare_log)
}
