//! Way between producers and learner: partitions, brokers, decoding, the store.

use serde::Serialize;

use super::{clock::Time, settings::Fleet, station::Station};

/// Requests of a producer that loads a version: its manifest and its weights.
const REQUESTS_OF_A_LOAD: f64 = 2.0;
/// Requests of a learner for an update: plan, weights, manifest and result are created, the next
/// update's plan is looked for twice, and an old version is listed and removed.
const REQUESTS_OF_AN_UPDATE: f64 = 9.0;
/// Readers of the rollouts: the learner and the archive.
const READERS: f64 = 2.0;

/// Share of the run in which a part was busy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Busy {
    /// Name of the part.
    pub part: &'static str,
    /// Share of the run, from 0 to 1.
    pub share: f64,
}

/// Parts with their stated capacities.
#[derive(Debug)]
pub(super) struct Network {
    partitions: Vec<Station>,
    broker_out: Station,
    decode: Station,
    archive: Station,
    store: Station,
    requests: Station,
    /// Reading of the control topics, which is the same work for every producer.
    control: Station,
    gate: Station,
    latency: f64,
    message_bytes: f64,
    weights_bytes: f64,
}

impl Network {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let capacities = &fleet.capacities;
        Self {
            partitions: vec![Station::new(capacities.partition); capacities.partitions],
            broker_out: Station::new(capacities.broker_out),
            decode: Station::new(capacities.decode),
            archive: Station::new(capacities.archive),
            store: Station::new(capacities.store),
            requests: Station::new(capacities.store_requests),
            control: Station::new(capacities.control_records),
            gate: Station::new(capacities.gate_wakes),
            latency: capacities.latency,
            message_bytes: fleet.message_bytes,
            weights_bytes: fleet.weights_bytes,
        }
    }

    pub(super) fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Sends a group to a partition; returns the time at which it is written.
    pub(super) fn write(&mut self, now: Time, partition: usize) -> Time {
        self.partitions[partition].serve(now, self.message_bytes)
    }

    /// Sends a group that was written now to its readers; returns the time at which the learner has
    /// it decoded.
    pub(super) fn deliver(&mut self, now: Time) -> Time {
        let bytes = self.message_bytes;
        let sent = self.broker_out.serve(now, READERS * bytes);
        self.archive.serve(sent, bytes);
        self.decode.serve(sent.after(self.latency), bytes)
    }

    /// Returns the time at which a sender hears of something that is done at `now`.
    pub(super) fn answered(&self, now: Time) -> Time {
        now.after(self.latency)
    }

    /// Sends a control record to `readers`; returns the time at which the last one has read it.
    pub(super) fn fan_out(&mut self, now: Time, bytes: usize, readers: usize) -> Time {
        let sent = self.broker_out.serve(now, bytes as f64 * readers as f64);
        self.control.serve(sent.after(self.latency), 1.0)
    }

    /// Sends a report to the lead.
    pub(super) fn report(&mut self, now: Time, bytes: usize) -> Time {
        self.broker_out.serve(now, bytes as f64).after(self.latency)
    }

    /// Loads the weights of a version out of the store.
    pub(super) fn load(&mut self, now: Time) -> Time {
        let answered = self.requests.serve(now, REQUESTS_OF_A_LOAD);
        self.store
            .serve(answered, self.weights_bytes)
            .after(self.latency)
    }

    /// Records an update in the store, with the weights of its version.
    pub(super) fn record(&mut self, now: Time) -> Time {
        let answered = self.requests.serve(now, REQUESTS_OF_AN_UPDATE);
        self.store
            .serve(answered, self.weights_bytes)
            .after(self.latency)
    }

    /// Takes the granter's time for one wake.
    pub(super) fn wake(&mut self, now: Time) -> Time {
        self.gate.serve(now, 1.0)
    }

    /// Returns the time at which the granter can wake.
    pub(super) fn gate_is_free(&self) -> Time {
        self.gate.free_at()
    }

    /// Returns the share of the time until `now` in which each part was busy.
    pub(super) fn busy(&self, now: Time) -> Vec<Busy> {
        let fullest = self.partitions.iter().map(|station| station.share(now));
        let parts = [
            ("partitions", fullest.fold(0.0, f64::max)),
            ("brokers, sending", self.broker_out.share(now)),
            ("decode in the learner", self.decode.share(now)),
            ("archive", self.archive.share(now)),
            ("store, bytes of weights", self.store.share(now)),
            ("store, requests", self.requests.share(now)),
            ("grants and announcements, reading", self.control.share(now)),
            ("granter", self.gate.share(now)),
        ];
        parts.map(|(part, share)| Busy { part, share }).into()
    }
}
