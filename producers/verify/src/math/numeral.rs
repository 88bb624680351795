use super::{
    fuel::{Fuel, Stop},
    rational::Rational,
};

/// Thousands separators beside the comma: LaTeX's comma without space, its thin space and its
/// negative one behind a comma, Unicode's thin spaces and apostrophes.
const SEPARATORS: [&str; 9] = [
    "{,}", ",\\!", "\\,", "\\ ", "\u{a0}", "\u{2009}", "\u{202f}", "'", "’",
];

/// What beside [`SEPARATORS`] separates thousands at a place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Separators {
    pub(crate) commas: bool,
    /// Between digits that a space alone keeps apart, as in `10 000`.
    pub(crate) spaces: bool,
}
/// Ways to mark the digits that repeat.
const REPEATING: [&str; 3] = ["\\overline{", "\\bar{", "\\dot{"];

/// The number without a sign that a text begins with: its value, the digits behind its point and
/// its length in bytes. Commas and spaces separate thousands only if `separators` says so.
///
/// # Errors
/// [`Stop::TooLarge`] where it has too many digits.
pub(crate) fn numeral(
    text: &str,
    separators: Separators,
    fuel: &mut Fuel,
) -> Result<Option<(Rational, u32, usize)>, Stop> {
    let mut rest = text;
    let whole = whole(&mut rest, separators);
    let behind = rest.strip_prefix('.').map(|mut behind| {
        let fraction = digits(&mut behind);
        let repeated = repeated(&mut behind);
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
    let exponent = exponent(&mut rest).unwrap_or(0);
    let places = fraction.len() as i64 - exponent;
    fuel.burn((whole.len() + fraction.len() + repeated.len()) as u64)?;
    let mut value = Rational::decimal(&format!("0{whole}{fraction}"), -places, fuel)?;
    if !repeated.is_empty() {
        // d digits that repeat are worth themselves over 10^d − 1.
        let scale = Rational::decimal("1", repeated.len() as i64, fuel)?;
        let nines = scale.minus(&Rational::one(), fuel)?.inverse()?;
        let tail = Rational::decimal(repeated, -places, fuel)?.times(&nines, fuel)?;
        value = value.plus(&tail, fuel)?;
    }
    let places = if repeated.is_empty() { places } else { 0 };
    let length = text.len() - rest.len();
    Ok(Some((value, places.clamp(0, 4096) as u32, length)))
}

/// Digits, in groups of three if any separator stands between them.
fn whole(rest: &mut &str, allowed: Separators) -> String {
    let mut whole = digits(rest).to_owned();
    if whole.is_empty() || whole.len() > 3 || whole.starts_with('0') {
        return whole;
    }
    loop {
        let separated = SEPARATORS.iter().find_map(|mark| rest.strip_prefix(mark));
        let separated = separated.or_else(|| rest.strip_prefix(',').filter(|_| allowed.commas));
        // `3 125/200` is a mixed number.
        let separated = separated.or_else(|| {
            let behind = rest.strip_prefix(' ').filter(|_| allowed.spaces)?;
            (!behind.get(3..).is_some_and(|rest| rest.starts_with('/'))).then_some(behind)
        });
        let Some(mut behind) = separated else {
            return whole;
        };
        let group = digits(&mut behind);
        if group.len() != 3 {
            return whole;
        }
        whole.push_str(group);
        *rest = behind;
    }
}

fn digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    digits
}

fn repeated<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let mut inside = REPEATING.iter().find_map(|mark| rest.strip_prefix(mark))?;
    let repeated = digits(&mut inside);
    *rest = inside.strip_prefix('}')?;
    Some(repeated)
}

/// `e3` directly behind digits, if no letter follows; `2e` is twice e.
fn exponent(rest: &mut &str) -> Option<i64> {
    let inner = rest.strip_prefix(['e', 'E'])?;
    let negative = inner.starts_with('-');
    let mut inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let digits = digits(&mut inner);
    if digits.is_empty() || inner.starts_with(char::is_alphabetic) {
        return None;
    }
    // Longer than any that is admitted.
    let exponent = digits.parse().unwrap_or(i64::from(u32::MAX));
    *rest = inner;
    Some(if negative { -exponent } else { exponent })
}
