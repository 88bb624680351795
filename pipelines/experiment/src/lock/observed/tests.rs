use super::{
    Learner, ObservedLock,
    score::{Composed, Labels},
};
use crate::{
    draw::{Draw, Purpose},
    lock::{
        class::{Decoys, Promise},
        objective::hybrid,
        settings::{ObservedSettings, Settings},
        table::{Counts, Function, Policy, Shape, Step},
        world::{GOOD, codes},
    },
};

fn world(observations: usize) -> (Settings, ObservedLock, Draw) {
    let settings = Settings {
        horizon: 3,
        actions: 2,
        ..Settings::default()
    };
    let observed = ObservedSettings {
        decoders: 3,
        ..ObservedSettings::default()
    };
    let world = ObservedLock::new(&settings, &observed, observations, 5);
    (settings, world, Draw::new(5, Purpose::Archive))
}

fn episodes(world: &ObservedLock, draw: &mut Draw) -> Vec<Vec<Step>> {
    let play = |_| world.play(draw, |layer, _, draw| world.lock.recorded(layer, 0.6, draw));
    (0..40).map(play).collect()
}

/// Function of a code and a promise, as a table over observations.
fn composed(world: &ObservedLock, code: &[usize], promise: Promise, states: &[usize]) -> Function {
    let (lock, shape) = (&world.lock, world.shape());
    let latent = promise.function(lock, code);
    let values = (0..shape.cells()).map(|cell| {
        let (place, action) = (cell / shape.actions, cell % shape.actions);
        let (layer, shown) = (place / shape.states, place % shape.states);
        latent.at(lock.shape().cell(layer, states[shown], action))
    });
    Function::new(shape, values.collect())
}

#[test]
fn scores_with_every_weight_of_observations_are_those_of_the_tables() {
    let (_, world, mut draw) = world(3);
    let shown = world.shape().states;
    let each = Labels::of(&(0..shown).collect::<Vec<_>>(), shown);
    let decoders: Vec<_> = world
        .decoders
        .iter()
        .map(|states| Labels::of(states, 2))
        .collect();
    let mut mind = Composed::new(&world.lock, Decoys::Plain, decoders, vec![each]);
    let mut counts = Counts::new(world.shape());
    for episode in episodes(&world, &mut draw) {
        mind.add(&episode);
        counts.add(&episode);
    }
    let mut functions = Vec::new();
    for states in &world.decoders {
        for promise in Promise::both(Decoys::Plain) {
            let codes = codes(3, 2).into_iter();
            functions.extend(codes.map(|code| composed(&world, &code, promise, states)));
        }
    }
    let (expected, found) = (hybrid(&counts, &functions), mind.scores());
    assert_eq!(expected.len(), found.len());
    for (expected, found) in expected.iter().zip(&found) {
        assert!((expected - found).abs() < 1e-12, "{expected} {found}");
    }
}

#[test]
fn scores_with_decoded_weights_are_those_of_the_definition() {
    let (_, world, mut draw) = world(2);
    let labels = || {
        world
            .decoders
            .iter()
            .map(|states| Labels::of(states, 2))
            .collect::<Vec<_>>()
    };
    let mut mind = Composed::new(&world.lock, Decoys::Plain, labels(), labels());
    let episodes = episodes(&world, &mut draw);
    for episode in &episodes {
        mind.add(episode);
    }
    let found = mind.scores();
    let (codes, shape) = (codes(3, 2), world.lock.shape());
    let mut at = 0;
    for states in &world.decoders {
        for promise in Promise::both(Decoys::Plain) {
            for code in &codes {
                let function = composed(&world, code, promise, states);
                let mut most = 0.0_f64;
                for weight in &world.decoders {
                    // Sum of residuals and visits of every cell of the weight's decoder.
                    let mut cells = vec![(0.0, 0.0); shape.cells()];
                    for (layer, step) in episodes
                        .iter()
                        .flat_map(|episode| episode.iter().enumerate())
                    {
                        let cell = world.shape().cell(layer, step.state, step.action);
                        let ahead = function.best(layer + 1, step.next);
                        let (sum, visits) =
                            &mut cells[shape.cell(layer, weight[step.state], step.action)];
                        *sum += function.at(cell) - step.reward - ahead;
                        *visits += 1.0;
                    }
                    let mut total = 0.0;
                    for layer in cells.chunks(4) {
                        let side = |sign: f64| -> f64 {
                            let of = layer.iter().filter(|(sum, _)| sum * sign > 0.0);
                            of.map(|(sum, visits)| sum * sum / visits).sum()
                        };
                        total += f64::max(side(1.0), side(-1.0));
                    }
                    most = most.max(total / episodes.len() as f64);
                }
                assert!((found[at] - most).abs() < 1e-12, "{} {most}", found[at]);
                at += 1;
            }
        }
    }
    assert_eq!(at, found.len());
}

#[test]
fn the_right_decoder_is_first_and_others_are_as_balanced() {
    let (_, world, _) = world(4);
    assert_eq!(world.decoders[0], [0, 0, 0, 0, 1, 1, 1, 1]);
    for states in &world.decoders {
        assert_eq!(states.iter().filter(|state| **state == GOOD).count(), 4);
    }
}

#[test]
fn a_policy_opens_as_often_as_its_observations_let_it() {
    let (_, world, mut draw) = world(4);
    let shape = Shape {
        states: 8,
        ..world.lock.shape()
    };
    // Wrong for one observation of four, in two layers of three.
    let policy = Policy::new(shape, |layer, shown| {
        (world.lock.code[layer] + usize::from(layer > 0 && shown == 2)) % 2
    });
    let opened = world.opened(&policy);
    assert!((opened - 0.75 * 0.75).abs() < 1e-12);
    let played = (0..20_000).filter(|_| {
        let episode = world.play(&mut draw, |layer, shown, _| policy.action(layer, shown));
        episode
            .iter()
            .enumerate()
            .all(|(layer, step)| step.action == world.lock.code[layer])
    });
    assert!((played.count() as f64 / 20_000.0 - opened).abs() < 0.02);
}

#[test]
fn fitted_q_behind_the_right_decoder_does_not_feel_the_observations() {
    let settings = Settings {
        episodes: 60,
        horizon: 3,
        ..Settings::default()
    };
    let mean = |observations: usize, learner| {
        let values = (0..30).map(|seed| {
            let observed = ObservedSettings {
                decoders: 2,
                ..ObservedSettings::default()
            };
            let world = ObservedLock::new(&settings, &observed, observations, seed);
            world.learn(&settings, learner, 0.6, seed).value
        });
        values.sum::<f64>() / 30.0
    };
    let behind = [1, 16].map(|observations| mean(observations, Learner::FittedQBehind));
    let raw = [1, 16].map(|observations| mean(observations, Learner::FittedQ));
    assert!((behind[0] - behind[1]).abs() < 0.1, "{behind:?}");
    assert!(raw[0] - raw[1] > 0.2, "{raw:?}");
}
