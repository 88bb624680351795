//! The answer in one sentence: up to which age rollouts stay inside M2PO's budget.

use std::fmt::Write as _;

use serde::Serialize;
use vintage_control::AlgorithmName;

use crate::figures::AgeFigures;

/// Share of tokens that M2PO may mask at an age that counts as lightly masked.
const LIGHT: f64 = 0.01;

/// Answer to how old rollouts may be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Largest age up to which every measured age is inside M2PO's budget: in no batch is M2 above the
    /// threshold, so that nothing is masked. Absent if not even the smallest is.
    pub inside: Option<u64>,
    /// Largest age up to which M2PO masks at most 1 % of the tokens at every measured age. Absent if
    /// it masks more at the smallest.
    pub light: Option<u64>,
    /// Smallest measured age beyond, at which M2PO masks more; absent if none was measured.
    pub beyond: Option<u64>,
    /// M2PO's threshold on M2.
    pub threshold: f64,
    /// Answer in words.
    pub sentence: String,
}

/// Returns the answer for a run that trains by `own`, from figures by age. Absent if there are none.
pub fn answer(figures: &[AgeFigures], threshold: f64, own: AlgorithmName) -> Option<Answer> {
    let (first, last) = (figures.first()?, figures.last()?);
    let up_to = |most: f64| {
        let held = figures
            .iter()
            .take_while(|of| masked(of, M2PO).is_some_and(|share| share <= most));
        held.last()
    };
    let (inside, light) = (up_to(0.0), up_to(LIGHT));
    let beyond = match light {
        Some(light) => figures.iter().find(|of| of.age > light.age),
        None => Some(first),
    };
    let oldest = |of: &AgeFigures| {
        if of.age == last.age {
            ", the oldest measured,"
        } else {
            ""
        }
    };
    let mut sentence = match inside {
        Some(inside) => {
            let (who, stay) = match inside.age {
                0 => ("Fresh rollouts".to_owned(), "alone stay"),
                _ => (
                    format!("Rollouts of up to {}{}", updates(inside), oldest(inside)),
                    "stay",
                ),
            };
            format!(
                "{who} {stay} inside M2PO's budget, which masks nothing (M2 {} of {threshold})",
                short(inside.m2),
            )
        }
        None => format!(
            "Even rollouts of {} leave M2PO's budget (M2 {} of {threshold})",
            updates(first),
            short(first.m2),
        ),
    };
    if let Some(light) = light.filter(|light| inside.is_none_or(|inside| light.age > inside.age)) {
        let (age, oldest) = (light.age, oldest(light));
        let _infallible = write!(
            sentence,
            "; up to {age}{oldest} it masks at most 1 % of tokens"
        );
    }
    let shown = beyond.or(light)?;
    let mut others = vec![format!("GRPO's clip {}", percent(masked(shown, GRPO)))];
    if own != M2PO && own != GRPO && masked(shown, own).is_some() {
        let name = own.as_str();
        others.push(format!("{name} {}", percent(masked(shown, own))));
    }
    let _infallible = match beyond {
        Some(beyond) => write!(
            sentence,
            "; at {} it masks {}, {}",
            beyond.age,
            percent(masked(beyond, M2PO)),
            others.join(", ")
        ),
        None => write!(sentence, "; there {}", others.join(", ")),
    };
    sentence.push_str(" of tokens");
    if inside.is_none() && first.age == 0 {
        sentence.push_str("; a version should agree with itself: `vintage mismatch` finds out why");
    }
    sentence.push('.');
    Some(Answer {
        inside: inside.map(|of| of.age),
        light: light.map(|of| of.age),
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
