//! Tests of the names of a run's topics.

use vintage_control::Topics;

#[test]
fn every_topic_names_its_run() {
    let topics = Topics {
        namespace: "vintage".parse().unwrap(),
        run: "demo".parse().unwrap(),
    };
    let names = [
        "rollouts",
        "policies",
        "grants",
        "producers",
        "steps",
        "rejects",
    ];
    let names = names.map(|kind| format!("vintage.demo.{kind}.v1"));
    assert_eq!(topics.all(), names);
    for name in names {
        assert_eq!(Topics::of_topic(&name).unwrap(), topics);
    }
    for other in [
        "vintage.demo.leases.v1",
        "vintage.demo.grants.v2",
        "grants.v1",
    ] {
        assert!(Topics::of_topic(other).is_err(), "{other}");
    }
}
