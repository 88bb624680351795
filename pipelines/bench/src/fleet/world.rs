//! Simulated run: events of producers, network and lead, one after the other.

use std::{collections::HashMap, ops::Range, time::Duration};

use vintage_control::{BadName, Grants, Heartbeat, Name, PolicyVersion, SlotNumber};
use vintage_grants::CHECK_EVERY;
use vintage_learner::Incoming;
use vintage_rollout::{REPORT_AFTER, REPORT_EVERY};

use super::{
    clock::{Clock, Time},
    draw::Draw,
    lead::{Lead, size_of},
    message::{Messages, POLICY, Sampled},
    network::{Busy, Network},
    producer::{Producer, State},
    settings::{Fleet, Rule},
    stopwatch::{Measured, Part, Stopwatch},
    tally::{Books, Outcome, Tally},
};
use crate::error::{Error, Result};

/// Virtual time without an update after which a run counts as standing still, in seconds beside the
/// longest that its parts may take.
const STANDSTILL: f64 = 3600.0;

/// Event of a producer process.
#[derive(Debug)]
enum Of {
    /// A version was announced.
    Announced,
    Granted(Box<Grants>),
    Loaded,
    Sampled,
    Acknowledged(SlotNumber),
    Report,
}

#[derive(Debug)]
enum Event {
    Of(usize, Of),
    Join,
    Kill(usize),
    Stop(usize),
    Continue(usize),
    /// An announcement is with every producer.
    Announced(PolicyVersion),
    Heard(Box<Heartbeat>),
    Written(Box<Incoming>),
    Decoded(Box<Incoming>),
    Updated,
    Recorded,
    /// The granter wakes; the flag is set for its regular check.
    Wake(bool),
}

/// Simulated run.
pub(super) struct World<'a> {
    fleet: &'a Fleet,
    policy: Name,
    clock: Clock<Event>,
    draw: Draw,
    network: Network,
    messages: Messages,
    lead: Lead,
    producers: Vec<Producer>,
    /// Numbers of the producers by their ids.
    numbers: HashMap<String, usize>,
    alive: usize,
    /// Newest version that producers have heard of.
    heard: PolicyVersion,
    /// Events of stopped producers.
    held_back: HashMap<usize, Vec<Of>>,
    waking: bool,
    updating: Duration,
    last_update: Time,
    tally: Tally,
    watch: Stopwatch,
}

impl<'a> World<'a> {
    pub(super) fn new(fleet: &'a Fleet) -> Result<Self> {
        let name = |error: BadName| Error::Failed(error.to_string());
        let policy: Name = POLICY.parse().map_err(name)?;
        let network = Network::new(fleet);
        let mut world = Self {
            fleet,
            clock: Clock::new(),
            draw: Draw::new(fleet.seed),
            messages: Messages::new(fleet.group_size, network.partitions())?,
            network,
            lead: Lead::new(fleet, &policy),
            policy,
            producers: Vec::new(),
            numbers: HashMap::new(),
            alive: 0,
            heard: PolicyVersion::default(),
            held_back: HashMap::new(),
            waking: false,
            updating: Duration::ZERO,
            last_update: Time::START,
            tally: Tally::default(),
            watch: Stopwatch::default(),
        };
        for _ in 0..fleet.producers {
            world.clock.at(Time::START, Event::Join);
        }
        if fleet.rule == Rule::Leases {
            world.clock.at(Time::START, Event::Wake(true));
        }
        Ok(world)
    }

    /// Runs until the last update is recorded.
    pub(super) fn run(&mut self) -> Result<Outcome> {
        self.learn()?;
        while let Some(event) = self.clock.next() {
            let silent = self.clock.now().since(self.last_update).as_secs_f64();
            let slowest = 1000.0 * (self.fleet.group_seconds + self.fleet.update_seconds);
            if silent > STANDSTILL + slowest {
                break;
            }
            self.happen(event)?;
            if self.lead.is_finished() && self.lead.announced == self.lead.version() {
                return self.outcome();
            }
        }
        Err(Error::Failed(format!(
            "the fleet of {} stands still after {} updates and {:.0} virtual seconds",
            self.fleet.producers,
            self.lead.version(),
            self.clock.now().seconds(),
        )))
    }

