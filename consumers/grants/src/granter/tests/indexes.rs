//! Indexes of producers: what they leave out would have changed nothing.

use proptest::prelude::*;
use vintage_control::{Ages, NumberSet, ProducerWindow, SlotNumber};

use super::{at, granter, heartbeat};
use crate::{
    clock::Tick,
    granter::{Granter, Progress},
    limits::GateRule,
};

/// Event in the life of a granter.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// A producer reports some of its leases as held, the rest as published or as another state.
    Report(usize, u64, u8, u8),
    /// The group of one of the leased slots is seen.
    Seen(usize),
    Advance(u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..700).prop_map(Step::Wait),
        (0_usize..5, 0_u64..6, any::<u8>(), 0_u8..4)
            .prop_map(|(who, capacity, held, rest)| Step::Report(who, capacity, held, rest)),
        (0_usize..20).prop_map(Step::Seen),
        (0_u64..3, any::<bool>()).prop_map(|(by, starving)| Step::Advance(by, starving)),
    ]
}

/// Takes a step; `number` is that of a report.
fn take(granter: &mut Granter, now: Tick, number: u64, version: u64, step: &Step) {
    match *step {
        Step::Wait(_) => {}
        Step::Report(who, capacity, kept, rest) => {
            let id = format!("p{who}");
            let mut report = heartbeat(&id, number, capacity);
            let leased = granter.leased.iter().filter(|(_, holder)| **holder == id);
            let (mut held, mut others) = (NumberSet::default(), NumberSet::default());
            for (place, (slot, _)) in leased.enumerate() {
                let set = if kept >> (place % 8) & 1 == 1 {
                    &mut held
                } else {
                    &mut others
                };
                set.insert(slot.0);
            }
            report.grants_read = Some(granter.number);
            report.held = ProducerWindow::from(&held);
            match rest {
                0 => report.failed = ProducerWindow::from(&others),
                1 => report.given_back = ProducerWindow::from(&others),
                _ => {}
            }
            report.leaving = rest == 1;
            granter.hear(now, &report);
        }
        Step::Seen(which) => {
            let slot = granter.leased.keys().nth(which).copied();
            granter.seen(now, slot.unwrap_or(SlotNumber(1000)), -1);
        }
        Step::Advance(_, starving) => {
            let progress = Progress {
                starving,
                ..at(version, 1)
            };
            granter.advance(now, progress);
        }
    }
}

proptest! {
    /// Checks that a granter that looks at every producer and lease each time it grants makes the
    /// records of one that looks at what may have changed.
    #[test]
    fn what_is_not_looked_at_would_have_changed_nothing(
        steps in prop::collection::vec(step(), 1..120),
        exact in prop::option::of(prop::sample::select(Ages::ALL.to_vec())), size in 1_u64..4,
    ) {
        let rule = match exact {
            Some(ages) => GateRule::Exact { k: 2, ages },
            None => GateRule::Wait { max_staleness: 2 },
        };
        let (mut indexed, mut thorough) = (granter(rule, size), granter(rule, size));
        let (mut now, mut version) = (0, 0);
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Wait(ms) => now += ms,
                Step::Advance(by, _) => version += by,
                _ => {}
            }
            for granter in [&mut indexed, &mut thorough] {
                take(granter, Tick(now), number as u64, version, step);
            }
            thorough.may_be_late = true;
            thorough.holders.look_at_all();
            let records = indexed.grant(Tick(now));
            prop_assert_eq!(records, thorough.grant(Tick(now)), "after {:?}", step);
            prop_assert_eq!(indexed.producers(Tick(now)), thorough.producers(Tick(now)));
        }
    }
}

/// Checks that the work of a report does not grow with the fleet, once the bound is reached.
#[test]
fn a_report_that_repeats_the_last_one_leaves_nothing_to_look_at() {
    let mut granter = granter(GateRule::Wait { max_staleness: 1 }, 500);
    for producer in 0..1000 {
        granter.hear(Tick(0), &heartbeat(&format!("p{producer}"), 0, 2));
    }
    granter.advance(Tick(0), at(0, 0));
    assert_eq!(granter.grant(Tick(0)).len(), 1000);
    granter.hear(Tick(1), &heartbeat("p7", 1, 2));
    assert!(granter.ungranted() == 0 && !granter.may_be_late);
    assert_eq!(granter.holders.unrecorded(), 0);
    assert_eq!(granter.grant(Tick(1)), []);
    // One group, one record.
    granter.seen(Tick(2), SlotNumber(3), -1);
    assert_eq!(granter.holders.unrecorded(), 1);
    granter.advance(Tick(2), at(0, 1));
    assert_eq!(granter.grant(Tick(2)).len(), 1);
}
