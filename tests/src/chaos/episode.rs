//! One episode: a run whose roles are killed, each at the points ordered for it and all at random
//! moments, until no kills are left. Then the run drains and is checked.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use rustix::process::Signal;

use super::{Blow, Findings, Order, RoleProcess, Stage, Who, check, stage::killed};
use crate::kafka::Kafka;

/// Time after which a process that did not reach its point is killed where it is.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Longest time that a role may take to drain.
const DRAIN: Duration = Duration::from_secs(90);
/// Number of updates required after the last kill, to see that the run continues.
const AFTERWARDS: u64 = 2;
/// Number of processes in which an order may be tried.
const TRIES: u32 = 3;
/// Interval at which the folder is checked for progress once all kills are done.
const LOOK: Duration = Duration::from_millis(100);

/// Script of an episode.
pub struct Episode {
    /// Folder and settings of the run.
    pub stage: Stage,
    /// Points at which each role is to be killed, one per process.
    pub orders: BTreeMap<Who, VecDeque<Order>>,
    /// Nodes of Kafka to kill, one after each of the first ends of a role.
    pub nodes: VecDeque<u16>,
    /// Number of signals at random moments, to roles and nodes.
    pub at_random: u32,
}

/// Result of an episode.
#[derive(Default)]
pub struct Outcome {
    /// All signals that were sent.
    pub blows: Vec<Blow>,
    /// All breaches that were found.
    pub findings: Findings,
    /// Reason for which the episode could not be played to its end, if it could not.
    pub failed: Option<String>,
}

struct Play<'a> {
    episode: Episode,
    kafka: &'a mut Kafka,
    random: &'a mut StdRng,
    processes: BTreeMap<Who, RoleProcess>,
    tries: BTreeMap<Who, u32>,
    next: u32,
    on_end: Sender<(Who, u32)>,
    ended: Receiver<(Who, u32)>,
    blows: Vec<Blow>,
}

impl Episode {
    /// Plays the episode to its end.
    pub fn play(self, kafka: &mut Kafka, random: &mut StdRng) -> Result<Outcome> {
        let (on_end, ended) = channel();
        let mut play = Play {
            episode: self,
            kafka,
            random,
            processes: BTreeMap::new(),
            tries: BTreeMap::new(),
            next: 0,
            on_end,
            ended,
            blows: Vec::new(),
        };
        let played = play.finish();
        let (findings, failed) = match played {
            Ok(findings) => (findings, None),
            Err(error) => (Findings::new(), Some(format!("{error:#}"))),
        };
        Ok(Outcome {
            blows: play.blows,
            findings,
            failed,
        })
    }
}

