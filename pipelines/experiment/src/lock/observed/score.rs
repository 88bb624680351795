//! HyGLOW's objective for functions behind decoders, by layer: a function of a code has in a layer one of as
//! many forms as there are actions, so that sums over the layers of all codes are sums of few terms.

use crate::{
    draw::Draw,
    lock::{
        class::{Decoys, Promise},
        table::{Function, Step},
        world::{GOOD, Lock, codes},
    },
};

/// Label of every observation: a decoder's state, or the observation itself.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    pub(super) of: Vec<usize>,
    pub(super) count: usize,
}

impl Labels {
    pub(super) fn of(labels: &[usize], count: usize) -> Self {
        Self {
            of: labels.to_vec(),
            count,
        }
    }

    /// Replaces the observations of a step by their labels.
    pub(super) fn step(&self, step: Step) -> Step {
        Step {
            state: self.of[step.state],
            next: self.of[step.next],
            ..step
        }
    }
}

/// Sums over the visits of a weight's cell.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    visits: f64,
    /// Visits whose observation the function's decoder takes for the good state.
    good: f64,
    /// Visits whose next observation it takes for the good state.
    good_next: f64,
    rewards: f64,
}

/// Functions of all codes and both promises behind each of some decoders, and weights behind others, with the
/// sums that their objective needs.
#[derive(Debug)]
pub(super) struct Composed {
    /// Decoders of the functions.
    decoders: Vec<Labels>,
    /// Labels of the observations whose every weight is in the class.
    weights: Vec<Labels>,
    /// Lock of which the size and the chances matter.
    lock: Lock,
    codes: Vec<Vec<usize>>,
    promises: [Promise; 2],
    /// Sums by decoder and label set; then by layer, label and action.
    sums: Vec<Vec<Sums>>,
    episodes: f64,
}

impl Composed {
    pub(super) fn new(
        lock: &Lock,
        decoys: Decoys,
        decoders: Vec<Labels>,
        weights: Vec<Labels>,
    ) -> Self {
        let layers = lock.code.len();
        let cells = |labels: &Labels| vec![Sums::default(); layers * labels.count * lock.actions];
        let sums = decoders
            .iter()
            .flat_map(|_| weights.iter().map(cells))
            .collect();
        Self {
            codes: codes(layers, lock.actions),
            promises: Promise::both(decoys),
            lock: lock.clone(),
            decoders,
            weights,
            sums,
            episodes: 0.0,
        }
    }

    pub(super) fn add(&mut self, episode: &[Step]) {
        self.episodes += 1.0;
        let pairs = self.decoders.iter().flat_map(|decoder| {
            let weights = self.weights.iter();
            weights.map(move |weight| (decoder, weight))
        });
        for ((decoder, weight), sums) in pairs.zip(&mut self.sums) {
            let is_good = |shown: usize| f64::from(u8::from(decoder.of[shown] == GOOD));
            for (layer, step) in episode.iter().enumerate() {
                let label = layer * weight.count + weight.of[step.state];
                let sums = &mut sums[label * self.lock.actions + step.action];
                sums.visits += 1.0;
                sums.good += is_good(step.state);
                sums.good_next += is_good(step.next);
                sums.rewards += step.reward;
            }
        }
    }

    /// Returns the objective of every function: by decoder, promise and code.
    pub(super) fn scores(&self) -> Vec<f64> {
        let mut scores = Vec::with_capacity(self.decoders.len() * 2 * self.codes.len());
        for decoder in 0..self.decoders.len() {
            for promise in self.promises {
                let of = |weight| self.terms(decoder, weight, promise);
                let terms: Vec<_> = (0..self.weights.len()).map(of).collect();
                let score = |code: &Vec<usize>| {
                    let sum = |terms: &Vec<f64>| -> f64 {
                        let digits = code.iter().enumerate();
                        digits
                            .map(|(layer, digit)| terms[layer * self.lock.actions + digit])
                            .sum()
                    };
                    terms.iter().map(sum).fold(0.0, f64::max)
                };
                scores.extend(self.codes.iter().map(score));
            }
        }
        scores
    }

    /// Terms by layer and the code's action in it, for a decoder of functions and a set of labels.
    fn terms(&self, decoder: usize, weight: usize, promise: Promise) -> Vec<f64> {
        let sums = &self.sums[decoder * self.weights.len() + weight];
        let (layers, actions) = (self.lock.code.len(), self.lock.actions);
        let cells = self.weights[weight].count * actions;
        let of_digit = |digit: usize| promise.function(&self.lock, &vec![digit; layers]);
        let functions: Vec<_> = (0..actions).map(of_digit).collect();
        let shape = self.lock.shape();
        let mut terms = Vec::with_capacity(layers * actions);
        for layer in 0..layers {
            let values = |action| shape.cell(layer, GOOD, action);
            for function in &functions {
                let ahead = function.best(layer + 1, GOOD);
                let mut sides = [0.0; 2];
                for (at, sums) in sums[layer * cells..(layer + 1) * cells].iter().enumerate() {
                    if sums.visits > 0.0 {
                        let value = function.at(values(at % actions));
                        // In the bad state every function is 0.
                        let total = sums.good * value - sums.rewards - sums.good_next * ahead;
                        sides[usize::from(total < 0.0)] += total * total / sums.visits;
                    }
                }
                terms.push(sides[0].max(sides[1]) / self.episodes);
            }
        }
        terms
    }

    /// Draws one of the functions of the least objective; returns it with its decoder.
    pub(super) fn choose(&self, ties: &mut Draw) -> (Function, usize) {
        let at = if self.episodes > 0.0 {
            ties.lowest(&self.scores().iter().copied())
        } else {
            ties.below(self.decoders.len() * self.promises.len() * self.codes.len())
        };
        let (rest, code) = (at / self.codes.len(), at % self.codes.len());
        let promise = self.promises[rest % self.promises.len()];
        let function = promise.function(&self.lock, &self.codes[code]);
        (function, rest / self.promises.len())
    }
}
