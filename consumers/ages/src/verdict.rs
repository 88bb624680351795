//! Sentence about the directions: up to which age the run's loss points where fresh rollouts would.

use vintage_control::AlgorithmName;

use crate::directions::{AgeDirections, LossDirection};

/// Share of a fresh batch's cosine that counts as all of it where there is no interval.
const ABOUT: f64 = 0.9;

/// Returns what the directions say of `own`, the loss that the run trains by, in a sentence; `None` if it
/// was not measured. `groups` is the number of groups of a batch.
pub fn verdict(ages: &[AgeDirections], own: AlgorithmName, groups: u64) -> Option<String> {
    let measured: Vec<_> = ages
        .iter()
        .filter_map(|of| Some((of, of.losses.get(own.as_str())?)))
        .collect();
    let &(oldest, last) = measured.last()?;
    let (name, level) = (own.as_str(), last.fresh.mean);
    let fresh = measured.iter().take_while(|(_, of)| is_as_fresh(of)).last();
    let reach = match fresh {
        Some((of, _)) if of.age == oldest.age => {
            format!(
                "that of {name} is not told apart from it at any staleness, up to {}",
                of.age
            )
        }
        Some((of, _)) => {
            format!(
                "that of {name} is not told apart from it up to staleness {}",
                of.age
            )
        }
        None => format!(
            "that of {name} is below it even at staleness {}",
            measured[0].0.age
        ),
    };
    let best = oldest.losses.iter().max_by(|a, b| {
        let means = (a.1.cosine.mean, b.1.cosine.mean);
        means.0.total_cmp(&means.1).then_with(|| b.0.cmp(a.0))
    });
    let best = best.filter(|(best, _)| **best != name);
    let best = best.map_or_else(String::new, |(best, of)| {
        format!(
            ", where the highest is that of {best}, {:.2}",
            of.cosine.mean
        )
    });
    Some(format!(
        "The gradient of a fresh batch of {groups} groups has a cosine of {level:.2} with the on-policy \
         gradient; {reach}, and has {:.2} at {}{best}.",
        last.cosine.mean, oldest.age
    ))
}

/// Returns true if what is missing to the cosine of a fresh batch may be chance.
fn is_as_fresh(of: &LossDirection) -> bool {
    match of.short.half {
        Some(half) => of.short.mean <= half,
        None => of.cosine.mean >= ABOUT * of.fresh.mean,
    }
}
