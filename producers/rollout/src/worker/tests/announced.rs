//! Tests of what a producer makes of announcements: of the last one, of those without leases, and of
//! another learner's.

use vintage_control::PolicyVersion;

use super::{
    lead::{any, numbers},
    scripted::{Script, ScriptedEngine},
    stage::{BATCH, Stage, slots, start},
};
use crate::ProducerEvent;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_left_over_from_a_shorter_run_is_not_believed() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
    setup.updates = Some(5);
    stage
        .announce(|record| (record.version, record.finished) = (PolicyVersion(2), true))
        .await;
    let mut running = start(setup);
    running.until_waiting_at(2).await;
    stage.grant(&running.id, &any(8..12, 2)).await;
    let groups = stage.groups(4).await;
    assert_eq!(slots(&groups), [8, 9, 10, 11]);
    running.until_sampled(4).await;
    running.until_waiting_at(2).await;
    stage
        .announce(|record| (record.version, record.finished) = (PolicyVersion(5), true))
        .await;
    assert_eq!(running.end().await.unwrap().groups, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_with_its_number_of_updates_is_believed_over_settings_of_another_folder() {
    for updates_of_run in [false, true] {
        let mut stage = Stage::new().await;
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
        (setup.updates, setup.updates_of_run) = (Some(400), updates_of_run);
        stage
            .announce(|record| {
                (record.version, record.finished) = (PolicyVersion(2), true);
                record.steps = Some(2);
            })
            .await;
        let mut running = start(setup);
        if updates_of_run {
            // The run's own settings say that it continues: its learner is about to be resumed.
            running.until_waiting_at(2).await;
            stage.grant(&running.id, &any(12..16, 2)).await;
            running.until_sampled(4).await;
            stage.groups(4).await;
            running.cancel.cancel();
        }
        let sampled = if updates_of_run { BATCH } else { 0 };
        assert_eq!(running.end().await.unwrap().groups, sampled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_without_leases_reports_each_version() {
    let stage = Stage::new().await;
    let mut running = start(stage.setup(ScriptedEngine::new(Script::default())));
    let version = None;
    running
        .until(|event| *event == ProducerEvent::Waiting { version })
        .await;
    for version in 0..3 {
        // A record without leases is no event.
        stage.grant(&running.id, &[]).await;
        stage.version(version).await;
        let next = running.until(|_| true).await;
        let version = Some(PolicyVersion(version));
        assert_eq!(next, ProducerEvent::Waiting { version });
    }
    running.cancel.cancel();
    let next = running.until(|_| true).await;
    let stopped = matches!(next, ProducerEvent::Waited { stopped: true, .. });
    assert!(stopped, "{next:?}");
    assert_eq!(running.end().await.unwrap().groups, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_ends_earlier_than_was_assumed_ends_its_producer() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
    setup.updates = Some(400);
    stage.announce(|record| record.steps = Some(2)).await;
    let mut running = start(setup);
    let id = running.id.clone();
    // The last lease is of a version that is announced only by the finish.
    let leases = [any(0..2 * BATCH, 0), any([8], 2)].concat();
    stage.grant(&id, &leases).await;
    running.until_sampled(2 * BATCH).await;
    running.until_waiting_at(0).await;
    stage.groups(2 * BATCH as usize).await;
    stage
        .announce(|record| (record.version, record.finished) = (PolicyVersion(2), true))
        .await;
    assert_eq!(running.end().await.unwrap().groups, 2 * BATCH);
    assert_eq!(numbers(&stage.last_report(&id).await.given_back), [8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_with_another_batch_is_refused() {
    let stage = Stage::new().await;
    let running = start(stage.setup(ScriptedEngine::new(Script::default())));
    stage.grant(&running.id, &any(0..4, 0)).await;
    stage.announce(|record| record.groups_per_update = 9).await;
    let message = running.end().await.unwrap_err().to_string();
    assert!(
        message.contains("takes 9 groups") && message.contains("set to 4"),
        "{message}"
    );
}