impl Play<'_> {
    fn finish(&mut self) -> Result<Findings> {
        for who in [Who::Learner, Who::Sink(0), Who::Sink(1), Who::Rollout] {
            self.begin(who)?;
        }
        self.kill_all()?;
        self.continue_training()?;
        for who in [Who::Rollout, Who::Learner, Who::Sink(0), Who::Sink(1)] {
            self.drain(who)?;
        }
        check(&self.episode.stage, self.kafka)
    }

    fn begin(&mut self, who: Who) -> Result<()> {
        let order = self.episode.orders.get(&who).and_then(VecDeque::front);
        let order = order.cloned();
        let faults = order.as_ref().map_or(String::new(), Order::faults);
        let stage = &self.episode.stage;
        let mut process = stage.start(who, self.next, &faults, &self.on_end)?;
        self.next += 1;
        process.order = order;
        self.processes.insert(who, process);
        Ok(())
    }

    fn ordered(&self) -> bool {
        self.episode.orders.values().any(|left| !left.is_empty())
    }

    fn kill_all(&mut self) -> Result<()> {
        let mut left = self.episode.at_random;
        let mut blow = self.until_blow();
        while self.ordered() || left > 0 {
            let overdue = self
                .processes
                .values()
                .filter(|process| process.order.is_some());
            let overdue = overdue.map(|process| process.begun + LONGEST_WAIT).min();
            let due = (left > 0).then_some(blow);
            let until = overdue.into_iter().chain(due).min();
            let wait = until.map_or(LONGEST_WAIT, |at| {
                at.saturating_duration_since(Instant::now())
            });
            match self.ended.recv_timeout(wait) {
                Ok((who, number)) => self.again(who, number)?,
                Err(RecvTimeoutError::Timeout) if left > 0 && Instant::now() >= blow => {
                    left -= 1;
                    self.strike()?;
                    blow = self.until_blow();
                }
                Err(RecvTimeoutError::Timeout) => self.give_up_waiting()?,
                Err(RecvTimeoutError::Disconnected) => bail!("no role is left to wait for"),
            }
        }
        Ok(())
    }

    fn until_blow(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(self.random.random_range(200..2500))
    }

    /// Handles the end of a process: records the kill and starts the role again. Fails if the
    /// process was not killed.
    fn again(&mut self, who: Who, number: u32) -> Result<()> {
        let Some(mut process) = self.processes.remove(&who) else {
            return Ok(());
        };
        if process.number != number {
            self.processes.insert(who, process);
            return Ok(());
        }
        let status = process.reap()?;
        ensure!(
            killed(status),
            "{who} ended ({status}):\n{}",
            process.said()
        );
        let strike = process.strike()?;
        if let (false, Some(strike)) = (process.blown, strike) {
            self.blows.push(Blow {
                at: strike.point,
                in_hand: Some(strike.in_hand),
                ..Blow::at_random(who.verb())
            });
            self.tries.remove(&who);
            if let Some(left) = self.episode.orders.get_mut(&who) {
                left.pop_front();
            }
        } else {
            self.blows.push(Blow::at_random(who.verb()));
        }
        self.begin(who)?;
        match self.episode.nodes.pop_front() {
            Some(node) => self.fell(node),
            None => Ok(()),
        }
    }

    /// Kills the processes that did not reach their points in time; those orders are tried again at
    /// the first hit.
    fn give_up_waiting(&mut self) -> Result<()> {
        let late = |process: &&mut RoleProcess| {
            process.order.is_some() && process.begun.elapsed() >= LONGEST_WAIT
        };
        for process in self.processes.values_mut().filter(late) {
            let tries = self.tries.entry(process.who).or_default();
            *tries += 1;
            ensure!(
                *tries < TRIES,
                "{} never came to {:?}:\n{}",
                process.who,
                process.order,
                process.said()
            );
            if let Some(order) = self
                .episode
                .orders
                .get_mut(&process.who)
                .and_then(VecDeque::front_mut)
            {
                order.hit = 1;
            }
            process.order = None;
            process.blown = true;
            process.signal(Signal::KILL)?;
        }
        Ok(())
    }

    /// Sends one random signal: a kill or a freeze, to one role, several, all, or a node.
    fn strike(&mut self) -> Result<()> {
        let all: Vec<Who> = self.processes.keys().copied().collect();
        let node = self.random.random_range(1..=3);
        match self.random.random_range(0..10) {
            0 => self.fell(node),
            1 => self.freeze_node(node),
            2 => self.freeze_role(&all),
            3 => self.blow(&all),
            4 => {
                let some: Vec<Who> = all.choose_multiple(self.random, 2).copied().collect();
                self.blow(&some)
            }
            _ => {
                let one: Vec<Who> = all.choose(self.random).copied().into_iter().collect();
                self.blow(&one)
            }
        }
    }

    fn blow(&mut self, whom: &[Who]) -> Result<()> {
        for process in self.processes.values_mut() {
            if whom.contains(&process.who) {
                process.blown = process.strike()?.is_none();
                process.signal(Signal::KILL)?;
            }
        }
        Ok(())
    }

    fn fell(&mut self, node: u16) -> Result<()> {
        self.kafka.kill(node)?;
        self.blows.push(Blow::at_random("broker"));
        self.kafka.start(node)
    }

    fn freeze_node(&mut self, node: u16) -> Result<()> {
        self.kafka.freeze(node)?;
        // Shorter and longer than the session, after which its partitions change their leader.
        frozen_for(self.random.random_range(200..12_000));
        self.blows.push(Blow {
            frozen: true,
            ..Blow::at_random("broker")
        });
        self.kafka.thaw(node)
    }

    fn freeze_role(&mut self, all: &[Who]) -> Result<()> {
        let process = all
            .choose(self.random)
            .and_then(|who| self.processes.get(who));
        let Some(process) = process else {
            return Ok(());
        };
        process.signal(Signal::STOP)?;
        frozen_for(self.random.random_range(50..1500));
        self.blows.push(Blow {
            frozen: true,
            ..Blow::at_random(process.who.verb())
        });
        process.signal(Signal::CONT)
    }

    /// Waits until the learner has done some more updates.
    fn continue_training(&mut self) -> Result<()> {
        let wanted = self.episode.stage.updates() + AFTERWARDS;
        let begun = Instant::now();
        while self.episode.stage.updates() < wanted {
            match self.ended.recv_timeout(LOOK) {
                Ok((who, number)) => self.again(who, number)?,
                Err(_) => ensure!(begun.elapsed() < DRAIN, "the run does not go on"),
            }
        }
        Ok(())
    }

    /// Sends SIGINT to a role and waits for its orderly end.
    fn drain(&mut self, who: Who) -> Result<()> {
        if let Some(process) = self.processes.get(&who) {
            process.signal(Signal::INT)?;
        }
        let begun = Instant::now();
        while self.processes.contains_key(&who) {
            let left = DRAIN.saturating_sub(begun.elapsed());
            let Ok((ended, number)) = self.ended.recv_timeout(left) else {
                let said = self.processes.get(&who).map(RoleProcess::said);
                bail!("{who} does not drain:\n{}", said.unwrap_or_default());
            };
            let current = self.processes.get(&ended).map(|process| process.number);
            if current != Some(number) {
                continue;
            }
            let Some(mut process) = self.processes.remove(&ended) else {
                continue;
            };
            let status = process.reap()?;
            let drained = matches!(status.code(), Some(0 | 130));
            ensure!(drained, "{ended} ended ({status}):\n{}", process.said());
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a freeze lasts is the fault itself: nothing is awaited"
)]
fn frozen_for(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
