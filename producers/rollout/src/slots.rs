use vintage_control::NumberSet;

use crate::{claims::Claims, error::Error, gate::GateBase, prompts::PromptSet, select::Selector};

/// Number of epochs below the median one at which new slots begin at the earliest. Prompts sampled
/// less often than most, such as added rows, catch up by at most this many epochs.
const CATCH_UP: u64 = 2;

/// Slots of a run that are still to be sampled, under the waiting rule.
///
/// Slots are one sequence for all producers of a run: epoch after epoch, each a seeded permutation
/// of the prompt set. Log and archive show how often each prompt was sampled, by any producer and
/// with any outcome, and so which slots are taken: the k-th sampling of a prompt is its slot of
/// epoch k. Lost groups are in neither log nor archive, so their slots are free.
#[derive(Debug)]
pub(crate) struct Slots {
    selector: Selector,
    /// Number of times each prompt was sampled before, by its index in the set.
    asked: Vec<u64>,
    /// Slots handed out since the start, by this producer or by those beside it.
    taken: NumberSet,
    /// Slot at which the search for a free one continues; lower slots are not handed out.
    next: u64,
    claims: Option<Claims>,
}

impl Slots {
    /// Creates the slots that remain after the earlier producers described by `base`. `claims` is
    /// needed if other producers may run at the same time.
    pub(crate) fn new(
        selector: Selector,
        prompts: &PromptSet,
        base: &GateBase,
        claims: Option<Claims>,
    ) -> Self {
        let asked = askings(prompts, base);
        let mut ascending = asked.clone();
        ascending.sort_unstable();
        // Prompts that were added to a set whose other prompts were sampled often are not sampled
        // as often in a row: they join shortly before the epoch of the other prompts. Slots that a killed
        // producer left open are sampled however far other producers are in the next epoch.
        let usual = ascending[ascending.len() / 2].saturating_sub(CATCH_UP);
        let epoch = ascending[0].max(usual);
        let mut slots = Self {
            next: epoch * asked.len() as u64,
            selector,
            asked,
            taken: NumberSet::default(),
            claims,
        };
        // Retention deletes the oldest groups, which have the first slots.
        for _ in 0..base.unknown_prompts {
            slots.take_first();
        }
        slots
    }

    /// Index of the prompt of a slot.
    pub(crate) fn prompt_of(&mut self, slot: u64) -> usize {
        self.selector.prompt_of(slot)
    }

    /// Takes the first `count` free slots.
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

/// Number of times each row was sampled. Rows with one id share the samplings of that id.
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
