use serde_json::json;
use vintage_control::{AlgorithmName, EvaluationResult, UpdateResult};

use super::{Arm, Grid, Loss, Report, Staleness, Trial};
use crate::course::State;

const LOSSES: [AlgorithmName; 2] = [AlgorithmName::M2po, AlgorithmName::Grpo];

fn grid(seeds: u64) -> Grid {
    Grid {
        losses: LOSSES.map(|name| Loss { name, lr: 1e-4 }).to_vec(),
        staleness: [0, 4].map(Staleness::same).to_vec(),
        first_seed: 7,
        seeds,
        updates: 100,
    }
}

fn arm(loss: AlgorithmName, staleness: u64, seed: u64) -> Arm {
    Arm {
        loss,
        lr: 1e-4,
        staleness: Staleness::same(staleness),
        seed,
    }
}

/// Result of an update of 10 tokens, 4 of them in the trust-region set.
pub(crate) fn update(number: u64, masked: u64, m2: [f64; 2], grad_norm: f64) -> UpdateResult {
    let result = json!({
        "format": "vintage-control/1", "learner": "lead", "policy": "lead", "version": number,
        "weights_sha256": "0".repeat(64), "skipped": null, "loss": 0.0, "grad_norm": grad_norm,
        "groups": 1, "rows": 2, "tokens": 10, "all_tokens": 20, "trust_tokens": 4,
        "masked_tokens": masked, "clip_fraction": masked as f64 / 10.0, "m2_before": m2[0],
        "m2_after": 0.0, "m2_all": m2[1], "kl": 0.0, "max_log_ratio": 0.0, "clamped_tokens": 0,
        "entropy": 0.5, "reward": 0.0, "mean_staleness": 0.0, "max_staleness": 0, "staleness": {},
        "wait_seconds": 0.0, "update_seconds": 0.0, "record_seconds": 0.0, "finished_at_ms": 0,
    });
    serde_json::from_value(result).expect("the result of an update")
}

/// Evaluations every 25 updates; greedy accuracy is twice the sampled one.
fn evaluations(sampled: &[f64]) -> Vec<EvaluationResult> {
    let one = |(at, sampled): (usize, &f64)| {
        let result = json!({
            "format": "vintage-control/1", "policy": "lead", "version": 25 * at,
            "sampled_accuracy": sampled, "greedy_accuracy": 2.0 * sampled, "samples": 64, "seconds": 0.0,
        });
        serde_json::from_value(result).expect("an evaluation")
    };
    sampled.iter().enumerate().map(one).collect()
}

fn trial(arm: Arm, sampled: &[f64]) -> Trial {
    let results = [update(0, 0, [0.0, 0.0], 1.0)];
    Trial::new(
        arm,
        arm.loss,
        State::Finished,
        &results,
        &evaluations(sampled),
    )
}

#[test]
fn a_grid_has_every_combination_once_and_a_whole_table_of_a_seed_first() {
    let grid = grid(2);
    grid.check().expect("a grid");
    let names: Vec<_> = grid.arms().iter().map(crate::course::Arm::name).collect();
    let of_seed =
        |seed| ["m2po-0", "grpo-0", "m2po-4", "grpo-4"].map(|arm| format!("{arm}-{seed}"));
    assert_eq!(names, [of_seed(7), of_seed(8)].concat());
}

#[test]
fn a_grid_without_runs_or_with_a_run_twice_is_refused() {
    let refused = |change: fn(&mut Grid)| {
        let mut grid = grid(1);
        change(&mut grid);
        grid.check().expect_err("refused").to_string()
    };
    assert!(refused(|grid| grid.losses.clear()).contains("losses"));
    assert!(refused(|grid| grid.staleness.push(Staleness::same(4))).contains("`staleness` is 4"));
    assert!(refused(|grid| grid.losses.push(grid.losses[0])).contains("place of a loss"));
    assert!(refused(|grid| grid.losses[1].lr = 0.0).contains("`lr` is 0"));
    assert!(refused(|grid| grid.seeds = 0).contains("`seeds` is 0"));
    assert!(refused(|grid| grid.updates = 0).contains("`updates` is 0"));
    assert!(refused(|grid| grid.seeds = 5000).contains("number of runs"));
}

#[test]
fn final_area_and_best_are_those_of_a_calculation_by_hand() {
    let found = trial(
        arm(AlgorithmName::M2po, 4, 0),
        &[0.0, 0.125, 0.25, 0.5, 0.25, 0.25],
    );
    let figures = found.figures.expect("it was evaluated");
    // Last four: 1.25 / 4. All six: 1.375. Running means: 0.375 / 3, 0.875 / 3, 1 / 3 (version 100), 1 / 3.
    let near =
        |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    near(figures.sampled.last, 0.3125);
    near(figures.sampled.area, 1.375 / 6.0);
    near(figures.sampled.best, 1.0 / 3.0);
    assert_eq!(figures.sampled.best_version, 100);
    near(figures.greedy.last, 0.625);
    assert_eq!((found.prompts, figures.collapse), (64, None));
}

#[test]
fn a_collapse_is_the_first_fall_under_seven_tenths_of_the_best() {
    let collapse = |sampled: &[f64]| {
        let found = trial(arm(AlgorithmName::M2po, 4, 0), sampled);
        found.figures.expect("it was evaluated").collapse
    };
    // Running means of three: 0.6, 0.8, 0.7, 0.5 (version 125), 0.2.
    assert_eq!(collapse(&[0.4, 0.6, 0.8, 1.0, 0.3, 0.2, 0.1]), Some(125));
    // What lies before the best is no collapse, and neither is noise about nothing.
    assert_eq!(collapse(&[0.9, 0.1, 0.1, 0.9, 0.9, 0.9]), None);
    assert_eq!(collapse(&[0.04, 0.06, 0.04, 0.0, 0.0, 0.0]), None);
}

