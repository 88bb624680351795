//! Results over seeds.

use serde::Serialize;

use super::{
    method::{CLIPPED, H2O, HYBRID, LIVE, OFFLINE, UNCLIPPED},
    observed::{Learner, Played},
    settings::Settings,
    trial::Trial,
};
use crate::statistics::{Estimate, mean, share};

/// Results of the experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Settings of the experiment.
    pub settings: Settings,
    /// Results by archive.
    pub archives: Vec<OfArchive>,
    /// Results with noisy observations, by method.
    pub observed: Vec<OfLearner>,
}

/// Results with one archive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfArchive {
    /// Chance q that the archive's policy does the right action.
    pub quality: f64,
    /// Concentrability of the optimal policy, C* = q^-H.
    pub concentrability: f64,
    /// Outcome of every method.
    pub methods: Vec<Outcome>,
    /// Differences between methods on the same seeds.
    pub contrasts: Vec<Contrast>,
}

/// Outcome of a method over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Name of the method.
    pub method: String,
    /// Number of seeds on which the lock was solved.
    pub solved: usize,
    /// Share of such seeds, with Wilson's interval.
    pub solved_share: Estimate,
    /// Value J of the uniform mixture of all policies, with a bootstrap interval over seeds.
    pub value: Estimate,
    /// Greatest violation of the optimal function over the weights after the last episode, which is 0
    /// without noise; for true ratios only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Estimate>,
}

/// Difference of two methods, seed by seed, with bootstrap intervals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contrast {
    /// Method from whose results is subtracted.
    pub of: String,
    /// Method whose results are subtracted.
    pub over: String,
    /// Difference in the share of solved seeds.
    pub solved_share: Estimate,
    /// Difference in J.
    pub value: Estimate,
}

/// Results of a method with noisy observations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfLearner {
    /// Name of the method.
    pub method: String,
    /// Results by the number of observations of a state.
    pub by_observations: Vec<OfObservations>,
    /// J with the most observations minus J with the fewest, seed by seed.
    pub change: Estimate,
}

/// Results with one number of observations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfObservations {
    /// Number m of observations of a state.
    pub observations: usize,
    /// Number of seeds on which the lock was solved, whatever is observed.
    pub solved: usize,
    /// Share of such seeds, with Wilson's interval.
    pub solved_share: Estimate,
    /// Value J of the uniform mixture of all policies.
    pub value: Estimate,
}

/// Comparisons of the table: what the archive, the clip and live data are worth.
const CONTRASTS: [(&str, &str); 3] = [(HYBRID, LIVE), (CLIPPED, UNCLIPPED), (H2O, OFFLINE)];

fn number(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Sums up the trials of an archive: by seed, then by method.
pub(super) fn of_archive(settings: &Settings, quality: f64, seeds: &[Vec<Trial>]) -> OfArchive {
    let of = |at: usize| seeds.iter().map(move |trials| &trials[at]);
    let outcome = |(at, name): (usize, &String)| {
        let solved = of(at).filter(|trial| trial.is_solved).count();
        let noises: Vec<_> = of(at).filter_map(|trial| trial.noise).collect();
        Outcome {
            method: name.clone(),
            solved,
            solved_share: share(solved, seeds.len()),
            value: mean(&of(at).map(|trial| trial.value).collect::<Vec<_>>()),
            noise: (!noises.is_empty()).then(|| mean(&noises)),
        }
    };
    let names: Vec<_> = settings.methods.iter().map(|method| &method.name).collect();
    let contrast = |(of_name, over_name): (&str, &str)| {
        let find = |name: &str| names.iter().position(|other| *other == name);
        let (first, second) = (find(of_name)?, find(over_name)?);
        let pairs = || of(first).zip(of(second));
        let solved = pairs().map(|(a, b)| number(a.is_solved) - number(b.is_solved));
        let values = pairs().map(|(a, b)| a.value - b.value);
        Some(Contrast {
            of: of_name.to_owned(),
            over: over_name.to_owned(),
            solved_share: mean(&solved.collect::<Vec<_>>()),
            value: mean(&values.collect::<Vec<_>>()),
        })
    };
    OfArchive {
        quality,
        concentrability: quality.powi(-(settings.horizon as i32)),
        methods: names.iter().copied().enumerate().map(outcome).collect(),
        contrasts: CONTRASTS.into_iter().filter_map(contrast).collect(),
    }
}

/// Sums up the results of a method with noisy observations: by seed, then by number of observations.
pub(super) fn of_learner(
    learner: Learner,
    observations: &[usize],
    seeds: &[Vec<Played>],
) -> OfLearner {
    let of = |at: usize| seeds.iter().map(move |played| &played[at]);
    let by = |(at, observations): (usize, &usize)| {
        let solved = of(at).filter(|played| played.is_solved).count();
        OfObservations {
            observations: *observations,
            solved,
            solved_share: share(solved, seeds.len()),
            value: mean(&of(at).map(|played| played.value).collect::<Vec<_>>()),
        }
    };
    let place = |wanted: Option<&usize>| {
        observations
            .iter()
            .position(|count| Some(count) == wanted)
            .unwrap_or(0)
    };
    let (fewest, most) = (
        place(observations.iter().min()),
        place(observations.iter().max()),
    );
    let changes = seeds
        .iter()
        .map(|played| match (played.get(fewest), played.get(most)) {
            (Some(fewest), Some(most)) => most.value - fewest.value,
            _ => 0.0,
        });
    OfLearner {
        method: learner.name().to_owned(),
        by_observations: observations.iter().enumerate().map(by).collect(),
        change: mean(&changes.collect::<Vec<_>>()),
    }
}
