use std::{path::PathBuf, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tempfile::TempDir;
use tokio::time::timeout;
use vintage_control::PolicyVersion;
use vintage_remote::{Error, RemoteEngine, RemoteSetup};
use vintage_rollout::{
    Engine as _, EngineError, Sample, SampleRequest, Turn, all_groups, turn_seed,
};
use vintage_settings::{EngineKind, RolloutConfig};
use vintage_store::Weights;

use crate::{
    policy::{self, check, request, rollout},
    server::{ALL_ON, Mischief, Server, Switches},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A policy and a server with its version 0; metrics of this thread.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) weights: Weights,
    pub(crate) server: Server,
    pub(crate) metrics: PrometheusHandle,
    _recorder: metrics::LocalRecorderGuard<'static>,
}

impl Stage {
    pub(crate) async fn new(switches: Switches) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let weights = policy::create(folder.path()).await;
        let server = Server::start(&folder.path().join("base"), switches).await;
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        Self {
            metrics: recorder.handle(),
            _recorder: metrics::set_default_local_recorder(recorder),
            folder,
            weights,
            server,
        }
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.folder.path().join("base")
    }

    pub(crate) async fn open(&self) -> RemoteEngine {
        self.open_with(rollout(vec![self.server.url()]))
            .await
            .unwrap()
    }

    pub(crate) async fn open_with(&self, rollout: RolloutConfig) -> Result<RemoteEngine, Error> {
        let opening = RemoteEngine::open(RemoteSetup {
            weights: self.weights.clone(),
            policy: policy::name(),
            rollout,
            folder: self.folder.path().join("served"),
            key: None,
        });
        timeout(PATIENCE, opening).await.expect("an engine in time")
    }

    /// Number of failures that were counted under a reason.
    pub(crate) fn counted(&self, reason: &str) -> u64 {
        let line = format!("vintage_engine_failures_total{{reason=\"{reason}\"}} ");
        let text = self.metrics.render();
        let found = text.lines().find_map(|found| found.strip_prefix(&line));
        found.map_or(0, |count| count.parse().unwrap())
    }
}

pub(crate) async fn sample(
    engine: &mut RemoteEngine,
    requests: Vec<SampleRequest>,
) -> Result<Vec<Vec<Sample>>, EngineError> {
    let count = requests.len();
    let groups = all_groups(engine.sample(requests), count);
    timeout(PATIENCE, groups).await.expect("groups in time")
}

#[tokio::test]
async fn completions_are_those_of_the_decoder() {
    for scale_out in [true, false] {
        let switches = Switches {
            scale_out,
            ..ALL_ON
        };
        let stage = Stage::new(switches).await;
        let mut engine = stage.open().await;
        assert!(engine.name().ends_with("vllm/0.32.0"), "{}", engine.name());
        assert_eq!(engine.context_len(), 256);
        let asked = vec![request("12+3=", 0, 8), request("7=", 1, 8)];
        let groups = sample(&mut engine, asked.clone()).await.unwrap();
        let (mut stopped, mut cut) = (0, 0);
        for sample in groups.iter().flatten() {
            check(&stage.weights, sample).await;
            assert_eq!(sample.spans.len(), 1);
            match sample.finish_reason.as_str() {
                "stop" => stopped += 1,
                _ => cut += 1,
            }
            assert!(!sample.completion_text.contains('<'));
        }
        assert!(stopped > 0 && cut > 0, "{stopped} {cut}");
        assert_eq!((groups[0].len(), groups[1].len()), (8, 8));
        assert_ne!(
            groups[0][0].completion_tokens,
            groups[0][1].completion_tokens
        );
        // A slot's seeds give its completions again.
        let tokens = |groups: &[Vec<Sample>]| -> Vec<Vec<i32>> {
            let rows = groups.iter().flatten();
            rows.map(|row| row.completion_tokens.clone()).collect()
        };
        let again = sample(&mut engine, asked).await.unwrap();
        assert_eq!(tokens(&groups), tokens(&again));
    }
}

