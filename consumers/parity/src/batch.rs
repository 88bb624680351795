//! Padded batch of an oracle in the model's packed layout.

use vintage_model::{Packed, Targets};

use super::oracle::Tensors;
use crate::error::Result;

/// Rows of `input_ids` without their padding.
pub(super) struct Batch {
    pub(super) packed: Packed,
    /// Rows and columns of the padded tensors.
    pub(super) shape: [usize; 2],
    /// Row-major positions in the padded tensors that hold a token, in packed order.
    pub(super) places: Vec<usize>,
    /// Packed position of every padded position; `None` where that is padding.
    packed_at: Vec<Option<usize>>,
}

impl Batch {
    pub(super) fn new(tensors: &Tensors) -> Result<Self> {
        let name = "input_ids";
        let table = tensors
            .find(name)
            .ok_or_else(|| tensors.refuse(name, "is missing"))?;
        let &[rows, columns] = table.shape.as_slice() else {
            return Err(tensors.refuse(name, "is no table of rows and positions"));
        };
        let shape = [rows, columns];
        let mask = tensors.shaped("attention_mask", &shape)?;
        let positions = match tensors.find("position_ids") {
            Some(_) => Some(tensors.shaped("position_ids", &shape)?),
            None => None,
        };
        let mut places = Vec::new();
        let mut packed_at = vec![None; rows * columns];
        let mut sequences = Vec::new();
        for row in 0..rows {
            let mut sequence = Vec::new();
            for place in row * columns..(row + 1) * columns {
                if mask[place] == 0.0 {
                    continue;
                }
                if positions.is_some_and(|positions| positions[place] != sequence.len() as f64) {
                    let problem = format!("does not count the tokens of row {row} from 0");
                    return Err(tensors.refuse("position_ids", &problem));
                }
                packed_at[place] = Some(places.len());
                places.push(place);
                sequence.push(table.values[place] as u32);
            }
            if !sequence.is_empty() {
                sequences.push(sequence);
            }
        }
        Ok(Self {
            packed: Packed::new(sequences),
            shape,
            places,
            packed_at,
        })
    }

    /// Returns one target for each of the padded positions `places`: the token there, as its
    /// predecessor predicts it. `what` names the tensor that asks for it, for error messages.
    pub(super) fn targets(
        &self,
        places: &[usize],
        temperature: f32,
        tensors: &Tensors,
        what: &str,
    ) -> Result<Targets> {
        let mut targets = Targets::default();
        for &place in places {
            let at = self.packed_at[place];
            let at = at.filter(|at| self.packed.starts.binary_search(at).is_err());
            let Some(at) = at else {
                let problem = format!(
                    "asks for {}, where no token has another before it",
                    self.describe(place)
                );
                return Err(tensors.refuse(what, &problem));
            };
            targets.position.push(at as u32 - 1);
            targets.token.push(self.packed.tokens[at]);
            targets.temperature.push(temperature);
        }
        Ok(targets)
    }

    /// Describes a padded position in words.
    pub(super) fn describe(&self, place: usize) -> String {
        let columns = self.shape[1];
        format!("row {}, position {}", place / columns, place % columns)
    }
}
