//! Producers of a run, and which of them have to be looked at, so that a report costs the same
//! however many producers there are.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::Heartbeat;

use crate::{
    clock::Tick,
    holder::{Ended, Holder},
};

/// Producers by their ids.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    all: BTreeMap<String, Holder>,
    /// Producers by the time at which they were last heard of, but for those that were found
    /// silent since.
    heard: BTreeSet<(Tick, String)>,
    /// Producers whose newest record of grants may not be their state any more, and those that were
    /// found silent.
    changed: BTreeSet<String>,
    /// Producers that can take more leases, if time allows.
    hungry: BTreeSet<String>,
}

impl Holders {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Holder)> {
        self.all.iter()
    }

    pub(crate) fn get(&self, producer: &str) -> Option<&Holder> {
        self.all.get(producer)
    }

    /// Adds a producer that is not known yet.
    pub(crate) fn meet(&mut self, now: Tick, producer: &str) {
        if !self.all.contains_key(producer) {
            self.all.insert(producer.to_owned(), Holder::new(now));
            self.heard.insert((now, producer.to_owned()));
        }
    }

    /// Takes a report; returns `None` if it is older than a known one.
    pub(crate) fn hear(&mut self, now: Tick, heartbeat: &Heartbeat) -> Option<Ended> {
        let producer = &heartbeat.producer;
        self.meet(now, producer);
        let before = self.all.get(producer)?.heard;
        let ended = self.change(producer, |holder| holder.hear(now, heartbeat))??;
        self.heard.remove(&(before, producer.clone()));
        self.heard.insert((now, producer.clone()));
        Some(ended)
    }

    /// Changes the state of a producer, if it is known.
    pub(crate) fn change<T>(
        &mut self,
        producer: &str,
        change: impl FnOnce(&mut Holder) -> T,
    ) -> Option<T> {
        let holder = self.all.get_mut(producer)?;
        let done = change(holder);
        if holder.changed && !self.changed.contains(producer) {
            self.changed.insert(producer.to_owned());
        }
        if holder.wants(None) == 0 {
            self.hungry.remove(producer);
        } else if !self.hungry.contains(producer) {
            self.hungry.insert(producer.to_owned());
        }
        Some(done)
    }

    /// Returns the producers that fell silent: not heard of for more than `silence` milliseconds,
    /// and not returned before.
    pub(crate) fn fall_silent(&mut self, now: Tick, silence: u64) -> Vec<String> {
        let mut silent = Vec::new();
        while let Some((heard, _)) = self.heard.first()
            && now.since(*heard) > silence
        {
            let last = self.heard.pop_first();
            silent.extend(last.map(|(_, producer)| producer));
        }
        self.changed.extend(silent.iter().cloned());
        silent
    }

    /// Returns the producers that can take more leases, if time allows.
    pub(crate) fn hungry(&self) -> Vec<(&String, &Holder)> {
        // To look most of them up by name takes longer than to go through all.
        if self.hungry.len() > self.all.len() / 8 {
            let hungry = self.all.iter();
            return hungry
                .filter(|(_, holder)| holder.wants(None) > 0)
                .collect();
        }
        let hungry = self.hungry.iter();
        hungry
            .filter_map(|producer| self.all.get_key_value(producer))
            .collect()
    }

    /// Has `record` make a record of every producer whose state is not in one, and forgets those
    /// that hold nothing and are silent.
    pub(crate) fn record<T>(
        &mut self,
        now: Tick,
        silence: u64,
        record: impl Fn(&String, &Holder) -> T,
    ) -> Vec<T> {
        let mut records = Vec::new();
        for producer in std::mem::take(&mut self.changed) {
            let Some(holder) = self.all.get_mut(&producer) else {
                continue;
            };
            if holder.changed {
                records.push(record(&producer, holder.recorded()));
            }
            if holder.leases.is_empty() && !holder.is_there(now, silence) {
                self.hungry.remove(&producer);
                self.heard.remove(&(holder.heard, producer.clone()));
                self.all.remove(&producer);
            }
        }
        records
    }

    /// Returns the number of producers whose state may not be in a record.
    #[cfg(test)]
    pub(crate) fn unrecorded(&self) -> usize {
        self.changed.len()
    }

    /// Makes every producer one that has to be looked at.
    #[cfg(test)]
    pub(crate) fn look_at_all(&mut self) {
        for (producer, holder) in &self.all {
            self.heard.insert((holder.heard, producer.clone()));
            self.changed.insert(producer.clone());
            self.hungry.insert(producer.clone());
        }
    }
}
