//! Lock with noisy observations: each state shows one of `m` observations, and what is learned is composed
//! with one of a few decoders of observations.
//!
//! Observations 0 to m - 1 are those of the good state. The class of decoders holds the right one and
//! others that sort the observations at random, m to each state.

mod score;

use self::score::{Composed, Labels};
use super::{
    class::Decoys,
    settings::{ObservedSettings, Settings},
    table::{Counts, Policy, Shape, Step, fitted},
    world::{BAD, GOOD, Lock},
};
use crate::draw::{Draw, Purpose};

/// Method on the lock with noisy observations; all of them take the archive and live data in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learner {
    /// HyGLOW; functions and weights are composed with the class of decoders.
    Decoded,
    /// HyGLOW; functions are composed, weights are all those of the observations.
    EveryWeight,
    /// H2O with fitted Q-iteration, one parameter for each observation and action.
    FittedQ,
    /// H2O with fitted Q-iteration behind the right decoder, which no learner knows.
    FittedQBehind,
}

impl Learner {
    /// All methods, in the order of the table.
    pub(crate) const ALL: [Self; 4] = [
        Self::Decoded,
        Self::EveryWeight,
        Self::FittedQ,
        Self::FittedQBehind,
    ];

    /// Name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Decoded => "HyGLOW, functions and weights decoded",
            Self::EveryWeight => "HyGLOW, functions decoded, every weight of observations",
            Self::FittedQ => "H2O with fitted Q on observations",
            Self::FittedQBehind => "H2O with fitted Q behind the right decoder",
        }
    }
}

/// Result of one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Played {
    /// True if every policy of the last share of the episodes was optimal, whatever is observed.
    pub(crate) is_solved: bool,
    /// Value of the uniform mixture of all policies.
    pub(crate) value: f64,
}

/// Lock with its observations and the class of decoders.
#[derive(Debug)]
pub(crate) struct ObservedLock {
    pub(crate) lock: Lock,
    observations: usize,
    /// State of every observation, by decoder; the first is right.
    decoders: Vec<Vec<usize>>,
}

impl ObservedLock {
    pub(crate) fn new(
        settings: &Settings,
        observed: &ObservedSettings,
        observations: usize,
        seed: u64,
    ) -> Self {
        let mut world = Draw::new(seed, Purpose::World);
        let (layers, actions) = (settings.horizon, settings.actions);
        let lock = Lock::draw(layers, actions, settings.chances(), &mut world);
        let right: Vec<_> = (0..2 * observations)
            .map(|shown| shown / observations)
            .collect();
        let mut decoders = vec![right.clone()];
        for _ in 1..observed.decoders {
            let mut sorted = right.clone();
            for at in (1..sorted.len()).rev() {
                sorted.swap(at, world.below(at + 1));
            }
            decoders.push(sorted);
        }
        Self {
            lock,
            observations,
            decoders,
        }
    }

    /// Shape of tables over observations.
    fn shape(&self) -> Shape {
        Shape {
            states: 2 * self.observations,
            ..self.lock.shape()
        }
    }

    /// Plays an episode; states of its steps are observations.
    fn play(
        &self,
        draw: &mut Draw,
        mut act: impl FnMut(usize, usize, &mut Draw) -> usize,
    ) -> Vec<Step> {
        let show = |state: usize, draw: &mut Draw| {
            state * self.observations + draw.below(self.observations)
        };
        let mut shown = show(GOOD, draw);
        let layers = 0..self.lock.code.len();
        let steps = layers.map(|layer| {
            let action = act(layer, shown, draw);
            let (state, chance) = self.lock.step(layer, shown / self.observations, action);
            let reward = f64::from(u8::from(draw.chance(chance)));
            let next = show(state, draw);
            let step = Step {
                state: shown,
                action,
                reward,
                next,
            };
            shown = next;
            step
        });
        steps.collect()
    }

    /// Returns the chance that a policy opens the lock.
    pub(crate) fn opened(&self, policy: &Policy) -> f64 {
        let mut chance = 1.0;
        for (layer, right) in self.lock.code.iter().enumerate() {
            let shown = 0..self.observations;
            let right = shown
                .filter(|shown| policy.action(layer, *shown) == *right)
                .count();
            chance *= right as f64 / self.observations as f64;
        }
        chance
    }

    /// Plays all episodes of a method.
    pub(crate) fn learn(
        &self,
        settings: &Settings,
        learner: Learner,
        quality: f64,
        seed: u64,
    ) -> Played {
        let [mut archive, mut live, mut ties] =
            [Purpose::Archive, Purpose::Live, Purpose::Ties].map(|of| Draw::new(seed, of));
        let mut mind = Mind::new(self, learner, settings.decoys);
        let mut opened = Vec::with_capacity(settings.episodes);
        for _ in 0..settings.episodes {
            let policy = mind.choose(self, &mut ties);
            opened.push(self.opened(&policy));
            mind.add(&self.play(&mut live, |layer, shown, _| policy.action(layer, shown)));
            mind.add(&self.play(&mut archive, |layer, _, draw| {
                self.lock.recorded(layer, quality, draw)
            }));
        }
        let share = opened.iter().sum::<f64>() / opened.len() as f64;
        let last = &opened[opened.len() - settings.last()..];
        Played {
            is_solved: last.iter().all(|chance| *chance == 1.0),
            value: self.lock.value(share),
        }
    }
}

/// State of a method: what it keeps of the data.
enum Mind {
    Composed(Composed),
    /// Counts of the states that the labels give to observations.
    Fitted(Counts, Labels),
}

impl Mind {
    fn new(world: &ObservedLock, learner: Learner, decoys: Decoys) -> Self {
        let decoders = || {
            world
                .decoders
                .iter()
                .map(|states| Labels::of(states, 2))
                .collect()
        };
        let shown = world.shape().states;
        let each = Labels::of(&(0..shown).collect::<Vec<_>>(), shown);
        let composed = |weights: Vec<Labels>| {
            Self::Composed(Composed::new(&world.lock, decoys, decoders(), weights))
        };
        let fitted = |labels: Labels| {
            let shape = Shape {
                states: labels.count,
                ..world.shape()
            };
            Self::Fitted(Counts::new(shape), labels)
        };
        match learner {
            Learner::Decoded => composed(decoders()),
            Learner::EveryWeight => composed(vec![each]),
            Learner::FittedQ => fitted(each),
            Learner::FittedQBehind => fitted(Labels::of(&world.decoders[0], 2)),
        }
    }

    fn add(&mut self, episode: &[Step]) {
        match self {
            Self::Composed(composed) => composed.add(episode),
            Self::Fitted(counts, labels) => {
                let labelled: Vec<_> = episode.iter().map(|step| labels.step(*step)).collect();
                counts.add(&labelled);
            }
        }
    }

    /// Returns a policy over observations.
    fn choose(&self, world: &ObservedLock, ties: &mut Draw) -> Policy {
        match self {
            Self::Composed(composed) => {
                let (function, decoder) = composed.choose(ties);
                let greedy = function.greedy(ties);
                let states = &world.decoders[decoder];
                Policy::new(world.shape(), |layer, shown| {
                    greedy.action(layer, states[shown])
                })
            }
            Self::Fitted(counts, labels) => {
                let greedy = fitted(counts).greedy(ties);
                Policy::new(world.shape(), |layer, shown| {
                    greedy.action(layer, labels.of[shown])
                })
            }
        }
    }
}

const _: () = assert!(GOOD == 0 && BAD == 1, "observation / m is the state");

#[cfg(test)]
mod tests;
