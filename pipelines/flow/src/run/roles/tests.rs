use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use vintage_archive::{Sink, SinkOptions};
use vintage_bus::{Embedded, TopicTable};
use vintage_control::PolicyVersion;
use vintage_store::Store;

use super::*;

/// The archive ends in good order although the log's end could not be asked for.
#[tokio::test]
async fn a_failed_drain_leaves_no_sink_running() {
    let topics = RunConfig::default().topic_names();
    let broker = Embedded::start(&TopicTable::builtin().specs(&topics, 1, 1))
        .await
        .unwrap();
    let bus = broker.bus();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().to_string_lossy()).unwrap();
    let options = SinkOptions::new(store, &topics.rollouts(), Incarnation(0));
    let (sink, task) = Sink::start(options, &bus).await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let archive = tokio::spawn(async move {
        let summary = task.await.unwrap()?;
        seen.store(true, Ordering::SeqCst);
        Ok(summary)
    });
    let learned = LearnerSummary {
        version: PolicyVersion(3),
        groups_trained: 0,
        groups_rejected: 0,
        finished: true,
        ended: false,
    };
    let roles = Roles {
        sink,
        archive,
        learner: tokio::spawn(std::future::ready(Ok(learned))),
        producer: tokio::spawn(std::future::ready(Ok(ProducerSummary::default()))),
        evaluator: None,
        stop_learner: CancellationToken::new(),
        stop_producer: CancellationToken::new(),
        log: (bus, "no.such.topic".to_owned()),
    };
    let failed = roles.finish(&CancellationToken::new()).await;
    let message = failed.expect_err("a topic that is not there").to_string();
    assert!(message.contains("no.such.topic"), "{message}");
    assert!(ended.load(Ordering::SeqCst), "the sink is still running");
}
