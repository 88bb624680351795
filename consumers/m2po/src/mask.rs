//! The two masks: Algorithm 1 of the paper, and AReaL's reading of it.

use crate::exact::{Grid, Sum};
use crate::rule::check_tau;
use crate::scan::{Scan, scan};
use crate::select::{Cut, select};
use crate::{Error, Real, Tokens};

/// A mask made by a budget on the mean of `v_i = (log r_i)^2`.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondMomentMask {
    /// `M_i`, and false where the token is not valid.
    pub mask: Vec<bool>,
    /// Valid tokens.
    pub n_valid: u64,
    /// Valid tokens under the budget: `|T|` for the paper.
    pub n_constrained: u64,
    /// Valid tokens dropped.
    pub n_masked: u64,
    /// Mean of `v` over the constrained tokens, 0 if there are none.
    pub m2_before: f64,
    /// The same over those kept.
    pub m2_after: f64,
}

/// Algorithm 1 of the paper, exactly, in O(N).
///
/// With `T = { valid i : (A_i > 0 and r_i > 1) or (A_i < 0 and r_i < 1) }` and `v_i = l_i^2`, the
/// largest `v` of `T` is dropped until the mean of the rest of `T` is at most `tau` or nothing is
/// left. Equivalently: what the tokens with `v <= tau` leave of the budget is the
/// `room = sum (tau - v)`, and of the tokens with `v > tau` the longest ascending prefix is kept
/// whose running sum of `v - tau` is at most `room`. Both sums are taken in fixed point, so the
/// mask does not depend on the order of the tokens, save that of equal `v` at the cut the lowest
/// indices are dropped first.
///
/// # Errors
/// Slices of unlike lengths, `tau` out of range, NaN or infinity on a valid token.
pub fn mask_m2<F: Real>(tokens: &Tokens<'_, F>, tau: f64) -> Result<SecondMomentMask, Error> {
    tokens.check_lengths()?;
    check_tau(tau)?;
    let grid = Grid::new(tau);
    let mut found = scan::<F, true>(tokens, tokens.new, tau, &grid)?;
    let room = room_steps(&found, &grid);
    let mut values = std::mem::take(&mut found.values);
    let cut = if room > 0 {
        select(&mut values, room, &grid)
    } else {
        Some(DROP_ALL)
    };
    Ok(finish(tokens, tokens.new, &found, cut, &grid))
}

/// AReaL's mask: `v` is the squared gap between prox (`new` where absent) and behaviour over all
/// valid tokens, the mean kept is strictly below `tau`, and the smallest is always kept.
pub(crate) fn mask_areal<F: Real>(
    tokens: &Tokens<'_, F>,
    tau: f64,
) -> Result<SecondMomentMask, Error> {
    tokens.check_lengths()?;
    check_tau(tau)?;
    let grid = Grid::new(tau);
    let prox = tokens.prox.unwrap_or(tokens.new);
    let mut found = scan::<F, false>(tokens, prox, tau, &grid)?;
    let room = room_steps(&found, &grid);
    if room > 0 {
        let mut values = std::mem::take(&mut found.values);
        // `running sum < room` is `<= room - 1`: the sums are whole.
        let cut = select(&mut values, room - 1, &grid);
        return Ok(finish(tokens, prox, &found, cut, &grid));
    }
    Ok(keep_smallest(tokens, prox, &found))
}

const DROP_ALL: Cut = Cut {
    value: 0.0,
    dropped_ties: 0,
};

/// `sum (tau - v)` over the constrained tokens with `v <= tau`.
fn room_steps(found: &Scan, grid: &Grid) -> i128 {
    let small = i128::from(found.n_constrained) - found.candidates.len() as i128;
    small * grid.tau_steps() - found.small_steps
}

fn squared_gap<F: Real>(reference: &[F], tokens: &Tokens<'_, F>, index: usize) -> f64 {
    let gap: f64 = reference[index].into() - tokens.behavior[index].into();
    gap * gap
}

fn finish<F: Real>(
    tokens: &Tokens<'_, F>,
    reference: &[F],
    found: &Scan,
    cut: Option<Cut>,
    grid: &Grid,
) -> SecondMomentMask {
    let mut mask = tokens.valid.to_vec();
    let mut before = Sum::default();
    let mut after = Sum::default();
    before.add(grid.value(found.small_steps));
    after.add(grid.value(found.small_steps));
    let mut n_masked = 0;
    let mut ties = cut.map_or(0, |cut| cut.dropped_ties);
    for &candidate in &found.candidates {
        let index = candidate as usize;
        let value = squared_gap(reference, tokens, index);
        before.add(value);
        let dropped = cut.is_some_and(|cut| {
            let tie = value == cut.value && ties > 0;
            ties -= usize::from(tie);
            tie || value > cut.value
        });
        if dropped {
            mask[index] = false;
            n_masked += 1;
        } else {
            after.add(value);
        }
    }
    SecondMomentMask {
        mask,
        n_valid: found.n_valid,
        n_constrained: found.n_constrained,
        n_masked,
        m2_before: mean(before, found.n_constrained),
        m2_after: mean(after, found.n_constrained - n_masked),
    }
}

/// No prefix has a mean below `tau`: AReaL then keeps the smallest token, and of equal ones the
/// last in order.
fn keep_smallest<F: Real>(tokens: &Tokens<'_, F>, prox: &[F], found: &Scan) -> SecondMomentMask {
    let mut mask = vec![false; tokens.valid.len()];
    let mut before = Sum::default();
    let mut smallest: Option<(usize, f64)> = None;
    for index in (0..mask.len()).filter(|&index| tokens.valid[index]) {
        let value = squared_gap(prox, tokens, index);
        before.add(value);
        if smallest.is_none_or(|(_, least)| value <= least) {
            smallest = Some((index, value));
        }
    }
    if let Some((index, _)) = smallest {
        mask[index] = true;
    }
    SecondMomentMask {
        mask,
        n_valid: found.n_valid,
        n_constrained: found.n_constrained,
        n_masked: found.n_valid.saturating_sub(1),
        m2_before: mean(before, found.n_valid),
        m2_after: smallest.map_or(0.0, |(_, value)| value),
    }
}

fn mean(sum: Sum, count: u64) -> f64 {
    if count == 0 {
        0.0
    } else {
        sum.value() / count as f64
    }
}
