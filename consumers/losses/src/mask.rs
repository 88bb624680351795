//! The two second-moment masks: Algorithm 1 of the paper, and AReaL's variant of it.

use std::collections::BTreeSet;

use crate::exact::{Grid, Sum};
use crate::ranges::check_tau;
use crate::scan::{Scan, scan};
use crate::select::{Cut, select};
use crate::{error::Error, real::Real, tokens::Tokens};

/// Mask that keeps the mean of `v_i = (log r_i)^2` within a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondMomentMask {
    /// `M_i` per token: true if the token is kept, false if it is dropped or not valid.
    pub mask: Vec<bool>,
    /// Number of valid tokens.
    pub n_valid: u64,
    /// Number of valid tokens that the budget applies to: `|T|` for the paper, all valid ones for
    /// AReaL.
    pub n_constrained: u64,
    /// Number of valid tokens that were dropped.
    pub n_masked: u64,
    /// Mean of `v` over the constrained tokens before masking; 0 if there are none.
    pub m2_before: f64,
    /// Mean of `v` over the constrained tokens that were kept; 0 if there are none.
    pub m2_after: f64,
}

/// Computes the mask of Algorithm 1 of the paper, exactly, in O(N).
///
/// Let `T = { valid i : (A_i > 0 and r_i > 1) or (A_i < 0 and r_i < 1) }` and `v_i = l_i^2`. The
/// algorithm drops the token with the largest `v` from `T` until the mean of the rest of `T` is at
/// most `tau` or `T` is empty. The implementation is equivalent: the tokens with `v <= tau` leave
/// `room = sum (tau - v)` of the budget, and of the tokens with `v > tau` the longest ascending
/// prefix is kept whose running sum of `v - tau` is at most `room`. Both sums are taken in fixed
/// point, so the mask does not depend on the order of the tokens, with one exception: among tokens
/// of equal `v` at the cut, the lowest indices are dropped first.
///
/// # Errors
/// Returns an error for slices of different lengths, more than 2^32 - 1 tokens, `tau` out of range,
/// and NaN or infinity on a valid token.
pub fn mask_m2<F: Real>(tokens: &Tokens<'_, F>, tau: f64) -> Result<SecondMomentMask, Error> {
    tokens.check_lengths()?;
    check_tau(tau)?;
    if let Some(scope) = tokens.scope {
        return mask_scopes(tokens, scope, tau);
    }
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

/// Computes the mask of every scope by itself. The means are over the tokens of all scopes.
fn mask_scopes<F: Real>(
    tokens: &Tokens<'_, F>,
    scope: &[u32],
    tau: f64,
) -> Result<SecondMomentMask, Error> {
    let n = tokens.valid.len();
    let mut all = SecondMomentMask {
        mask: vec![false; n],
        n_valid: 0,
        n_constrained: 0,
        n_masked: 0,
        m2_before: 0.0,
        m2_after: 0.0,
    };
    let (mut before, mut after) = (Sum::default(), Sum::default());
    for own in scope.iter().copied().collect::<BTreeSet<_>>() {
        let valid: Vec<bool> = (0..n)
            .map(|index| tokens.valid[index] && scope[index] == own)
            .collect();
        let part = mask_m2(
            &Tokens {
                valid: &valid,
                scope: None,
                ..*tokens
            },
            tau,
        )?;
        for (all, own) in all.mask.iter_mut().zip(&part.mask) {
            *all |= own;
        }
        all.n_valid += part.n_valid;
        all.n_constrained += part.n_constrained;
        all.n_masked += part.n_masked;
        before.add(part.m2_before * part.n_constrained as f64);
        after.add(part.m2_after * (part.n_constrained - part.n_masked) as f64);
    }
    all.m2_before = mean(before, all.n_constrained);
    all.m2_after = mean(after, all.n_constrained - all.n_masked);
    Ok(all)
}

/// Computes AReaL's mask. Here `v` is the squared difference of the proximal (`new` where absent)
/// and the behaviour log-prob, over all valid tokens. The mean of the kept tokens is strictly below
/// `tau`, except that the token with the smallest `v` is always kept.
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
        // The sums are integers, so `running sum < room` equals `running sum <= room - 1`.
        let cut = select(&mut values, room - 1, &grid);
        return Ok(finish(tokens, prox, &found, cut, &grid));
    }
    Ok(keep_smallest(tokens, prox, &found))
}

const DROP_ALL: Cut = Cut {
    value: 0.0,
    dropped_ties: 0,
};

/// Returns the unused budget `sum (tau - v)` over the constrained tokens with `v <= tau`, in steps.
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

/// Keeps only the token with the smallest `v`, as AReaL does if no prefix has a mean below `tau`.
/// Of several with equal `v`, the last one is kept.
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
