use vintage_control::PolicyVersion;
use vintage_rollout::{Engine as _, EngineError};

use crate::{
    engine::{Stage, sample},
    policy::{check, publish, request, rollout},
    server::{ALL_ON, Mischief, Server, Switches},
};

/// Misbehaviours, with the reason under which each is counted.
const COUNTED: &[(Mischief, &str)] = &[
    (Mischief::Drop, "unreachable"),
    (Mischief::Status(500), "server_error"),
    (Mischief::Status(429), "busy"),
    (Mischief::Status(503), "busy"),
    (Mischief::Garbage, "malformed"),
    (Mischief::Short, "length_mismatch"),
    (Mischief::Shifted, "id_mismatch"),
    (Mischief::OtherIds, "id_mismatch"),
    (Mischief::OutOfVocabulary, "out_of_vocabulary"),
    (Mischief::PositiveLogprob, "bad_logprob"),
    (Mischief::NoLogprob, "bad_logprob"),
    (Mischief::WrongFinish, "bad_finish"),
    (Mischief::AbortAtOnce, "bad_finish"),
    (Mischief::OtherPrompt, "prompt_mismatch"),
    (Mischief::UnknownVersion, "unknown_version"),
    (Mischief::StaleVersion, "stale_version"),
    (Mischief::NoVersion, "unknown_version"),
];

#[tokio::test]
async fn one_wrong_reply_is_counted_and_asked_for_again() {
    let stage = Stage::new(ALL_ON).await;
    publish(&stage.weights, 1).await;
    let mut engine = stage.open().await;
    assert_eq!(engine.version(), PolicyVersion(1));
    publish(&stage.weights, 2).await;
    engine.load(PolicyVersion(2)).await.unwrap();
    for (slot, &(mischief, reason)) in COUNTED.iter().enumerate() {
        let before = stage.counted(reason);
        stage.server.next(&[mischief]);
        let groups = sample(&mut engine, vec![request("12+3=", slot as u64, 1)]).await;
        let groups = groups.unwrap_or_else(|error| panic!("{mischief:?}: {error}"));
        check(&stage.weights, &groups[0][0]).await;
        assert_eq!(groups[0][0].spans[0].version, PolicyVersion(2));
        assert_eq!(stage.counted(reason), before + 1, "{mischief:?}");
        assert_eq!(stage.server.misbehaviours_left(), 0);
    }
}

#[tokio::test]
async fn a_server_that_is_always_wrong_gives_no_sample() {
    let stage = Stage::new(ALL_ON).await;
    let mut engine = stage.open().await;
    for (mischief, reason) in [
        (Mischief::Short, "length_mismatch"),
        (Mischief::OtherIds, "id_mismatch"),
        (Mischief::OutOfVocabulary, "out_of_vocabulary"),
    ] {
        stage.server.always(Some(mischief));
        let failed = sample(&mut engine, vec![request("1=", 0, 1)]).await;
        match failed {
            Err(EngineError::GroupFailed { reason: found, .. }) => assert_eq!(found, reason),
            other => panic!("{mischief:?}: {other:?}"),
        }
        assert!(stage.counted(reason) >= 4);
    }
    // The group is lost, and the engine is not.
    stage.server.always(None);
    let groups = sample(&mut engine, vec![request("1=", 0, 1)])
        .await
        .unwrap();
    check(&stage.weights, &groups[0][0]).await;
    // A request that the server refuses is not repeated.
    stage.server.next(&[Mischief::Status(400)]);
    let failed = sample(&mut engine, vec![request("1=", 0, 1)])
        .await
        .unwrap_err();
    let EngineError::GroupFailed { reason, detail } = failed else {
        panic!("{failed}");
    };
    assert_eq!(
        (reason, stage.counted("refused")),
        ("refused", 1),
        "{detail}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_time_allowed() {
    let stage = Stage::new(ALL_ON).await;
    let mut config = rollout(vec![stage.server.url()]);
    config.server.reply_seconds = 2.0;
    let mut engine = stage.open_with(config).await.unwrap();
    stage.server.next(&[Mischief::Slow, Mischief::Hang]);
    let groups = sample(&mut engine, vec![request("1=", 0, 2)])
        .await
        .unwrap();
    for sample in &groups[0] {
        check(&stage.weights, sample).await;
    }
    assert_eq!(stage.counted("timeout"), 1);
}

#[tokio::test]
async fn versions_that_change_during_a_request_are_refused_where_replies_do_not_name_them() {
    let stage = Stage::new(Switches {
        scale_out: false,
        ..ALL_ON
    })
    .await;
    let mut engine = stage.open().await;
    publish(&stage.weights, 1).await;
    stage.server.next(&[Mischief::UntilLabel]);
    let mut running = stage.server.running.subscribe();
    let groups = engine.sample(vec![request("1=", 0, 1)]);
    running.wait_for(|running| *running == 1).await.unwrap();
    engine.load(PolicyVersion(1)).await.unwrap();
    let groups = vintage_rollout::all_groups(groups, 1).await.unwrap();
    check(&stage.weights, &groups[0][0]).await;
    assert_eq!(stage.counted("mixed_version"), 1);
    assert_eq!(groups[0][0].spans[0].version, PolicyVersion(1));
}

#[tokio::test]
async fn other_servers_take_what_a_dead_one_cannot() {
    let stage = Stage::new(ALL_ON).await;
    let second = Server::start(&stage.base(), ALL_ON).await;
    let urls = vec![stage.server.url(), second.url()];
    let mut engine = stage.open_with(rollout(urls)).await.unwrap();
    let asked = |slot| vec![request("12+3=", slot, 4), request("7=", slot + 1, 4)];
    sample(&mut engine, asked(0)).await.unwrap();
    // The connections of a dead process end with it.
    stage.server.always(Some(Mischief::Drop));
    for slot in 1..4 {
        for sample in sample(&mut engine, asked(2 * slot))
            .await
            .unwrap()
            .iter()
            .flatten()
        {
            check(&stage.weights, sample).await;
        }
    }
    assert!(stage.counted("unreachable") > 0);
}
