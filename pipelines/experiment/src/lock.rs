//! Combination lock (`vintage experiment lock`): what an archive, live data and clipped density ratios are
//! worth where nothing is approximated.
//!
//! The algorithms are GLOW and HyGLOW (Amortila, Foster, Jiang, Sekhari, Xie, ICLR 2024) and the same
//! paper's reduction H2O, with the function class as a list, the weights in closed form or as a list, and
//! the value of every policy exact. The lock is hard on purpose: one code of 729 opens it, a wrong
//! action is final, and wrong actions pay now and then.
//!
//! | module | job |
//! |---|---|
//! | `world` | the lock, its optimal function, the archive's policy |
//! | `table` | counts of episodes, functions of cells, fitted Q-iteration |
//! | `class` | the function class |
//! | `objective` | inner maxima over weights |
//! | `method`, `trial` | what chooses the next policy; one seed |
//! | `observed` | the lock with noisy observations |
//! | `report` | shares and means over seeds |

mod class;
mod method;
mod objective;
mod observed;
mod report;
mod settings;
mod table;
mod text;
mod trial;
mod world;

use rayon::prelude::*;

pub use self::{
    class::Decoys,
    method::{Algorithm, Method, Scales, Source},
    report::{Contrast, OfArchive, OfLearner, OfObservations, Outcome, Report},
    settings::{ObservedSettings, Settings},
};
use self::{
    observed::{Learner, ObservedLock, Played},
    report::{of_archive, of_learner},
    trial::{Stage, Trial},
};
use crate::error::Result;

/// Runs the experiment on all seeds, in parallel, and calls `done` after each. The report is a function of
/// the settings: the number of threads does not matter.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) for a setting out of range.
pub fn run(settings: &Settings, done: &(dyn Fn(u64) + Sync)) -> Result<Report> {
    settings.check()?;
    let seeds = settings.first_seed..settings.first_seed.saturating_add(settings.seeds);
    let seeds: Vec<_> = seeds.collect();
    let of_seeds: Vec<_> = seeds
        .into_par_iter()
        .map(|seed| {
            let of_seed = (trials(settings, seed), observations(settings, seed));
            done(seed);
            of_seed
        })
        .collect();
    let (trials, played): (Vec<_>, Vec<_>) = of_seeds.into_iter().unzip();
    let archives = settings.qualities.iter().enumerate().map(|(at, quality)| {
        let of_archive: Vec<_> = trials
            .iter()
            .map(|seed: &Vec<Vec<Trial>>| seed[at].clone())
            .collect();
        self::of_archive(settings, *quality, &of_archive)
    });
    let observed = settings.observed.iter().flat_map(|observed| {
        let played = &played;
        Learner::ALL
            .into_iter()
            .enumerate()
            .map(move |(at, learner)| {
                let of: Vec<_> = played
                    .iter()
                    .map(|seed: &Vec<Vec<Played>>| seed[at].clone())
                    .collect();
                of_learner(learner, &observed.observations, &of)
            })
    });
    Ok(Report {
        settings: settings.clone(),
        archives: archives.collect(),
        observed: observed.collect(),
    })
}

/// Plays a seed: by archive, then by method.
fn trials(settings: &Settings, seed: u64) -> Vec<Vec<Trial>> {
    let stage = Stage::new(settings, seed);
    let of = |quality: &f64| {
        let methods = settings.methods.iter();
        methods
            .map(|method| stage.play(settings, method, *quality, seed))
            .collect()
    };
    settings.qualities.iter().map(of).collect()
}

/// Plays a seed with noisy observations: by method, then by the number of observations.
fn observations(settings: &Settings, seed: u64) -> Vec<Vec<Played>> {
    let Some(observed) = &settings.observed else {
        return Vec::new();
    };
    let of = |learner: Learner| {
        let counts = observed.observations.iter();
        let played = counts.map(|count| {
            let world = ObservedLock::new(settings, observed, *count, seed);
            world.learn(settings, learner, observed.quality, seed)
        });
        played.collect()
    };
    Learner::ALL.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests;
