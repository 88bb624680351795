use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    path::Path,
};

use proptest::prelude::*;

use super::Slots;
use crate::{claims::Claims, gate::GateBase, prompts::PromptSet, select::Selector};

const SEED: u64 = 5;

fn set(rows: impl Iterator<Item = String>) -> PromptSet {
    let rows: Vec<_> = rows.collect();
    PromptSet::from_reader(Path::new("set.jsonl"), Cursor::new(rows.join("\n"))).unwrap()
}

fn prompts(count: usize) -> PromptSet {
    set((0..count).map(|i| format!(r#"{{"prompt": "{i}=", "id": "p{i}"}}"#)))
}

/// Slots of a producer that starts when the log holds `asked`.
fn life(set: &PromptSet, asked: &BTreeMap<String, u64>, unknown_prompts: u64) -> Slots {
    let base = GateBase {
        asked: asked.clone(),
        unknown_prompts,
        ..GateBase::default()
    };
    Slots::new(Selector::new(SEED, set.len()), set, &base, None)
}

fn spread(asked: &BTreeMap<String, u64>, set: &PromptSet) -> (u64, u64) {
    let counts = set.prompts().iter();
    let counts = counts.map(|prompt| asked.get(&prompt.id).copied().unwrap_or(0));
    (counts.clone().min().unwrap(), counts.max().unwrap())
}

proptest! {
    /// Producers that may end at any time: each samples some prompts, of which some groups are
    /// lost. Lost prompts are sampled again before any prompt is sampled once more.
    #[test]
    fn every_prompt_is_asked_before_any_is_asked_again(
        prompts_of_set in 1_usize..30,
        lives in prop::collection::vec((0_usize..40, prop::collection::vec(any::<bool>(), 0..40)), 1..8),
    ) {
        let set = prompts(prompts_of_set);
        let mut asked = BTreeMap::new();
        for (groups, lost) in lives {
            let before = asked.clone();
            let (_, most) = spread(&before, &set);
            let mut slots = life(&set, &asked, 0);
            let taken = slots.take(groups).unwrap();
            prop_assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), groups);
            let mut attempts = asked.clone();
            for (index, slot) in taken.into_iter().enumerate() {
                let id = set.prompts()[slots.prompt_of(slot)].id.clone();
                let (least, _) = spread(&attempts, &set);
                let count = attempts.entry(id.clone()).or_insert(0);
                // The prompts sampled least often come first.
                prop_assert!(*count == least, "{id} was asked {count} times, another {least}");
                *count += 1;
                // No prompt is lost twice in a row, since that would leave it far behind the
                // others.
                let lost = lost.get(index).copied().unwrap_or(false)
                    && groups <= prompts_of_set
                    && before.get(&id).copied().unwrap_or(0) == most;
                if !lost {
                    *asked.entry(id).or_insert(0) += 1;
                }
            }
        }
        let (least, most) = spread(&asked, &set);
        prop_assert!(most - least <= 1, "{asked:?}");
    }

    /// Producers that run at the same time and take turns in any order use every slot exactly once.
    #[test]
    fn producers_beside_one_another_share_the_slots(
        turns in prop::collection::vec((0_usize..3, 1_usize..6), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let set = prompts(7);
        let base = GateBase::default();
        let mut producers: Vec<_> = (0..3)
            .map(|_| {
                let claims = Claims::open(folder.path()).unwrap();
                Slots::new(Selector::new(SEED, 7), &set, &base, Some(claims))
            })
            .collect();
        let mut all = BTreeSet::new();
        for (who, count) in turns {
            for slot in producers[who].take(count).unwrap() {
                prop_assert!(all.insert(slot), "slot {slot} twice");
            }
        }
        let expected: BTreeSet<_> = (0..all.len() as u64).collect();
        prop_assert_eq!(all, expected);
    }
}

#[test]
fn what_retention_took_stood_in_the_first_slots() {
    let set = prompts(10);
    let mut first = life(&set, &BTreeMap::new(), 0);
    let all = first.take(17).unwrap();
    // The log has lost the first twelve groups, and plans hold their number.
    let mut asked = BTreeMap::new();
    for slot in &all[12..] {
        let id = set.prompts()[first.prompt_of(*slot)].id.clone();
        *asked.entry(id).or_insert(0) += 1;
    }
    let mut next = life(&set, &asked, 12);
    let rest: BTreeSet<_> = next
        .take(3)
        .unwrap()
        .into_iter()
        .map(|slot| next.prompt_of(slot))
        .collect();
    let second: BTreeSet<_> = all[10..]
        .iter()
        .map(|&slot| first.prompt_of(slot))
        .collect();
    assert!(rest.is_disjoint(&second), "{rest:?} and {second:?}");
}

#[test]
fn prompts_that_were_added_join_the_others() {
    let old = prompts(6);
    let asked: BTreeMap<_, _> = old.prompts().iter().map(|p| (p.id.clone(), 50)).collect();
    let grown = prompts(8);
    let mut slots = life(&grown, &asked, 0);
    let mut next = |count| {
        let taken = slots.take(count).unwrap().into_iter();
        taken
            .map(|slot| slots.prompt_of(slot))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(next(4), [6, 7].into(), "the new ones twice");
    assert_eq!(next(8), (0..8).collect(), "then all");
}

#[test]
fn rows_of_one_id_share_what_was_asked_under_it() {
    let row = |id: &str| format!(r#"{{"prompt": "{id}=", "id": "{id}"}}"#);
    let set = set(["a", "a", "b"].into_iter().map(row));
    let asked = BTreeMap::from([("a".to_owned(), 1)]);
    let mut slots = life(&set, &asked, 0);
    let taken = slots.take(2).unwrap();
    let asked: BTreeSet<_> = taken
        .into_iter()
        .map(|slot| slots.prompt_of(slot))
        .collect();
    assert_eq!(asked, [1, 2].into());
}
