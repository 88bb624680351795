use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{PolicyAnnouncement, PolicyVersion, UpdateNumber};
use vintage_settings::GateConfig;

use crate::error::Error;

/// Rule for how far producers may run ahead of the learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateRule {
    /// Producers wait rather than exceed a maximum staleness.
    Wait {
        /// Maximum staleness, in updates.
        max_staleness: u64,
    },
    /// Batch b is sampled by version max(0, b − k), as in the paper.
    Exact {
        /// Staleness of every batch, in updates.
        k: u64,
    },
}

impl From<&GateConfig> for GateRule {
    fn from(config: &GateConfig) -> Self {
        match config.exact {
            Some(k) => Self::Exact { k },
            None => Self::Wait {
                max_staleness: config.max_staleness,
            },
        }
    }
}

/// State left by earlier producer processes of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateBase {
    /// Number of groups published by earlier processes that are trained, rejected or in flight.
    /// Groups lost with an embedded broker do not count, or the gate would never open again.
    pub published_before: u64,
    /// Waiting rule: number of times each prompt was sampled, by prompt id. Every group of the
    /// policy in log or archive counts, whichever producer published it.
    pub asked: BTreeMap<String, u64>,
    /// Published groups whose prompts are unknown, because neither log nor archive holds them any
    /// more.
    pub unknown_prompts: u64,
    /// Exact rule: groups already published, by batch. Batches that the learner has trained may be
    /// left out.
    pub filled: BTreeMap<i64, Filled>,
}

/// Groups of one batch that earlier producer processes published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// Number of groups, refused ones included, because announcements add those to the number
    /// wanted.
    pub groups: u64,
    /// Slots of the groups. There may be gaps below the highest one, because a later group of a
    /// killed producer may have been acknowledged before an earlier one.
    pub slots: BTreeSet<u64>,
}

/// Part of an announcement that the gate uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// Newest published version.
    pub version: PolicyVersion,
    /// Groups rejected since version 0 that have a producer's number; only those were counted by a
    /// gate.
    pub rejected: u64,
    /// Exact rule: number of refused groups in batches that are still to be trained.
    pub refused: BTreeMap<UpdateNumber, u64>,
    /// Total number of updates of the run, if the learner announces it.
    pub updates: Option<u64>,
}

impl From<&PolicyAnnouncement> for Announced {
    fn from(record: &PolicyAnnouncement) -> Self {
        Self {
            version: record.version,
            rejected: record.numbered_rejections.unwrap_or(record.groups_rejected),
            refused: record.refused_batches.clone(),
            updates: record.steps,
        }
    }
}

/// Place of one group in the order of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Slot number within the run, which selects prompt and seeds. Under the waiting rule the gate
    /// only counts groups, and the producer replaces this number by that of a free slot.
    pub number: u64,
    /// Update that the group is for; −1 for any.
    pub batch: i64,
}

/// Groups that may start now, all sampled by one version. If empty, wait for an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Version that must sample the groups.
    pub version: PolicyVersion,
    /// Slots of the groups, in order.
    pub slots: Vec<Slot>,
}

/// Decides how many groups may start, from announcements and its own counts alone.
///
/// Under [`GateRule::Wait`] the capacity is `(version + max_staleness + 1) · batch + rejected −
/// published − running`. The gate keeps published and running groups as one count, that of the
/// groups admitted and not abandoned, so that no group is missed in between. The learner takes
/// `batch` groups per update, so the last group admitted at `version` is trained at `version +
/// max_staleness` at the latest.
///
/// Under [`GateRule::Exact`] batch b gets the slots from `b · batch` on, so that every arm of an
/// experiment samples the same prompts. A refused or abandoned group is replaced by a slot beyond
/// those of all batches, because the same slot would give the same group again.
#[derive(Debug, Clone)]
pub struct Gate {
    rule: GateRule,
    batch: u64,
    updates: Option<u64>,
    base: GateBase,
    /// Groups admitted by this producer process, less the abandoned ones.
    admitted: u64,
    /// Waiting rule: number of the next slot.
    next: u64,
    /// Exact rule: fill of each batch that is still to be trained.
    batches: BTreeMap<u64, Fill>,
}

#[derive(Debug, Clone, Copy)]
struct Fill {
    taken: u64,
    abandoned: u64,
    /// Next slot to be handed out, counted within the batch.
    next: u64,
}

