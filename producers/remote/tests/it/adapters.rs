//! Versions that are stored as adapters, loaded as adapters.

use tokio::time::timeout;
use vintage_control::PolicyVersion;
use vintage_remote::Error;
use vintage_rollout::{Engine as _, Sample, all_groups};
use vintage_settings::RolloutConfig;

use crate::{
    engine::{PATIENCE, Stage, sample},
    policy::{check, publish_adapters, request, rollout},
    server::{ALL_ON, Mischief, Switches},
};

const TAKES_ADAPTERS: Switches = Switches {
    adapters: 4,
    ..ALL_ON
};

fn settings(stage: &Stage) -> RolloutConfig {
    let mut config = rollout(vec![stage.server.url()]);
    config.server.adapters = true;
    config
}

/// Checks that all tokens of the completions are of one version, by their label and their log-probs.
async fn are_of(stage: &Stage, samples: &[Sample], version: u64) {
    for sample in samples {
        let spans: Vec<_> = sample.spans.iter().map(|span| span.version.0).collect();
        assert_eq!(spans, [version]);
        check(&stage.weights, sample).await;
    }
}

#[tokio::test]
async fn adapters_are_loaded_beside_requests_that_run() {
    for scale_out in [true, false] {
        let switches = Switches {
            scale_out,
            ..TAKES_ADAPTERS
        };
        let stage = Stage::new(switches).await;
        let mut engine = stage.open_with(settings(&stage)).await.unwrap();
        let asked = vec![request("12+3=", 0, 4)];
        are_of(
            &stage,
            &sample(&mut engine, asked.clone()).await.unwrap()[0],
            0,
        )
        .await;

        publish_adapters(&stage.weights, 1, 4).await;
        engine.load(PolicyVersion(1)).await.unwrap();
        are_of(
            &stage,
            &sample(&mut engine, asked.clone()).await.unwrap()[0],
            1,
        )
        .await;

        // Nothing is cut off by the next version: what runs ends with the adapters it began with.
        publish_adapters(&stage.weights, 2, 2).await;
        stage.server.next(&[Mischief::Slow; 4]);
        let mut running = stage.server.running.subscribe();
        let groups = engine.sample(asked.clone());
        let reached = running.wait_for(|running| *running == 4);
        timeout(PATIENCE, reached).await.unwrap().unwrap();
        engine.load(PolicyVersion(2)).await.unwrap();
        let begun = timeout(PATIENCE, all_groups(groups, 1)).await.unwrap();
        are_of(&stage, &begun.unwrap()[0], 1).await;
        are_of(&stage, &sample(&mut engine, asked).await.unwrap()[0], 2).await;
        // Whole weights were loaded once.
        assert_eq!(stage.server.loaded().len(), 1);
    }
}

#[tokio::test]
async fn old_adapters_are_forgotten_and_their_folders_stay_a_while() {
    let stage = Stage::new(TAKES_ADAPTERS).await;
    let mut engine = stage.open_with(settings(&stage)).await.unwrap();
    for version in 1..=8 {
        publish_adapters(&stage.weights, version, 1).await;
        engine.load(PolicyVersion(version)).await.unwrap();
    }
    let versions: Vec<_> = stage.server.adapters();
    let versions: Vec<_> = versions.iter().map(|name| &name[..6]).collect();
    assert_eq!(versions, ["main-4", "main-5", "main-6", "main-7", "main-8"]);
    let served = std::fs::read_dir(stage.folder.path().join("served")).unwrap();
    assert_eq!(served.count(), 9);
}

#[tokio::test]
async fn a_server_that_lost_its_adapters_is_given_them_again() {
    let stage = Stage::new(TAKES_ADAPTERS).await;
    let mut engine = stage.open_with(settings(&stage)).await.unwrap();
    publish_adapters(&stage.weights, 1, 2).await;
    engine.load(PolicyVersion(1)).await.unwrap();
    stage.server.forget_adapters();
    let groups = sample(&mut engine, vec![request("7=", 0, 2)])
        .await
        .unwrap();
    are_of(&stage, &groups[0], 1).await;
    assert!(stage.counted("stale_version") >= 1);
}

#[tokio::test]
async fn a_server_without_adapters_is_refused_with_what_to_switch_on() {
    let unfit = async |switches, rank| {
        let stage = Stage::new(switches).await;
        publish_adapters(&stage.weights, 1, rank).await;
        let refused = stage.open_with(settings(&stage)).await.err().unwrap();
        assert!(matches!(refused, Error::Unfit { .. }), "{refused}");
        refused.to_string()
    };
    let none = unfit(ALL_ON, 1).await;
    assert!(none.contains("--enable-lora"), "{none}");
    let large = unfit(TAKES_ADAPTERS, 8).await;
    assert!(
        large.contains("rank 8 is greater") && large.contains("--max-lora-rank"),
        "{large}"
    );
}