    pub(super) fn measured(&self, updates: Range<usize>) -> Measured {
        let groups = self.fleet.groups_per_update;
        self.watch.measured(updates, groups, self.fleet.group_size)
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Of(number, of) => match self.producers[number].state {
                State::Runs => self.produce(number, of),
                State::Stopped => {
                    self.held_back.entry(number).or_default().push(of);
                    Ok(())
                }
                State::Dead => Ok(()),
            },
            Event::Join => {
                self.join();
                Ok(())
            }
            Event::Kill(number) => {
                self.kill(number);
                Ok(())
            }
            Event::Stop(number) => {
                if self.producers[number].state == State::Runs {
                    self.producers[number].state = State::Stopped;
                    let end = self.clock.now().after(self.fleet.churn.stop_for);
                    self.clock.at(end, Event::Continue(number));
                }
                Ok(())
            }
            Event::Continue(number) => self.resume(number),
            Event::Announced(version) => {
                self.heard = self.heard.max(version);
                for number in 0..self.producers.len() {
                    let producer = &self.producers[number];
                    if producer.state == State::Runs && producer.work.is_none() {
                        self.produce(number, Of::Announced)?;
                    }
                }
                Ok(())
            }
            Event::Heard(heartbeat) => {
                self.lead.hear(*heartbeat);
                self.call_granter();
                Ok(())
            }
            Event::Written(incoming) => {
                let decoded = self.network.deliver(self.clock.now());
                self.clock.at(decoded, Event::Decoded(incoming));
                Ok(())
            }
            Event::Decoded(incoming) => {
                self.lead.deliver(*incoming);
                self.learn()
            }
            Event::Updated => {
                self.lead.updated(&mut self.watch);
                self.watch.lap();
                let recorded = self.network.record(self.clock.now());
                self.clock.at(recorded, Event::Recorded);
                Ok(())
            }
            Event::Recorded => self.announce(),
            Event::Wake(regular) => self.wake(regular),
        }
    }

    fn join(&mut self) {
        let (now, number) = (self.clock.now(), self.producers.len());
        let producer = Producer::new(number, self.fleet, &self.policy, now);
        self.numbers.insert(producer.id.clone(), number);
        self.producers.push(producer);
        self.alive += 1;
        let churn = self.fleet.churn;
        if churn.kill_every > 0.0 {
            let end = now.after(self.draw.next_event(churn.kill_every));
            self.clock.at(end, Event::Kill(number));
        }
        if churn.stop_every > 0.0 {
            let stop = now.after(self.draw.next_event(churn.stop_every));
            self.clock.at(stop, Event::Stop(number));
        }
        if self.fleet.rule == Rule::Leases {
            self.clock.at(now, Event::Of(number, Of::Report));
        }
        self.begin(number);
    }

    fn kill(&mut self, number: usize) {
        let now = self.clock.now();
        self.producers[number].die(now);
        self.held_back.remove(&number);
        self.alive -= 1;
        self.clock
            .at(now.after(self.fleet.churn.join_after), Event::Join);
    }

    fn resume(&mut self, number: usize) -> Result<()> {
        if self.producers[number].state != State::Stopped {
            return Ok(());
        }
        self.producers[number].state = State::Runs;
        for of in self.held_back.remove(&number).unwrap_or_default() {
            self.produce(number, of)?;
        }
        let now = self.clock.now();
        let next = now.after(self.draw.next_event(self.fleet.churn.stop_every));
        self.clock.at(next, Event::Stop(number));
        self.begin(number);
        Ok(())
    }

    fn produce(&mut self, number: usize, of: Of) -> Result<()> {
        match of {
            Of::Announced => {}
            Of::Granted(grants) => {
                let Some(book) = self.producers[number].book() else {
                    return Ok(());
                };
                if self.watch.time(Part::Books, || book.take(*grants)) {
                    self.report_soon(number);
                }
            }
            Of::Loaded => {
                let now = self.clock.now();
                let producer = &mut self.producers[number];
                producer.loaded = producer.work.as_ref().map(|work| work.version);
                producer.end_loading(now);
                self.sample(number);
            }
            Of::Sampled => self.publish(number)?,
            Of::Acknowledged(slot) => {
                if let Some(book) = self.producers[number].book() {
                    self.watch.time(Part::Books, || book.published(slot));
                }
                self.report_soon(number);
            }
            Of::Report => self.report(number)?,
        }
        self.begin(number);
        Ok(())
    }

    /// Begins the next groups of a producer, if it may.
    fn begin(&mut self, number: usize) {
        let (now, newest) = (self.clock.now(), self.heard);
        let producer = &mut self.producers[number];
        if producer.work.is_some() {
            return;
        }
        let begun = self
            .watch
            .time(Part::Books, || producer.begin(newest).is_some());
        if !begun {
            return;
        }
        if producer.work.as_ref().map(|work| work.version) == producer.loaded {
            self.sample(number);
        } else {
            producer.begin_loading(now);
            let loaded = self.network.load(now);
            self.clock.at(loaded, Event::Of(number, Of::Loaded));
        }
    }

    fn sample(&mut self, number: usize) {
        let (now, fleet) = (self.clock.now(), self.fleet);
        let groups = self.producers[number].in_hand();
        let times = (0..groups).map(|_| self.draw.heavy(fleet.group_seconds, fleet.tail));
        let longest = times.fold(0.0, f64::max);
        self.producers[number].begin_sampling(now);
        self.clock
            .at(now.after(longest), Event::Of(number, Of::Sampled));
    }

    fn publish(&mut self, number: usize) -> Result<()> {
        let now = self.clock.now();
        let producer = &mut self.producers[number];
        producer.end_sampling(now);
        let Some(work) = producer.work.take() else {
            return Ok(());
        };
        for lease in &work.leases {
            let slot = producer.slot(lease);
            let (partition, incoming) = self.messages.append(Sampled {
                producer: &producer.id,
                seq: producer.next,
                version: work.version,
                slot,
            })?;
            producer.next += 1;
            let written = self.network.write(now, partition);
            self.clock.at(written, Event::Written(Box::new(incoming)));
            let acknowledged = Event::Of(number, Of::Acknowledged(lease.slot));
            self.clock.at(self.network.answered(written), acknowledged);
        }
        Ok(())
    }

    fn report_soon(&mut self, number: usize) {
        if self.fleet.rule != Rule::Leases {
            return;
        }
        let soon = self.clock.now().after(REPORT_AFTER.as_secs_f64());
        let producer = &mut self.producers[number];
        if producer.report_at > soon {
            producer.report_at = soon;
            self.clock.at(soon, Event::Of(number, Of::Report));
        }
    }

    fn report(&mut self, number: usize) -> Result<()> {
        let now = self.clock.now();
        let producer = &mut self.producers[number];
        if producer.report_at > now {
            return Ok(()); // It was sent earlier, because something changed.
        }
        let Some(heartbeat) = self.watch.time(Part::Books, || producer.report()) else {
            return Ok(());
        };
        producer.report_at = now.after(REPORT_EVERY.as_secs_f64());
        self.clock
            .at(producer.report_at, Event::Of(number, Of::Report));
        self.tally.reports += 1;
        let heard = self.network.report(now, size_of(&heartbeat)?);
        self.clock.at(heard, Event::Heard(Box::new(heartbeat)));
        Ok(())
    }

    fn learn(&mut self) -> Result<()> {
        if self.lead.work(&mut self.watch, &mut self.tally)? {
            let now = self.clock.now();
            let end = now.after(self.fleet.update_seconds);
            self.updating += end.since(now);
            self.last_update = now;
            self.clock.at(end, Event::Updated);
        }
        self.call_granter();
        Ok(())
    }

    fn announce(&mut self) -> Result<()> {
        let rejected = self.tally.rejected().values().sum();
        let bytes = self.lead.announce(self.tally.trained(), rejected)?;
        let read = self.network.fan_out(self.clock.now(), bytes, self.alive);
        self.clock.at(read, Event::Announced(self.lead.announced));
        self.learn()
    }

    /// Has the granter wake as soon as it is free, if there is something for it to hear.
    fn call_granter(&mut self) {
        if self.lead.has_news() && !self.waking {
            self.waking = true;
            let free = self.network.gate_is_free();
            self.clock.at(free, Event::Wake(false));
        }
    }

    fn wake(&mut self, regular: bool) -> Result<()> {
        let now = self.clock.now();
        if regular {
            let next = now.after(CHECK_EVERY.as_secs_f64());
            self.clock.at(next, Event::Wake(true));
        } else {
            self.waking = false;
        }
        let records = self.lead.wake(now, &mut self.watch);
        let woken = self.network.wake(now);
        for grants in records {
            let bytes = size_of(&grants)?;
            let number = self.numbers[&grants.producer];
            self.tally.grant(&grants, number, bytes);
            // Every producer reads the grants of all.
            let read = self.network.fan_out(woken, bytes, self.alive);
            let granted = Of::Granted(Box::new(grants));
            self.clock.at(read, Event::Of(number, granted));
        }
        Ok(())
    }

    fn outcome(&self) -> Result<Outcome> {
        let now = self.clock.now();
        let sum = |of: &dyn Fn(&Producer) -> Duration| -> f64 {
            self.producers
                .iter()
                .map(|producer| of(producer).as_secs_f64())
                .sum()
        };
        let lifetime = sum(&|producer| producer.lifetime(now));
        let sampling = sum(&|producer| producer.sampling(now)) / lifetime;
        let loading = sum(&|producer| producer.loading(now)) / lifetime;
        let groups = |of: fn(&Producer) -> u64| self.producers.iter().map(of).sum();
        let books = Books {
            begun: groups(|producer| producer.begun),
            dropped: groups(|producer| producer.dropped),
            in_hand: groups(Producer::in_hand),
            published: self.messages.count(),
            trained: self.tally.trained(),
            rejected: self.tally.rejected(),
            in_flight: self.lead.in_flight(self.messages.count()),
        };
        books.balance()?;
        let mut busy = self.network.busy(now);
        busy.push(Busy {
            part: "updates",
            share: self.updating.as_secs_f64() / now.seconds(),
        });
        busy.push(Busy {
            part: "producers",
            share: sampling,
        });
        busy.sort_by(|a, b| b.share.total_cmp(&a.share));
        let updates = self.lead.version().0;
        Ok(Outcome {
            producers: self.producers.len(),
            seconds: now.seconds(),
            updates,
            updates_per_second: updates as f64 / now.seconds(),
            groups_per_second: books.trained as f64 / now.seconds(),
            idle_share: 1.0 - sampling,
            loading_share: loading,
            staleness: self.tally.staleness(self.fleet.max_staleness),
            control: self.tally.control(updates),
            books,
            bottleneck: busy[0].part,
            busy,
            measured: self.measured(0..self.watch.laps()),
        })
    }
}
