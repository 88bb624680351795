//! Lexer that splits a template into text and tags, and tags into tokens, for [`super::rewrite`].

/// Section of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'a> {
    /// Text or a comment, unchanged.
    Text(&'a str),
    /// Raw block: its opening tag, and the rest of the block.
    Raw(&'a str, &'a str),
    /// Tag `{{ … }}` or `{% … %}`: the opening with its whitespace control, the tokens, the space
    /// after them, and the close.
    Tag(&'a str, Vec<Item<'a>>, &'a str, &'a str),
}

/// Token, or the tokens between two brackets.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'a> {
    Token {
        kind: Kind,
        /// Whitespace before the token.
        space: &'a str,
        text: &'a str,
    },
    Group {
        space: &'a str,
        open: char,
        items: Vec<Item<'a>>,
        /// Whitespace before the closing bracket.
        end: &'a str,
        close: char,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Operator,
}

/// Operators of more than one character, the longest first.
const OPERATORS: [&str; 7] = ["//", "**", "==", "!=", "<=", ">=", "->"];

/// Splits a template into parts; `None` if it is not valid Jinja, for which the engine has better
/// errors.
pub(super) fn parts(source: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some(start) = ["{{", "{%", "{#"]
        .iter()
        .filter_map(|open| rest.find(open))
        .min()
    {
        let (before, from) = rest.split_at(start);
        parts.push(Part::Text(before));
        if from.starts_with("{#") {
            let end = from.find("#}")? + 2;
            parts.push(Part::Text(&from[..end]));
            rest = &from[end..];
            continue;
        }
        if let Some(length) = raw_block(from) {
            let tag = from.find("%}")? + 2;
            parts.push(Part::Raw(&from[..tag], &from[tag..length]));
            rest = &from[length..];
            continue;
        }
        let signed = from[2..].starts_with(['-', '+']);
        let (open, body) = from.split_at(if signed { 3 } else { 2 });
        let closes = if from.starts_with("{{") {
            ["-}}", "}}", "}}"]
        } else {
            ["-%}", "+%}", "%}"]
        };
        let mut tokens = Tokens {
            rest: body,
            depth: 0,
        };
        let (items, space) = tokens.items(Some(closes))?;
        let close = closes
            .iter()
            .find(|close| tokens.rest.starts_with(**close))?;
        let (close, after) = tokens.rest.split_at(close.len());
        parts.push(Part::Tag(open, items, space, close));
        rest = after;
    }
    parts.push(Part::Text(rest));
    Some(parts)
}

/// Returns the length of a raw block at the start of a text.
fn raw_block(from: &str) -> Option<usize> {
    let is = |tag: &str, name: &str| {
        let body = tag.strip_prefix("{%").unwrap_or_default();
        body.trim_matches(['-', '+']).trim() == name
    };
    let open = from.find("%}")?;
    if !is(&from[..open], "raw") {
        return None;
    }
    let mut at = open + 2;
    loop {
        let start = at + from[at..].find("{%")?;
        let end = start + from[start..].find("%}")?;
        if is(&from[start..end], "endraw") {
            return Some(end + 2);
        }
        at = start + 2;
    }
}

/// Maximum depth of nested brackets.
const DEEPEST: usize = 100;

struct Tokens<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Tokens<'a> {
    /// Reads items up to a close of the tag, or without `closes` up to the closing bracket. Also
    /// returns the space before it; the close itself is not consumed.
    fn items(&mut self, closes: Option<[&str; 3]>) -> Option<(Vec<Item<'a>>, &'a str)> {
        let mut items = Vec::new();
        loop {
            let trimmed = self.rest.trim_start();
            let (space, from) = self.rest.split_at(self.rest.len() - trimmed.len());
            self.rest = from;
            let first = from.chars().next()?;
            let ends = match closes {
                Some(closes) => closes.iter().any(|close| from.starts_with(close)),
                None => matches!(first, ')' | ']' | '}'),
            };
            if ends {
                return Some((items, space));
            }
            if matches!(first, '(' | '[' | '{') {
                if self.depth == DEEPEST {
                    return None;
                }
                self.rest = &from[1..];
                self.depth += 1;
                let (inner, end) = self.items(None)?;
                self.depth -= 1;
                let close = self.rest.chars().next()?;
                self.rest = &self.rest[1..];
                items.push(Item::Group {
                    space,
                    open: first,
                    items: inner,
                    end,
                    close,
                });
                continue;
            }
            let (kind, length) = token(from, first)?;
            items.push(Item::Token {
                kind,
                space,
                text: &from[..length],
            });
            self.rest = &from[length..];
        }
    }
}

/// Returns kind and length of the token at the start of a text.
fn token(from: &str, first: char) -> Option<(Kind, usize)> {
    let length_of = |belongs: fn(char) -> bool| {
        from.find(|character| !belongs(character))
            .unwrap_or(from.len())
    };
    Some(match first {
        '\'' | '"' => {
            let mut escaped = false;
            let end = from[1..].find(|character| {
                let ends = character == first && !escaped;
                escaped = character == '\\' && !escaped;
                ends
            })?;
            (Kind::Text, end + 2)
        }
        '0'..='9' => (Kind::Number, number(from)),
        _ if first.is_alphabetic() || first == '_' => {
            let length = length_of(|character| character.is_alphanumeric() || character == '_');
            (Kind::Name, length)
        }
        _ => {
            let long = OPERATORS
                .iter()
                .find(|operator| from.starts_with(**operator));
            (
                Kind::Operator,
                long.map_or(first.len_utf8(), |operator| operator.len()),
            )
        }
    })
}

/// Returns the length of the number at the start of a text.
fn number(from: &str) -> usize {
    let belongs = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let run = |from: &str| {
        from.find(|character| !belongs(character))
            .unwrap_or(from.len())
    };
    let digit = |at: usize| from.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let mut length = run(from);
    if from.starts_with("0x") || from.starts_with("0X") {
        return length;
    }
    // A point belongs to the number if a digit follows it, a sign if it follows the exponent's
    // letter.
    if from[length..].starts_with('.') && digit(length + 1) {
        length += 1 + run(&from[length + 1..]);
    }
    if from[..length].ends_with(['e', 'E'])
        && from[length..].starts_with(['+', '-'])
        && digit(length + 1)
    {
        length += 1 + run(&from[length + 1..]);
    }
    length
}
