use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use sha2::{Digest as _, Sha256 as Digest};
use vintage_control::{Sha256, SlotMeaning};

use crate::prompts::PromptSet;

/// Selects the prompt of every slot, as a function of seed and slot number alone. Every
/// producer of a run, and another arm of an experiment, thus samples the same prompt at the same
/// slot.
///
/// Slots are numbered through a run. Every stretch of `prompts` slots, an epoch, is a seeded
/// permutation of its own: no prompt is sampled twice before all were sampled once.
#[derive(Debug, Clone)]
pub struct Selector {
    seed: u64,
    prompts: usize,
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl Selector {
    /// Creates a selector over a set of `prompts` prompts (at least 1).
    pub fn new(seed: u64, prompts: usize) -> Self {
        Self {
            seed,
            prompts: prompts.max(1),
            epoch: None,
            order: Vec::new(),
        }
    }

    /// Index of the slot's prompt.
    pub fn prompt_of(&mut self, slot: u64) -> usize {
        let epoch = slot / self.prompts as u64;
        if self.epoch != Some(epoch) {
            self.order = permutation(mix(self.seed, epoch), self.prompts);
            self.epoch = Some(epoch);
        }
        self.order[(slot % self.prompts as u64) as usize] as usize
    }
}

/// Digest of what slots mean to a producer: seed, prompts in their order, and group size. Producers
/// that agree on it sample the same group for the same slot.
pub(crate) fn slots_sha256(seed: u64, prompts: &PromptSet, group_size: u16) -> Sha256 {
    let mut digest = Digest::new();
    let mut text = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    text(&seed.to_string());
    text(&group_size.to_string());
    for prompt in prompts.prompts() {
        text(&prompt.id);
        text(&prompt.text);
    }
    Sha256(digest.finalize().into())
}

/// Returns the parts of [`slots_sha256`], for who compares two.
pub(crate) fn slot_meaning(seed: u64, prompts: &PromptSet, group_size: u16) -> SlotMeaning {
    let mut digest = Digest::new();
    for prompt in prompts.prompts() {
        for text in [&prompt.id, &prompt.text] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        }
    }
    SlotMeaning {
        seed,
        group_size,
        prompts: prompts.len() as u64,
        prompts_sha256: Sha256(digest.finalize().into()),
    }
}

/// Seed of a group's samples: the same for every attempt at the slot.
pub fn group_seed(seed: u64, slot: u64) -> u64 {
    // The constant separates these seeds from those of the permutations, which mix small numbers
    // too.
    mix(mix(seed, 0x7361_6d70_6c65), slot)
}

/// Seed of one sample of a group.
pub fn row_seed(group_seed: u64, sample_index: u16) -> u64 {
    mix(group_seed, u64::from(sample_index))
}

/// Seed of one turn of a conversation, from 0. The first has the seed of the sample.
pub fn turn_seed(row_seed: u64, turn: u32) -> u64 {
    if turn == 0 {
        row_seed
    } else {
        mix(row_seed, u64::from(turn))
    }
}

/// Fisher–Yates shuffle over ChaCha8, written out so that no library update changes the order.
fn permutation(seed: u64, len: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for last in (1..len).rev() {
        let draw = u128::from(rng.next_u64()) * (last as u128 + 1);
        order.swap(last, (draw >> 64) as usize);
    }
    order
}

/// Mixes two numbers by SplitMix64's finaliser.
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Cursor, path::Path};

    use proptest::prelude::*;

    use super::{Selector, group_seed, row_seed, slots_sha256};
    use crate::prompts::PromptSet;

    proptest! {
        #[test]
        fn every_epoch_is_a_permutation(seed: u64, prompts in 1_usize..200, epoch in 0_u64..1000) {
            let mut selector = Selector::new(seed, prompts);
            let start = epoch * prompts as u64;
            let chosen: BTreeSet<_> =
                (start..start + prompts as u64).map(|slot| selector.prompt_of(slot)).collect();
            prop_assert_eq!(chosen, (0..prompts).collect());
        }

        #[test]
        fn a_slot_does_not_depend_on_what_was_asked_before(
            seed: u64, prompts in 1_usize..50, slots in prop::collection::vec(0_u64..500, 1..40),
        ) {
            let mut used = Selector::new(seed, prompts);
            for slot in slots {
                let fresh = Selector::new(seed, prompts).prompt_of(slot);
                prop_assert_eq!(used.prompt_of(slot), fresh);
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch: u64| {
            let mut selector = Selector::new(seed, 40);
            (0..40)
                .map(|i| selector.prompt_of(epoch * 40 + i))
                .collect::<Vec<_>>()
        };
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        assert_eq!(order(1, 3), order(1, 3));
    }

    #[test]
    fn row_seeds_are_distinct() {
        let seeds: BTreeSet<_> = (0..200_u64)
            .flat_map(|slot| (0..16_u16).map(move |i| row_seed(group_seed(7, slot), i)))
            .collect();
        assert_eq!(seeds.len(), 200 * 16);
        assert_ne!(group_seed(7, 0), group_seed(8, 0));
    }

    #[test]
    fn the_digest_of_slots_follows_from_seed_prompts_and_group_size() {
        let set = |rows: &[(&str, &str)]| {
            let row =
                |(id, text): &(&str, &str)| format!(r#"{{"id": "{id}", "prompt": "{text}"}}"#);
            let rows: Vec<_> = rows.iter().map(row).collect();
            PromptSet::from_reader(Path::new("set.jsonl"), Cursor::new(rows.join("\n"))).unwrap()
        };
        let rows = [("a", "1+1="), ("b", "1+2=")];
        let digest = slots_sha256(7, &set(&rows), 4);
        assert_eq!(digest, slots_sha256(7, &set(&rows), 4));
        let others = [
            slots_sha256(8, &set(&rows), 4),
            slots_sha256(7, &set(&rows), 5),
            slots_sha256(7, &set(&[rows[1], rows[0]]), 4),
            slots_sha256(7, &set(&rows[..1]), 4),
            slots_sha256(7, &set(&[rows[0], ("b", "1+3=")]), 4),
            slots_sha256(7, &set(&[rows[0], ("c", "1+2=")]), 4),
            // The same characters in other fields.
            slots_sha256(7, &set(&[("a1", "+1="), rows[1]]), 4),
        ];
        let all: BTreeSet<_> = others.iter().chain([&digest]).map(|of| of.0).collect();
        assert_eq!(all.len(), 1 + others.len());
    }
}