#[test]
fn moments_outside_the_bounded_set_are_what_is_left_of_all() {
    let results = [update(0, 1, [0.5, 0.8], 2.0), update(1, 3, [1.0, 1.0], 4.0)];
    let evaluations = evaluations(&[0.1]);
    let found = |loss| {
        let arm = arm(loss, 4, 0);
        let found = Trial::new(arm, loss, State::Finished, &results, &evaluations);
        found.figures.expect("it was evaluated")
    };
    let figures = found(AlgorithmName::M2po);
    assert!((figures.masked_share - 0.2).abs() < 1e-12);
    assert!((figures.m2_bounded - 0.75).abs() < 1e-12);
    // (10 · 0.8 − 4 · 0.5) / 6 = 1 and (10 · 1 − 4 · 1) / 6 = 1.
    assert!((figures.m2_other.expect("six tokens") - 1.0).abs() < 1e-12);
    assert!((figures.m2_all_peak - 0.9).abs() < 1e-12);
    assert!((figures.grad_norm - 3.0).abs() < 1e-12);
    assert_eq!(found(AlgorithmName::M2poAreal).m2_other, None);
}

#[test]
fn a_run_without_an_evaluation_or_an_update_has_no_figures() {
    let arm = arm(AlgorithmName::M2po, 4, 0);
    let results = [update(0, 0, [0.0, 0.0], 1.0)];
    assert_eq!(
        Trial::new(arm, arm.loss, State::Unfinished, &results, &[]).figures,
        None
    );
    let evaluations = evaluations(&[0.1]);
    assert_eq!(
        Trial::new(arm, arm.loss, State::Unfinished, &[], &evaluations).figures,
        None
    );
}

#[test]
fn means_are_of_finished_runs_and_differences_of_equal_seeds() {
    let [m2po, grpo] = LOSSES;
    let failed = State::Failed {
        reason: "out of memory".to_owned(),
    };
    let trials = vec![
        trial(arm(m2po, 0, 7), &[0.8]),
        trial(arm(grpo, 0, 7), &[0.8]),
        trial(arm(m2po, 4, 7), &[0.6]),
        trial(arm(grpo, 4, 7), &[0.5]),
        trial(arm(m2po, 0, 8), &[0.6]),
        Trial::new(arm(grpo, 0, 8), grpo, State::NotBegun, &[], &[]),
        trial(arm(m2po, 4, 8), &[0.4]),
        Trial::new(arm(grpo, 4, 8), grpo, failed, &[], &[]),
    ];
    let report = Report::new(grid(2), trials);
    assert_eq!(
        (
            report.counts.finished,
            report.counts.failed,
            report.counts.unfinished
        ),
        (6, 1, 1)
    );

    let stale = report.cell(m2po, Staleness::same(4)).expect("a cell");
    let means = stale.means.as_ref().expect("two runs");
    assert!((means.sampled_last.mean - 0.5).abs() < 1e-12);
    // Two seeds: the ends of a bootstrap are the values themselves.
    let (low, high) = means.sampled_last.interval.expect("two seeds");
    assert!((low - 0.4).abs() < 1e-12 && (high - 0.6).abs() < 1e-12);
    // Both seeds lose 0.2 beside staleness 0, so that the interval of the difference has no width.
    let fresh = means.from_fresh.expect("both seeds ran fresh");
    let (low, high) = fresh.interval.expect("two seeds");
    assert!((fresh.mean + 0.2).abs() < 1e-12 && high - low < 1e-12);

    let alone = report.cell(grpo, Staleness::same(4)).expect("a cell");
    assert_eq!((alone.seeds.as_slice(), alone.missing), (&[7][..], 1));
    let interval = alone.means.as_ref().expect("one run").sampled_last.interval;
    assert_eq!(interval, None);
    let contrast = &report.contrasts[1];
    assert_eq!(
        (contrast.staleness, contrast.seeds),
        (Staleness::same(4), 1)
    );
    assert!((contrast.difference.mean - 0.1).abs() < 1e-12);

    let text = report.text();
    assert!(text.contains("grpo-4-8: FAILED: out of memory"), "{text}");
    assert!(text.contains("grpo-0-8: not begun"), "{text}");
    assert!(text.contains("50.0 [40.0, 60.0]"), "{text}");
    assert!(text.contains("tuned for none"), "{text}");
}

#[test]
fn one_seed_is_told_to_have_no_interval() {
    let trials = grid(1).arms().into_iter();
    let trials = trials.map(|arm| trial(arm, &[0.5])).collect();
    let text = Report::new(grid(1), trials).text();
    assert!(
        text.contains("a difference may be chance") && !text.contains('['),
        "{text}"
    );
}

#[test]
fn a_mix_of_ages_is_named_by_its_kind_and_its_bound() {
    for (text, json) in [
        ("64", "64"),
        ("uniform-64", "\"uniform-64\""),
        ("tail-256", "\"tail-256\""),
    ] {
        let staleness: Staleness = text.parse().expect(text);
        assert_eq!(staleness.to_string(), text);
        assert_eq!(serde_json::to_string(&staleness).expect("JSON"), json);
    }
    for text in ["", "same-64", "tail", "tail-", "uniform-x", "-64"] {
        let refused = text.parse::<Staleness>().expect_err(text);
        assert!(
            refused.contains("uniform-64 or tail-64"),
            "{text}: {refused}"
        );
    }
}
