//! Translation of a template into the engine's dialect. Operators, slices, loops and literals that
//! behave differently in Python become calls of [`super::operators`].

use super::lexer::{Item, Kind, Part, parts};
use super::operators::{ADD, ATTRIBUTE, CONCAT, ITERATE, REMAINDER, SLICE};

/// Keywords that separate expressions.
const KEYWORDS: [&str; 6] = ["and", "or", "not", "if", "else", "in"];

/// Operators and separators that bind weaker than a sum.
const LOOSE: [&str; 9] = ["==", "!=", "<", ">", "<=", ">=", ",", ":", "="];

/// Methods of Python's dictionaries, which take precedence over entries of the same name.
const OF_DICTIONARIES: [&str; 11] = [
    "items",
    "keys",
    "values",
    "get",
    "copy",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "clear",
    "fromkeys",
];

/// Translates a template into the engine's dialect; `None` if its tags or brackets are not closed,
/// or are nested too deeply.
///
/// # Errors
/// The template uses a feature that Jinja2 has and the engine lacks.
pub(super) fn rewrite(source: &str) -> Result<Option<String>, String> {
    // Jinja2 treats any line ending as a line feed, in literals too.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let Some(parts) = parts(&source) else {
        return Ok(None);
    };
    let mut out = String::with_capacity(source.len() * 2);
    for part in &parts {
        match part {
            Part::Text(text) => out += text,
            Part::Raw(tag, rest) => {
                out += tag;
                // The engine drops a line feed after the tag, which Jinja2 keeps.
                out += if rest.starts_with('\n') { "\n" } else { "" };
                out += rest;
            }
            Part::Tag(open, items, space, close) => {
                out += open;
                out += &statement(items, open.starts_with("{%"))?;
                out += space;
                out += close;
            }
        }
    }
    Ok(Some(out))
}

/// Translates the contents of a tag.
fn statement(items: &[Item], block: bool) -> Result<String, String> {
    let Some((head, rest)) = items.split_first().filter(|_| block) else {
        return sequence(items);
    };
    let word = match head {
        Item::Token {
            kind: Kind::Name,
            text,
            ..
        } => *text,
        _ => "",
    };
    match word {
        // The assistant's text, marked for training on it: a scope of its own.
        "generation" if rest.is_empty() => return Ok(" with ".to_owned()),
        "endgeneration" if rest.is_empty() => return Ok(" endwith ".to_owned()),
        "for" => {
            if let Some(at) = rest.iter().position(|item| is_name(item, "in")) {
                let (target, after) = rest.split_at(at + 1);
                let ends = |item: &Item| is_name(item, "if") || is_name(item, "recursive");
                let end = after.iter().position(ends).unwrap_or(after.len());
                let (over, filter) = (sequence(&after[..end])?, sequence(&after[end..])?);
                let target: String = target.iter().map(verbatim).collect();
                return Ok(format!(
                    "{}{target} {ITERATE}(({over})){filter}",
                    verbatim(head)
                ));
            }
        }
        "set" => {
            if let Some(at) = rest.iter().position(|item| is_operator(item, "=")) {
                // Attributes of a namespace may have any name.
                let target: String = rest[..=at].iter().map(verbatim).collect();
                return Ok(verbatim(head) + &target + &sequence(&rest[at + 1..])?);
            }
        }
        _ => {}
    }
    Ok(verbatim(head) + &sequence(rest)?)
}

/// Translates expressions, and keeps the keywords and separators between them.
fn sequence(items: &[Item]) -> Result<String, String> {
    let mut out = String::new();
    let mut start = 0;
    for at in 0..items.len() {
        if is_loose(items, at) {
            out += &sum(&items[start..at])?;
            out += &verbatim(&items[at]);
            start = at + 1;
        }
    }
    Ok(out + &sum(&items[start..])?)
}

fn is_loose(items: &[Item], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| &items[before]);
    match &items[at] {
        Item::Token {
            kind: Kind::Operator,
            text,
            ..
        } => LOOSE.contains(text),
        Item::Token {
            kind: Kind::Name,
            text,
            ..
        } => {
            // After one of these, a word is the name of an attribute, a filter or a test.
            let is_name = before.is_some_and(|before| {
                is_operator(before, ".") || is_operator(before, "|") || is_name(before, "is")
            });
            let negated = is_name_behind_is_not(items, at);
            KEYWORDS.contains(text) && !is_name && !negated
        }
        _ => false,
    }
}

