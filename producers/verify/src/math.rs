//! Mathematical answers: located, parsed and compared as values.
//!
//! The stages are `find` (candidates for the answer of a completion) → `lex` → `parse`, `term` (to
//! a `tree`) → `canon` (to a `ratio` of sums, exactly) and `value` (sets, intervals, relations) →
//! `compare`. Where no normal form decides, values to 256 bits do (`approx`, `float`). All stages
//! burn `fuel`, which bounds their time.

mod approx;
mod canon;
mod clock;
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

use std::borrow::Cow;

use crate::{extract::stated, number::Number};
use canon::Reading;
use clock::clock;
use find::Candidate;
use fuel::{Fuel, Stop};
use token::Token;

/// Compares a completion's final answer with the known one; returns true if they are equal, and the
/// answer found. `open` is true if the prompt ends with an opening reasoning tag.
pub(crate) fn judge<'a>(completion: &'a str, answer: &str, open: bool) -> (bool, Option<&'a str>) {
    let found = find::candidates(completion, open);
    let first = found.first().map(|candidate| candidate.text);
    if check(answer).is_err() {
        return (false, first);
    }
    // One tank for all candidates bounds the whole comparison.
    let mut fuel = Fuel::full();
    let right = found
        .into_iter()
        .find(|candidate| equal(stated(answer), candidate, &mut fuel) == Ok(true));
    (right.is_some(), right.map(|right| right.text).or(first))
}

/// Checks that a known answer can be compared with; the error is the reason.
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
        all.extend(lex::tokens(&unmarked(part), fuel)?);
    }
    let given = all;
    let (known, given) = (ended(&known), ended(&given));
    if known.is_empty() || given.is_empty() {
        return Ok(false);
    }
    let given = if same_text(known, given) {
        given
    } else {
        unnamed(given)
    };
    if same_text(known, given) {
        return Ok(true);
    }
    if let (Some(known), Some(given)) = (clock(known), clock(given)) {
        if known.is(given) {
            return Ok(true);
        }
        if known.half.is_some() || given.half.is_some() {
            return Ok(false);
        }
    }
    if says_so(known, given) {
        return Ok(true);
    }
    if let Some(known) = choice(known, false) {
        let given_choice = choice(unworded(given), true);
        // A letter that begins a sentence is a word of it, not a choice.
        let is_sentence = given.iter().any(|token| matches!(token, Token::Word(_)));
        if given_choice.is_some() || is_sentence {
            return Ok(given_choice == Some(known));
        }
    }
    // A ratio is a fraction, but not a number that is written without one.
    let plain =
        |token: &Token| matches!(token, Token::Number(..) | Token::Word(_)) || token.is('-');
    let ratio = |token: &Token| token.is(':');
    if known.iter().all(plain) && given.iter().any(ratio) {
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
    matches!(tree, tree::Tree::Call(tree::Name::BareLog, _))
        || tree.children().into_iter().any(has_bare_log)
}

/// Removes the punctuation at the end of a sentence.
fn ended(tokens: &[Token]) -> &[Token] {
    let stops = tokens
        .iter()
        .rev()
        .take_while(|token| token.is('.') || token.is(',') || token.is('\n') || token.is('。'));
    &tokens[..tokens.len() - stops.count()]
}

/// Removes Markdown's bold marks: those of `**24** pens`, but not the power of `2**10`.
fn unmarked(text: &str) -> Cow<'_, str> {
    let Some(begin) = text.find("**") else {
        return Cow::Borrowed(text);
    };
    let digits = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == ')');
    let behind = text[begin + 2..].chars().next();
    if digits(text[..begin].chars().next_back()) && digits(behind) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("**", ""))
}

/// Returns true if both are written alike; only words may differ in case.
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

/// Removes the words that name the value: `Total area = 24`, `Total: 24`.
fn unnamed(tokens: &[Token]) -> &[Token] {
    const OTHER: [&str; 9] = [
        "not",
        "wrong",
        "incorrect",
        "false",
        "except",
        "never",
        "confidence",
        "than",
        "if",
    ];
    let is_name = |token: &&Token| matches!(token, Token::Word(_) | Token::Symbol(_));
    let name = tokens.iter().take_while(is_name).count();
    let word =
        |token: &Token, least: usize| matches!(token, Token::Word(word) if word.len() >= least);
    let other = |token: &Token| matches!(token, Token::Word(word) if OTHER.contains(&&**word));
    let names = |least| tokens[..name].iter().any(|token| word(token, least));
    match &tokens[name..] {
        [sign, value @ ..] if names(1) && sign.is('=') && !value.is_empty() => value,
        // One letter in front of a colon is that of a choice.
        [sign, value @ ..]
            if names(2)
                && sign.is(':')
                && !value.is_empty()
                && !tokens[..name].iter().any(other) =>
        {
            value
        }
        _ => tokens,
    }
}

/// Returns true if the known answer is `True` or `False` and a sentence says so (“… is true”).
fn says_so(known: &[Token], given: &[Token]) -> bool {
    const OTHERWISE: [&str; 10] = [
        "not", "isn", "never", "neither", "nor", "or", "true", "false", "wrong", "if",
    ];
    let word = |token: &Token| match token {
        Token::Word(word) => Some(word.to_lowercase()),
        _ => None,
    };
    let ([known], [before @ .., is, last]) = (known, given) else {
        return false;
    };
    let known = word(known).filter(|known| matches!(known.as_str(), "true" | "false"));
    known.is_some()
        && word(last) == known
        && word(is).as_deref() == Some("is")
        && !before
            .iter()
            .filter_map(word)
            .any(|word| OTHERWISE.contains(&word.as_str()))
}

/// Removes the words around a choice: `the correct option is B`, `choice A is right`.
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

/// Returns the letter of a multiple choice, in brackets or not; with `more`, text may follow it.
fn choice(tokens: &[Token], more: bool) -> Option<char> {
    let letter = |token: &Token| {
        let (Token::Symbol(name) | Token::Word(name)) = token else {
            return None;
        };
        let letter = name.chars().next().filter(|_| name.len() == 1)?;
        ('A'..='J').contains(&letter).then_some(letter)
    };
    // Only one letter, without another one beside it.
    let single = |rest: &[Token]| {
        let joins = |token: &&Token| {
            let word = |word: &str| matches!(word, "or" | "and");
            matches!(token, Token::Mark(',' | ';' | '/'))
                || matches!(token, Token::Word(w) if word(w))
        };
        let joined = rest.iter().take_while(joins).count();
        choice(&rest[joined..], true).is_none()
    };
    match tokens {
        [only] => letter(only),
        [open, inside, close] if open.is('(') && close.is(')') => letter(inside),
        [open, inside, close, rest @ ..] if more && open.is('(') && close.is(')') => {
            letter(inside).filter(|_| single(rest))
        }
        [first, end, rest @ ..] if more && (end.is(')') || end.is('.') || end.is(':')) => {
            letter(first).filter(|_| single(rest))
        }
        _ => None,
    }
}
