//! Reports and groups that no producer of this program sends: two processes under one name, answers
//! that nobody asked for, floods.

use vintage_control::{GrantNumber, Heartbeat, SlotNumber};

use super::{PATIENCE, Progress, at, granter, heartbeat, slots_of};
use crate::{clock::Tick, limits::GateRule};

#[test]
fn old_reports_and_reports_of_other_policies_are_nothing() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 4);
    granter.hear(Tick(0), &heartbeat("a", 5, 1));
    granter.hear(Tick(0), &heartbeat("a", 4, 4));
    let other = Heartbeat {
        policy: "other".parse().unwrap(),
        ..heartbeat("b", 0, 4)
    };
    granter.hear(Tick(0), &other);
    granter.advance(Tick(0), at(0, 0));
    granter.grant(Tick(0));
    assert_eq!(granter.outstanding(), 1);
}

/// Both processes sample every lease; of a slot the first group counts, and no slot is held for good.
#[test]
fn two_processes_of_one_name_share_its_leases_and_the_bound_holds() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 4);
    granter.hear(Tick(0), &heartbeat("a", 5, 4));
    granter.advance(Tick(0), at(0, 0));
    assert_eq!(slots_of(&granter.grant(Tick(0)), "a"), [0, 1, 2, 3]);
    // The second one counts its reports from 0: they are older than what is known.
    let mut second = heartbeat("a", 0, 4);
    second.grants_read = Some(GrantNumber { term: 1, record: 1 });
    granter.hear(Tick(1), &second);
    assert_eq!(granter.outstanding(), 4, "nothing is published by it");
    assert!(granter.grant(Tick(1)).is_empty());
    // Each publishes slot 0, and the learner reads both.
    for waiting in [1, 1] {
        granter.seen(Tick(2), SlotNumber(0), -1);
        granter.advance(Tick(2), at(0, waiting));
        granter.grant(Tick(2));
        assert_eq!(granter.outstanding() + waiting, 4);
    }
    // One that has read the grants reports nothing held: of the slots that the log lacks all the same,
    // none is lost once the learner starves for them.
    second.number = 6;
    granter.hear(Tick(3), &second);
    granter.hear(Tick(3), &heartbeat("b", 0, 8));
    let starves = || Progress {
        starving: true,
        ..at(0, 1)
    };
    granter.advance(Tick(3), starves());
    assert!(slots_of(&granter.grant(Tick(3)), "b").is_empty());
    let later = Tick(3 + 4 * PATIENCE.lease);
    granter.hear(later, &heartbeat("b", 1, 8));
    granter.advance(later, starves());
    assert_eq!(slots_of(&granter.grant(later), "b"), [1, 2, 3]);
}

#[test]
fn a_group_that_nobody_asked_for_takes_its_slot_and_no_more() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 4);
    // Producer "x" never reported. Its group has the slot that would be granted next.
    granter.seen(Tick(0), SlotNumber(1), -1);
    granter.seen(Tick(0), SlotNumber(1), -1);
    granter.hear(Tick(0), &heartbeat("a", 0, 8));
    granter.advance(Tick(0), at(0, 1));
    assert_eq!(slots_of(&granter.grant(Tick(0)), "a"), [0, 2, 3]);
    assert_eq!(granter.outstanding(), 3, "and it counts under the bound");
}

#[test]
fn an_answer_after_the_lease_has_ended_ends_no_other_lease() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 2);
    granter.hear(Tick(0), &heartbeat("a", 0, 2));
    granter.advance(Tick(0), at(0, 0));
    assert_eq!(slots_of(&granter.grant(Tick(0)), "a"), [0, 1]);
    // It falls silent, and another gets its slots.
    let later = Tick(2 * PATIENCE.silence);
    granter.hear(later, &heartbeat("b", 0, 2));
    assert_eq!(slots_of(&granter.grant(later), "b"), [0, 1]);
    // Its group of slot 0 comes late, and the other's after it: one slot, once.
    for _ in 0..2 {
        granter.seen(later, SlotNumber(0), -1);
        assert_eq!(granter.outstanding(), 1);
    }
    granter.advance(later, at(0, 1));
    assert_eq!(slots_of(&granter.grant(later), "b"), [1]);
}

/// A flood costs nothing that lasts: repeated reports change nothing, and made-up producers are
/// forgotten with their leases once they are silent.
#[test]
fn a_flood_of_reports_is_forgotten_and_no_slot_with_it() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 8);
    granter.advance(Tick(0), at(0, 0));
    for number in 0..20_000 {
        granter.hear(Tick(0), &heartbeat("a", number, 0));
        granter.hear(Tick(0), &heartbeat("a", number / 2, u64::MAX));
    }
    assert_eq!(granter.producers(Tick(0)).len(), 1);
    for made_up in 0..5_000 {
        granter.hear(Tick(1), &heartbeat(&format!("x{made_up}"), 0, u64::MAX));
    }
    granter.grant(Tick(1));
    assert_eq!(granter.outstanding(), 8, "the bound holds");
    let later = Tick(2 + PATIENCE.silence);
    granter.hear(later, &heartbeat("a", 30_000, 8));
    let granted = slots_of(&granter.grant(later), "a");
    assert_eq!(granted, [0, 1, 2, 3, 4, 5, 6, 7]);
    granter.grant(later);
    assert_eq!(
        granter.producers(later).len(),
        1,
        "the others are forgotten"
    );
}
