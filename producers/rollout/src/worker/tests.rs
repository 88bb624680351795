mod announced;
mod content;
mod conversations;
mod lead;
mod leases;
mod overlap;
mod scripted;
mod stage;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    path::Path,
    sync::Arc,
};

use tokio::time::timeout;
use vintage_control::{Grants, PolicyVersion};
use vintage_settings::RewardConfig;

use super::{Worker, WorkerSetup};
use crate::{Error, ProducerEvent, PromptSet, Selector, read_journals, reward::Reward};
use lead::{LEAD, any, exact, numbers};
use scripted::{Script, ScriptedEngine, ScriptedReward};
use stage::{CALL, GROUP, PATIENCE, SEED, Stage, prompts, slots, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_numbered_without_gaps_and_say_what_they_are() {
    let mut stage = Stage::new().await;
    let engine = ScriptedEngine::new(Script::default());
    let mut running = start(stage.setup(engine));
    let id = running.id.clone();
    let first = stage.next_report(&id).await.heartbeat;
    assert_eq!((first.number, first.grants_read), (0, None));
    assert_eq!(first.capacity, 3 * CALL as u64);
    assert!(numbers(&first.held).is_empty() && !first.leaving);

    // Records of other policies and producers, and those that cannot be read, are skipped.
    stage.publish_policy(b"{not json").await;
    stage
        .announce(|record| record.policy = "other".parse().unwrap())
        .await;
    stage.publish_to_grants(&id, b"{not json").await;
    let other = Grants {
        policy: "other".parse().unwrap(),
        ..stage.grants("learner-of-other", 1, &id, &any(90..99, 0))
    };
    stage.publish_grants(&other).await;
    let other = stage.grants(LEAD, 2, "another-producer", &any(90..99, 0));
    stage.publish_grants(&other).await;
    stage.version(0).await;
    let of_version_0 = [2, 3, 5, 7, 11, 13, 17, 19];
    stage.grant(&id, &any(of_version_0, 0)).await;
    running.until_sampled(8).await;
    running.until_waiting_at(0).await;
    let mut groups = stage.groups(8).await;
    stage.version(1).await;
    running.until_waiting_at(1).await;
    // Slots for any update are sampled by the newest version, whichever they were granted at.
    let of_version_1 = [0, 1, 20, 1 << 33, 1 << 40, (1 << 40) + 1];
    let leases = [
        any(of_version_1[..2].iter().copied(), 0),
        any(of_version_1[2..].iter().copied(), 1),
    ];
    let number = stage.grant(&id, &leases.concat()).await;
    running.until_sampled(6).await;
    running.until_waiting_at(1).await;
    groups.extend(stage.groups(6).await);
    stage.finish().await;
    let summary = running.end().await.unwrap();

    let mut selector = Selector::new(SEED, 7);
    let set = prompts(7);
    let granted: Vec<u64> = [&of_version_0[..], &of_version_1[..]].concat();
    assert_eq!(slots(&groups), granted);
    for (index, (group, &slot)) in groups.iter().zip(&granted).enumerate() {
        let (headers, rows) = (&group.headers, &group.rows);
        assert_eq!(headers.producer_seq, index as u64);
        assert_eq!(
            (&headers.producer, headers.run.as_str()),
            (&id, "lease-run")
        );
        assert_eq!(
            (headers.policy.as_str(), headers.batch, headers.part),
            ("main", -1, (1, 1))
        );
        let version = PolicyVersion(u64::from(index >= 8));
        assert_eq!(
            (headers.min_policy_version, headers.max_policy_version),
            (version, version)
        );
        assert_eq!(rows.len(), usize::from(GROUP));
        let prompt = &set.prompts()[selector.prompt_of(slot)];
        for (sample, row) in rows.iter().enumerate() {
            assert_eq!(row.prompt_id, prompt.id);
            assert_eq!(row.prompt_text.as_deref(), Some(prompt.text.as_str()));
            assert_eq!(
                (usize::from(row.sample_index), row.group_size),
                (sample, GROUP)
            );
            assert_eq!(row.policy_spans[0].version, version);
            let right = row.completion_text == prompt.answer;
            assert_eq!(row.reward, f32::from(u8::from(right)));
        }
    }
    let ids: BTreeSet<_> = groups
        .iter()
        .map(|group| group.headers.group.to_string())
        .collect();
    assert_eq!(ids.len(), 14);
    assert_eq!((summary.groups, summary.rows), (14, 14 * u64::from(GROUP)));
    assert_eq!(summary.producer, id);
    let journals = read_journals(stage.journals.path()).unwrap();
    assert_eq!(journals, BTreeMap::from([(id.clone(), (0..14).collect())]));
    let last = stage.last_report(&id).await;
    assert_eq!(last.grants_read.map(|read| read.record), Some(number));
    for none in [&last.held, &last.failed, &last.given_back] {
        assert!(numbers(none).is_empty(), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_a_reward_is_not_numbered_and_made_up_for() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
    // The second and the third group that the reward sees fail.
    setup.reward = Box::new(ScriptedReward::failing([1, 2]));
    let mut running = start(setup);
    let id = running.id.clone();
    stage.version(0).await;
    stage.grant(&id, &exact(0..4, 0)).await;
    let mut groups = stage.groups(2).await;
    let report = stage
        .report_of(&id, |report| {
            numbers(&report.failed).len() == 2 && numbers(&report.held).is_empty()
        })
        .await;
    assert_eq!(numbers(&report.failed), [1, 2]);
    assert!(numbers(&report.given_back).is_empty() && !report.leaving);
    // The lead has not read the report yet and repeats the leases, then it replaces the two.
    let repeated = stage.grant(&id, &exact(0..4, 0)).await;
    let report = stage
        .report_of(&id, |report| {
            report.grants_read.map(|read| read.record) == Some(repeated)
        })
        .await;
    assert_eq!(numbers(&report.failed), [1, 2]);
    let replacements = [(1 << 40, 0, 0), ((1 << 40) + 1, 0, 0)];
    let number = stage.grant(&id, &replacements).await;
    groups.extend(stage.groups(2).await);
    running
        .until(|event| matches!(event, ProducerEvent::RewardFailed { .. }))
        .await;
    stage.finish().await;
    let summary = running.end().await.unwrap();
    assert_eq!(
        groups
            .iter()
            .map(|g| g.headers.producer_seq)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert!(groups.iter().all(|group| group.headers.batch == 0));
    assert_eq!(summary.failed, BTreeMap::from([("timeout", 2)]));
    assert_eq!(summary.groups, 4);
    assert_eq!(slots(&groups), [0, 3, 1 << 40, (1 << 40) + 1]);
    let last = stage.last_report(&id).await;
    assert_eq!(last.grants_read.map(|read| read.record), Some(number));
    assert!(numbers(&last.failed).is_empty() && numbers(&last.held).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_failures_stop_the_run() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
    setup.reward = Box::new(ScriptedReward::failing(0..1000));
    setup.rollout.reward = RewardConfig {
        max_failed_groups: 3,
        ..Default::default()
    };
    let running = start(setup);
    let id = running.id.clone();
    stage.version(0).await;
    stage.grant(&id, &any(0..9, 0)).await;
    let error = running.end().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::RewardFailures {
                failed: 4,
                tried: 4,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("timeout 4"), "{error}");
    assert_eq!(numbers(&stage.last_report(&id).await.failed), [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_and_publishes_what_runs() {
    let mut stage = Stage::new().await;
    let mut script = Script::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    script.hold = Some(Arc::clone(&gate));
    let mut running = start(stage.setup(ScriptedEngine::new(script)));
    let id = running.id.clone();
    stage.version(0).await;
    stage.grant(&id, &any(0..9, 0)).await;
    // One call is done, and the second runs when the stop comes.
    gate.add_permits(1);
    running
        .until(|event| matches!(event, ProducerEvent::Sampled { .. }))
        .await;
    running
        .until(|event| matches!(event, ProducerEvent::Sampling { .. }))
        .await;
    running.cancel.cancel();
    gate.add_permits(100);
    let summary = running.end().await.unwrap();
    assert_eq!(summary.groups, 6);
    assert_eq!(slots(&stage.groups(6).await), [0, 1, 2, 3, 4, 5]);
    let journals = read_journals(stage.journals.path()).unwrap();
    assert_eq!(journals[&summary.producer], (0..6).collect());
    // The third call was not begun.
    let last = stage.last_report(&id).await;
    assert_eq!(numbers(&last.given_back), [6, 7, 8]);
    assert!(numbers(&last.held).is_empty() && numbers(&last.failed).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampling_does_not_wait_for_rewards() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
    let held = Arc::new(tokio::sync::Semaphore::new(0));
    setup.reward = Box::new(ScriptedReward::held(Arc::clone(&held)));
    let mut running = start(setup);
    stage.version(0).await;
    stage.grant(&running.id, &any(0..8, 0)).await;
    // Nothing is scored yet, and the engine is at its second call already.
    running
        .until(|event| matches!(event, ProducerEvent::Sampled { .. }))
        .await;
    running
        .until(|event| matches!(event, ProducerEvent::Sampled { .. }))
        .await;
    held.add_permits(1000);
    assert_eq!(stage.groups(8).await.len(), 8);
    for round in 1..5 {
        let leases = any(8 * round..8 * (round + 1), 0);
        stage.grant(&running.id, &leases).await;
        assert_eq!(stage.groups(8).await.len(), 8);
    }
    running.cancel.cancel();
    assert_eq!(running.end().await.unwrap().groups, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_version_is_passed_over_where_the_rule_allows() {
    let mut stage = Stage::new().await;
    let script = Script {
        pruned: BTreeSet::from([1]),
        ..Default::default()
    };
    let engine = ScriptedEngine::new(script.clone());
    let (loads, mut asked) = (engine.loads(), engine.asked());
    let running = start(stage.setup(engine));
    stage.version(1).await;
    stage.grant(&running.id, &any(0..4, 1)).await;
    timeout(PATIENCE, asked.wait_for(|version| *version == 1))
        .await
        .unwrap()
        .unwrap();
    stage.version(2).await;
    let groups = stage.groups(4).await;
    assert!(
        groups
            .iter()
            .all(|group| group.headers.min_policy_version == PolicyVersion(2))
    );
    running.cancel.cancel();
    running.end().await.unwrap();
    assert_eq!(*loads.lock().unwrap(), [2]);

    // A lease for an update needs that very version.
    let stage = Stage::new().await;
    let running = start(stage.setup(ScriptedEngine::new(script)));
    stage.version(2).await;
    stage.grant(&running.id, &[(4, 1, 1)]).await;
    let message = running.end().await.unwrap_err().to_string();
    assert!(message.contains("load version 1"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_group_travels_in_parts() {
    let mut stage = Stage::new().await;
    let script = Script {
        length: Some(60_000),
        context: 100_000,
        ..Default::default()
    };
    let mut setup = stage.setup(ScriptedEngine::new(script));
    setup.rollout.max_tokens = 60_000;
    setup.groups_per_update = 1;
    let running = start(setup);
    stage.announce(|record| record.groups_per_update = 1).await;
    stage.grant(&running.id, &any([5], 0)).await;
    let groups = stage.groups(1).await;
    running.cancel.cancel();
    let summary = running.end().await.unwrap();
    assert!(groups[0].parts > 1);
    assert_eq!(groups[0].slot(), 5);
    assert_eq!(groups[0].rows.len(), usize::from(GROUP));
    assert_eq!(summary.groups, 1);
    let journals = read_journals(stage.journals.path()).unwrap();
    assert_eq!(journals[&summary.producer], [0].into_iter().collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_before_anything_is_sent() {
    let stage = Stage::new().await;
    let message = |change: &dyn Fn(&mut WorkerSetup)| {
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
        change(&mut setup);
        Worker::new(setup).err().expect("a refusal").to_string()
    };
    let one = |row: &str| {
        PromptSet::from_reader(Path::new("tasks.jsonl"), Cursor::new(row.to_owned())).unwrap()
    };

    // 27 prompt tokens and 5 to be sampled, in a context of 30.
    let long = message(&|setup| {
        let row = format!(
            "\n{{\"prompt\": \"{}\", \"answer\": \"1\", \"id\": \"q\"}}",
            "1+".repeat(13) + "1"
        );
        setup.prompts = one(&row);
    });
    for part in [
        "tasks.jsonl:2",
        "\"q\"",
        "27 tokens",
        "max_tokens 5",
        "context of 30",
        "at most 3",
    ] {
        assert!(long.contains(part), "{part}: {long}");
    }
    let strange =
        message(&|setup| setup.prompts = one(r#"{"prompt": "1+é", "answer": "1", "id": "q"}"#));
    assert!(
        strange.contains("tasks.jsonl:1") && strange.contains("'é'"),
        "{strange}"
    );
    assert!(strange.contains("\"q\""), "{strange}");

    let unanswered = message(&|setup| setup.prompts = one(r#"{"prompt": "1+1="}"#));
    assert!(
        unanswered.contains("tasks.jsonl:1") && unanswered.contains("answer"),
        "{unanswered}"
    );

    let words = message(&|setup| setup.prompts = one(r#"{"prompt": "1+1=", "answer": "two"}"#));
    assert!(
        words.contains("tasks.jsonl:1") && words.contains("\"two\""),
        "{words}"
    );

    let greedy = message(&|setup| setup.rollout.temperature = 0.0);
    assert!(
        greedy.contains("rollout.temperature: must be from 0.001"),
        "{greedy}"
    );
    assert!(message(&|setup| setup.rollout.temperature = f64::NAN).contains("temperature"));
    assert!(message(&|setup| setup.rollout.top_p = 0.0).contains("top_p"));
    assert!(message(&|setup| setup.rollout.group_size = 0).contains("group_size"));
    assert!(message(&|setup| setup.rollout.reward.timeout_seconds = 0.0).contains("timeout"));
}

#[tokio::test]
async fn a_reward_that_needs_no_answer_takes_prompts_without() {
    let stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
    let reward = ScriptedReward::failing([]);
    assert!(!reward.needs_answer());
    setup.reward = Box::new(reward);
    let row = r#"{"prompt": "1+1="}"#;
    setup.prompts =
        PromptSet::from_reader(Path::new("tasks.jsonl"), Cursor::new(row.to_owned())).unwrap();
    assert!(Worker::new(setup).is_ok());
}
