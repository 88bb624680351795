use std::sync::Mutex;

use rayon::ThreadPoolBuilder;

use super::{
    Algorithm, Method, Settings, Source,
    class::{Class, Decoys},
    run,
    table::{Counts, Function, Policy, fitted},
    world::{Chances, Lock, codes},
};
use crate::draw::{Draw, Purpose};

const CHANCES: Chances = Chances {
    success: 0.9,
    lure: 0.1,
};

fn lock(seed: u64) -> (Lock, Draw) {
    let mut draw = Draw::new(seed, Purpose::World);
    (Lock::draw(6, 3, CHANCES, &mut draw), draw)
}

/// Counts of many episodes whose actions are right with a chance of a half.
fn recorded(lock: &Lock, draw: &mut Draw, episodes: usize) -> Counts {
    let mut counts = Counts::new(lock.shape());
    for _ in 0..episodes {
        counts.add(&lock.play(draw, |layer, _, draw| lock.recorded(layer, 0.5, draw)));
    }
    counts
}

#[test]
fn the_optimal_function_has_no_residual_but_noise() {
    let (lock, mut draw) = lock(1);
    let counts = recorded(&lock, &mut draw, 200_000);
    let optimal = lock.optimal();
    for seen in counts.seen() {
        // Rewards are 0 or 1: the standard error is at most 0.3 / sqrt(n).
        let bound = 5.0 * 0.3 / seen.visits.sqrt();
        assert!(optimal.residual(&seen).abs() < bound, "cell {}", seen.cell);
    }
    // Another code is contradicted by the same data.
    let mut other = lock.clone();
    other.code[3] = (other.code[3] + 1) % 3;
    let other = other.optimal();
    let residuals = counts
        .seen()
        .iter()
        .map(|seen| other.residual(seen).abs())
        .fold(0.0, f64::max);
    assert!(residuals > 0.7, "{residuals}");
}

/// Number of the decoys that some cell of these counts contradicts.
fn contradicted(class: &Class, counts: &Counts) -> usize {
    let is = |decoy: &&Function| {
        let seen = counts.seen();
        let mut residuals = seen
            .iter()
            .map(|cell| (decoy.residual(cell).abs(), cell.visits));
        // Five standard errors of a reward that comes with a chance of 0.1.
        residuals.any(|(residual, visits)| residual > 5.0 * 0.3 / visits.sqrt())
    };
    class.functions[729..].iter().filter(is).count()
}

#[test]
fn the_class_holds_the_optimum_once_and_failures_contradict_plain_decoys_only() {
    let (lock, mut draw) = lock(2);
    // Many episodes that fail in the fifth layer at the latest: what the last gives, nobody saw.
    let mut counts = Counts::new(lock.shape());
    for _ in 0..100_000 {
        counts.add(&lock.play(&mut draw, |layer, _, draw| {
            let quality = if layer == 4 { 1e-9 } else { 0.6 };
            lock.recorded(layer, quality, draw)
        }));
    }
    for (decoys, expected) in [(Decoys::Plain, 729), (Decoys::Consistent, 0)] {
        let class = Class::of(&lock, decoys);
        assert_eq!(class.functions.len(), 1458);
        let optimal = lock.optimal();
        let same = class
            .functions
            .iter()
            .filter(|function| **function == optimal);
        assert_eq!(same.count(), 1);
        assert!((optimal.best(0, 0) - 0.9).abs() < 1e-12);
        let mut promised = class.functions[729..].iter().map(|decoy| decoy.best(0, 0));
        assert!(promised.all(|promised| (promised - 0.1).abs() < 1e-12));
        assert_eq!(contradicted(&class, &counts), expected, "{decoys:?}");
    }
}

#[test]
fn values_and_occupancies_are_those_of_played_episodes() {
    let (lock, mut draw) = lock(3);
    let shape = lock.shape();
    let follow = Policy::new(shape, |layer, _| lock.code[layer]);
    let wrong = Policy::new(shape, |layer, _| {
        (lock.code[layer] + usize::from(layer == 4)) % 3
    });
    assert!(lock.is_opened_by(&follow) && !lock.is_opened_by(&wrong));
    let mut mean = |policy: &Policy| {
        let total: f64 = (0..20_000)
            .flat_map(|_| lock.play(&mut draw, |layer, state, _| policy.action(layer, state)))
            .map(|step| step.reward)
            .sum();
        total / 20_000.0
    };
    assert!((mean(&follow) - lock.value(1.0)).abs() < 0.01);
    assert!((mean(&wrong) - lock.value(0.0)).abs() < 0.01);

    let mut counts = Counts::new(shape);
    for _ in 0..50_000 {
        counts.add(&lock.play(&mut draw, |layer, _, draw| lock.recorded(layer, 0.4, draw)));
    }
    for (cell, chance) in lock.occupancy(0.4).into_iter().enumerate() {
        let seen = counts.at(cell).map_or(0.0, |seen| seen.visits) / 50_000.0;
        assert!(
            (seen - chance).abs() < 0.012,
            "cell {cell}: {seen} {chance}"
        );
    }
    // The path of a policy is what an episode of it visits.
    let episode = lock.play(&mut draw, |layer, state, _| wrong.action(layer, state));
    let steps = episode.iter().enumerate();
    let visited: Vec<_> = steps
        .map(|(layer, step)| shape.cell(layer, step.state, step.action))
        .collect();
    assert_eq!(lock.path(&wrong), visited);
}

