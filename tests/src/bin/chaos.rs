//! `make chaos`: kills until so many have been survived, and says which.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Write as _, stderr, stdout},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use vintage_tests::chaos::{Blows, Brokers, Episode, Order, Report, Stage, Who, points_of};

/// Lives of each role that an episode ends at a point.
const LIVES: usize = 6;

fn main() -> ExitCode {
    match survive() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            let _nobody_reads = writeln!(stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn survive() -> Result<bool> {
    let (mut kills, mut seed, mut prefixes) = (200, 0, String::new());
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--kills" => kills = value.parse()?,
            "--seed" => seed = value.parse()?,
            "--points" => prefixes = value,
            _ => bail!("unknown flag {flag}: --kills, --seed and --points are known"),
        }
    }
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?.keep();
    let mut brokers = Brokers::up(&folder.join("kafka"))?;
    let mut report = Report::default();
    let roles = [Who::Learner, Who::Sink(0), Who::Sink(1), Who::Rollout];
    let mut walks: BTreeMap<Who, VecDeque<&'static str>> = BTreeMap::new();
    let mut failed = false;
    let mut number = 0;
    while report.kills() < kills && !failed {
        let place = folder.join(format!("episode-{number:02}"));
        let stage = Stage::new(&place, &format!("chaos-{number}"), brokers.address())?;
        // Every third one is at random, brokers included.
        let at_random = number % 3 == 2;
        let mut orders = BTreeMap::new();
        let points = |who: Who| -> Vec<&'static str> {
            let wanted = |point: &&str| prefixes.split(',').any(|of| point.starts_with(of));
            points_of(who).into_iter().filter(wanted).collect()
        };
        let reachable = |who: &Who| !at_random && !points(*who).is_empty();
        for who in roles.into_iter().filter(reachable) {
            let walk = walks.entry(who).or_default();
            let mut of_role = VecDeque::new();
            for _ in 0..LIVES {
                if walk.is_empty() {
                    let mut of_role = points(who);
                    of_role.shuffle(&mut random);
                    walk.extend(of_role);
                }
                let point = walk.pop_front().context("a role without points")?;
                let hit = random.random_range(1..=4);
                of_role.push_back(Order { point, hit });
            }
            orders.insert(who, of_role);
        }
        let blows = Blows {
            number: if at_random { 16 } else { 0 },
            brokers: true,
        };
        let episode = Episode {
            stage,
            orders,
            blows,
        };
        let outcome = episode.play(&mut brokers, &mut random)?;
        let place_name = place.display().to_string();
        report.add(&outcome.kills, &outcome.findings, &place_name);
        if let Some(why) = outcome.failed {
            report.findings.push(format!("{place_name}: {why}"));
        }
        failed = !report.findings.is_empty();
        writeln!(
            stderr(),
            "episode {number}: {} of {kills} kills, {} findings",
            report.kills(),
            report.findings.len()
        )?;
        if !failed {
            std::fs::remove_dir_all(&place)?;
        }
        number += 1;
    }
    drop(brokers);
    let mut out = stdout().lock();
    writeln!(out, "{report}")?;
    writeln!(out, "{}", serde_json::to_string(&report)?)?;
    for finding in &report.findings {
        writeln!(stderr(), "{finding}")?;
    }
    if !failed {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(!failed)
}
