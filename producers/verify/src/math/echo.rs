//! Answers that are the question again. A policy that is paid for `20 + 34` where 54 was asked for
//! learns to copy the question: one did within 25 updates, up to a held-out "accuracy" of 98 %.

use super::{
    fuel::{Fuel, Stop},
    lex,
    numeral::{Separators, read_numeral},
    parse,
    rational::Rational,
    tree::Tree,
    wording::{without_bold, without_end_marks, without_name},
};
use crate::number::Number;

/// Returns true if `given` leaves to be done what `question` asks for, although its value is that of
/// `known`: it is no number where the known answer is one, and joins numbers of the question; or it
/// is an expression of the question that the known answer does not contain.
pub(crate) fn repeats(question: &str, known: &str, given: &str) -> bool {
    if Number::parse(given).is_some() {
        return false;
    }
    let Ok(Some(tree)) = computed(given, &mut Fuel::full()) else {
        return false;
    };
    if Number::parse(known).is_some() {
        let mut numbers = Vec::new();
        leaves(&tree, &mut numbers);
        let Ok(asked) = numbers_of(question) else {
            return false;
        };
        return !numbers.is_empty() && numbers.iter().all(|number| asked.contains(number));
    }
    let [question, known, given] = [question, known, given].map(squeezed);
    question.contains(&given) && !known.contains(&given)
}

/// Parses an answer; `None` if nothing is left to be computed in it.
fn computed(given: &str, fuel: &mut Fuel) -> Result<Option<Tree>, Stop> {
    let tokens = lex::tokens(&without_bold(given), fuel)?;
    let tree = parse::parse(without_name(without_end_marks(&tokens)), fuel)?;
    Ok(computes(&tree).then_some(tree))
}

/// Returns true if an operation is left to be done. A fraction of two numbers is a number.
fn computes(tree: &Tree) -> bool {
    match tree {
        Tree::Sum(_) | Tree::Product(_) | Tree::Power(..) | Tree::Root(..) | Tree::Call(..) => true,
        Tree::Quotient(top, bottom) => !(is_number(top) && is_number(bottom)),
        // `3 + 4 = 7` says what it comes to.
        Tree::Relation(..) => {
            let sides = tree.children();
            !sides.iter().any(|side| is_literal(side)) && sides.into_iter().any(computes)
        }
        _ => tree.children().into_iter().any(computes),
    }
}

fn is_number(tree: &Tree) -> bool {
    tree.places().is_some()
}

fn is_literal(tree: &Tree) -> bool {
    match tree {
        Tree::Negative(one) | Tree::Percent(one) | Tree::Degree(one) | Tree::Unit(one, _) => {
            is_literal(one)
        }
        Tree::Quotient(top, bottom) => is_number(top) && is_number(bottom),
        tree => is_number(tree),
    }
}

fn leaves<'a>(tree: &'a Tree, numbers: &mut Vec<&'a Rational>) {
    if let Tree::Number(number, _) = tree {
        numbers.push(number);
    }
    for child in tree.children() {
        leaves(child, numbers);
    }
}

/// Returns the numbers that are written in a text with digits.
fn numbers_of(text: &str) -> Result<Vec<Rational>, Stop> {
    let separators = Separators {
        commas: true,
        spaces: false,
    };
    let mut fuel = Fuel::full();
    let mut numbers = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|char: char| char.is_ascii_digit()) {
        rest = &rest[at..];
        let read = read_numeral(rest, separators, &mut fuel)?;
        let length = read.as_ref().map_or(1, |(_, _, length)| *length);
        numbers.extend(read.map(|(number, ..)| number));
        rest = &rest[length..];
    }
    Ok(numbers)
}

/// Returns a formula without what its typesetting adds.
fn squeezed(text: &str) -> String {
    let text = text.replace("\\left", "").replace("\\right", "");
    text.chars()
        .filter(|char| !char.is_whitespace() && *char != '$')
        .collect()
}