#[tokio::test]
async fn groups_come_as_they_finish() {
    let stage = Stage::new(ALL_ON).await;
    let mut engine = stage.open().await;
    stage.server.next(&[Mischief::Hang]);
    let mut groups = engine.sample(vec![
        request("1=", 0, 1),
        request("2=", 1, 1),
        request("3=", 2, 1),
    ]);
    let mut finished = Vec::new();
    for _ in 0..2 {
        let (index, group) = timeout(PATIENCE, groups.next()).await.unwrap().unwrap();
        assert_eq!(group.unwrap().len(), 1);
        finished.push(index);
    }
    finished.sort_unstable();
    assert_eq!(finished.len(), 2);
    // Dropping the rest ends its request at the server.
    let mut running = stage.server.running.subscribe();
    assert_eq!(*running.borrow(), 1);
    drop(groups);
    timeout(PATIENCE, running.wait_for(|running| *running == 0))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn tokens_in_flight_are_bounded() {
    let stage = Stage::new(ALL_ON).await;
    let mut config = rollout(vec![stage.server.url()]);
    // Room for two completions of a prompt of 2 tokens.
    config.server.tokens_in_flight = 28;
    let mut engine = stage.open_with(config).await.unwrap();
    stage.server.always(Some(Mischief::Slow));
    let mut running = stage.server.running.subscribe();
    let watching = tokio::spawn(async move {
        let mut most = 0;
        while running.changed().await.is_ok() {
            most = most.max(*running.borrow_and_update());
        }
        most
    });
    let groups = sample(&mut engine, vec![request("1=", 0, 4), request("2=", 1, 2)]).await;
    assert_eq!(groups.unwrap().len(), 2);
    drop((engine, stage));
    assert_eq!(timeout(PATIENCE, watching).await.unwrap().unwrap(), 2);
}

async fn refusal(switches: Switches, change: impl FnOnce(&mut RolloutConfig)) -> String {
    let stage = Stage::new(switches).await;
    let mut config = rollout(vec![stage.server.url()]);
    change(&mut config);
    let error = stage.open_with(config).await.err().expect("a refusal");
    assert_eq!(error.fault(), vintage_control::Fault::User, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_server_that_lacks_something_is_refused_with_its_switch() {
    let without = Switches {
        dev_mode: false,
        ..ALL_ON
    };
    let message = refusal(without, |_| {}).await;
    assert!(message.contains("VLLM_SERVER_DEV_MODE=1"), "{message}");
    let message = refusal(ALL_ON, |config| config.engine = EngineKind::Sglang).await;
    assert!(message.contains("it is vllm, not sglang"), "{message}");
    let message = refusal(ALL_ON, |config| config.engine = EngineKind::Openai).await;
    assert!(message.contains("rollout.server.fixed"), "{message}");
    let raw = Switches {
        processed: false,
        ..ALL_ON
    };
    let message = refusal(raw, |config| config.temperature = 0.5).await;
    assert!(
        message.contains("--logprobs-mode processed_logprobs"),
        "{message}"
    );
    let message = refusal(raw, |config| {
        config.temperature = 0.5;
        config.server.check_model = false;
    });
    assert!(message.await.contains("check_model"));
}

#[tokio::test]
async fn log_probs_of_any_convention_serve_at_temperature_1() {
    for processed in [false, true] {
        let stage = Stage::new(Switches {
            processed,
            ..ALL_ON
        })
        .await;
        let mut engine = stage.open().await;
        let groups = sample(&mut engine, vec![request("1=", 0, 2)])
            .await
            .unwrap();
        check(&stage.weights, &groups[0][0]).await;
    }
    let stage = Stage::new(ALL_ON).await;
    let mut config = rollout(vec![stage.server.url()]);
    config.temperature = 0.5;
    stage.open_with(config).await.unwrap();
}

#[tokio::test]
async fn a_fixed_server_samples_with_version_0_and_is_compared_with_it() {
    let without = Switches {
        dev_mode: false,
        scale_out: false,
        ..ALL_ON
    };
    let stage = Stage::new(without).await;
    let mut config = rollout(vec![stage.server.url()]);
    config.server.fixed = true;
    config.engine = EngineKind::Auto;
    let mut engine = stage.open_with(config.clone()).await.unwrap();
    engine.load(PolicyVersion(5)).await.unwrap();
    let groups = sample(&mut engine, vec![request("1=", 0, 2)])
        .await
        .unwrap();
    check(&stage.weights, &groups[0][0]).await;
    assert_eq!(groups[0][0].spans[0].version, PolicyVersion(0));

    // Another model of the same shape.
    policy::publish(&stage.weights, 1).await;
    let other = stage.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(stage.base()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    let bytes = stage.weights.fetch(PolicyVersion(1)).await.unwrap();
    std::fs::write(other.join("model.safetensors"), bytes).unwrap();
    let server = Server::start(&other, without).await;
    config.endpoints = vec![server.url()];
    let message = stage.open_with(config).await.err().unwrap().to_string();
    assert!(
        message.contains("does not serve version 0 of the run's model"),
        "{message}"
    );
}

/// A turn goes to the server as the tokens that were sampled, and no older version samples it.
#[tokio::test]
async fn a_turn_completes_the_tokens_it_is_given() {
    let stage = Stage::new(ALL_ON).await;
    let mut engine = stage.open().await;
    let first = request("12+3=", 0, 2);
    let before = sample(&mut engine, vec![first.clone()]).await.unwrap();
    let before = &before[0][1];
    let tokens = [
        &before.prompt_tokens[..],
        &before.completion_tokens,
        &[2, 3],
    ]
    .concat();
    let turn = |at_least: u64| SampleRequest {
        turn: Some(Turn {
            tokens: tokens.clone(),
            seed: turn_seed(first.row_seed(1), 1),
            at_least: PolicyVersion(at_least),
        }),
        samples: 1,
        ..first.clone()
    };
    let sampled = sample(&mut engine, vec![turn(0), turn(0)]).await.unwrap();
    for row in sampled.iter().flatten() {
        assert_eq!(row.prompt_tokens, tokens);
        check(&stage.weights, row).await;
    }
    assert_eq!(
        sampled[0][0].completion_tokens,
        sampled[1][0].completion_tokens
    );
    // The server has version 0 only: a turn after version 1 waits for it.
    let mut waiting = engine.sample(vec![turn(1)]);
    assert!(waiting.next().now_or_never().is_none());
    policy::publish(&stage.weights, 1).await;
    let version = PolicyVersion(1);
    let loaded = timeout(PATIENCE, engine.load(version)).await.unwrap();
    loaded.unwrap();
    let (_, row) = timeout(PATIENCE, waiting.next()).await.unwrap().unwrap();
    assert_eq!(row.unwrap()[0].spans[0].version, version);
}
