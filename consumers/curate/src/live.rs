//! Live set: the candidates that were inserted and not deleted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};
use vintage_control::PolicyVersion;

use crate::candidate::CandidateId;

/// Place of an element, for as long as it lives. A place that is used again has another generation,
/// so that a handle of a deleted element finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Handle {
    pub(crate) slot: u32,
    generation: u32,
}

/// Candidate in the live set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Element<F> {
    pub(crate) id: CandidateId,
    pub(crate) version: PolicyVersion,
    /// Number of insertions before this one.
    pub(crate) order: u64,
    /// Weight before decay.
    pub(crate) raw: f64,
    /// Weight with decay.
    pub(crate) weight: f64,
    /// Value of the set of this element alone.
    pub(crate) single: f64,
    pub(crate) features: F,
}

impl<F> Element<F> {
    /// Returns the rank by value alone, the largest first, and the earlier one of equals.
    fn rank(&self) -> Rank {
        // Bits of floats that are not negative are in the order of the floats.
        (Reverse(self.single.to_bits()), self.order)
    }
}

type Rank = (Reverse<u64>, u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Slot<F> {
    generation: u32,
    element: Option<Element<F>>,
}

/// Elements by place, and every order in which a structure looks at them. Elements of value 0 are
/// in no order: no set gains by them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    from = "Saved<F>",
    into = "Saved<F>",
    bound(serialize = "F: Serialize + Clone")
)]
pub(crate) struct LiveSet<F> {
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    inserted: u64,
    orders: Orders,
}

/// Orders in which elements are looked at, each made of the elements alone.
#[derive(Debug, Clone, Default, PartialEq)]
struct Orders {
    ids: BTreeMap<CandidateId, Handle>,
    versions: BTreeSet<(PolicyVersion, u64, Handle)>,
    insertions: BTreeMap<u64, Handle>,
    ranks: BTreeMap<Rank, Handle>,
}

impl Orders {
    fn add<F>(&mut self, handle: Handle, element: &Element<F>) {
        self.ids.insert(element.id, handle);
        let version = (element.version, element.order, handle);
        self.versions.insert(version);
        if element.single > 0.0 {
            self.insertions.insert(element.order, handle);
            self.ranks.insert(element.rank(), handle);
        }
    }

    fn remove<F>(&mut self, handle: Handle, element: &Element<F>) {
        self.ids.remove(&element.id);
        let version = (element.version, element.order, handle);
        self.versions.remove(&version);
        self.insertions.remove(&element.order);
        self.ranks.remove(&element.rank());
    }
}

/// Form of a live set in a checkpoint: without its orders, which follow from the elements.
#[derive(Serialize, Deserialize)]
struct Saved<F> {
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    inserted: u64,
}

impl<F> From<LiveSet<F>> for Saved<F> {
    fn from(live: LiveSet<F>) -> Self {
        Self {
            slots: live.slots,
            free: live.free,
            inserted: live.inserted,
        }
    }
}

impl<F> From<Saved<F>> for LiveSet<F> {
    fn from(saved: Saved<F>) -> Self {
        let mut live = Self {
            slots: saved.slots,
            free: saved.free,
            inserted: saved.inserted,
            ..Self::default()
        };
        live.index();
        live
    }
}

impl<F> Default for LiveSet<F> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            inserted: 0,
            orders: Orders::default(),
        }
    }
}

impl<F> LiveSet<F> {
    /// Inserts an element, whose order is set here, and returns its handle.
    pub(crate) fn insert(&mut self, mut element: Element<F>) -> Handle {
        element.order = self.inserted;
        self.inserted += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize >= self.slots.len() {
            self.slots.push(Slot {
                generation: 0,
                element: None,
            });
        }
        let place = &mut self.slots[slot as usize];
        let handle = Handle {
            slot,
            generation: place.generation,
        };
        self.orders.add(handle, &element);
        place.element = Some(element);
        handle
    }

    /// Removes the element of an id; `None` if there is none.
    pub(crate) fn remove(&mut self, id: CandidateId) -> Option<(Handle, Element<F>)> {
        let handle = *self.orders.ids.get(&id)?;
        let place = self.slots.get_mut(handle.slot as usize)?;
        let element = place.element.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(handle.slot);
        self.orders.remove(handle, &element);
        Some((handle, element))
    }

    /// Returns the element of a handle; `None` if it was deleted.
    pub(crate) fn get(&self, handle: Handle) -> Option<&Element<F>> {
        let slot = self.slots.get(handle.slot as usize)?;
        let same = slot.generation == handle.generation;
        slot.element.as_ref().filter(|_| same)
    }

    pub(crate) fn contains(&self, id: CandidateId) -> bool {
        self.orders.ids.contains_key(&id)
    }

    /// Returns the number of elements, those of value 0 included.
    pub(crate) fn len(&self) -> usize {
        self.orders.ids.len()
    }

    /// Returns the number of elements of value above 0.
    pub(crate) fn worthy(&self) -> usize {
        self.orders.insertions.len()
    }

    /// Returns the handles of elements of value above 0 that were inserted at `order` or later, in
    /// the order of insertion.
    pub(crate) fn since(&self, order: u64) -> impl DoubleEndedIterator<Item = Handle> {
        self.orders
            .insertions
            .range(order..)
            .map(|(_, handle)| *handle)
    }

    /// Returns the handles of elements of value above 0, that of the largest value first.
    pub(crate) fn ranked(&self) -> impl Iterator<Item = Handle> {
        self.orders.ranks.values().copied()
    }

    /// Returns the largest value of one element alone.
    pub(crate) fn largest(&self) -> Option<f64> {
        let ((Reverse(bits), _), _) = self.orders.ranks.first_key_value()?;
        Some(f64::from_bits(*bits))
    }

    /// Returns the ids of elements below a version, the oldest version first.
    pub(crate) fn below(&self, version: PolicyVersion) -> Vec<CandidateId> {
        let older = self.orders.versions.iter();
        older
            .take_while(|(own, ..)| *own < version)
            .filter_map(|(_, _, handle)| Some(self.get(*handle)?.id))
            .collect()
    }

    /// Changes all elements, and returns the handles of those of value above 0 in the order of
    /// insertion.
    pub(crate) fn revise(&mut self, mut change: impl FnMut(&mut Element<F>)) -> Vec<Handle> {
        for element in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.element.as_mut())
        {
            change(element);
        }
        self.index();
        self.since(0).collect()
    }

    /// Makes the orders from the elements.
    fn index(&mut self) {
        let mut orders = Orders::default();
        for (slot, place) in (0..).zip(&self.slots) {
            let Some(element) = &place.element else {
                continue;
            };
            let handle = Handle {
                slot,
                generation: place.generation,
            };
            orders.add(handle, element);
        }
        self.orders = orders;
    }
}
