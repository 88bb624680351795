//! Positions of a packed batch that each layer computes, and the keys that they attend to.

use crate::ops::attention::{Pattern, Segment};
use crate::ops::head;
use crate::packed::{Packed, Targets};

/// Queries and keys of one layer for a packed batch.
#[derive(Debug, Clone)]
pub struct View {
    /// Keys that each query attends to.
    pub pattern: Pattern,
    /// Position of every query in its sequence.
    pub query_positions: Vec<u32>,
    /// Position of every key in its sequence.
    pub key_positions: Vec<u32>,
    /// Rows of the residual stream that continue after this layer's keys and values are computed;
    /// `None` for all. The last layer keeps only rows that a target reads.
    pub kept: Option<Vec<u32>>,
}

/// Views of all layers: every position in all layers but the last, only the rows that are read in
/// the last.
#[derive(Debug, Clone)]
pub struct Views {
    /// View of every layer but the last.
    pub all: View,
    /// View of the last layer.
    pub last: View,
}

impl Views {
    /// Creates the views for a batch, of which the last layer computes only the rows `read`.
    pub fn new(batch: &Packed, read: Vec<u32>) -> Self {
        Self {
            all: View::all(batch),
            last: View::only(batch, read),
        }
    }

    pub(crate) fn of(&self, layer: usize, layers: usize) -> &View {
        if layer + 1 == layers {
            &self.last
        } else {
            &self.all
        }
    }
}

/// Rows of the last layer's output that the targets read.
#[derive(Debug, Clone)]
pub struct Readers {
    /// Packed positions read by any target, ascending.
    pub rows: Vec<u32>,
    /// Index into `rows` for each target.
    pub place: Vec<u32>,
    /// True if the indices are 0, 1, 2, …, so that no rows need to be gathered.
    pub in_order: bool,
    /// Token of each target.
    pub token: Vec<u32>,
    /// Softmax temperature of each target.
    pub temperature: Vec<f32>,
}

impl Readers {
    /// Finds the rows that `targets` read.
    pub fn new(targets: &Targets) -> Self {
        let mut rows = targets.position.clone();
        rows.sort_unstable();
        rows.dedup();
        let place: Vec<u32> = targets
            .position
            .iter()
            .map(|position| rows.partition_point(|row| row < position) as u32)
            .collect();
        let in_order = place
            .iter()
            .enumerate()
            .all(|(i, &place)| i == place as usize);
        let (token, temperature) = (targets.token.clone(), targets.temperature.clone());
        Self {
            rows,
            place,
            in_order,
            token,
            temperature,
        }
    }

    pub(crate) fn queries(&self) -> head::Queries<'_> {
        head::Queries {
            token: &self.token,
            temperature: &self.temperature,
        }
    }
}

impl View {
    /// Creates the view in which every position is computed.
    pub fn all(batch: &Packed) -> Self {
        let positions = positions(batch);
        let segments = batch.sequences().map(|of| Segment {
            queries: of.own.clone(),
            before: of.before,
            keys: of.own,
        });
        let visible = positions.iter().map(|position| position + 1).collect();
        Self {
            pattern: Pattern {
                segments: segments.collect(),
                visible,
            },
            query_positions: positions.clone(),
            key_positions: positions,
            kept: None,
        }
    }

    /// Creates the view in which only the positions `kept`, ascending, continue after keys and
    /// values.
    pub fn only(batch: &Packed, kept: Vec<u32>) -> Self {
        let key_positions = positions(batch);
        if kept.len() == key_positions.len() {
            return Self::all(batch);
        }
        let mut from = 0;
        let segments = batch.sequences().map(|of| {
            let to = from + kept[from..].partition_point(|&row| (row as usize) < of.own.end);
            let queries = from..to;
            from = to;
            Segment {
                queries,
                before: of.before,
                keys: of.own,
            }
        });
        let segments = segments.collect();
        let query_positions: Vec<u32> = kept
            .iter()
            .map(|&row| key_positions[row as usize])
            .collect();
        let visible = query_positions
            .iter()
            .map(|position| position + 1)
            .collect();
        let pattern = Pattern { segments, visible };
        Self {
            pattern,
            query_positions,
            key_positions,
            kept: Some(kept),
        }
    }
}

fn positions(batch: &Packed) -> Vec<u32> {
    batch.sequences().flat_map(|of| of.positions()).collect()
}
