use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use tokio::sync::Semaphore;

use super::{
    lead::{any, numbers},
    scripted::{Script, ScriptedEngine},
    stage::{Group, Running, Stage, slots, start},
};
use crate::{ProducerEvent, engine::Overlap};

/// Producer whose engine still samples the group of prompt p3 with version 0; the six others of slots
/// 0 to 6 are published.
struct Beside {
    stage: Stage,
    running: Running,
    others: Vec<Group>,
    /// Versions that the engine has loaded.
    loads: Arc<Mutex<Vec<u64>>>,
    /// Lets p3 end.
    slow: Arc<Semaphore>,
}

async fn beside_a_slow_group(overlap: Overlap) -> Beside {
    let mut stage = Stage::new().await;
    let slow = Arc::new(Semaphore::new(0));
    let script = Script {
        overlap,
        slow: Some(("3+1=", Arc::clone(&slow))),
        ..Default::default()
    };
    let engine = ScriptedEngine::new(script);
    let loads = engine.loads();
    let running = start(stage.setup(engine));
    stage.version(0).await;
    // Seven groups are more than the three that are sampled at a time.
    stage.grant(&running.id, &any(0..7, 0)).await;
    let others = stage.groups(6).await;
    assert!(others.iter().all(|group| group.rows[0].prompt_id != "p3"));
    Beside {
        stage,
        running,
        others,
        loads,
        slow,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_group_holds_no_other_back() {
    let Beside {
        mut stage,
        running,
        others,
        slow,
        ..
    } = beside_a_slow_group(Overlap::Versions).await;
    // Weights change while the slow group is still being sampled.
    stage.version(1).await;
    stage.grant(&running.id, &any(7..13, 1)).await;
    let free = 5;
    let later = stage.groups(free).await;
    assert!(
        later
            .iter()
            .all(|group| group.headers.min_policy_version.0 == 1)
    );
    slow.add_permits(10);
    let last = stage.groups(13 - 6 - free).await;
    assert!(
        last.iter()
            .any(|group| group.headers.min_policy_version.0 == 0)
    );
    let mut all = slots(&others);
    all.extend(slots(&later));
    all.extend(slots(&last));
    all.sort_unstable();
    assert_eq!(all, (0..13).collect::<Vec<_>>());
    running.cancel.cancel();
    assert_eq!(running.end().await.unwrap().groups, 13);
}

/// An engine with one batch of one version: freed places are filled while its weights are the newest,
/// and newer ones are loaded when nothing is being sampled any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_refilled_until_there_are_newer_weights() {
    let Beside {
        mut stage,
        running,
        loads,
        slow,
        ..
    } = beside_a_slow_group(Overlap::SameVersion).await;
    stage.version(1).await;
    stage.grant(&running.id, &any(7..13, 1)).await;
    // The producer has both, and goes on with what it began.
    let id = running.id.clone();
    stage
        .report_of(&id, |report| numbers(&report.held).contains(&12))
        .await;
    slow.add_permits(10);
    let later = stage.groups(7).await;
    let versions: Vec<_> = later
        .iter()
        .map(|group| group.headers.min_policy_version.0)
        .collect();
    assert_eq!(versions, [0, 1, 1, 1, 1, 1, 1]);
    assert_eq!(*loads.lock().unwrap(), [1]);
    running.cancel.cancel();
    assert_eq!(running.end().await.unwrap().groups, 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_cannot_be_sampled_is_given_up_and_reported() {
    let mut stage = Stage::new().await;
    let script = Script {
        failing: BTreeSet::from(["3+1="]),
        ..Default::default()
    };
    let mut running = start(stage.setup(ScriptedEngine::new(script)));
    let id = running.id.clone();
    stage.version(0).await;
    stage.grant(&id, &any(0..7, 0)).await;
    let event = running
        .until(|event| matches!(event, ProducerEvent::SamplingFailed { .. }))
        .await;
    let ProducerEvent::SamplingFailed {
        prompt_id, reason, ..
    } = event
    else {
        unreachable!()
    };
    assert_eq!((prompt_id.as_str(), reason), ("p3", "scripted"));
    assert_eq!(stage.groups(6).await.len(), 6);
    running.cancel.cancel();
    let summary = running.end().await.unwrap();
    assert_eq!((summary.groups, summary.failed["scripted"]), (6, 1));
    assert_eq!(numbers(&stage.last_report(&id).await.failed).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_samples_nothing_ends_the_producer() {
    let stage = Stage::new().await;
    let script = Script {
        failing: BTreeSet::from(["0+1=", "1+1=", "2+1=", "3+1=", "4+1=", "5+1=", "6+1="]),
        ..Default::default()
    };
    let running = start(stage.setup(ScriptedEngine::new(script)));
    stage.version(0).await;
    stage.grant(&running.id, &any(0..9, 0)).await;
    let message = running.end().await.unwrap_err().to_string();
    assert!(
        message.contains("8 groups in a row") && message.contains("fails"),
        "{message}"
    );
}
