//! Batches of groups with their tokens, and gradients of weights on them.

use vintage_ages::Group;
use vintage_mismatch::{Row, lay_out, parts};
use vintage_model::{Decoder, Gradients, Packed, Tape, Targets};

use crate::error::Result;

/// Groups that a loss sees at once, with the tokens of their rollouts.
#[derive(Default)]
pub(super) struct Batch {
    /// Groups, whose rollouts follow one another.
    pub(super) groups: Vec<Group>,
    /// Tokens of the rollouts, in the same order.
    rows: Vec<Row>,
}

impl Batch {
    pub(super) fn push(&mut self, group: Group, rows: Vec<Row>) {
        self.groups.push(group);
        self.rows.extend(rows);
    }

    /// Makes batches of at most `groups` groups, in the order of their ids.
    pub(super) fn split(mut all: Vec<(Group, Vec<Row>)>, groups: usize) -> Vec<Self> {
        all.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        let mut batches: Vec<Self> = Vec::new();
        for (group, rows) in all {
            match batches.last_mut() {
                Some(batch) if batch.groups.len() < groups.max(1) => batch.push(group, rows),
                _ => {
                    let mut batch = Self::default();
                    batch.push(group, rows);
                    batches.push(batch);
                }
            }
        }
        batches
    }
}

/// Batch in the layout of the model. Where it goes through the model in one piece, one forward pass
/// serves all gradients; otherwise each gradient runs forward again, piece by piece, so that memory does
/// not grow with the batch.
pub(super) struct LaidOut<'a> {
    decoder: &'a Decoder,
    pieces: Vec<(Packed, Targets)>,
    tape: Option<Tape>,
}

impl<'a> LaidOut<'a> {
    pub(super) fn of(decoder: &'a Decoder, batch: &Batch) -> Result<Self> {
        let rows: Vec<_> = batch.rows.iter().collect();
        let pieces: Vec<_> = parts(&rows).map(lay_out).collect();
        let tape = match &pieces[..] {
            [(packed, targets)] => Some(decoder.forward(packed, targets)?.1),
            _ => None,
        };
        Ok(Self {
            decoder,
            pieces,
            tape,
        })
    }

    /// Computes the gradient of every trained parameter, one after the other, for weights of the log-probs:
    /// one per completion token.
    pub(super) fn gradient(&self, weights: &[f32]) -> Result<Vec<f32>> {
        let mut gradients = Gradients::zeros_like(self.decoder.trainable())?;
        let mut rest = weights;
        for (packed, targets) in &self.pieces {
            let (now, later) = rest.split_at(targets.len().min(rest.len()));
            rest = later;
            let tape = match &self.tape {
                Some(tape) => tape.clone(),
                None => self.decoder.forward(packed, targets)?.1,
            };
            self.decoder.backward(tape, now, &mut gradients)?;
        }
        let mut all = Vec::new();
        gradients.update(|_, values| all.extend_from_slice(values))?;
        Ok(all)
    }
}
