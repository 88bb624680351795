//! Exact rule: slots of a batch, their versions, and what replaces refused groups.

use vintage_control::{Ages, Grants, Lease, PolicyVersion, SlotNumber, UpdateNumber};

use super::{at, granter, heartbeat};
use crate::{clock::Tick, granter::Progress, limits::GateRule, slots::REPLACEMENT_STRIDE};

/// Batches of two groups of ages 3 and 1.
const UNIFORM: GateRule = GateRule::Exact {
    k: 4,
    ages: Ages::Uniform,
};

/// Returns the leases of records, by their slots.
fn leases_of(records: Vec<Grants>) -> Vec<Lease> {
    let mut leases: Vec<_> = records.into_iter().flat_map(|of| of.leases).collect();
    leases.sort();
    leases
}

#[test]
fn a_batch_gets_its_own_slots_and_others_for_what_was_refused() {
    let mut granter = granter(
        GateRule::Exact {
            k: 1,
            ages: Ages::Same,
        },
        2,
    );
    granter.hear(Tick(0), &heartbeat("a", 0, 3));
    granter.hear(Tick(0), &heartbeat("b", 0, 3));
    granter.advance(Tick(0), at(0, 0));
    let leases = leases_of(granter.grant(Tick(0)));
    let of = |slot, batch, version| Lease {
        slot: SlotNumber(slot),
        batch,
        version: PolicyVersion(version),
    };
    assert_eq!(leases, [of(0, 0, 0), of(1, 0, 0), of(2, 1, 0), of(3, 1, 0)]);
    // Slot 1 is refused; a slot beyond all batches replaces it, and version 1 samples batch 2.
    granter.seen(Tick(1), SlotNumber(0), 0);
    granter.seen(Tick(1), SlotNumber(1), 0);
    let refused = Progress {
        refused: [(UpdateNumber(0), 1)].into(),
        ..at(0, 1)
    };
    granter.advance(Tick(1), refused);
    let leases = leases_of(granter.grant(Tick(1)));
    assert!(leases.contains(&of(REPLACEMENT_STRIDE, 0, 0)), "{leases:?}");
    granter.advance(Tick(2), at(1, 0));
    let leases = leases_of(granter.grant(Tick(2)));
    assert!(
        leases.contains(&of(4, 2, 1)) && leases.contains(&of(5, 2, 1)),
        "{leases:?}"
    );
}

#[test]
fn a_batch_of_several_ages_is_granted_as_its_versions_are_announced() {
    let mut granter = granter(UNIFORM, 2);
    let mut granted = |at_version: u64| {
        let now = Tick(at_version);
        granter.hear(now, &heartbeat("a", at_version, 20));
        granter.advance(now, at(at_version, 0));
        let of = |lease: Lease| (lease.slot.0, lease.batch, lease.version.0);
        let leases = leases_of(granter.grant(now)).into_iter();
        leases.map(of).collect::<Vec<_>>()
    };
    // Ages 3 and 1: version 0 samples batches 0 and 1 as a whole, and the older halves of 2 and 3.
    let first = [
        (0, 0, 0),
        (1, 0, 0),
        (2, 1, 0),
        (3, 1, 0),
        (4, 2, 0),
        (6, 3, 0),
    ];
    assert_eq!(granted(0), first);
    let second = granted(1);
    assert!(
        second.contains(&(5, 2, 1)) && second.contains(&(8, 4, 1)),
        "{second:?}"
    );
    assert!(
        !second.iter().any(|of| of.0 == 7),
        "its version is 2: {second:?}"
    );
}

#[test]
fn what_replaces_a_refused_group_is_of_the_oldest_age_and_of_an_announced_version() {
    let mut granter = granter(UNIFORM, 2);
    granter.hear(Tick(0), &heartbeat("a", 0, 20));
    granter.advance(Tick(0), at(3, 0));
    let of_batch = |records: Vec<Grants>, batch: i64| {
        let leases = leases_of(records).into_iter();
        let leases = leases.filter(|of| of.batch == batch);
        leases
            .map(|of| (of.slot.0, of.version.0))
            .collect::<Vec<_>>()
    };
    // Ages 3 and 1. Of batch 3 both versions are announced, of batch 5 the older one.
    let granted = granter.grant(Tick(0));
    assert_eq!(of_batch(granted.clone(), 3), [(6, 0), (7, 2)]);
    assert_eq!(of_batch(granted, 5), [(10, 2)]);
    for (slot, batch) in [(7, 3), (10, 5)] {
        granter.seen(Tick(1), SlotNumber(slot), batch);
    }
    let refused = Progress {
        refused: [(UpdateNumber(3), 1), (UpdateNumber(5), 1)].into(),
        ..at(3, 0)
    };
    granter.advance(Tick(1), refused);
    let granted = granter.grant(Tick(1));
    let beyond = REPLACEMENT_STRIDE;
    assert!(
        of_batch(granted.clone(), 3).contains(&(beyond + 6, 0)),
        "{granted:?}"
    );
    assert!(
        of_batch(granted.clone(), 5).contains(&(beyond + 10, 2)),
        "{granted:?}"
    );
    assert!(
        !of_batch(granted, 5).iter().any(|of| of.0 == 11),
        "version 4 is to come"
    );
}
