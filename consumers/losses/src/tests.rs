//! Tests of the selection and of the fixed-point sums against plain sorting and integer arithmetic.

use proptest::prelude::*;

use crate::exact::{Grid, Sum};
use crate::select::{Cut, select};

fn cut_by_sorting(values: &[f64], room: i128, grid: &Grid) -> Option<Cut> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut used = 0_i128;
    let kept = sorted
        .iter()
        .take_while(|value| {
            used = used.saturating_add(grid.steps(**value).saturating_sub(grid.tau_steps()));
            used <= room
        })
        .count();
    let value = *sorted.get(kept)?;
    let dropped_ties = sorted[kept..]
        .iter()
        .filter(|other| **other == value)
        .count();
    Some(Cut {
        value,
        dropped_ties,
    })
}

/// Generates values above `tau`: close together, in a few levels, over many octaves, and infinite.
fn above(tau: f64) -> impl Strategy<Value = f64> {
    prop_oneof![
        (0_u64..4).prop_map(move |ulps| f64::from_bits(tau.to_bits() + 1 + ulps)),
        (1_u32..6).prop_map(move |level| tau * (1.0 + f64::from(level))),
        (0.0..1.0_f64).prop_map(move |x| tau + x.max(1e-6)),
        (0.0..300.0_f64).prop_map(move |octave| tau * octave.exp2().max(1.5)),
        Just(f64::INFINITY),
    ]
}

proptest! {
    #[test]
    fn selection_equals_sorting(
        (tau, values, share) in prop_oneof![Just(0.04), Just(0.0625), Just(1e9), Just(1e-12)]
            .prop_flat_map(|tau| (Just(tau), prop::collection::vec(above(tau), 0..200), 0.0..1.2)),
    ) {
        let grid = Grid::new(tau);
        let finite: i128 = values
            .iter()
            .filter(|value| **value < 1e3 * tau)
            .map(|value| grid.steps(*value) - grid.tau_steps())
            .sum();
        for room in [0, 1, (finite as f64 * share) as i128, finite, finite + 1] {
            let mut scratch = values.clone();
            prop_assert_eq!(
                select(&mut scratch, room, &grid),
                cut_by_sorting(&values, room, &grid)
            );
        }
    }

    /// Checks that the sum is exact, in any order and with any split, for multiples of 2^-40 below
    /// a `tau` of about 1, which are on the grid.
    #[test]
    fn sums_are_exact_and_split_anywhere(
        whole in prop::collection::vec(0_i64..1 << 39, 0..300),
        at in 0_usize..300,
    ) {
        let grid = Grid::new(0.75);
        let values: Vec<f64> = whole.iter().map(|&x| x as f64 / 2_f64.powi(40)).collect();
        let steps = grid.sum(&values);
        let total: i64 = whole.iter().sum();
        prop_assert_eq!(grid.value(steps), total as f64 / 2_f64.powi(40));
        let (left, right) = values.split_at(at.min(values.len()));
        prop_assert_eq!(grid.sum(left) + grid.sum(right), steps);
        let reversed: Vec<f64> = values.iter().rev().copied().collect();
        prop_assert_eq!(grid.sum(&reversed), steps);
    }

    /// Checks that split and order do not matter for arbitrary values up to `tau`, even where the
    /// grid rounds.
    #[test]
    fn rounded_sums_split_anywhere(
        values in prop::collection::vec(0.0..=0.04_f64, 0..300),
        at in 0_usize..300,
    ) {
        let grid = Grid::new(0.04);
        let steps = grid.sum(&values);
        let (left, right) = values.split_at(at.min(values.len()));
        prop_assert_eq!(grid.sum(left) + grid.sum(right), steps);
        let plain: f64 = values.iter().sum();
        prop_assert!((grid.value(steps) - plain).abs() <= 1e-12 * plain);
        prop_assert!(steps <= values.len() as i128 * grid.tau_steps());
    }
}

#[test]
fn two_sum_keeps_what_addition_loses() {
    let mut sum = Sum::default();
    for term in [1.0, 1e17, 1.0, -1e17] {
        sum.add(term);
    }
    assert_eq!(sum.value(), 2.0);
}

#[test]
fn an_overflowed_sum_stays_infinite() {
    let mut sum = Sum::default();
    for term in [f64::MAX, f64::MAX, 1.0] {
        sum.add(term);
    }
    assert_eq!(sum.value(), f64::INFINITY);
}

/// Checks a shape that needs all six rounds of the selection, each of which is linear, on a range
/// of 64 bits.
#[test]
fn selection_survives_many_values_of_one_bucket() {
    let grid = Grid::new(0.04);
    let mut values = vec![f64::INFINITY, 0.05];
    values.extend((0..100_000_u64).map(|ulps| f64::from_bits(0.05_f64.to_bits() + ulps % 977)));
    let each = grid.steps(0.05) - grid.tau_steps();
    let room = each * 50_000;
    let expected = cut_by_sorting(&values, room, &grid);
    assert_eq!(select(&mut values, room, &grid), expected);
}
