//! Invariants 3 to 5 under kills at step boundaries: every role is a process of its own on a Kafka
//! of three nodes, one of which is killed too. The long form is `make chaos`.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, ensure};
use rand::{SeedableRng as _, rngs::StdRng};
use vintage_tests::{
    Kafka,
    chaos::{Blow, Episode, Order, Outcome, Stage, Who, points_of, recorded},
};

fn survived(outcome: &Outcome, points: &[&str]) -> Result<()> {
    ensure!(outcome.failed.is_none(), "{:?}", outcome.failed);
    ensure!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    for point in points {
        // Just after a checkpoint a recorded log may leave no work in hand.
        let least = u64::from(*point != "learner.checkpointed");
        let met = |blow: &&Blow| blow.at == *point && blow.in_hand.is_some_and(|n| n >= least);
        let times = outcome.blows.iter().filter(met).count();
        ensure!(times > 0, "no kill at {point}: {:?}", outcome.blows);
    }
    Ok(())
}

fn orders(points: &[&'static str]) -> VecDeque<Order> {
    let order = |&point| Order { point, hit: 2 };
    points.iter().map(order).collect()
}

#[test]
fn every_role_and_a_node_may_die() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut kafka = Kafka::up(&folder.path().join("kafka"), 3)?;
    let learner = ["learner.planned", "learner.published", "learner.moments"];
    let producer = ["rollout.part", "rollout.sent", "rollout.acknowledged"];
    let sink = ["store.synced", "store.linked"];
    let episode = Episode {
        stage: Stage::new(folder.path(), "chaos", kafka.address())?,
        orders: BTreeMap::from([
            (Who::Learner, orders(&learner)),
            (Who::Rollout, orders(&producer)),
            (Who::Sink(0), orders(&sink)),
        ]),
        nodes: VecDeque::from([1]),
        at_random: 0,
    };
    let outcome = episode.play(&mut kafka, &mut StdRng::seed_from_u64(5))?;
    survived(&outcome, &[&learner[..], &producer, &sink].concat())?;
    let nodes = outcome.blows.iter().filter(|blow| blow.role == "broker");
    ensure!(nodes.count() == 1, "{:?}", outcome.blows);
    Ok(())
}

/// Tests that a learner on a fixed log, killed at every point, ends with the weights of one that
/// never was.
#[test]
fn a_recorded_log_gives_the_same_weights_killed_or_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // No connection is made: a recorded log needs no broker.
    let stage = Stage::new(folder.path(), "chaos", "127.0.0.1:1")?;
    let points = points_of(Who::Learner);
    let outcome = recorded(&stage, orders(&points))?;
    survived(&outcome, &points)
}
