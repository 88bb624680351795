//! Numbers that are read together as one: `10 000`, `3 1/2`, `3 : 1`.

use crate::scan;

/// Returns the last number of a text, or what only together is one: `10 000`, `3 1/2`, `3:1`.
pub(crate) fn last_value(text: &str) -> Option<&str> {
    last_stated(&runs(text), text)
}

/// Returns the last number of several, unless it is compared with: `> 24`.
pub(crate) fn last_stated<'a>(all: &[Run], text: &'a str) -> Option<&'a str> {
    let last = all.last()?;
    let inside = last.text(text)?;
    (!compares(&text[..last.begin])).then_some(inside)
}

/// Several numbers that are read as one, or a number alone.
pub(crate) struct Run {
    pub(crate) begin: usize,
    pub(crate) end: usize,
    /// True if a reader takes it for a value.
    value: bool,
}

impl Run {
    pub(crate) fn text<'a>(&self, text: &'a str) -> Option<&'a str> {
        let inside = text.get(self.begin..self.end).filter(|_| self.value)?;
        Some(inside.trim())
    }
}

/// Numbers of a text in order; groups of thousands between blanks, mixed numbers and numbers behind
/// a scale (`2 thousand 500`) are read together.
pub(crate) fn runs(text: &str) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    // Length of the last number if it has digits only.
    let mut plain = None;
    for (begin, lexeme) in scan::numbers(text) {
        let own = &text[begin..lexeme.end];
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let size = own.split('.').next().unwrap_or_default().len();
        let group = size == 3 && digits(&own[..size]);
        let ratio = own.contains(':');
        let value = lexeme.number.is_some() || ratio;
        let joined = all.last().is_some_and(|last: &Run| {
            let scaled = text[..last.end].ends_with(char::is_alphabetic);
            let parts = own.contains('/') || own.contains("frac");
            let between = &text[last.end..begin];
            matches!(between, " " | "\\ ")
                && (plain.is_some_and(|size| size <= 3) && (group || parts) || scaled)
                || between == " : " && !is_named(&text[..last.begin])
        });
        match all.last_mut() {
            Some(last) if joined => last.end = lexeme.end,
            _ => all.push(Run {
                begin,
                end: lexeme.end,
                value,
            }),
        }
        let bare = own.trim_start_matches(|c: char| !c.is_ascii_digit());
        plain = digits(bare).then_some(bare.len());
    }
    all
}

/// Returns true if a text ends with a capital word, such as that of `Step 1 : 24`, where the number
/// behind it is no part of a ratio.
fn is_named(text: &str) -> bool {
    let near = text.trim_end().char_indices().rev().take(20);
    let mut before = near.map(|(at, c)| (at, c.is_whitespace()));
    let begin = before.find(|(_, space)| *space).map_or(0, |(at, _)| at);
    text[begin..].trim_start().starts_with(char::is_uppercase)
}

/// Returns true if a comparison sign is directly before a value: `> 24`, `\neq 24`.
fn compares(before: &str) -> bool {
    const SIGNS: [&str; 14] = [
        "<", ">", "≤", "≥", "≠", "!=", "\\le", "\\ge", "\\leq", "\\geq", "\\ne", "\\neq", "\\lt",
        "\\gt",
    ];
    let before = before.trim_end_matches([' ', '$', '(', '*', '{']);
    SIGNS.iter().any(|sign| before.ends_with(sign))
        // An HTML tag, or an arrow.
        && !["->", "=>", "b>", "p>", "/>", "<<", ">>"].iter().any(|sign| before.ends_with(sign))
}

#[cfg(test)]
mod tests {
    use super::last_value;

    #[test]
    fn numbers_that_belong_together_are_one() {
        for (text, last) in [
            ("10 000", "10 000"),
            ("it is 5 000 000.50 dollars", "5 000 000.50"),
            ("it is 3 1/2", "3 1/2"),
            ("the ratio 3:1", "3:1"),
            ("the ratio 3 : 1", "3 : 1"),
            ("Step 1 : 24", "24"),
            ("2 thousand 500", "2 thousand 500"),
            ("4 25", "25"),
            ("1234 500", "500"),
            ("$5", "$5"),
        ] {
            assert_eq!(last_value(text), Some(last), "{text:?}");
        }
        assert_eq!(last_value("none"), None);
    }
}
