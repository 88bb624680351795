use crate::{decimal::Decimal, number::Number, scale};

/// Number found in a text.
pub(crate) struct Lexeme {
    /// Value of the number; `None` for text that only looks like a number (`1/0`, `3:1`, the 2 of
    /// `2^10`).
    pub(crate) number: Option<Number>,
    /// End of the number in the text, as a byte offset.
    pub(crate) end: usize,
}

const MINUS: [char; 2] = ['-', '−'];
const CURRENCY: [&str; 9] = ["\\$", "$", "€", "£", "¥", "₹", "₩", "₽", "₺"];
/// Separators between groups of three digits: the comma, LaTeX's forms of it, narrow spaces and
/// apostrophes.
const SEPARATORS: [&str; 9] = [
    ",\\!", ",", "{,}", "\\,", "\u{a0}", "\u{2009}", "\u{202f}", "'", "’",
];
const FRACTIONS: [&str; 4] = ["\\frac", "\\dfrac", "\\tfrac", "\\cfrac"];
const SUPERSCRIPTS: [char; 11] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹', '⁻'];

impl Number {
    /// Parses a text that is one number and nothing else, apart from white space, a currency sign
    /// and a full stop.
    ///
    /// Accepted forms: `42`, `-1,234.50`, `+7`, `.5`, `3/4`, `\frac{3}{4}`, `50%`, `$5`, `-$5`, `5
    /// €`, `1.2e3`, `5 million`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_suffix('.').unwrap_or(text);
        let lexeme = number_at(text, 0)?;
        (lexeme.end == text.len()).then_some(lexeme.number)?
    }
}

/// Finds the numbers of a text from left to right, each with the byte offset at which it begins.
///
/// Digits that belong to a word, an index or an exponent (`x2`, `a_1`, `cm^2`) are skipped.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = (usize, Lexeme)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(next) = text[at..].chars().next() {
            if let Some(lexeme) = may_begin(&text[..at])
                .then(|| number_at(text, at))
                .flatten()
            {
                let begin = at;
                at = lexeme.end;
                return Some((begin, lexeme));
            }
            // The remaining digits of a word are skipped too.
            at += if next.is_ascii_digit() {
                text[at..].len()
                    - text[at..]
                        .trim_start_matches(|c: char| c.is_ascii_digit())
                        .len()
            } else {
                next.len_utf8()
            };
        }
        None
    })
}

fn may_begin(before: &str) -> bool {
    let before = before
        .strip_suffix('{')
        .filter(|b| b.ends_with(['^', '_']))
        .unwrap_or(before);
    !before.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '^'))
}

/// Reads the longest number that begins at byte `at`.
pub(crate) fn number_at(text: &str, at: usize) -> Option<Lexeme> {
    let before = &text[..at];
    let mut rest = &text[at..];
    let mut sign = take_sign(&mut rest, before);
    if take_any(&mut rest, &CURRENCY) && sign.is_none() {
        sign = take_sign(&mut rest, "");
    }
    let negative = sign.unwrap_or(false);

    let (mut numerator, mut denominator) =
        if let Some(parts) = take_latex_fraction(&mut rest, negative) {
            parts
        } else {
            let numerator = take_decimal(&mut rest, negative, before)?;
            let denominator = take_denominator(&mut rest, before);
            (numerator, denominator.unwrap_or_else(Decimal::one))
        };
    let ratio = take_ratio(&mut rest);
    let scale = take_scales(&mut rest);
    let spaced = rest.strip_prefix(' ').unwrap_or(rest);
    let percent = ["%", "\\%"]
        .iter()
        .find_map(|sign| spaced.strip_prefix(sign));
    rest = percent.unwrap_or(rest);
    let mut spaced = rest.strip_prefix(' ').unwrap_or(rest);
    if take_any(&mut spaced, &CURRENCY) {
        rest = spaced;
    }
    // Example: `$1$ million`
    let outer = take_scales(&mut rest);
    for (times, over) in scale.into_iter().chain(outer) {
        (numerator, denominator) = (numerator.times(times), denominator.times(over));
    }
    // The base of a power is not the power's value; a degree sign is not a power.
    let degree = ["^\\circ", "^{\\circ}", "^°"];
    let power = rest.starts_with(SUPERSCRIPTS)
        || rest.starts_with('^') && !degree.iter().any(|degree| rest.starts_with(degree));
    let number = (!denominator.is_zero() && !power && !ratio).then_some(Number {
        numerator,
        denominator,
        percent: percent.is_some(),
    });
    Some(Lexeme {
        number,
        end: text.len() - rest.len(),
    })
}

/// Takes a sign; returns true for a minus, and `None` without a sign. A sign after a digit, letter
/// or closing bracket joins two numbers (`10-5`, `(3)-5`) and is not taken.
fn take_sign(rest: &mut &str, before: &str) -> Option<bool> {
    let joins = |c: char| c.is_ascii_alphanumeric() || matches!(c, ')' | ']' | '}' | '%');
    let sign = rest.chars().next()?;
    let negative = MINUS.contains(&sign);
    if !(negative || sign == '+') || before.ends_with(joins) {
        return None;
    }
    *rest = &rest[sign.len_utf8()..];
    Some(negative)
}

