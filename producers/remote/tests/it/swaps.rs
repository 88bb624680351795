use tokio::time::timeout;
use vintage_control::PolicyVersion;
use vintage_rollout::{Engine as _, EngineError, Sample, all_groups};
use vintage_settings::Partial;
use vintage_trajectory::PolicySpan;

use crate::{
    engine::{PATIENCE, Stage, sample},
    policy::{check, publish, request, rollout},
    server::{ALL_ON, Mischief, Server},
};

fn span(start: i32, version: u64) -> PolicySpan {
    let version = PolicyVersion(version);
    PolicySpan { start, version }
}

#[tokio::test]
async fn weights_are_changed_in_the_order_that_keeps_log_probs_right() {
    let stage = Stage::new(ALL_ON).await;
    let mut engine = stage.open().await;
    publish(&stage.weights, 1).await;
    let before = stage.server.steps().len();
    engine.load(PolicyVersion(1)).await.unwrap();
    let steps = [
        "/pause",
        "/collective_rpc",
        "/update_weight_version",
        "/reset_prefix_cache",
        "/resume",
    ];
    assert_eq!(stage.server.steps()[before..], steps);
    let groups = sample(&mut engine, vec![request("12+3=", 0, 4)])
        .await
        .unwrap();
    for sample in &groups[0] {
        assert_eq!(sample.spans, [span(0, 1)]);
        check(&stage.weights, sample).await;
    }
    // Every version has a folder of its own, and old ones go.
    for version in 2..6 {
        publish(&stage.weights, version).await;
        engine.load(PolicyVersion(version)).await.unwrap();
    }
    let loaded = stage.server.loaded();
    let distinct: std::collections::BTreeSet<_> = loaded.iter().collect();
    assert_eq!((loaded.len(), distinct.len()), (6, 6));
    let left = std::fs::read_dir(stage.folder.path().join("served"))
        .unwrap()
        .count();
    assert_eq!(left, 3);
}

/// Changes the weights in the middle of completions, and returns these.
async fn cut_off(partial: Partial) -> Vec<Sample> {
    let stage = Stage::new(ALL_ON).await;
    let mut config = rollout(vec![stage.server.url()]);
    config.server.partial = partial;
    let mut engine = stage.open_with(config).await.unwrap();
    publish(&stage.weights, 1).await;
    stage.server.next(&[Mischief::UntilPause; 8]);
    let mut running = stage.server.running.subscribe();
    let groups = engine.sample(vec![request("12+3=", 2, 8)]);
    let reached = running.wait_for(|running| *running == 8);
    timeout(PATIENCE, reached).await.unwrap().unwrap();
    engine.load(PolicyVersion(1)).await.unwrap();
    let groups = timeout(PATIENCE, all_groups(groups, 1)).await.unwrap();
    let group = groups.unwrap().remove(0);
    for sample in &group {
        check(&stage.weights, sample).await;
    }
    group
}

#[tokio::test]
async fn what_a_pause_cuts_off_is_continued_and_its_spans_say_so() {
    let group = cut_off(Partial::Continue).await;
    let crossed = |sample: &&Sample| sample.spans == [span(0, 0), span(2, 1)];
    let whole =
        |sample: &&Sample| sample.spans == [span(0, 0)] && sample.completion_tokens.len() <= 2;
    assert!(group.iter().any(|sample| crossed(&sample)));
    assert!(
        group
            .iter()
            .all(|sample| crossed(&sample) || whole(&sample)),
        "{group:?}"
    );
}

#[tokio::test]
async fn what_a_pause_cuts_off_may_be_sampled_anew() {
    let group = cut_off(Partial::Again).await;
    let anew = group
        .iter()
        .filter(|sample| sample.spans == [span(0, 1)])
        .count();
    let whole = group
        .iter()
        .filter(|sample| sample.completion_tokens.len() <= 2)
        .count();
    assert!(anew > 0 && anew + whole >= group.len(), "{group:?}");
}

#[tokio::test]
async fn a_server_that_dies_in_a_swap_is_brought_up_with_the_new_weights() {
    let stage = Stage::new(ALL_ON).await;
    let mut engine = stage.open().await;
    publish(&stage.weights, 1).await;
    stage.server.die_in_swap();
    let (address, base) = (stage.server.address, stage.base());
    let restarting = async {
        stage.server.died().await;
        Server::start_at(&base, ALL_ON, address).await
    };
    let (loaded, restarted) = tokio::join!(engine.load(PolicyVersion(1)), restarting);
    loaded.unwrap();
    assert_eq!(restarted.loaded().len(), 1);
    let groups = sample(&mut engine, vec![request("12+3=", 0, 4)])
        .await
        .unwrap();
    for sample in &groups[0] {
        assert_eq!(sample.spans, [span(0, 1)]);
        check(&stage.weights, sample).await;
    }
    assert!(stage.counted("unreachable") >= 1);
}

#[tokio::test]
async fn weights_that_are_gone_leave_the_old_ones() {
    let stage = Stage::new(ALL_ON).await;
    let mut engine = stage.open().await;
    let error = engine.load(PolicyVersion(7)).await.unwrap_err();
    let version = PolicyVersion(7);
    assert!(
        matches!(error, EngineError::VersionGone { version: gone } if gone == version),
        "{error}"
    );
    assert_eq!(engine.version(), PolicyVersion(0));
    let groups = sample(&mut engine, vec![request("1=", 0, 1)])
        .await
        .unwrap();
    check(&stage.weights, &groups[0][0]).await;
}

#[tokio::test]
async fn a_dead_server_is_an_error_once_patience_ends() {
    let stage = Stage::new(ALL_ON).await;
    let mut config = rollout(vec![stage.server.url()]);
    config.server.patience_seconds = 1.0;
    let mut engine = stage.open_with(config).await.unwrap();
    let url = stage.server.url();
    drop(stage.server);
    let error = sample(&mut engine, vec![request("1=", 0, 1)])
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("no inference server") && message.contains(&url),
        "{message}"
    );
}
