//! Terms: which process under a learner's name grants.

use vintage_control::GrantNumber;

use super::{at, granter, heartbeat};
use crate::{clock::Tick, limits::GateRule};

#[test]
fn a_process_of_the_same_name_that_granted_and_ended_is_outdone() {
    let mut granter = granter(GateRule::Wait { max_staleness: 1 }, 2);
    granter.advance(Tick(0), at(0, 0));
    for producer in ["a", "b"] {
        granter.hear(Tick(0), &heartbeat(producer, 0, 2));
    }
    let first = granter.grant(Tick(0));
    assert!(first.iter().all(|of| of.number.term == 1), "{first:?}");
    let read = GrantNumber { term: 4, record: 9 };
    let mut report = heartbeat("a", 1, 2);
    report.grants_read = Some(read);
    granter.hear(Tick(100), &report);
    let again = granter.grant(Tick(100));
    let producers: Vec<_> = again.iter().map(|of| of.producer.as_str()).collect();
    assert_eq!(producers, ["a", "b"], "both have to learn of the term");
    assert!(again.iter().all(|of| of.number > read), "{again:?}");
    assert!(again.iter().all(|of| !of.leases.is_empty()), "{again:?}");
}