fn take_any(rest: &mut &str, signs: &[&str]) -> bool {
    let behind = signs.iter().find_map(|sign| rest.strip_prefix(sign));
    *rest = behind.unwrap_or(rest);
    behind.is_some()
}

/// Takes a `\frac{a}{b}` of integers.
fn take_latex_fraction(rest: &mut &str, negative: bool) -> Option<(Decimal, Decimal)> {
    let inner = FRACTIONS.iter().find_map(|name| rest.strip_prefix(name))?;
    let (minus, numerator, inner) = take_argument(inner)?;
    let (minus_below, denominator, inner) = take_argument(inner)?;
    if minus_below {
        return None;
    }
    *rest = inner;
    let numerator = Decimal::new(negative != minus, numerator, "", 0);
    Some((numerator, Decimal::new(false, denominator, "", 0)))
}

/// Takes an integer in braces, which may be negative, or the single digit that LaTeX accepts
/// without them; returns it with the text that follows.
fn take_argument(text: &str) -> Option<(bool, &str, &str)> {
    let text = text.trim_start_matches(' ');
    let Some(inside) = text.strip_prefix('{') else {
        let digit = text.get(..1).filter(|digit| starts_with_digit(digit))?;
        return Some((false, digit, &text[1..]));
    };
    let inside = inside.trim_start_matches(' ');
    let minus = MINUS.iter().find_map(|sign| inside.strip_prefix(*sign));
    let mut inner = minus.unwrap_or(inside);
    let digits = take_digits(&mut inner)?;
    let behind = inner.trim_start_matches(' ').strip_prefix('}')?;
    Some((minus.is_some(), digits, behind))
}

/// Takes digits with thousands separators, a decimal part and a power of ten.
fn take_decimal(rest: &mut &str, negative: bool, before: &str) -> Option<Decimal> {
    let mut inner = *rest;
    let whole = take_whole(&mut inner);
    let fraction = inner.strip_prefix('.').and_then(|mut behind| {
        let digits = take_digits(&mut behind)?;
        inner = behind;
        Some(digits)
    });
    // The `.5` of an ellipsis (`...5`) is not 0.5.
    if whole.is_none() && (fraction.is_none() || before.ends_with('.')) {
        return None;
    }
    let exponent = take_exponent(&mut inner).unwrap_or(0);
    *rest = inner;
    Some(Decimal::new(
        negative,
        &whole.unwrap_or_default(),
        fraction.unwrap_or_default(),
        exponent,
    ))
}

fn take_whole(rest: &mut &str) -> Option<String> {
    let mut whole = take_digits(rest)?.to_owned();
    if whole.len() > 3 {
        return Some(whole);
    }
    loop {
        let mut behind = *rest;
        if !take_any(&mut behind, &SEPARATORS) {
            return Some(whole);
        }
        match take_digits(&mut behind) {
            Some(group) if group.len() == 3 => whole.push_str(group),
            _ => return Some(whole),
        }
        *rest = behind;
    }
}

/// Takes `e` and digits if no letter follows: `2e3`, but not the `e` of `2else` or `2e3x`.
fn take_exponent(rest: &mut &str) -> Option<i64> {
    let mut inner = rest.strip_prefix(['e', 'E'])?;
    let negative = inner.starts_with('-');
    inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let digits = take_digits(&mut inner)?;
    if inner.starts_with(char::is_alphabetic) {
        return None;
    }
    *rest = inner;
    // Bounded, so that sums with text lengths do not overflow.
    let exponent = digits.parse().unwrap_or(i64::MAX).min(i64::MAX / 4);
    Some(if negative { -exponent } else { exponent })
}

/// Takes the `/4` of `3/4`, but not of `3/4/2024`.
fn take_denominator(rest: &mut &str, before: &str) -> Option<Decimal> {
    let mut inner = rest.strip_prefix('/')?;
    let whole = take_whole(&mut inner)?;
    let chained = |text: &str| text.strip_prefix('/').is_some_and(starts_with_digit);
    if before.ends_with('/') || chained(inner) {
        return None;
    }
    *rest = inner;
    Some(Decimal::new(false, &whole, "", 0))
}

/// Takes at most three scale words: `hundred thousand`.
fn take_scales(rest: &mut &str) -> Vec<scale::Factor> {
    let mut factors = Vec::new();
    while let Some((factor, behind)) = scale::take(rest).filter(|_| factors.len() < 3) {
        factors.push(factor);
        *rest = behind;
    }
    factors
}

/// Takes the `:1` of the ratio `3:1`, and the `:30` of the time `10:30`; returns true if there is
/// one.
fn take_ratio(rest: &mut &str) -> bool {
    let mut found = false;
    while let Some(mut behind) = rest.strip_prefix(':') {
        if take_digits(&mut behind).is_none() {
            break;
        }
        *rest = behind;
        found = true;
    }
    found
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn take_digits<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    (!digits.is_empty()).then_some(digits)
}
