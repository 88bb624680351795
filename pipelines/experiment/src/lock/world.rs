//! Combination lock: one of `actions` is right in each layer, a wrong one is final.

use super::table::{Function, Policy, Shape, Step};
use crate::draw::Draw;

/// State in which every action so far was right.
pub(crate) const GOOD: usize = 0;
/// State after a wrong action.
pub(crate) const BAD: usize = 1;

/// Chances of a reward of 1, which an episode gets at most once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Chances {
    /// Chance at the last action of the right code.
    pub(crate) success: f64,
    /// Chance at the first wrong action: leads away from the code.
    pub(crate) lure: f64,
}

/// Lock with its code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lock {
    pub(crate) code: Vec<usize>,
    pub(crate) actions: usize,
    pub(crate) chances: Chances,
}

impl Lock {
    /// Draws the code of a lock.
    pub(crate) fn draw(layers: usize, actions: usize, chances: Chances, draw: &mut Draw) -> Self {
        Self {
            code: (0..layers).map(|_| draw.below(actions)).collect(),
            actions,
            chances,
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape {
            layers: self.code.len(),
            states: 2,
            actions: self.actions,
        }
    }

    /// Returns the next state and the chance of a reward.
    pub(crate) fn step(&self, layer: usize, state: usize, action: usize) -> (usize, f64) {
        if state == BAD {
            (BAD, 0.0)
        } else if action != self.code[layer] {
            (BAD, self.chances.lure)
        } else if layer + 1 == self.code.len() {
            (GOOD, self.chances.success)
        } else {
            (GOOD, 0.0)
        }
    }

    /// Plays an episode.
    pub(crate) fn play(
        &self,
        rewards: &mut Draw,
        mut act: impl FnMut(usize, usize, &mut Draw) -> usize,
    ) -> Vec<Step> {
        let mut state = GOOD;
        let layers = 0..self.code.len();
        let steps = layers.map(|layer| {
            let action = act(layer, state, rewards);
            let (next, chance) = self.step(layer, state, action);
            let reward = f64::from(u8::from(rewards.chance(chance)));
            let step = Step {
                state,
                action,
                reward,
                next,
            };
            state = next;
            step
        });
        steps.collect()
    }

    /// Draws an action of the archive's policy: right with a chance of `quality`, in the bad state as if it
    /// were the good one.
    pub(crate) fn recorded(&self, layer: usize, quality: f64, draw: &mut Draw) -> usize {
        let right = self.code[layer];
        if draw.chance(quality) {
            return right;
        }
        (right + 1 + draw.below(self.actions - 1)) % self.actions
    }

    /// Returns the cells that a policy visits, one in each layer: transitions are certain.
    pub(crate) fn path(&self, policy: &Policy) -> Vec<usize> {
        let shape = self.shape();
        let mut state = GOOD;
        let layers = 0..self.code.len();
        let cells = layers.map(|layer| {
            let action = policy.action(layer, state);
            let cell = shape.cell(layer, state, action);
            (state, _) = self.step(layer, state, action);
            cell
        });
        cells.collect()
    }

    /// Returns the expected sum of rewards of a policy that is right throughout with a chance of `opened`.
    pub(crate) fn value(&self, opened: f64) -> f64 {
        opened * self.chances.success + (1.0 - opened) * self.chances.lure
    }

    /// Returns true if a policy opens the lock.
    pub(crate) fn is_opened_by(&self, policy: &Policy) -> bool {
        let mut layers = self.code.iter().enumerate();
        layers.all(|(layer, right)| policy.action(layer, GOOD) == *right)
    }

    /// Returns the chance of every cell under the archive's policy.
    pub(crate) fn occupancy(&self, quality: f64) -> Vec<f64> {
        let shape = self.shape();
        let mut chances = vec![0.0; shape.cells()];
        let mut good = 1.0;
        let wrong = (1.0 - quality) / (self.actions - 1) as f64;
        for (layer, right) in self.code.iter().enumerate() {
            for action in 0..self.actions {
                let chance = if action == *right { quality } else { wrong };
                chances[shape.cell(layer, GOOD, action)] = good * chance;
                chances[shape.cell(layer, BAD, action)] = (1.0 - good) * chance;
            }
            good *= quality;
        }
        chances
    }

    /// Returns the optimal function of a lock.
    pub(crate) fn optimal(&self) -> Function {
        let shape = self.shape();
        let mut of_cell = vec![0.0; shape.cells()];
        let mut ahead = 0.0;
        for (layer, right) in self.code.iter().enumerate().rev() {
            let (_, reward) = self.step(layer, GOOD, *right);
            for action in 0..self.actions {
                let value = if action == *right {
                    reward + ahead
                } else {
                    self.chances.lure
                };
                of_cell[shape.cell(layer, GOOD, action)] = value;
            }
            ahead = (reward + ahead).max(self.chances.lure);
        }
        Function::new(shape, of_cell)
    }
}

/// Returns all codes of a lock, in order.
pub(crate) fn codes(layers: usize, actions: usize) -> Vec<Vec<usize>> {
    let count = actions.pow(layers as u32);
    let digit = |code: usize, layer: usize| code / actions.pow(layer as u32) % actions;
    (0..count)
        .map(|code| (0..layers).map(|layer| digit(code, layer)).collect())
        .collect()
}
