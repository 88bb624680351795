//! Order in which slots are granted, and which of them are free.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{NumberSet, SlotNumber, UpdateNumber};

/// Distance from a batch's slots to those that replace refused ones, far beyond the slots of any
/// run's batches.
pub(crate) const REPLACEMENT_STRIDE: u64 = 1 << 40;

/// Number of the `place`-th slot of a batch of `size` groups. Under the exact rule batch b has the
/// slots from `b · size` on, so that every arm of an experiment samples the same prompts. A refused
/// group is replaced by a slot beyond those of all batches, because the same slot would give the
/// same group again.
pub(crate) fn slot_number(batch: u64, size: u64, place: u64) -> SlotNumber {
    SlotNumber((place / size) * REPLACEMENT_STRIDE + batch * size + place % size)
}

/// Slots of a run: those that are taken, by a lease or by a group in the log, and the others.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    size: u64,
    /// Slots that were ever granted, or whose group was seen. Those in `free` are not taken.
    taken: NumberSet,
    /// Slots whose lease ended without a group.
    free: BTreeSet<SlotNumber>,
    /// Exact rule: number of slots of each batch that are taken, and the place to look for the next
    /// free one. Batches that are trained are removed.
    batches: BTreeMap<u64, Fill>,
}

#[derive(Debug, Clone, Copy)]
struct Fill {
    /// Number of slots taken whose groups are in the log or may come.
    groups: u64,
    place: u64,
}

/// Groups that a batch wants for now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// Number of groups that it wants in all: those that it has, and those still to be granted.
    pub(crate) groups: u64,
    /// Number of places, from the first, whose versions are announced.
    pub(crate) open: u64,
}

impl Slots {
    /// Creates the slots of a run whose updates take `size` groups. The groups of the slots `done`
    /// are trained or rejected.
    pub(crate) fn new(size: u64, done: NumberSet) -> Self {
        Self {
            size,
            taken: done,
            free: BTreeSet::new(),
            batches: BTreeMap::new(),
        }
    }

    /// Takes the first free slot that is for any update.
    pub(crate) fn take_any(&mut self) -> SlotNumber {
        if let Some(slot) = self.free.pop_first() {
            return slot;
        }
        let slot = self.taken.missing_from(0);
        self.taken.insert(slot);
        SlotNumber(slot)
    }

    /// Takes a free slot for a batch, `None` if it has what it wants. Returns the place in the batch too.
    pub(crate) fn take_of(&mut self, batch: u64, wants: Demand) -> Option<(SlotNumber, u64)> {
        let fill = self.fill(batch);
        if fill.groups >= wants.groups || wants.open == 0 {
            return None;
        }
        let (mut place, mut skipped) = (fill.place, None);
        let (slot, of_batch) = loop {
            let (slot, of_batch) = (slot_number(batch, self.size, place), place % self.size);
            if of_batch >= wants.open {
                skipped = skipped.or(Some(place));
            } else if self.free.remove(&slot) || self.taken.insert(slot.0) {
                break (slot, of_batch);
            }
            place += 1;
        };
        let fill = self.batches.entry(batch).or_insert(fill);
        (fill.groups, fill.place) = (fill.groups + 1, skipped.unwrap_or(place + 1));
        Some((slot, of_batch))
    }

    /// Returns the number of slots taken of a batch whose groups are in the log or may come.
    pub(crate) fn groups_of(&self, batch: u64) -> u64 {
        self.fill(batch).groups
    }

    /// Notes that a slot is taken, by a group in the log or a lease of before. Returns true if it
    /// was not.
    pub(crate) fn mark(&mut self, slot: SlotNumber, batch: i64) -> bool {
        let fill = u64::try_from(batch)
            .ok()
            .map(|batch| (batch, self.fill(batch)));
        let new = self.free.remove(&slot) || self.taken.insert(slot.0);
        if let Some((batch, fill)) = fill.filter(|_| new) {
            self.batches.entry(batch).or_insert(fill).groups += 1;
        }
        new
    }

    /// Frees a slot whose lease ended without a group.
    pub(crate) fn free(&mut self, slot: SlotNumber, batch: i64) {
        self.free.insert(slot);
        self.replace(batch);
        if let Some(fill) = self.fill_mut(batch) {
            // Freed places are below the next one; looking again from the start is cheap.
            fill.place = 0;
        }
    }

    /// Gives up a slot for good: its batch needs another in its place.
    pub(crate) fn replace(&mut self, batch: i64) {
        if let Some(fill) = self.fill_mut(batch) {
            fill.groups = fill.groups.saturating_sub(1);
        }
    }

    /// Forgets the batches of updates below `next`.
    pub(crate) fn forget_below(&mut self, next: UpdateNumber) {
        self.batches = self.batches.split_off(&next.0);
        // Under the exact rule a slot of a trained batch is granted to nobody any more; under the
        // waiting rule `batches` is empty and every free slot is granted again.
    }

    fn fill_mut(&mut self, batch: i64) -> Option<&mut Fill> {
        self.batches.get_mut(&u64::try_from(batch).ok()?)
    }

    /// Fill of a batch. One that nothing is known of may have slots among those that were done
    /// before this process.
    fn fill(&self, batch: u64) -> Fill {
        let known = self.batches.get(&batch).copied();
        known.unwrap_or_else(|| {
            let row = |row: u64| {
                let places = row * self.size..(row + 1) * self.size;
                let slots = places.map(|place| slot_number(batch, self.size, place));
                slots.filter(|slot| self.is_taken(*slot)).count() as u64
            };
            // Where few places of a batch were open and failed, the first row may be empty and the second not.
            let (mut groups, mut empty) = (0, 0);
            for at in 0.. {
                match row(at) {
                    0 if empty == 1 => break,
                    0 => empty += 1,
                    taken => groups += taken,
                }
            }
            Fill { groups, place: 0 }
        })
    }

    /// Returns true if the slot is leased, or its group was seen, or is not wanted any more.
    pub(crate) fn is_taken(&self, slot: SlotNumber) -> bool {
        self.taken.contains(slot.0) && !self.free.contains(&slot)
    }
}
