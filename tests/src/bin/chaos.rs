//! `make chaos`: kills roles until the wanted number of kills is reached and every fault point was
//! hit, and prints a report.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Write as _, stderr, stdout},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use vintage_tests::{
    Kafka,
    chaos::{Episode, Order, Outcome, Report, Stage, Who, points_of, recorded},
};

/// Number of processes of each role that an episode kills at a point.
const KILLS_OF_ROLE: usize = 6;
/// Number of processes that an episode on a recorded log kills: the log is short.
const RECORDED_KILLS: usize = 16;
/// Number of signals at random moments in an episode.
const BLOWS: u32 = 16;
/// Factor on the wanted number of kills after which points that were not hit are reported as a
/// finding.
const ENOUGH: u64 = 3;

/// Kind of log that a learner trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Log {
    Live,
    Recorded,
}

const ROLES: [Who; 4] = [Who::Learner, Who::Sink(0), Who::Sink(1), Who::Rollout];

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

struct Args {
    kills: u64,
    seed: u64,
    /// Prefixes of the points' names, separated by commas.
    points: String,
}

impl Args {
    fn read() -> Result<Self> {
        let mut read = Self {
            kills: 200,
            seed: 0,
            points: "archive.,learner.,rollout.,store.".to_owned(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let value = args
                .next()
                .with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--kills" => read.kills = value.parse()?,
                "--seed" => read.seed = value.parse()?,
                "--points" => read.points = value,
                _ => bail!("unknown flag {flag}: --kills, --seed and --points are known"),
            }
        }
        Ok(read)
    }

    fn points(&self, who: Who) -> Vec<&'static str> {
        let wanted = |point: &&str| self.points.split(',').any(|of| point.starts_with(of));
        points_of(who).into_iter().filter(wanted).collect()
    }
}

struct Chaos {
    args: Args,
    random: StdRng,
    kafka: Kafka,
    report: Report,
    /// Points at which each role is still to be killed before its list is drawn anew.
    walks: BTreeMap<(Who, Log), VecDeque<&'static str>>,
}

fn survive() -> Result<bool> {
    let args = Args::read()?;
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?.keep();
    let mut chaos = Chaos {
        random: StdRng::seed_from_u64(args.seed),
        kafka: Kafka::up(&folder.join("kafka"), 3)?,
        report: Report::default(),
        walks: BTreeMap::new(),
        args,
    };
    let enough = chaos.args.kills * ENOUGH;
    for number in 0.. {
        let (kills, unmet) = (chaos.report.kills(), chaos.unmet());
        if kills >= chaos.args.kills && unmet.is_empty() {
            break;
        }
        if kills >= enough {
            let why = format!("never killed with work in hand: {unmet:?}");
            chaos.report.findings.push(why);
        }
        if !chaos.report.findings.is_empty() {
            break;
        }
        chaos.episode(number, &folder.join(format!("episode-{number:02}")))?;
    }
    let Chaos { kafka, report, .. } = chaos;
    drop(kafka);
    let mut out = stdout().lock();
    writeln!(out, "{report}")?;
    writeln!(out, "{}", serde_json::to_string(&report)?)?;
    for finding in &report.findings {
        writeln!(stderr(), "{finding}")?;
    }
    if report.findings.is_empty() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(report.findings.is_empty())
}

impl Chaos {
    fn episode(&mut self, number: u32, place: &Path) -> Result<()> {
        let stage = Stage::new(place, &format!("chaos-{number}"), self.kafka.address())?;
        let outcome = match number % 4 {
            1 => self.on_a_record(&stage)?,
            // With and without sinks that share the partitions, so that kills reassign them.
            3 if number % 8 == 7 => {
                self.at_random(stage.beside("group", &["archive.group=sinks"]))?
            }
            3 => self.at_random(stage)?,
            _ => self.at_points(stage)?,
        };
        let name = place.display().to_string();
        self.report.add(&outcome.blows, &outcome.findings, &name);
        if let Some(why) = outcome.failed {
            self.report.findings.push(format!("{name}: {why}"));
        }
        writeln!(
            stderr(),
            "episode {number}: {} of {} kills, {} findings",
            self.report.kills(),
            self.args.kills,
            self.report.findings.len()
        )?;
        if self.report.findings.is_empty() {
            std::fs::remove_dir_all(place)?;
        }
        Ok(())
    }

    fn at_points(&mut self, stage: Stage) -> Result<Outcome> {
        let mut orders = BTreeMap::new();
        for who in ROLES {
            orders.insert(who, self.orders((who, Log::Live), KILLS_OF_ROLE, 4));
        }
        let episode = Episode {
            stage,
            orders,
            nodes: VecDeque::from([self.random.random_range(1..=3)]),
            at_random: 0,
        };
        episode.play(&mut self.kafka, &mut self.random)
    }

    fn at_random(&mut self, stage: Stage) -> Result<Outcome> {
        let episode = Episode {
            stage,
            orders: BTreeMap::new(),
            nodes: VecDeque::new(),
            at_random: BLOWS,
        };
        episode.play(&mut self.kafka, &mut self.random)
    }

    fn on_a_record(&mut self, stage: &Stage) -> Result<Outcome> {
        let orders = self.orders((Who::Learner, Log::Recorded), RECORDED_KILLS, 2);
        recorded(stage, orders)
    }

    /// Returns the next points at which a role is to be killed; each point comes once before any
    /// comes again.
    fn orders(&mut self, whose: (Who, Log), count: usize, hits: u64) -> VecDeque<Order> {
        let walk = self.walks.entry(whose).or_default();
        while walk.len() < count {
            let mut points = self.args.points(whose.0);
            if points.is_empty() {
                break;
            }
            points.shuffle(&mut self.random);
            walk.extend(points);
        }
        let points = walk.drain(..count.min(walk.len()));
        points
            .map(|point| Order {
                point,
                hit: self.random.random_range(1..=hits),
            })
            .collect()
    }

    /// Returns the points at which a role was not yet killed with work in hand.
    fn unmet(&self) -> Vec<String> {
        let of = |who: Who| {
            let points = self.args.points(who).into_iter();
            points.map(move |point| (who.verb(), point))
        };
        let all = [Who::Learner, Who::Sink(0), Who::Rollout].into_iter();
        all.flat_map(of)
            .filter(|(role, point)| !self.report.covers(role, point))
            .map(|(role, point)| format!("{role} {point}"))
            .collect()
    }
}
