use serde::{Deserialize, Serialize};

use super::Objective;
use crate::{
    candidate::{Candidate, Features},
    error::{Error, Result},
};

/// Facility location: `f(S) = Σ_a max_{i ∈ S} w_i sim(a, i)` over fixed anchors `a`.
///
/// Anchors are vectors that stand for what a policy meets, such as sketches of a sample of prompts;
/// each is served by the chosen candidate that is most like it. Similarity is the cosine, or 0 where
/// that is negative. It is computed once, when a candidate is inserted; a gain then looks at one
/// number for each anchor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FacilityLocation {
    anchors: Vec<Vec<f32>>,
}

impl FacilityLocation {
    /// Creates the objective of some anchors, all of one length.
    ///
    /// # Errors
    /// [`Error::Sketch`] if the anchors differ in length.
    pub fn new(anchors: Vec<Vec<f32>>) -> Result<Self> {
        let expected = anchors.first().map_or(0, Vec::len);
        if let Some(other) = anchors.iter().find(|anchor| anchor.len() != expected) {
            let got = other.len();
            return Err(Error::Sketch { got, expected });
        }
        Ok(Self { anchors })
    }

    /// Returns the similarity of a sketch to each anchor, from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Sketch`] for a sketch of another length than the anchors.
    pub fn similarities(&self, sketch: &[f32]) -> Result<Vec<f32>> {
        let of = |anchor: &Vec<f32>| {
            if anchor.len() == sketch.len() {
                return Ok(cosine(anchor, sketch));
            }
            Err(Error::Sketch {
                got: sketch.len(),
                expected: anchor.len(),
            })
        };
        self.anchors.iter().map(of).collect()
    }
}

/// Returns the cosine of two vectors of one length, or 0 where it is negative or there is none.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    if cosine > 0.0 {
        cosine.min(1.0) as f32
    } else {
        0.0
    }
}

impl Objective for FacilityLocation {
    /// Similarity to each anchor, at least 0: any measure will do, if candidates are inserted with
    /// features of their own.
    type Features = Vec<f32>;
    /// Worth of each anchor; empty for the empty set.
    type Chosen = Vec<f64>;

    fn features(&self, candidate: &Candidate) -> Result<(Vec<f32>, f64)> {
        let weight = Features::of(candidate)?.weight;
        Ok((self.similarities(&candidate.sketch)?, weight))
    }

    fn gain(&self, chosen: &Vec<f64>, similarities: &Vec<f32>, weight: f64) -> f64 {
        let worths = chosen.iter().copied().chain(std::iter::repeat(0.0));
        let gains = similarities.iter().zip(worths);
        gains
            .map(|(similarity, worth)| (weight * f64::from(*similarity) - worth).max(0.0))
            .sum()
    }

    fn add(&self, chosen: &mut Vec<f64>, similarities: &Vec<f32>, weight: f64) {
        if chosen.len() < similarities.len() {
            chosen.resize(similarities.len(), 0.0);
        }
        for (worth, similarity) in chosen.iter_mut().zip(similarities) {
            *worth = worth.max(weight * f64::from(*similarity));
        }
    }
}
