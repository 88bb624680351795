use super::{Weight, finite, hybrid, optimistic};
use crate::{
    draw::{Draw, Purpose},
    lock::{
        table::{Counts, Function},
        world::{Chances, Lock},
    },
};

const CHANCES: Chances = Chances {
    success: 0.9,
    lure: 0.1,
};

/// Lock of two layers and two actions with some data, and functions of any values.
fn tiny(seed: u64) -> (Lock, Counts, Vec<Function>) {
    let mut draw = Draw::new(seed, Purpose::World);
    let lock = Lock::draw(2, 2, CHANCES, &mut draw);
    let mut counts = Counts::new(lock.shape());
    for _ in 0..7 {
        counts.add(&lock.play(&mut draw, |_, _, draw| draw.below(2)));
    }
    let functions = (0..5).map(|_| {
        let values = (0..lock.shape().cells()).map(|_| draw.below(100) as f64 / 100.0);
        Function::new(lock.shape(), values.collect())
    });
    let functions = functions.collect();
    (lock, counts, functions)
}

/// Greatest value of `objective` over weights of 0, step, 2 step … for each of `cells` cells.
fn over_grid(cells: usize, step: f64, count: usize, objective: &dyn Fn(&[f64]) -> f64) -> f64 {
    let mut most = f64::NEG_INFINITY;
    for mut at in 0..count.pow(cells as u32) {
        let mut weights = Vec::with_capacity(cells);
        for _ in 0..cells {
            weights.push((at % count) as f64 * step);
            at /= count;
        }
        most = most.max(objective(&weights));
    }
    most
}

#[test]
fn every_weights_closed_forms_are_what_a_search_over_weights_finds() {
    const GAMMA: f64 = 3.0;
    for seed in 0..3 {
        let (lock, counts, functions) = tiny(seed);
        let episodes = counts.episodes() as f64;
        let alpha = 8.0 / (GAMMA * episodes);
        let closed = hybrid(&counts, &functions);
        let above = optimistic(&counts, &functions);
        for ((function, closed), above) in functions.iter().zip(closed).zip(above) {
            let (mut two_sided, mut most_above) = (0.0, 0.0_f64);
            for layer in 0..lock.code.len() {
                let seen = counts.seen();
                let cells: Vec<_> = seen.iter().filter(|cell| cell.layer == layer).collect();
                // Σ p (sign w d - alpha w²); weights up to gamma n = 21, in steps of 0.05 up to 1.5,
                // because the best is gamma n d / 16 and |d| is at most 1.1 here or so.
                let search = |sign: f64| {
                    over_grid(cells.len(), 0.1, 31, &|weights| {
                        let terms = cells.iter().zip(weights).map(|(cell, weight)| {
                            let mass = cell.visits / episodes;
                            let residual = function.residual(cell);
                            mass * (sign * weight * residual - alpha * weight * weight)
                        });
                        terms.sum()
                    })
                };
                let (up, down) = (search(1.0), search(-1.0));
                two_sided += up.max(down);
                most_above = most_above.max(up);
            }
            let factor = GAMMA * episodes / 32.0;
            // A step of 0.1 in w costs at most alpha (0.05)² a cell.
            let tolerance = 4.0 * alpha * 0.05 * 0.05 * 2.0;
            assert!(
                (closed * factor - two_sided).abs() <= tolerance,
                "{closed} {two_sided}"
            );
            // GLOW's left side is n times the sum over cells of p d², over 4 alpha.
            let left = above / episodes * factor;
            assert!(
                (left - most_above).abs() <= tolerance,
                "{left} {most_above}"
            );
        }
    }
}

#[test]
fn the_finite_maximum_is_that_of_the_definition() {
    for seed in 0..20 {
        let (lock, counts, functions) = tiny(seed);
        let shape = lock.shape();
        let mut draw = Draw::new(seed, Purpose::Ties);
        let weights: Vec<_> = (0..4)
            .map(|_| {
                let layers = 0..shape.layers;
                let cell = |layer| shape.cell(layer, draw.below(2), draw.below(2));
                let path: Vec<_> = layers.map(cell).collect();
                Weight::ratio(
                    &path,
                    &vec![0.125; shape.cells()],
                    0.5 + draw.below(20) as f64,
                )
            })
            .collect();
        for alpha in [0.0, 0.01, 0.3] {
            let found = finite(&counts, &functions, &weights, alpha);
            for (function, found) in functions.iter().zip(found) {
                // Every weight, whole or with one layer alone; terms by layer over all cells.
                let value = |weight: &Weight, only: Option<usize>| -> f64 {
                    let layer = |layer: usize| {
                        let (cell, weight) = weight.cells[layer];
                        let weight = if only.is_none_or(|only| only == layer) {
                            weight
                        } else {
                            0.0
                        };
                        counts.at(cell).map_or(0.0, |seen| {
                            let mass = seen.visits / counts.episodes() as f64;
                            let mean = (mass * weight * function.residual(&seen)).abs();
                            mean - alpha * mass * weight * weight
                        })
                    };
                    (0..shape.layers).map(layer).sum()
                };
                let layers = (0..shape.layers).map(Some).chain([None]);
                let expected = weights
                    .iter()
                    .flat_map(|weight| layers.clone().map(move |only| value(weight, only)))
                    .fold(f64::NEG_INFINITY, f64::max);
                assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
        }
    }
}

#[test]
fn ratios_are_clipped_and_infinite_ones_need_it() {
    let weight = Weight::ratio(&[0, 1], &[0.25, 0.0], 15.0);
    assert_eq!(weight.cells, [(0, 4.0), (1, 15.0)]);
}
