//! Tests of what a producer makes of announcements: of the last one, of those that leave the gate
//! closed, and of another learner's.

use vintage_control::PolicyVersion;

use super::{
    scripted::{Script, ScriptedEngine},
    stage::{BATCH, Stage, start, wait},
};
use crate::event::ProducerEvent;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_left_over_from_a_shorter_run_is_not_believed() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(0));
    setup.updates = Some(5);
    (setup.base.published_before, setup.base.unknown_prompts) = (8, 8);
    stage
        .announce(|record| (record.version, record.finished) = (PolicyVersion(2), true))
        .await;
    let mut running = start(setup);
    let groups = stage.groups(4).await;
    assert_eq!(groups[0].slot(), 8);
    running.until_closed_at(2).await;
    stage
        .announce(|record| (record.version, record.finished) = (PolicyVersion(5), true))
        .await;
    assert_eq!(running.end().await.unwrap().groups, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_with_its_number_of_updates_is_believed_over_settings_of_another_folder() {
    for updates_of_run in [false, true] {
        let stage = Stage::new().await;
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(0));
        (setup.updates, setup.updates_of_run) = (Some(400), updates_of_run);
        (setup.base.published_before, setup.base.unknown_prompts) = (3 * BATCH, 3 * BATCH);
        stage
            .announce(|record| {
                (record.version, record.finished) = (PolicyVersion(2), true);
                record.steps = Some(2);
            })
            .await;
        let mut running = start(setup);
        if updates_of_run {
            // The run's own settings say that it continues: its learner is about to be resumed.
            running.until_closed_at(2).await;
            running.cancel.cancel();
        }
        assert_eq!(running.end().await.unwrap().groups, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_gate_tells_of_each_version_that_leaves_it_closed() {
    let stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(0));
    // As after a producer that filled the gate for ten updates ahead.
    (setup.base.published_before, setup.base.unknown_prompts) = (10 * BATCH, 10 * BATCH);
    let mut running = start(setup);
    let version = None;
    running
        .until(|event| *event == ProducerEvent::Waiting { version })
        .await;
    for version in 0..3 {
        stage.version(version).await;
        running.until_closed_at(version).await;
    }
    running.cancel.cancel();
    running
        .until(|event| matches!(event, ProducerEvent::Waited { stopped: true, .. }))
        .await;
    assert_eq!(running.end().await.unwrap().groups, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_ends_earlier_than_was_assumed_ends_its_producer() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(9));
    setup.updates = Some(400);
    stage.announce(|record| record.steps = Some(2)).await;
    let mut running = start(setup);
    // Nothing is sampled for updates that the learner will not do.
    running.until_closed_at(0).await;
    stage.groups(2 * BATCH as usize).await;
    stage
        .announce(|record| (record.version, record.finished) = (PolicyVersion(2), true))
        .await;
    assert_eq!(running.end().await.unwrap().groups, 2 * BATCH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_with_another_batch_is_refused() {
    let stage = Stage::new().await;
    let running = start(stage.setup(ScriptedEngine::new(Script::default()), wait(0)));
    stage.announce(|record| record.groups_per_update = 9).await;
    let message = running.end().await.unwrap_err().to_string();
    assert!(
        message.contains("takes 9 groups") && message.contains("set to 4"),
        "{message}"
    );
}