impl Gate {
    /// Creates a gate for a learner that takes `groups_per_update` groups per update and publishes
    /// every `publish_every` versions. The learner stops after `updates` updates, if given, unless
    /// it announces another number.
    pub fn new(
        rule: GateRule,
        groups_per_update: u64,
        publish_every: u64,
        updates: Option<u64>,
        base: GateBase,
    ) -> Result<Self, Error> {
        let refuse = |reason| Err(Error::Gate { reason });
        if groups_per_update == 0 || publish_every == 0 {
            return refuse("groups per update and publish_every must be at least 1".to_owned());
        }
        match rule {
            GateRule::Wait { max_staleness } if max_staleness + 1 < publish_every => {
                return refuse(format!(
                    "max_staleness {max_staleness} with publish_every {publish_every} would stop \
                     the producers before the next version is published; set gate.max_staleness \
                     to at least {}",
                    publish_every - 1
                ));
            }
            GateRule::Exact { .. } if publish_every != 1 => {
                return refuse(format!(
                    "the exact rule needs every version, but publish_every is {publish_every}; \
                     set publish_every = 1 or unset gate.exact"
                ));
            }
            GateRule::Wait { .. } | GateRule::Exact { .. } => {}
        }
        Ok(Self {
            rule,
            batch: groups_per_update,
            updates,
            admitted: 0,
            next: base.published_before,
            batches: BTreeMap::new(),
            base,
        })
    }

    /// Admits up to `at_most` groups.
    pub fn admit(&mut self, announced: &Announced, at_most: u64) -> Admission {
        match self.rule {
            GateRule::Wait { max_staleness } => self.admit_any(announced, max_staleness, at_most),
            GateRule::Exact { k } => self.admit_batches(announced, k, at_most),
        }
    }

    /// Takes back an admitted group that will never be published.
    pub fn abandon(&mut self, slot: Slot) {
        self.admitted = self.admitted.saturating_sub(1);
        if let Some(fill) = self.batches.get_mut(&(slot.batch as u64)) {
            fill.abandoned += 1;
        }
    }

    fn admit_any(&mut self, announced: &Announced, max_staleness: u64, at_most: u64) -> Admission {
        let ahead = announced
            .version
            .0
            .saturating_add(max_staleness)
            .saturating_add(1);
        let updates = announced.updates.or(self.updates);
        let limit = ahead
            .min(updates.unwrap_or(ahead))
            .saturating_mul(self.batch)
            .saturating_add(announced.rejected);
        let capacity = limit.saturating_sub(self.base.published_before + self.admitted);
        let groups = capacity.min(at_most);
        let slots = (0..groups)
            .map(|i| Slot {
                number: self.next + i,
                batch: -1,
            })
            .collect();
        self.next += groups;
        self.admitted += groups;
        Admission {
            version: announced.version,
            slots,
        }
    }

    fn admit_batches(&mut self, announced: &Announced, k: u64, at_most: u64) -> Admission {
        let newest = announced.version;
        // At version v the learner has trained every batch below v.
        self.batches = self.batches.split_off(&newest.0);
        let mut admission = Admission {
            version: newest,
            slots: Vec::new(),
        };
        let end = newest.0.saturating_add(k).saturating_add(1);
        let updates = announced.updates.or(self.updates);
        let end = end.min(updates.unwrap_or(end));
        for batch in newest.0..end {
            let version = PolicyVersion(batch.saturating_sub(k));
            let filled = self.base.filled.get(&(batch as i64));
            let fresh = Fill {
                taken: filled.map_or(0, |filled| filled.groups),
                abandoned: 0,
                next: 0,
            };
            let fill = self.batches.entry(batch).or_insert(fresh);
            let refused = announced
                .refused
                .get(&UpdateNumber(batch))
                .copied()
                .unwrap_or(0);
            let wanted = self.batch + refused + fill.abandoned;
            while fill.taken < wanted {
                let other_version = !admission.slots.is_empty() && version != admission.version;
                if other_version || admission.slots.len() as u64 == at_most {
                    return admission;
                }
                admission.version = version;
                let mut number = slot_number(batch, self.batch, fill.next);
                while filled.is_some_and(|filled| filled.slots.contains(&number)) {
                    fill.next += 1;
                    number = slot_number(batch, self.batch, fill.next);
                }
                fill.next += 1;
                admission.slots.push(Slot {
                    number,
                    batch: batch as i64,
                });
                fill.taken += 1;
                self.admitted += 1;
            }
        }
        admission
    }
}

/// Number of the `place`-th slot of a batch of `size` groups.
fn slot_number(batch: u64, size: u64, place: u64) -> u64 {
    // Distance to a batch's replacement slots, far beyond the slots of any run's batches.
    const REPLACEMENT_STRIDE: u64 = 1 << 40;
    (place / size) * REPLACEMENT_STRIDE + batch * size + place % size
}

#[cfg(test)]
mod tests;
