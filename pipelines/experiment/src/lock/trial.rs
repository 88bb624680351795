//! One seed of one method: the loop of H2O, of which the others are special cases.

use super::{
    class::Class,
    method::{Algorithm, Method, Source, THEORY},
    objective::{self, Weight},
    settings::Settings,
    table::{Counts, Policy, fitted},
    world::{GOOD, Lock},
};
use crate::draw::{Draw, Purpose};

/// Result of one seed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trial {
    /// True if every policy of the last share of the episodes was optimal.
    pub(crate) is_solved: bool,
    /// Value of the uniform mixture of all policies.
    pub(crate) value: f64,
    /// Greatest violation of the optimal function over the weights at the end, which is 0 without noise; for
    /// true ratios only.
    pub(crate) noise: Option<f64>,
}

/// Lock, class and the paths of the codes' policies: the same for all methods on a seed.
#[derive(Debug)]
pub(crate) struct Stage {
    lock: Lock,
    class: Class,
    /// Paths of the policies of all codes, each path once.
    paths: Vec<Vec<usize>>,
}

impl Stage {
    pub(crate) fn new(settings: &Settings, seed: u64) -> Self {
        let mut world = Draw::new(seed, Purpose::World);
        let (layers, actions) = (settings.horizon, settings.actions);
        let lock = Lock::draw(layers, actions, settings.chances(), &mut world);
        let class = Class::of(&lock, settings.decoys);
        let mut paths: Vec<_> = class
            .policies
            .iter()
            .map(|policy| lock.path(policy))
            .collect();
        paths.sort();
        paths.dedup();
        Self { lock, class, paths }
    }

    /// Plays all episodes of a method.
    pub(crate) fn play(
        &self,
        settings: &Settings,
        method: &Method,
        quality: f64,
        seed: u64,
    ) -> Trial {
        let (lock, episodes) = (&self.lock, settings.episodes);
        let [mut archive, mut live, mut ties] =
            [Purpose::Archive, Purpose::Live, Purpose::Ties].map(|of| Draw::new(seed, of));
        let mut counts = Counts::new(lock.shape());
        let mut occupancies = Occupancies::new(lock, method.source, quality);
        let mut record = |counts: &mut Counts| {
            counts.add(&lock.play(&mut archive, |layer, _, draw| {
                lock.recorded(layer, quality, draw)
            }));
        };
        if method.source == Source::Archive {
            (0..episodes).for_each(|_| record(&mut counts));
        }
        let mut opened = Vec::with_capacity(episodes);
        for episode in 1..=episodes {
            let mixture = occupancies.mixture();
            let policy = self.choose(method, settings, episode, &counts, &mixture, &mut ties);
            opened.push(lock.is_opened_by(&policy));
            if method.source != Source::Archive {
                let act = |layer, state, _: &mut Draw| policy.action(layer, state);
                counts.add(&lock.play(&mut live, act));
                occupancies.add(&lock.path(&policy));
            }
            if method.source == Source::Hybrid {
                record(&mut counts);
            }
        }
        let share = opened.iter().filter(|is| **is).count() as f64 / episodes as f64;
        let last = settings.last();
        Trial {
            is_solved: opened[episodes - last..].iter().all(|is| *is),
            value: lock.value(share),
            noise: self.noise(method, episodes, &counts, &occupancies.mixture()),
        }
    }

    fn choose(
        &self,
        method: &Method,
        settings: &Settings,
        episode: usize,
        counts: &Counts,
        mixture: &[f64],
        ties: &mut Draw,
    ) -> Policy {
        let functions = &self.class.functions;
        let scores = match method.algorithm {
            Algorithm::EveryWeight => objective::hybrid(counts, functions),
            Algorithm::TrueRatios { gamma, alpha_scale } => {
                let weights = self.weights(mixture, gamma, episode);
                let alpha = penalty(gamma, alpha_scale, episode);
                objective::finite(counts, functions, &weights, alpha)
            }
            Algorithm::Optimistic { beta_scale, delta } => {
                let threshold = beta_scale * THEORY * self.log_of_classes(settings, delta);
                let excess = objective::optimistic(counts, functions);
                if excess.iter().any(|excess| *excess <= threshold) {
                    let value = |(excess, function): (f64, &super::table::Function)| {
                        if excess <= threshold {
                            -function.best(0, GOOD)
                        } else {
                            f64::INFINITY
                        }
                    };
                    excess.into_iter().zip(functions).map(value).collect()
                } else {
                    excess
                }
            }
            Algorithm::FittedQ => return fitted(counts).greedy(ties),
            Algorithm::Random => {
                let actions = settings.actions;
                return Policy::new(self.lock.shape(), |_, _| ties.below(actions));
            }
        };
        let chosen = ties.lowest(&scores.iter().copied());
        functions[chosen].greedy(ties)
    }

    fn weights(&self, mixture: &[f64], gamma: Option<f64>, episode: usize) -> Vec<Weight> {
        let cap = gamma.map_or(f64::INFINITY, |gamma| gamma * episode as f64);
        let ratio = |path: &Vec<usize>| Weight::ratio(path, mixture, cap);
        self.paths.iter().map(ratio).collect()
    }

    /// `log(6 |F| |W| T H / delta)`, with the codes' policies as the size of W.
    fn log_of_classes(&self, settings: &Settings, delta: f64) -> f64 {
        let sizes = self.class.functions.len() * self.class.policies.len();
        let steps = settings.episodes * settings.horizon;
        (6.0 * sizes as f64 * steps as f64 / delta).ln()
    }

    fn noise(
        &self,
        method: &Method,
        episode: usize,
        counts: &Counts,
        mixture: &[f64],
    ) -> Option<f64> {
        let Algorithm::TrueRatios { gamma, .. } = method.algorithm else {
            return None;
        };
        let weights = self.weights(mixture, gamma, episode);
        let optimal = [self.lock.optimal()];
        objective::finite(counts, &optimal, &weights, 0.0)
            .first()
            .copied()
    }
}

/// Factor of the squared weights in episode `episode`.
fn penalty(gamma: Option<f64>, scale: f64, episode: usize) -> f64 {
    gamma.map_or(0.0, |gamma| scale * 8.0 / (gamma * episode as f64))
}

/// Chance of every cell under what sampled the data so far.
#[derive(Debug)]
struct Occupancies {
    /// Chances under the archive's policy; none if no archive is used.
    archive: Option<Vec<f64>>,
    /// Visits of the paths of the policies that were played.
    live: Vec<f64>,
    played: usize,
}

impl Occupancies {
    fn new(lock: &Lock, source: Source, quality: f64) -> Self {
        Self {
            archive: (source != Source::Live).then(|| lock.occupancy(quality)),
            live: vec![0.0; lock.shape().cells()],
            played: 0,
        }
    }

    fn add(&mut self, path: &[usize]) {
        self.played += 1;
        for cell in path {
            self.live[*cell] += 1.0;
        }
    }

    /// Mean of the archive's policy and the mean of the policies that were played.
    fn mixture(&self) -> Vec<f64> {
        let played = self.played.max(1) as f64;
        match &self.archive {
            None => self.live.iter().map(|visits| visits / played).collect(),
            Some(archive) if self.played == 0 => archive.clone(),
            Some(archive) => {
                let both = archive.iter().zip(&self.live);
                both.map(|(of, visits)| 0.5 * (of + visits / played))
                    .collect()
            }
        }
    }
}
