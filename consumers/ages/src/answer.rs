//! The answer in one sentence: up to which age rollouts stay inside M2PO's budget.

use std::fmt::Write as _;

use serde::Serialize;
use vintage_control::AlgorithmName;

use crate::figures::AgeFigures;

/// Answer to how old rollouts may be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Largest age up to which every measured age is inside M2PO's budget: in no batch is M2 above the
    /// threshold, so that nothing is masked. Absent if not even the smallest is.
    pub inside: Option<u64>,
    /// Smallest measured age beyond, at which M2PO masks tokens; absent if none was measured.
    pub beyond: Option<u64>,
    /// M2PO's threshold on M2.
    pub threshold: f64,
    /// Answer in words.
    pub sentence: String,
}

/// Returns the answer for a run that trains by `own`, from figures by age. Absent if there are none.
pub fn answer(figures: &[AgeFigures], threshold: f64, own: AlgorithmName) -> Option<Answer> {
    let (first, last) = (figures.first()?, figures.last()?);
    let inside = figures
        .iter()
        .take_while(|of| masked(of, M2PO) == Some(0.0));
    let inside = inside.last();
    let beyond = match inside {
        Some(inside) => figures.iter().find(|of| of.age > inside.age),
        None => Some(first),
    };
    let mut sentence = match inside {
        Some(inside) => {
            let oldest = if inside.age == last.age {
                ", the oldest measured,"
            } else {
                ""
            };
            format!(
                "Rollouts of up to {}{oldest} stay inside M2PO's budget, which masks nothing (M2 {} of \
                 {threshold})",
                updates(inside),
                short(inside.m2),
            )
        }
        None => format!(
            "Even rollouts of {} are outside M2PO's budget (M2 {} of {threshold})",
            updates(first),
            short(first.m2),
        ),
    };
    let shown = beyond.or(inside)?;
    let mut others = Vec::new();
    if beyond.is_some() {
        others.push(format!("it masks {}", percent(masked(shown, M2PO))));
    }
    others.push(format!("GRPO's clip {}", percent(masked(shown, GRPO))));
    if own != M2PO && own != GRPO && masked(shown, own).is_some() {
        let name = own.as_str();
        others.push(format!("{name} {}", percent(masked(shown, own))));
    }
    let at = match (inside, beyond) {
        (Some(_), Some(beyond)) => format!("at {} ", beyond.age),
        _ => String::new(),
    };
    let _infallible = write!(sentence, "; {at}{} of tokens", others.join(", "));
    if inside.is_none() && first.age == 0 {
        sentence.push_str("; a version should agree with itself: `vintage mismatch` finds out why");
    }
    sentence.push('.');
    Some(Answer {
        inside: inside.map(|of| of.age),
        beyond: beyond.map(|of| of.age),
        threshold,
        sentence,
    })
}

const M2PO: AlgorithmName = AlgorithmName::M2po;
const GRPO: AlgorithmName = AlgorithmName::Grpo;

fn masked(figures: &AgeFigures, loss: AlgorithmName) -> Option<f64> {
    figures.losses.get(loss.as_str()).map(|of| of.masked)
}

fn updates(figures: &AgeFigures) -> String {
    match figures.age {
        1 => "1 update".to_owned(),
        age => format!("{age} updates"),
    }
}

/// Formats a second moment with two digits that count.
fn short(m2: f64) -> String {
    if m2 >= 0.001 {
        let places = (1.0 - m2.log10().floor()).clamp(0.0, 4.0) as usize;
        format!("{m2:.places$}")
    } else if m2 > 0.0 {
        format!("{m2:.0e}")
    } else {
        "0".to_owned()
    }
}

fn percent(share: Option<f64>) -> String {
    match share.map(|share| 100.0 * share) {
        None => "an unknown share".to_owned(),
        Some(0.0) => "0 %".to_owned(),
        Some(share) if share < 0.1 => "below 0.1 %".to_owned(),
        Some(share) => format!("{share:.1} %"),
    }
}
