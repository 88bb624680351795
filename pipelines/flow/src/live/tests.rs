use serde_json::{Value, json};
use vintage_config::Layers;
use vintage_control::{Offset, Partition, PolicyVersion, UpdateNumber};
use vintage_grants::ProducerView;
use vintage_trajectory::{GroupId, PolicySpan};

use super::*;
use crate::fixture::result;

fn live(role: Role) -> Live {
    let defaults = Layers::new().resolve::<RunConfig>().expect("the defaults");
    Live::new(role, &defaults.config)
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn seen(live: &Live, now: f64) -> Value {
    serde_json::to_value(live.view(at(now), Vec::new())).expect("JSON")
}

fn excerpt() -> Excerpt {
    let span = |start, version| PolicySpan {
        start,
        version: PolicyVersion(version),
    };
    Excerpt {
        prompt: "12+7=".to_owned(),
        answer: Some("19".to_owned()),
        completion: "19".to_owned(),
        reward: 1.0,
        tokens: 3,
        spans: vec![span(0, 4), span(2, 5)],
    }
}

fn published() -> RunEvent {
    RunEvent::Producer(ProducerEvent::Published {
        group: GroupId([0; 16]),
        partition: Partition(0),
        offset: Offset(0),
        seq: 0,
        batch: -1,
        version: PolicyVersion(5),
        rows: 8,
        tokens: 24,
        bytes: 400,
        parts: 1,
        reward: 1.0,
        equal: false,
        cut: 0,
        excerpt: Some(Box::new(excerpt())),
    })
}

fn updating(update: u64) -> RunEvent {
    RunEvent::Learner(LearnerEvent::Updating {
        update: UpdateNumber(update),
        excerpt: Some(Box::new(excerpt())),
    })
}

fn member(name: &str, silent_ms: u64, held: u64) -> ProducerView {
    ProducerView {
        producer: name.to_owned(),
        silent_ms,
        capacity: Some(8),
        held,
        filled: 5,
        leaving: false,
        refused: None,
    }
}

#[test]
fn updates_give_rates_and_curves() {
    let mut live = live(Role::Learner);
    assert_eq!(seen(&live, 0.0)["updates"], Value::Null, "none was done");
    for update in 0..300 {
        let event = LearnerEvent::Updated(Box::new(result(update)));
        live.observe(&RunEvent::Learner(event), at(update as f64 / 2.0));
    }
    let view = seen(&live, 150.0);
    assert_eq!(view["updates"]["done"], 300);
    let rate = view["updates"]["per_second"].as_f64().expect("a rate");
    assert!((1.9..2.1).contains(&rate), "{rate}");
    let points = view["points"].as_array().expect("points");
    assert_eq!(points.len(), POINTS);
    assert_eq!(points[POINTS - 1]["update"], 299);
    assert_eq!(points[0]["staleness"], 6.0);
    assert_eq!(points[0]["max_staleness"], 17);
    assert_eq!(view["trained"], 300 * 16);
    // Nothing happens for a while.
    assert_eq!(seen(&live, 300.0)["updates"]["per_second"], 0.0);
}

#[test]
fn refusals_are_added_up_by_reason() {
    let mut live = live(Role::Learner);
    for _ in 0..2 {
        let event = LearnerEvent::Rejected {
            update: UpdateNumber(1),
            groups: 3,
            reasons: BTreeMap::from([("malformed", 1), ("stale", 2)]),
        };
        live.observe(&RunEvent::Learner(event), at(1.0));
    }
    let expected = json!({ "malformed": 2, "stale": 4 });
    assert_eq!(seen(&live, 1.0)["rejected"], expected);
}

#[test]
fn rollouts_are_shown_newest_first_with_the_version_of_every_token() {
    let mut live = live(Role::Learner);
    for update in 0..10 {
        live.observe(&updating(update), at(1.0));
    }
    let view = seen(&live, 1.0);
    let rollouts = view["rollouts"].as_array().expect("rollouts");
    assert_eq!(rollouts.len(), ROLLOUTS);
    let versions = json!([
        { "version": 4, "from": 0, "to": 2 },
        { "version": 5, "from": 2, "to": 3 },
    ]);
    assert_eq!(rollouts[0]["trained_by"], 9);
    assert_eq!(rollouts[0]["versions"], versions);
    assert_eq!(rollouts[0]["completion"], "19");
    // Beside a producer, its own are shown.
    live.observe(&published(), at(2.0));
    live.observe(&updating(10), at(3.0));
    let view = seen(&live, 3.0);
    assert_eq!(view["rollouts"][0]["trained_by"], Value::Null);
}

#[test]
fn a_producer_that_falls_silent_is_shown_as_such_until_long_after_it_is_gone() {
    let mut live = live(Role::Learner);
    let heard = |members: &[ProducerView]| RunEvent::Fleet(members.to_vec());
    let doing = |live: &Live, now: f64| {
        let view = seen(live, now);
        let producers = view["producers"].as_array().expect("producers").clone();
        let of = |producer: &Value| producer["doing"].as_str().expect("words").to_owned();
        producers.iter().map(of).collect::<Vec<_>>()
    };
    live.observe(&heard(&[member("a", 0, 3), member("b", 100, 0)]), at(10.0));
    assert_eq!(
        doing(&live, 10.0),
        ["sampling 3 groups", "waiting for leases"]
    );
    live.observe(&heard(&[member("a", 5000, 3), member("b", 0, 1)]), at(15.0));
    assert_eq!(doing(&live, 15.0), ["silent for 5 s", "sampling 1 group"]);
    assert_eq!(seen(&live, 15.0)["producers"][0]["silent"], true);
    // Its leases went to the other one.
    live.observe(&heard(&[member("b", 0, 4)]), at(21.0));
    let expected = "silent for 11 s; others have its leases";
    assert_eq!(doing(&live, 21.0), [expected, "sampling 4 groups"]);
    live.observe(&heard(&[member("b", 0, 4)]), at(10.0 + 601.0));
    assert_eq!(doing(&live, 611.0).len(), 1);
}

#[test]
fn a_producer_shows_itself() {
    let mut live = live(Role::Producer);
    assert_eq!(seen(&live, 0.0)["producers"], json!([]));
    let sampling = ProducerEvent::Sampling { groups: 16 };
    live.observe(&RunEvent::Producer(sampling), at(1.0));
    live.observe(&published(), at(2.0));
    let view = seen(&live, 4.0);
    assert_eq!(view["producers"][0]["doing"], "sampling 16 groups for 3 s");
    assert_eq!(view["producers"][0]["groups"], 1);
}

#[test]
fn lags_are_added_up_by_reader() {
    let lag = |reader: &str, partition, records| Lag {
        reader: reader.to_owned(),
        topic: "rollouts".to_owned(),
        partition: Partition(partition),
        records,
    };
    let lags = vec![
        lag("learner", 0, 3),
        lag("archive", 0, 0),
        lag("learner", 1, 4),
    ];
    let view = live(Role::Learner).view(at(0.0), lags);
    let found: Vec<_> = view
        .lag
        .iter()
        .map(|lag| (lag.reader.as_str(), lag.partitions, lag.records))
        .collect();
    assert_eq!(found, [("archive", 1, 0), ("learner", 2, 7)]);
}

#[test]
fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let page = page();
    assert!(page.contains("prefers-color-scheme: dark"), "no styles");
    assert!(!page.contains("/* report */"));
    let named = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!named.contains(foreign), "{foreign}");
    }
}
