use vintage_control::NumberSet;

use crate::{Error, claims::Claims, gate::GateBase, prompts::PromptSet, select::Selector};

/// Epochs that a prompt which was asked less often than most is caught up by.
const CATCH_UP: u64 = 2;

/// Slots of a run that are still to be asked, under the waiting rule.
///
/// Slots are one sequence for all producers of a run: epoch after epoch, each a seeded permutation
/// of the set. What log and archive hold says how often each prompt was asked, and so which slots
/// are taken, whoever asked and however it ended: the k-th asking of a prompt is its slot of epoch
/// k. Groups that were lost are in neither, and their slots are free.
#[derive(Debug)]
pub(crate) struct Slots {
    selector: Selector,
    /// How often each prompt of the set was asked before, by its place.
    asked: Vec<u64>,
    /// Handed out since, here or by producers beside this one.
    taken: NumberSet,
    /// No free slot stands before it.
    next: u64,
    claims: Option<Claims>,
}

impl Slots {
    /// After what `base` knows of earlier lives; with `claims` where there may be producers beside
    /// this one.
    pub(crate) fn new(
        selector: Selector,
        prompts: &PromptSet,
        base: &GateBase,
        claims: Option<Claims>,
    ) -> Self {
        let asked = askings(prompts, base);
        let mut ascending = asked.clone();
        ascending.sort_unstable();
        // Prompts that were added to a set of which all were asked often are not asked as often
        // in a row: they join a little before the others' epoch. What a killed producer left is asked
        // however far the others are in the next epoch.
        let usual = ascending[ascending.len() / 2].saturating_sub(CATCH_UP);
        let epoch = ascending[0].max(usual);
        let mut slots = Self {
            next: epoch * asked.len() as u64,
            selector,
            asked,
            taken: NumberSet::default(),
            claims,
        };
        // Retention takes the oldest groups: those of the first slots.
        for _ in 0..base.unnamed {
            slots.take_first();
        }
        slots
    }

    /// Index of the prompt of a slot.
    pub(crate) fn prompt_of(&mut self, slot: u64) -> usize {
        self.selector.prompt_of(slot)
    }

    /// The first `count` free slots, which are free no more.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u64>, Error> {
        let Some(mut claims) = self.claims.take() else {
            return Ok((0..count).map(|_| self.take_first()).collect());
        };
        let mut slots = Vec::with_capacity(count);
        while slots.len() < count {
            claims.read(&mut self.taken)?;
            let wanted: Vec<_> = (slots.len()..count).map(|_| self.take_first()).collect();
            slots.extend(claims.claim(&wanted, &mut self.taken)?);
        }
        self.claims = Some(claims);
        Ok(slots)
    }

    fn take_first(&mut self) -> u64 {
        while self.is_taken(self.next) {
            self.next += 1;
        }
        let slot = self.next;
        self.taken.insert(slot);
        self.next += 1;
        slot
    }

    fn is_taken(&mut self, slot: u64) -> bool {
        let epoch = slot / self.asked.len() as u64;
        self.taken.contains(slot) || self.asked[self.selector.prompt_of(slot)] > epoch
    }
}

/// How often each row was asked. Rows of one id share what was asked under it.
fn askings(prompts: &PromptSet, base: &GateBase) -> Vec<u64> {
    let rows = prompts.prompts();
    let mut of_id = std::collections::HashMap::new();
    for row in rows {
        *of_id.entry(row.id.as_str()).or_insert(0_u64) += 1;
    }
    let mut met = std::collections::HashMap::new();
    rows.iter()
        .map(|row| {
            let asked = base.asked.get(&row.id).copied().unwrap_or(0);
            let rows = of_id[row.id.as_str()];
            let before = met.entry(row.id.as_str()).or_insert(0_u64);
            let share = asked / rows + u64::from(*before < asked % rows);
            *before += 1;
            share
        })
        .collect()
}

#[cfg(test)]
mod tests;
