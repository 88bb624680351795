use num_traits::ToPrimitive;

use super::{rational::Rational, token::Token};

/// Time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    hour: u32,
    minute: u32,
    /// Half of the day, `a` (a.m.) or `p` (p.m.), if it is given.
    pub(crate) half: Option<char>,
}

impl Clock {
    /// Returns true if both may be the same time. A time without a.m. or p.m. may be in either half
    /// of the day, unless its hour is above 12.
    pub(crate) fn may_equal(self, other: Self) -> bool {
        let of_day = |clock: Self| match clock.half {
            Some('p') if clock.hour < 12 => Some(clock.hour + 12),
            Some('a') => Some(clock.hour % 12),
            None if clock.hour > 12 => Some(clock.hour),
            Some(_) => Some(clock.hour),
            None => None,
        };
        let hours = match (of_day(self), of_day(other)) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.hour == other.hour,
            // A bare 2:30 cannot mean 14:30.
            (Some(_), None) | (None, Some(_)) => {
                (self.half.is_some() || other.half.is_some()) && self.hour == other.hour
            }
        };
        hours && self.minute == other.minute
    }
}

/// Reads an answer that is a time of day: `10:00`, `10:00 a.m.`, `10:00 PM`.
pub(crate) fn read_clock(tokens: &[Token]) -> Option<Clock> {
    let [hour, colon, minute, half @ ..] = tokens else {
        return None;
    };
    let part = |token: &Token, below: u32| match token {
        Token::Number(value, 0) => whole(value).filter(|value| *value < below),
        _ => None,
    };
    let letters = |token: &Token| match token {
        Token::Word(name) | Token::Symbol(name) => Some(name.to_lowercase()),
        _ => None,
    };
    let half = match half {
        [] => None,
        [word] => match letters(word)?.as_str() {
            "am" => Some('a'),
            "pm" => Some('p'),
            _ => return None,
        },
        [first, stop, m] if stop.is('.') && letters(m)? == "m" => match letters(first)?.as_str() {
            "a" => Some('a'),
            "p" => Some('p'),
            _ => return None,
        },
        _ => return None,
    };
    colon.is(':').then_some(())?;
    Some(Clock {
        hour: part(hour, 25)?,
        minute: part(minute, 60)?,
        half,
    })
}

fn whole(value: &Rational) -> Option<u32> {
    value.is_integer().then(|| value.top().to_u32())?
}
