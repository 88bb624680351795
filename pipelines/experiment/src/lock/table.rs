//! Tables of a layered decision process: cells of layer, state and action, episodes and their counts.

use crate::draw::Draw;

/// Numbers of layers, of states in a layer, and of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) states: usize,
    pub(crate) actions: usize,
}

impl Shape {
    pub(crate) fn cells(self) -> usize {
        self.layers * self.states * self.actions
    }

    /// Index of a state of a layer.
    pub(crate) fn place(self, layer: usize, state: usize) -> usize {
        layer * self.states + state
    }

    /// Index of an action in a state of a layer.
    pub(crate) fn cell(self, layer: usize, state: usize, action: usize) -> usize {
        self.place(layer, state) * self.actions + action
    }

    /// Layer of a cell.
    pub(crate) fn layer(self, cell: usize) -> usize {
        cell / (self.states * self.actions)
    }
}

/// One step of an episode; its layer is its position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) state: usize,
    pub(crate) action: usize,
    pub(crate) reward: f64,
    /// State of the next layer; 0 and without a meaning after the last.
    pub(crate) next: usize,
}

/// Deterministic policy: the action of every state of every layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    shape: Shape,
    actions: Vec<usize>,
}

impl Policy {
    /// Takes an action for every state of every layer.
    pub(crate) fn new(shape: Shape, mut action: impl FnMut(usize, usize) -> usize) -> Self {
        let places = (0..shape.layers).flat_map(|layer| (0..shape.states).map(move |s| (layer, s)));
        let actions = places.map(|(layer, state)| action(layer, state)).collect();
        Self { shape, actions }
    }

    pub(crate) fn action(&self, layer: usize, state: usize) -> usize {
        self.actions[self.shape.place(layer, state)]
    }
}

/// Sums over the episodes of a data set, by cell.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    shape: Shape,
    episodes: usize,
    visits: Vec<f64>,
    rewards: Vec<f64>,
    /// Visits by cell and next state.
    next: Vec<f64>,
}

/// Cell that was visited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) layer: usize,
    pub(crate) cell: usize,
    pub(crate) visits: f64,
    /// Sum of the rewards.
    rewards: f64,
    /// Visits by next state.
    next: &'a [f64],
}

impl Counts {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            episodes: 0,
            visits: vec![0.0; shape.cells()],
            rewards: vec![0.0; shape.cells()],
            next: vec![0.0; shape.cells() * shape.states],
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn episodes(&self) -> usize {
        self.episodes
    }

    pub(crate) fn add(&mut self, episode: &[Step]) {
        self.episodes += 1;
        for (layer, step) in episode.iter().enumerate() {
            let cell = self.shape.cell(layer, step.state, step.action);
            self.visits[cell] += 1.0;
            self.rewards[cell] += step.reward;
            self.next[cell * self.shape.states + step.next] += 1.0;
        }
    }

    /// Returns a cell; none if it was never visited.
    pub(crate) fn at(&self, cell: usize) -> Option<Seen<'_>> {
        let states = self.shape.states;
        (self.visits[cell] > 0.0).then(|| Seen {
            layer: self.shape.layer(cell),
            cell,
            visits: self.visits[cell],
            rewards: self.rewards[cell],
            next: &self.next[cell * states..(cell + 1) * states],
        })
    }

    /// Returns the cells that were visited, from the first layer to the last.
    pub(crate) fn seen(&self) -> Vec<Seen<'_>> {
        (0..self.shape.cells())
            .filter_map(|cell| self.at(cell))
            .collect()
    }
}

/// Function of states and actions, with its maximum over actions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Function {
    shape: Shape,
    of_cell: Vec<f64>,
    /// Maximum by place, and zeros for the layer after the last.
    of_place: Vec<f64>,
}

impl Function {
    /// Takes the values of all cells.
    pub(crate) fn new(shape: Shape, of_cell: Vec<f64>) -> Self {
        let most = |cells: &[f64]| cells.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut of_place: Vec<_> = of_cell.chunks(shape.actions).map(most).collect();
        of_place.resize((shape.layers + 1) * shape.states, 0.0);
        Self {
            shape,
            of_cell,
            of_place,
        }
    }

    pub(crate) fn at(&self, cell: usize) -> f64 {
        self.of_cell[cell]
    }

    /// Value of the greedy action in a state.
    pub(crate) fn best(&self, layer: usize, state: usize) -> f64 {
        self.of_place[self.shape.place(layer, state)]
    }

    /// Mean Bellman residual of a visited cell: f(x, a) - r - max f(x', ·).
    pub(crate) fn residual(&self, seen: &Seen<'_>) -> f64 {
        let first = self.shape.place(seen.layer + 1, 0);
        let ahead = &self.of_place[first..first + self.shape.states];
        let next: f64 = ahead
            .iter()
            .zip(seen.next)
            .map(|(value, visits)| value * visits)
            .sum();
        self.of_cell[seen.cell] - (seen.rewards + next) / seen.visits
    }

    /// Returns the greedy policy; equal actions are drawn.
    pub(crate) fn greedy(&self, ties: &mut Draw) -> Policy {
        Policy::new(self.shape, |layer, state| {
            let first = self.shape.cell(layer, state, 0);
            let values = &self.of_cell[first..first + self.shape.actions];
            ties.lowest(&values.iter().map(|value| -value))
        })
    }
}

/// Returns fitted Q-iteration with one parameter a cell: from the last layer back, the mean of reward and
/// value ahead; 0 where there is no data.
pub(crate) fn fitted(counts: &Counts) -> Function {
    let shape = counts.shape;
    let mut of_cell = vec![0.0; shape.cells()];
    let mut ahead = vec![0.0; shape.states];
    for layer in (0..shape.layers).rev() {
        let (first, end) = (shape.cell(layer, 0, 0), shape.cell(layer + 1, 0, 0));
        for (at, fitted) in of_cell[first..end].iter_mut().enumerate() {
            if let Some(seen) = counts.at(first + at) {
                let next = ahead.iter().zip(seen.next);
                let next: f64 = next.map(|(value, visits)| value * visits).sum();
                *fitted = (seen.rewards + next) / seen.visits;
            }
        }
        let cells = &of_cell[first..end];
        for (value, cells) in ahead.iter_mut().zip(cells.chunks(shape.actions)) {
            *value = cells.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        }
    }
    Function::new(shape, of_cell)
}