/// Returns true if the word at `at` is the test of `is not …`.
fn is_name_behind_is_not(items: &[Item], at: usize) -> bool {
    at >= 2 && is_name(&items[at - 1], "not") && is_name(&items[at - 2], "is")
}

fn is_operator(item: &Item, wanted: &str) -> bool {
    matches!(item, Item::Token { kind: Kind::Operator, text, .. } if *text == wanted)
}

fn is_name(item: &Item, wanted: &str) -> bool {
    matches!(item, Item::Token { kind: Kind::Name, text, .. } if *text == wanted)
}

/// Splits into operands at these binary operators, each operand with the operator before it. An
/// operator at the start or after another one is a sign.
fn operands<'i, 'a>(
    items: &'i [Item<'a>],
    operators: &[&'static str],
) -> Vec<(&'static str, &'i [Item<'a>])> {
    let mut found = Vec::new();
    let (mut start, mut last) = (0, "");
    for at in 0..items.len() {
        let operator = operators
            .iter()
            .find(|operator| is_operator(&items[at], operator));
        let binary = at > start
            && !matches!(
                &items[at - 1],
                Item::Token {
                    kind: Kind::Operator,
                    ..
                }
            );
        if let (Some(operator), true) = (operator, binary) {
            found.push((last, &items[start..at]));
            (start, last) = (at + 1, operator);
        }
    }
    found.push((last, &items[start..]));
    found
}

/// Returns true if an operand is missing, for which the engine reports the error.
fn is_cut_off(operands: &[(&'static str, &[Item])]) -> bool {
    operands.len() > 1 && operands.iter().any(|(_, operand)| operand.is_empty())
}

/// Translates sums such as `a + b - c`.
fn sum(items: &[Item]) -> Result<String, String> {
    let parts = operands(items, &["+", "-"]);
    if is_cut_off(&parts) {
        return Ok(items.iter().map(verbatim).collect());
    }
    let mut terms: Vec<String> = Vec::new();
    let total = |terms: &mut Vec<String>| match terms.len() {
        0 | 1 => terms.pop().unwrap_or_default(),
        _ => format!(" {ADD}({})", std::mem::take(terms).join(",")),
    };
    for (operator, operand) in parts {
        let operand = concatenation(operand)?;
        if operator == "-" {
            let before = total(&mut terms);
            terms.push(format!("{before} -{operand}"));
        } else {
            terms.push(operand);
        }
    }
    Ok(total(&mut terms))
}

/// Translates concatenations such as `a ~ b`.
fn concatenation(items: &[Item]) -> Result<String, String> {
    let parts = operands(items, &["~"]);
    if is_cut_off(&parts) {
        return Ok(items.iter().map(verbatim).collect());
    }
    let parts = parts.into_iter().map(|(_, part)| product(part));
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    Ok(format!(" {CONCAT}({})", parts.join(",")))
}

/// Translates products such as `a * b / c // d % e`.
fn product(items: &[Item]) -> Result<String, String> {
    let parts = operands(items, &["*", "/", "//", "%"]);
    if is_cut_off(&parts) {
        return Ok(items.iter().map(verbatim).collect());
    }
    let mut whole = String::new();
    for (operator, operand) in parts {
        let operand = factor(operand)?;
        whole = match operator {
            "" => operand,
            "%" => format!(" {REMAINDER}({whole},{operand})"),
            _ => format!("{whole} {operator}{operand}"),
        };
    }
    Ok(whole)
}

/// Translates everything that binds tighter than a product: names, literals, attributes, calls,
/// subscripts, filters and tests.
fn factor(items: &[Item]) -> Result<String, String> {
    let mut pieces: Vec<String> = Vec::new();
    // Start of the expression to which an attribute, a call or a subscript belongs.
    let mut start = 0;
    for (at, item) in items.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &items[before]);
        let behind_point = before.is_some_and(|before| is_operator(before, "."));
        let belongs = before.is_some_and(|before| {
            !matches!(
                before,
                Item::Token {
                    kind: Kind::Operator,
                    ..
                }
            ) && !is_name(before, "is")
                && !is_name(before, "not")
        });
        match item {
            Item::Token {
                kind: Kind::Name,
                text,
                ..
            } if behind_point => {
                let called = matches!(items.get(at + 1), Some(Item::Group { open: '(', .. }));
                if OF_DICTIONARIES.contains(text) && !called {
                    // Removes the point.
                    pieces.pop();
                    let own = pieces.split_off(start).concat();
                    pieces.push(format!(" {ATTRIBUTE}({own}, '{text}')"));
                } else {
                    pieces.push(verbatim(item));
                }
            }
            Item::Token {
                kind: Kind::Text,
                text,
                space,
            } => {
                let literal = literal(text)?;
                let follows = matches!(
                    before,
                    Some(Item::Token {
                        kind: Kind::Text,
                        ..
                    })
                );
                // Adjacent literals are one literal.
                if let Some(piece) = pieces.last_mut().filter(|_| follows) {
                    piece.pop();
                    *piece += &literal[1..];
                } else {
                    start = pieces.len();
                    pieces.push(format!("{space}{literal}"));
                }
            }
            Item::Token {
                kind: Kind::Operator,
                ..
            } => pieces.push(verbatim(item)),
            Item::Token {
                kind: Kind::Number,
                text,
                space,
            } if !behind_point => {
                start = pieces.len();
                pieces.push(format!("{space}{}", number(text)));
            }
            Item::Token { .. } => {
                if !behind_point {
                    start = pieces.len();
                }
                pieces.push(verbatim(item));
            }
            Item::Group {
                space,
                open,
                items,
                end,
                close,
            } => {
                let inside = |items| sequence(items);
                let colons = items.iter().filter(|item| is_operator(item, ":")).count();
                if *open == '[' && belongs && colons > 0 {
                    let own = pieces.split_off(start).concat();
                    pieces.push(format!(" {SLICE}({own}, {})", bounds(items)?));
                } else {
                    if !belongs {
                        start = pieces.len();
                    }
                    pieces.push(format!("{space}{open}{}{end}{close}", inside(items)?));
                }
            }
        }
    }
    Ok(pieces.concat())
}

/// Translates the three parts of `start:stop:step`.
fn bounds(items: &[Item]) -> Result<String, String> {
    let mut given = Vec::new();
    for part in items.split(|item| is_operator(item, ":")) {
        given.push(if part.is_empty() {
            "none".to_owned()
        } else {
            sequence(part)?
        });
    }
    if given.len() > 3 || items.iter().any(|item| is_operator(item, ",")) {
        let shown: String = items.iter().map(verbatim).collect();
        return Err(format!("[{shown}] is no slice"));
    }
    given.resize(3, "none".to_owned());
    Ok(given.join(", "))
}

/// Returns an item as it was written.
fn verbatim(item: &Item) -> String {
    match item {
        Item::Token { space, text, .. } => format!("{space}{text}"),
        Item::Group {
            space,
            open,
            items,
            end,
            close,
        } => {
            let inside: String = items.iter().map(verbatim).collect();
            format!("{space}{open}{inside}{end}{close}")
        }
    }
}

/// Returns a number in the engine's syntax, which has no exponents.
fn number(literal: &str) -> String {
    let plain = literal.replace('_', "");
    match plain.parse::<f64>() {
        Ok(number) if plain.contains(['e', 'E', '.']) => {
            let fixed = number.to_string();
            let whole = !fixed.contains('.');
            fixed + if whole { ".0" } else { "" }
        }
        _ => plain,
    }
}

/// Translates a string literal with Python's escapes into one with the engine's.
fn literal(quoted: &str) -> Result<String, String> {
    let body = &quoted[1..quoted.len() - 1];
    let mut text = String::with_capacity(body.len());
    let mut characters = body.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        let Some(escaped) = characters.next() else {
            break;
        };
        let mut code = |most: usize, radix: u32, first: &str| {
            let digits = characters
                .as_str()
                .chars()
                .take_while(|digit| digit.is_digit(radix));
            let digits: String = digits.take(most).collect();
            characters = characters.as_str()[digits.len()..].chars();
            let number = u32::from_str_radix(&format!("{first}{digits}"), radix).ok();
            let full = radix == 8 || digits.len() == most;
            number
                .filter(|_| full)
                .and_then(char::from_u32)
                .ok_or_else(|| format!("the literal {quoted} has an escape that is no character"))
        };
        match escaped {
            '\n' => {}
            '\\' | '\'' | '"' => text.push(escaped),
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\u{b}'),
            '0'..='7' => text.push(code(2, 8, &escaped.to_string())?),
            'x' => text.push(code(2, 16, "")?),
            'u' => text.push(code(4, 16, "")?),
            'U' => text.push(code(8, 16, "")?),
            'N' => return Err(format!("the literal {quoted} names a character by \\N")),
            _ => text.extend(['\\', escaped]),
        }
    }
    Ok(format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}
