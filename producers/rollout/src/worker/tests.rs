mod announced;
mod scripted;
mod stage;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    path::Path,
    sync::Arc,
};

use tokio::time::timeout;
use vintage_control::PolicyVersion;
use vintage_settings::{GateConfig, RewardConfig};

use super::{Worker, WorkerSetup};
use crate::{
    claims::Claims, error::Error, event::ProducerEvent, gate::Filled, journal::read_journals,
    prompts::PromptSet, reward::Reward, select::Selector,
};
use scripted::{Script, ScriptedEngine, ScriptedReward};
use stage::{BATCH, GROUP, Group, PATIENCE, SEED, Stage, exact, prompts, start, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_numbered_without_gaps_and_say_what_they_are() {
    let mut stage = Stage::new().await;
    let engine = ScriptedEngine::new(Script::default());
    let mut running = start(stage.setup(engine, wait(1)));

    // Records of other lineages, and those that cannot be read, are skipped.
    stage.publish_policy(b"{not json").await;
    stage
        .announce(|record| record.policy = "other".parse().unwrap())
        .await;
    stage.version(0).await;
    running.until_closed_at(0).await;
    let mut groups = stage.groups(8).await;
    stage
        .announce(|record| {
            record.version = PolicyVersion(1);
            // Rejected foreign bytes were never counted by a gate, and free no place in it.
            (record.groups_rejected, record.numbered_rejections) = (1002, Some(2));
        })
        .await;
    groups.extend(stage.groups(6).await);
    running.until_closed_at(1).await;
    stage.finish().await;
    let id = running.id.clone();
    let summary = running.end().await.unwrap();

    let mut selector = Selector::new(SEED, 7);
    let set = prompts(7);
    for (index, group) in groups.iter().enumerate() {
        let (headers, rows) = (&group.headers, &group.rows);
        assert_eq!(headers.producer_seq, index as u64);
        assert_eq!((&headers.producer, headers.run.as_str()), (&id, "gate-run"));
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
        assert_eq!(group.slot(), index as u64);
        let prompt = &set.prompts()[selector.prompt_of(index as u64)];
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
    assert_eq!(journals, BTreeMap::from([(id, (0..14).collect())]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_life_samples_the_same_content_for_the_same_slots() {
    // First run, without interruption.
    let mut stage = Stage::new().await;
    let engine = ScriptedEngine::new(Script::default());
    let loads = engine.loads();
    let mut setup = stage.setup(engine, exact(1));
    setup.updates = Some(4);
    let mut running = start(setup);
    stage.version(0).await;
    let mut whole = stage.groups(8).await;
    stage.version(2).await;
    whole.extend(stage.groups(8).await);
    running.until_closed_at(2).await;
    running.cancel.cancel();
    running.end().await.unwrap();
    assert_eq!(*loads.lock().unwrap(), [1, 2]);
    for (index, group) in whole.iter().enumerate() {
        let batch = index as i64 / BATCH as i64;
        assert_eq!((group.headers.batch, group.slot()), (batch, index as u64));
        let sampler = PolicyVersion((batch as u64).saturating_sub(1));
        assert_eq!(group.headers.max_policy_version, sampler);
    }

    // In a second run the producer stops in the middle and another one continues.
    let mut stage = Stage::new().await;
    let setup = stage.setup(ScriptedEngine::new(Script::default()), exact(1));
    let mut running = start(setup);
    stage.version(0).await;
    running.until_closed_at(0).await;
    running.cancel.cancel();
    let first = running.end().await.unwrap();
    assert_eq!(first.groups, 8);
    stage.groups(8).await;
    // Assume that two groups of batch 1 were lost with the log.
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), exact(1));
    let filled = |slots: std::ops::Range<u64>| Filled {
        groups: slots.end - slots.start,
        slots: slots.collect(),
    };
    setup.base.filled = BTreeMap::from([(0, filled(0..4)), (1, filled(4..6))]);
    setup.updates = Some(4);
    // Old record after version 0 in the log, which must not count as fresh.
    stage.version(2).await;
    let mut running = start(setup);
    let again = stage.groups(8).await;
    running.until_closed_at(2).await;
    running.cancel.cancel();
    let second = running.end().await.unwrap();
    assert_ne!(first.producer, second.producer);
    assert_eq!(second.groups, 8);
    // At version 2 the learner has trained batches 0 and 1.
    for (old, new) in whole[8..].iter().zip(&again) {
        assert_ne!(old.headers.group, new.headers.group);
        assert_eq!(old.headers.batch, new.headers.batch);
        for (old, new) in old.rows.iter().zip(&new.rows) {
            assert_eq!(old.prompt_tokens, new.prompt_tokens);
            assert_eq!(old.completion_tokens, new.completion_tokens);
            assert_eq!(old.reward, new.reward);
        }
    }
    assert_eq!(again[0].headers.producer_seq, 0);
}

/// Samples at slots 0 to 7 of a producer process with this index.
async fn sampled(gate: GateConfig, life: Option<u64>) -> Vec<(Vec<i32>, Vec<Vec<i32>>)> {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), gate);
    setup.life = life;
    let mut running = start(setup);
    stage.version(0).await;
    let groups = stage.groups(8).await;
    running.until_closed_at(0).await;
    running.cancel.cancel();
    running.end().await.unwrap();
    let slots: Vec<_> = groups.iter().map(Group::slot).collect();
    assert_eq!(slots, (0..8).collect::<Vec<_>>());
    let completions = |group: &Group| {
        let rows = group.rows.iter();
        rows.map(|row| row.completion_tokens.clone()).collect()
    };
    groups
        .iter()
        .map(|group| (group.rows[0].prompt_tokens.clone(), completions(group)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_at_the_same_slots_sample_the_same_only_under_the_exact_rule() {
    // Two producers that start together and do not know of each other.
    let first = sampled(wait(1), None).await;
    let second = sampled(wait(1), None).await;
    // By chance one group in 1000 is equal: one digit for each of three samples.
    let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert!(same < 4, "{same} of 8 groups are the same: {first:?}");
    // The only producer of a run, and the next process of it.
    let alone = sampled(wait(1), Some(0)).await;
    assert_eq!(alone, sampled(wait(1), Some(0)).await);
    let next = sampled(wait(1), Some(1)).await;
    assert_ne!(alone, next);
    let prompts = |groups: &[(Vec<i32>, Vec<Vec<i32>>)]| {
        let prompts = groups.iter().map(|(prompt, _)| prompt.clone());
        prompts.collect::<Vec<_>>()
    };
    assert_eq!(prompts(&alone), prompts(&next), "a slot has one prompt");
    assert_eq!(prompts(&alone), prompts(&first));
    assert_eq!(
        sampled(exact(1), None).await,
        sampled(exact(1), Some(1)).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_a_reward_is_not_numbered_and_made_up_for() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), exact(0));
    // The second and the third group that the reward sees fail.
    setup.reward = Box::new(ScriptedReward::failing([1, 2]));
    let mut running = start(setup);
    stage.version(0).await;
    let groups = stage.groups(4).await;
    stage.finish().await;
    running
        .until(|event| matches!(event, ProducerEvent::RewardFailed { .. }))
        .await;
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
    let slots: BTreeSet<_> = groups.iter().map(Group::slot).collect();
    assert!(
        !slots.contains(&1) && !slots.contains(&2) && slots.len() == 4,
        "{slots:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_failures_stop_the_run() {
    let stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(9));
    setup.reward = Box::new(ScriptedReward::failing(0..1000));
    setup.rollout.reward = RewardConfig {
        max_failed_groups: 3,
        ..Default::default()
    };
    let running = start(setup);
    stage.version(0).await;
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_and_publishes_what_runs() {
    let mut stage = Stage::new().await;
    let mut script = Script::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    script.hold = Some(Arc::clone(&gate));
    let mut running = start(stage.setup(ScriptedEngine::new(script), wait(9)));
    stage.version(0).await;
    // One call is done, and the second runs when the stop comes.
    gate.add_permits(1);
    running
        .until(|event| matches!(event, ProducerEvent::Sampled { .. }))
        .await;
    running.cancel.cancel();
    gate.add_permits(100);
    let summary = running.end().await.unwrap();
    assert!(
        summary.groups == 3 || summary.groups == 6,
        "{}",
        summary.groups
    );
    assert_eq!(
        stage.groups(summary.groups as usize).await.len() as u64,
        summary.groups
    );
    let journals = read_journals(stage.journals.path()).unwrap();
    assert_eq!(journals[&summary.producer], (0..summary.groups).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampling_does_not_wait_for_rewards() {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(9));
    let held = Arc::new(tokio::sync::Semaphore::new(0));
    setup.reward = Box::new(ScriptedReward::held(Arc::clone(&held)));
    let mut running = start(setup);
    stage.version(0).await;
    // Nothing is scored yet, and the engine is at its second call already.
    running
        .until(|event| matches!(event, ProducerEvent::Sampled { .. }))
        .await;
    running
        .until(|event| matches!(event, ProducerEvent::Sampled { .. }))
        .await;
    held.add_permits(1000);
    assert_eq!(stage.groups(40).await.len(), 40);
    running.cancel.cancel();
    running.end().await.unwrap();
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
    let running = start(stage.setup(engine, wait(0)));
    stage.version(1).await;
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

    // The exact rule needs that very version.
    let stage = Stage::new().await;
    let running = start(stage.setup(ScriptedEngine::new(script), exact(0)));
    stage.version(1).await;
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
    let mut setup = stage.setup(ScriptedEngine::new(script), wait(0));
    setup.rollout.max_tokens = 60_000;
    setup.groups_per_update = 1;
    let running = start(setup);
    stage.announce(|record| record.groups_per_update = 1).await;
    let groups = stage.groups(1).await;
    running.cancel.cancel();
    let summary = running.end().await.unwrap();
    assert!(groups[0].parts > 1);
    assert_eq!(groups[0].rows.len(), usize::from(GROUP));
    assert_eq!(summary.groups, 1);
    let journals = read_journals(stage.journals.path()).unwrap();
    assert_eq!(journals[&summary.producer], [0].into_iter().collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_before_anything_is_sent() {
    let stage = Stage::new().await;
    let message = |change: &dyn Fn(&mut WorkerSetup)| {
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(0));
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
    assert!(message(&|setup| setup.publish_every = 3).contains("max_staleness"));
}

#[tokio::test]
async fn a_reward_that_needs_no_answer_takes_prompts_without() {
    let stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(0));
    let reward = ScriptedReward::failing([]);
    assert!(!reward.needs_answer());
    setup.reward = Box::new(reward);
    let row = r#"{"prompt": "1+1="}"#;
    setup.prompts =
        PromptSet::from_reader(Path::new("tasks.jsonl"), Cursor::new(row.to_owned())).unwrap();
    assert!(Worker::new(setup).is_ok());
}

/// Ids of the prompts of some groups.
fn asked(groups: &[Group]) -> BTreeMap<String, u64> {
    let mut asked = BTreeMap::new();
    for group in groups {
        *asked.entry(group.rows[0].prompt_id.clone()).or_insert(0) += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_asks_what_those_before_it_left() {
    let mut stage = Stage::new().await;
    stage.version(0).await;
    let mut published = Vec::new();
    // Seven prompts, four groups per process: the second one's last group begins the second epoch.
    for life in 0..2 {
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(life));
        setup.life = Some(life);
        setup.base.published_before = published.len() as u64;
        setup.base.asked = asked(&published);
        let mut running = start(setup);
        published.extend(stage.groups(BATCH as usize).await);
        running.until_closed_at(0).await;
        running.cancel.cancel();
        running.end().await.unwrap();
    }
    let counts = asked(&published);
    assert_eq!(counts.len(), 7, "every prompt was asked: {counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_producers_of_one_folder_ask_different_prompts() {
    let mut stage = Stage::new().await;
    let mut setups = Vec::new();
    for _ in 0..2 {
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()), wait(0));
        setup.life = None;
        setup.prompts = prompts(2 * BATCH as usize);
        setup.claims = Some(Claims::open(stage.journals.path()).unwrap());
        setups.push(setup);
    }
    let running: Vec<_> = setups.into_iter().map(start).collect();
    stage.version(0).await;
    let groups = stage.groups(2 * BATCH as usize).await;
    for running in running {
        running.cancel.cancel();
        running.end().await.unwrap();
    }
    let counts = asked(&groups);
    assert!(counts.len() == groups.len(), "{counts:?}");
}
