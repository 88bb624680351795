//! Mathematical answers: found, parsed and compared as values.
//!
//! `find` (which part of a completion is its answer) → `lex` → `parse`, `term` (to a `tree`) →
//! `canon` (to a `ratio` of sums, exactly) and `value` (sets, intervals, relations) → `compare`.
//! Where no normal form decides, values to 256 bits do (`approx`, `float`). All of it burns `fuel`.

mod approx;
mod canon;
mod compare;
mod find;
mod float;
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

use crate::{Number, extract::stated};
use canon::Reading;
use fuel::{Fuel, Stop};
use token::Token;

/// Whether a completion's final answer is the known one, and what that answer is.
pub(crate) fn judge<'a>(completion: &'a str, answer: &str) -> (bool, Option<&'a str>) {
    let found = find::candidates(completion);
    let first = found.first().copied();
    if check(answer).is_err() {
        return (false, first);
    }
    // One tank for all, so that the bound is one of the whole comparison.
    let mut fuel = Fuel::full();
    let right = found
        .into_iter()
        .find(|candidate| equal(stated(answer), candidate, &mut fuel) == Ok(true));
    (right.is_some(), right.or(first))
}

/// Whether a known answer can be compared with; if not, why.
pub(crate) fn check(answer: &str) -> Result<(), &'static str> {
    let stated = stated(answer);
    let tokens = lex::tokens(stated, &mut Fuel::full()).map_err(|_| {
        "it is too long to be compared with; an answer has 2000 bytes and its numbers 2000 digits \
         at most"
    })?;
    if ended(&tokens).is_empty() {
        return Err("it is empty; give every prompt an answer");
    }
    let mut depth = 0_i32;
    for token in &tokens {
        depth += i32::from(token.is('{')) - i32::from(token.is('}'));
        if depth < 0 {
            break;
        }
    }
    if depth != 0 || answer.contains("\\boxed{") && stated.len() == answer.trim().len() {
        return Err("its braces are not closed; look whether it was cut off");
    }
    Ok(())
}

fn equal(known: &str, given: &str, fuel: &mut Fuel) -> Result<bool, Stop> {
    if let (Some(known), Some(given)) = (Number::parse(known), Number::parse(given))
        && known.equals(&given)
    {
        return Ok(true);
    }
    let (known, given) = (lex::tokens(known, fuel)?, lex::tokens(given, fuel)?);
    let (known, given) = (ended(&known), ended(&given));
    if known.is_empty() || given.is_empty() {
        return Ok(false);
    }
    if same_text(known, given) {
        return Ok(true);
    }
    if let Some(known) = choice(known, false) {
        let given_choice = choice(unworded(given), true);
        // A letter that begins a sentence is a word of it.
        let is_sentence = given.iter().any(|token| matches!(token, Token::Word(_)));
        if given_choice.is_some() || is_sentence {
            return Ok(given_choice == Some(known));
        }
    }
    if same_value(known, given, fuel)? {
        return Ok(true);
    }
    match given {
        // The letter of a choice, and what was chosen.
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
    matches!(tree, tree::Tree::Call(tree::Name::BareLog, _))
        || tree.children().into_iter().any(has_bare_log)
}

/// Without the stop that ends a sentence.
fn ended(tokens: &[Token]) -> &[Token] {
    let stops = tokens
        .iter()
        .rev()
        .take_while(|token| token.is('.') || token.is(','));
    &tokens[..tokens.len() - stops.count()]
}

/// Whether both are written alike; words in small letters or capital ones.
fn same_text(a: &[Token], b: &[Token]) -> bool {
    if a == b {
        return true;
    }
    let is_word = |token: &Token| matches!(token, Token::Word(_));
    if !a.iter().chain(b).any(is_word) {
        return false;
    }
    let text = |tokens: &[Token]| {
        let mut text = String::new();
        for token in tokens {
            match token {
                Token::Number(value, _) => {
                    text.push_str(&value.top().to_string());
                    text.push('/');
                    text.push_str(&value.bottom().to_string());
                }
                Token::Mark('{' | '}') => {}
                Token::Mark(mark) => text.push(*mark),
                Token::Symbol(name) | Token::Word(name) | Token::Command(name) => {
                    text.push_str(&name.to_lowercase());
                }
            }
        }
        text
    };
    text(a) == text(b)
}

/// Without the words that go with a choice: `the correct option is B`, `choice A is right`.
fn unworded(tokens: &[Token]) -> &[Token] {
    const BEFORE: [&str; 7] = [
        "the", "correct", "right", "option", "choice", "answer", "is",
    ];
    const BEHIND: [&str; 3] = ["is", "correct", "right"];
    let is_of = |words: &[&str], token: &Token| matches!(token, Token::Word(word) if words.contains(&word.to_lowercase().as_str()));
    let start = tokens
        .iter()
        .take_while(|token| is_of(&BEFORE, token))
        .count();
    let tokens = &tokens[start..];
    let behind = tokens
        .iter()
        .rev()
        .take_while(|token| is_of(&BEHIND, token));
    &tokens[..tokens.len() - behind.count()]
}

/// The letter of a multiple choice, in brackets or not; `more` may follow it.
fn choice(tokens: &[Token], more: bool) -> Option<char> {
    let letter = |token: &Token| {
        let (Token::Symbol(name) | Token::Word(name)) = token else {
            return None;
        };
        let letter = name.chars().next().filter(|_| name.len() == 1)?;
        ('A'..='J').contains(&letter).then_some(letter)
    };
    match tokens {
        [only] => letter(only),
        [open, inside, close] if open.is('(') && close.is(')') => letter(inside),
        [open, inside, close, ..] if more && open.is('(') && close.is(')') => letter(inside),
        [first, end, ..] if more && (end.is(')') || end.is('.') || end.is(':')) => letter(first),
        _ => None,
    }
}
