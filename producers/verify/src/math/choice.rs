//! Letters of multiple choices.

use super::token::Token;

/// Returns the letter of a multiple choice, in brackets or not, if there is nothing else.
pub(super) fn only_choice(tokens: &[Token]) -> Option<char> {
    match tokens {
        [only] => letter(only),
        [open, inside, close] if open.is('(') && close.is(')') => letter(inside),
        _ => None,
    }
}

/// Returns the letter of a multiple choice with which an answer begins; words around the letter and
/// the text of the choice behind it are allowed, a second letter is not.
pub(super) fn leading_choice(tokens: &[Token]) -> Option<char> {
    first_choice(without_choice_words(tokens))
}

fn first_choice(tokens: &[Token]) -> Option<char> {
    if let Some(letter) = only_choice(tokens) {
        return Some(letter);
    }
    match tokens {
        [open, inside, close, rest @ ..] if open.is('(') && close.is(')') => {
            letter(inside).filter(|_| !begins_with_choice(rest))
        }
        [first, end, rest @ ..] if end.is(')') || end.is('.') || end.is(':') => {
            letter(first).filter(|_| !begins_with_choice(rest))
        }
        _ => None,
    }
}

/// Returns true if another letter follows the first one: `A) or B)`.
fn begins_with_choice(rest: &[Token]) -> bool {
    let joins = |token: &&Token| {
        let word = |word: &str| matches!(word, "or" | "and");
        matches!(token, Token::Mark(',' | ';' | '/')) || matches!(token, Token::Word(w) if word(w))
    };
    let joined = rest.iter().take_while(joins).count();
    first_choice(&rest[joined..]).is_some()
}

fn letter(token: &Token) -> Option<char> {
    let (Token::Symbol(name) | Token::Word(name)) = token else {
        return None;
    };
    let letter = name.chars().next().filter(|_| name.len() == 1)?;
    ('A'..='J').contains(&letter).then_some(letter)
}

/// Removes the words around a choice: `the correct option is B`, `choice A is right`.
fn without_choice_words(tokens: &[Token]) -> &[Token] {
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