#[test]
fn fitted_q_finds_the_optimum_of_enough_data_and_zero_without() {
    let (lock, mut draw) = lock(4);
    let counts = recorded(&lock, &mut draw, 100_000);
    let found = fitted(&counts);
    let policy = found.greedy(&mut draw);
    assert!(lock.is_opened_by(&policy));
    assert!((found.best(0, 0) - 0.9).abs() < 0.02);
    let nothing = fitted(&Counts::new(lock.shape()));
    assert!((0..lock.shape().cells()).all(|cell| nothing.at(cell) == 0.0));
}

#[test]
fn codes_are_all_there_are() {
    let mut found = codes(3, 2);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 8);
}

fn small() -> Settings {
    let settings = Settings {
        seeds: 4,
        horizon: 3,
        qualities: vec![0.5],
        episodes: 30,
        ..Settings::quick()
    };
    settings.check().expect("in range");
    settings
}

#[test]
fn a_report_is_a_function_of_the_seeds_at_any_number_of_threads() {
    let on = |threads: usize, settings: &Settings| {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let heard = Mutex::new(Vec::new());
        let done = |seed| heard.lock().expect("no panic").push(seed);
        let report = pool.install(|| run(settings, &done)).expect("in range");
        let mut heard = heard.into_inner().expect("no panic");
        heard.sort_unstable();
        assert_eq!(
            heard,
            (0..4)
                .map(|seed| seed + settings.first_seed)
                .collect::<Vec<_>>()
        );
        report
    };
    let settings = small();
    let (one, three) = (on(1, &settings), on(3, &settings));
    assert_eq!(one, three);
    let bytes = |report| serde_json::to_string(report).expect("serializable");
    assert_eq!(bytes(&one), bytes(&three));
    let others = Settings {
        first_seed: 100,
        ..small()
    };
    assert_ne!(on(2, &others).archives, one.archives);
}

#[test]
fn the_archive_is_worth_a_quarter_of_the_seeds_and_fitted_q_alone_hardly_opens() {
    let names = [
        "HyGLOW, every weight",
        "the same objective, live only",
        "fitted Q, live only",
    ];
    let mut settings = Settings {
        seeds: 40,
        qualities: vec![0.4],
        observed: None,
        ..Settings::default()
    };
    settings
        .methods
        .retain(|method| names.contains(&&*method.name));
    assert_eq!(settings.methods.len(), 3);
    let report = run(&settings, &|_| {}).expect("in range");
    let archive = &report.archives[0];
    let contrast = &archive.contrasts[0];
    assert!(contrast.solved_share.low > 0.1, "{contrast:?}");
    assert!(contrast.solved_share.mean > 0.25, "{contrast:?}");
    assert!(archive.methods[2].solved <= 2, "{:?}", archive.methods[2]);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let method = |algorithm| {
        vec![Method {
            name: "one".to_owned(),
            source: Source::Hybrid,
            algorithm,
        }]
    };
    let ratios = |gamma, alpha_scale| method(Algorithm::TrueRatios { gamma, alpha_scale });
    let cases = [
        (
            "seeds",
            Settings {
                seeds: 0,
                ..small()
            },
        ),
        (
            "actions",
            Settings {
                actions: 1,
                ..small()
            },
        ),
        (
            "actions ^ horizon",
            Settings {
                horizon: 30,
                ..small()
            },
        ),
        (
            "q",
            Settings {
                qualities: vec![1.5],
                ..small()
            },
        ),
        (
            "lure",
            Settings {
                lure: 0.95,
                ..small()
            },
        ),
        (
            "last",
            Settings {
                last: 0.0,
                ..small()
            },
        ),
        (
            "gamma",
            Settings {
                methods: ratios(Some(0.0), 0.0),
                ..small()
            },
        ),
        (
            "alpha_scale",
            Settings {
                methods: ratios(None, 1.0),
                ..small()
            },
        ),
    ];
    for (name, settings) in cases {
        let refused = run(&settings, &|_| {}).expect_err(name).to_string();
        assert!(refused.contains(&format!("`{name}`")), "{name}: {refused}");
    }
}
