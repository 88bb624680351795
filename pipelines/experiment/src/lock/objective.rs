//! Objectives of the algorithms on counts: the inner maximum over weights, in closed form or over a finite
//! class.

use super::table::{Counts, Function};

/// Returns the inner maximum of HyGLOW with every weight function of the cells as its class, without its factor.
///
/// For a weight `w` of a cell with mass `p` and mean residual `d`, `p w d - a p w²` is greatest at `w = d / 2a`
/// and then `p d² / 4a`. Weights are not negative, so that a layer's term, which is an absolute value, is
/// greatest with the weights on the positive residuals alone or on the negative ones alone. The factor `1 / 4a`
/// is `gamma n / 32` for the paper's `a = 8 / (gamma n)`, and `w = gamma n d / 16` never meets its bound
/// `gamma n`: gamma cancels, and so does any scale of `a`.
pub(crate) fn hybrid(counts: &Counts, functions: &[Function]) -> Vec<f64> {
    let seen = counts.seen();
    let episodes = counts.episodes().max(1) as f64;
    let mut sums = vec![[0.0; 2]; counts.shape().layers];
    let of = |function: &Function| {
        sums.fill([0.0; 2]);
        for cell in &seen {
            let residual = function.residual(cell);
            sums[cell.layer][usize::from(residual < 0.0)] += cell.visits * residual * residual;
        }
        sums.iter()
            .map(|[above, below]| above.max(*below))
            .sum::<f64>()
            / episodes
    };
    functions.iter().map(of).collect()
}

/// Returns the left side of GLOW's condition with every weight function as its class: the greatest sum over a
/// layer's cells of visits times squared residual, of the residuals above 0 alone.
pub(crate) fn optimistic(counts: &Counts, functions: &[Function]) -> Vec<f64> {
    let seen = counts.seen();
    let mut sums = vec![0.0; counts.shape().layers];
    let of = |function: &Function| {
        sums.fill(0.0);
        for cell in &seen {
            let above = function.residual(cell).max(0.0);
            sums[cell.layer] += cell.visits * above * above;
        }
        sums.iter().copied().fold(0.0, f64::max)
    };
    functions.iter().map(of).collect()
}

/// Weight function that is not zero in one cell of each layer: the density ratio of a policy whose path is
/// certain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weight {
    /// Cell and weight, by layer.
    pub(crate) cells: Vec<(usize, f64)>,
}

impl Weight {
    /// Takes the ratio of the policy with this path to a mixture, at most `cap`.
    pub(crate) fn ratio(path: &[usize], mixture: &[f64], cap: f64) -> Self {
        let of = |cell: &usize| (*cell, (1.0 / mixture[*cell]).min(cap));
        Self {
            cells: path.iter().map(of).collect(),
        }
    }
}

/// Returns HyGLOW's inner maximum over a finite class: `sum_h |E w d| - alpha E w²`, over the weights as they
/// are and over each of their layers alone. Negated weights give the same.
pub(crate) fn finite(
    counts: &Counts,
    functions: &[Function],
    weights: &[Weight],
    alpha: f64,
) -> Vec<f64> {
    let episodes = counts.episodes().max(1) as f64;
    let seen = counts.seen();
    let mut position = vec![None; counts.shape().cells()];
    for (at, cell) in seen.iter().enumerate() {
        position[cell.cell] = Some(at);
    }
    // Cells without visits have no mass. Terms of a weight: position, factor of the residual, penalty.
    let term = |(cell, weight): &(usize, f64)| {
        let at = position[*cell]?;
        let mass = seen[at].visits / episodes;
        Some((at, mass * weight, alpha * mass * weight * weight))
    };
    let terms: Vec<Vec<_>> = weights
        .iter()
        .map(|weight| weight.cells.iter().filter_map(term).collect())
        .collect();
    let mut residuals = vec![0.0; seen.len()];
    let of = |function: &Function| {
        for (residual, cell) in residuals.iter_mut().zip(&seen) {
            *residual = function.residual(cell);
        }
        // A weight with a layer that has no data has the term 0 there.
        let mut most = f64::NEG_INFINITY;
        for terms in &terms {
            let mut whole = 0.0;
            for (at, factor, penalty) in terms {
                let layer = factor * residuals[*at].abs() - penalty;
                most = most.max(layer);
                whole += layer;
            }
            most = most.max(whole);
            if terms.len() < counts.shape().layers {
                most = most.max(0.0);
            }
        }
        most
    };
    functions.iter().map(of).collect()
}

#[cfg(test)]
mod tests;
