use super::{
    fuel::{Fuel, Stop},
    rational::Rational,
};

/// Thousands separators other than comma and space: LaTeX's comma without space, its thin space,
/// its negative space after a comma, Unicode's thin spaces and apostrophes.
const SEPARATORS: [&str; 9] = [
    "{,}", ",\\!", "\\,", "\\ ", "\u{a0}", "\u{2009}", "\u{202f}", "'", "’",
];

/// Thousands separators that are allowed at a place, in addition to [`SEPARATORS`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Separators {
    pub(crate) commas: bool,
    /// True if a space alone may separate digits, as in `10 000`.
    pub(crate) spaces: bool,
}
/// LaTeX commands around the repeating digits of a decimal.
const REPEATING: [&str; 3] = ["\\overline{", "\\bar{", "\\dot{"];

/// Reads the unsigned number that a text begins with: its value, the number of digits after its
/// point, and its length in bytes. Commas and spaces separate thousands only if `separators` allows
/// it.
///
/// # Errors
/// [`Stop::TooLarge`] for too many digits.
pub(crate) fn read_numeral(
    text: &str,
    separators: Separators,
    fuel: &mut Fuel,
) -> Result<Option<(Rational, u32, usize)>, Stop> {
    let mut rest = text;
    let whole = take_whole(&mut rest, separators);
    let behind = rest.strip_prefix('.').map(|mut behind| {
        let fraction = take_digits(&mut behind);
        let repeated = take_repeated(&mut behind);
        (fraction, repeated.unwrap_or_default(), behind)
    });
    let (mut fraction, mut repeated) = ("", "");
    if let Some((digits, again, behind)) = behind
        && !(digits.is_empty() && again.is_empty())
    {
        (fraction, repeated, rest) = (digits, again, behind);
    }
    if whole.is_empty() && fraction.is_empty() && repeated.is_empty() {
        return Ok(None);
    }
    let exponent = take_exponent(&mut rest).unwrap_or(0);
    let places = fraction.len() as i64 - exponent;
    fuel.burn((whole.len() + fraction.len() + repeated.len()) as u64)?;
    let mut value = Rational::decimal(&format!("0{whole}{fraction}"), -places, fuel)?;
    if !repeated.is_empty() {
        // A block of d repeating digits is worth itself divided by 10^d − 1.
        let scale = Rational::decimal("1", repeated.len() as i64, fuel)?;
        let nines = scale.minus(&Rational::one(), fuel)?.inverse()?;
        let tail = Rational::decimal(repeated, -places, fuel)?.times(&nines, fuel)?;
        value = value.plus(&tail, fuel)?;
    }
    let places = if repeated.is_empty() { places } else { 0 };
    let length = text.len() - rest.len();
    Ok(Some((value, places.clamp(0, 4096) as u32, length)))
}

/// Takes digits, in groups of three if separators are between them.
fn take_whole(rest: &mut &str, allowed: Separators) -> String {
    let mut whole = take_digits(rest).to_owned();
    if whole.is_empty() || whole.len() > 3 || whole.starts_with('0') {
        return whole;
    }
    loop {
        let separated = SEPARATORS.iter().find_map(|mark| rest.strip_prefix(mark));
        let separated = separated.or_else(|| rest.strip_prefix(',').filter(|_| allowed.commas));
        // Mixed number, such as `3 125/200`.
        let separated = separated.or_else(|| {
            let behind = rest.strip_prefix(' ').filter(|_| allowed.spaces)?;
            (!behind.get(3..).is_some_and(|rest| rest.starts_with('/'))).then_some(behind)
        });
        let Some(mut behind) = separated else {
            return whole;
        };
        let group = take_digits(&mut behind);
        if group.len() != 3 {
            return whole;
        }
        whole.push_str(group);
        *rest = behind;
    }
}

fn take_digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    digits
}

fn take_repeated<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let mut inside = REPEATING.iter().find_map(|mark| rest.strip_prefix(mark))?;
    let repeated = take_digits(&mut inside);
    *rest = inside.strip_prefix('}')?;
    Some(repeated)
}

/// Takes an `e3` directly after digits, if no letter follows; `2e` is twice e.
fn take_exponent(rest: &mut &str) -> Option<i64> {
    let inner = rest.strip_prefix(['e', 'E'])?;
    let negative = inner.starts_with('-');
    let mut inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let digits = take_digits(&mut inner);
    if digits.is_empty() || inner.starts_with(char::is_alphabetic) {
        return None;
    }
    // Longer than any exponent that is accepted.
    let exponent = digits.parse().unwrap_or(i64::from(u32::MAX));
    *rest = inner;
    Some(if negative { -exponent } else { exponent })
}
