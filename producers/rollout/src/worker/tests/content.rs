//! Tests of what is sampled for a slot: the same, whichever process samples it.

use vintage_control::{PolicyVersion, Precision};

use super::{
    lead::{LeaseOf, any, exact},
    scripted::{LOGPROB, Script, ScriptedEngine},
    stage::{BATCH, Group, SEED, Stage, slots, start},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_life_samples_the_same_content_for_the_same_slots() {
    // First run, without interruption.
    let mut stage = Stage::new().await;
    let engine = ScriptedEngine::new(Script::default());
    let loads = engine.loads();
    let mut running = start(stage.setup(engine));
    stage.version(0).await;
    stage.grant(&running.id, &exact(0..8, 1)).await;
    let mut whole = stage.groups(8).await;
    stage.version(2).await;
    stage.grant(&running.id, &exact(8..16, 1)).await;
    whole.extend(stage.groups(8).await);
    running.until_waiting_at(2).await;
    running.cancel.cancel();
    running.end().await.unwrap();
    assert_eq!(*loads.lock().unwrap(), [1, 2]);
    for (index, group) in whole.iter().enumerate() {
        let batch = index as i64 / BATCH as i64;
        assert_eq!((group.headers.batch, group.slot()), (batch, index as u64));
        let sampler = PolicyVersion((batch as u64).saturating_sub(1));
        assert_eq!(
            (
                group.headers.min_policy_version,
                group.headers.max_policy_version
            ),
            (sampler, sampler)
        );
    }

    // In a second run the producer stops in the middle and another one continues.
    let mut stage = Stage::new().await;
    let setup = stage.setup(ScriptedEngine::new(Script::default()));
    let mut running = start(setup);
    stage.version(0).await;
    stage.grant(&running.id, &exact(0..8, 1)).await;
    running.until_sampled(8).await;
    running.cancel.cancel();
    let first = running.end().await.unwrap();
    assert_eq!(first.groups, 8);
    stage.groups(8).await;
    let setup = stage.setup(ScriptedEngine::new(Script::default()));
    // Old record after version 0 in the log.
    stage.version(2).await;
    let mut running = start(setup);
    // Assume that two groups of batch 1 were lost with the log.
    stage.grant(&running.id, &exact(6..14, 1)).await;
    let again = stage.groups(8).await;
    running.until_sampled(8).await;
    running.until_waiting_at(2).await;
    running.cancel.cancel();
    let second = running.end().await.unwrap();
    assert_ne!(first.producer, second.producer);
    assert_eq!(second.groups, 8);
    for (old, new) in whole[6..].iter().zip(&again) {
        assert_ne!(old.headers.group, new.headers.group);
        assert_eq!(old.headers.batch, new.headers.batch);
        assert_eq!(old.slot(), new.slot());
        for (old, new) in old.rows.iter().zip(&new.rows) {
            assert_eq!(old.policy_spans, new.policy_spans);
            assert_eq!(old.prompt_tokens, new.prompt_tokens);
            assert_eq!(old.completion_tokens, new.completion_tokens);
            assert_eq!(old.reward, new.reward);
        }
    }
    assert_eq!(again[0].headers.producer_seq, 0);
}

/// Samples of a producer of version 0, by slot, for these leases.
async fn sampled(leases: &[LeaseOf], seed: u64) -> Vec<(Vec<i32>, Vec<Vec<i32>>)> {
    let mut stage = Stage::new().await;
    let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
    setup.seed = seed;
    let running = start(setup);
    stage.version(0).await;
    stage.grant(&running.id, leases).await;
    let groups = stage.groups(leases.len()).await;
    running.cancel.cancel();
    running.end().await.unwrap();
    let granted: Vec<_> = leases.iter().map(|lease| lease.0).collect();
    assert_eq!(slots(&groups), granted);
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
async fn lives_at_the_same_slots_sample_the_same_under_both_rules() {
    let leases = any(0..8, 0);
    let first = sampled(&leases, SEED).await;
    assert_eq!(first, sampled(&leases, SEED).await);
    // The calls are cut elsewhere, and the update is another.
    assert_eq!(first[1..], sampled(&any(1..8, 0), SEED).await);
    assert_eq!(first, sampled(&exact(0..8, 1), SEED).await);
    // By chance one group in 1000 is equal: one digit for each of three samples.
    let same = |other: &[(Vec<i32>, Vec<Vec<i32>>)]| {
        let pairs = first.iter().zip(other);
        pairs.filter(|((_, a), (_, b))| a == b).count()
    };
    assert!(same(&sampled(&leases, SEED + 1).await) < 4, "another seed");
    // Slots 7 epochs later have the same seven prompts in another order.
    assert!(
        same(&sampled(&any(49..57, 0), SEED).await) < 4,
        "other slots"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_probs_are_rounded_when_asked() {
    for (precision, published) in [(Precision::F32, LOGPROB), (Precision::Bf16, -2.5)] {
        let mut stage = Stage::new().await;
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
        setup.rollout.logprob_precision = precision;
        let running = start(setup);
        stage.version(0).await;
        stage.grant(&running.id, &any(0..1, 0)).await;
        let groups = stage.groups(1).await;
        running.cancel.cancel();
        running.end().await.unwrap();
        for row in &groups[0].rows {
            assert_eq!(row.behavior_logprobs, [published]);
        }
    }
}
