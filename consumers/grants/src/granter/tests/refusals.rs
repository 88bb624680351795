//! Tests of producers that get no leases.

use super::*;

#[test]
fn a_producer_of_other_prompts_is_refused_with_a_reason() {
    let mut granter = granter(GateRule::Wait { max_staleness: 0 }, 4);
    granter.hear(Tick(0), &heartbeat("a", 0, 1));
    let other = Heartbeat {
        slots_sha256: Sha256([2; 32]),
        ..heartbeat("b", 0, 4)
    };
    granter.hear(Tick(0), &other);
    granter.advance(Tick(0), at(0, 0));
    let grants = granter.grant(Tick(0));
    assert_eq!(slots_of(&grants, "a").len(), 1);
    let refused = grants.iter().find(|of| of.producer == "b").unwrap();
    assert!(
        refused.refused.as_ref().unwrap().contains("prompts"),
        "{refused:?}"
    );
    assert!(refused.leases.is_empty());
}

/// Checks that a producer whose groups the learner refuses is told why, gets nothing more however
/// often it reports, and that its slots go to another once it gives them back.
#[test]
fn a_distrusted_producer_gets_no_more_leases_and_the_reason() {
    let mut granter = granter(GateRule::Wait { max_staleness: 1 }, 2);
    granter.hear(Tick(0), &heartbeat("wrong", 0, 4));
    granter.advance(Tick(0), at(0, 0));
    let held = slots_of(&granter.grant(Tick(0)), "wrong");
    assert_eq!(held.len(), 4);
    granter.refuse("wrong", "other log-probs".to_owned());
    let told = granter.grant(Tick(10));
    assert_eq!(told[0].refused.as_deref(), Some("other log-probs"));
    let leaving = Heartbeat {
        grants_read: Some(told[0].number),
        given_back: ProducerWindow::from(&held.iter().copied().collect::<NumberSet>()),
        leaving: true,
        ..heartbeat("wrong", 1, 4)
    };
    granter.hear(Tick(20), &leaving);
    granter.hear(Tick(30), &heartbeat("wrong", 2, 4));
    granter.hear(Tick(30), &heartbeat("right", 0, 4));
    let grants = granter.grant(Tick(30));
    assert_eq!(slots_of(&grants, "right"), held);
    let other = grants.iter().find(|of| of.producer == "wrong");
    assert!(other.is_none_or(|of| of.leases.is_empty() && of.refused.is_some()));
}
