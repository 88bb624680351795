//! Tests of what a producer makes of grants, and of its reports.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};
use vintage_control::{Fault, Grants, ProducerWindow};

use super::{
    lead::{LEAD, any, numbers},
    scripted::{Script, ScriptedEngine},
    stage::{CALL, PATIENCE, Stage, slots, start},
};
use crate::{Error, ProducerEvent};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_producer_ends_with_the_reason() {
    // One is refused at once, before any announcement; the other one after its first groups.
    for groups in [0, 2] {
        let mut stage = Stage::new().await;
        let mut running = start(stage.setup(ScriptedEngine::new(Script::default())));
        let id = running.id.clone();
        if groups > 0 {
            stage.version(0).await;
            stage.grant(&id, &any(0..groups, 0)).await;
            running.until_sampled(groups).await;
        }
        stage.refuse("another-producer", "another reason").await;
        stage.refuse(&id, "its prompts differ from the run's").await;
        let error = running.end().await.unwrap_err();
        assert_eq!(error.fault(), Fault::User);
        let message = error.to_string();
        assert!(
            message.contains("refuses") && message.contains("its prompts differ from the run's"),
            "{message}"
        );
        let Error::Refused { reason } = error else {
            panic!("{message}")
        };
        assert_eq!(reason, "its prompts differ from the run's");
        // What was sampled before is in the log.
        let sampled: Vec<_> = (0..groups).collect();
        assert_eq!(slots(&stage.groups(groups as usize).await), sampled);
        assert!(numbers(&stage.last_report(&id).await.held).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_of_a_replaced_lead_are_ignored() {
    let mut stage = Stage::new().await;
    let mut running = start(stage.setup(ScriptedEngine::new(Script::default())));
    let id = running.id.clone();
    stage.version(0).await;
    let of = |lead, number, slots: &[u64]| {
        let leases = any(slots.iter().copied(), 0);
        stage.grants(lead, number, &id, &leases)
    };
    let first = of("l1", 5, &[0, 1, 2]);
    let second = of("l2", 1, &[3, 4]);
    let ignored = [
        // The first lead was cut off and does not know that it is replaced.
        of("l1", 6, &[90, 91]),
        Grants {
            withdrawn: ProducerWindow::default(),
            refused: Some("nobody knows you".to_owned()),
            ..of("l1", 7, &[])
        },
        // A record of the second lead that is repeated, and one that is older.
        of("l2", 1, &[92]),
        of("l2", 0, &[93]),
    ];
    let third = of("l2", 2, &[5, 6]);

    stage.publish_grants(&first).await;
    let mut groups = stage.groups(3).await;
    stage.publish_grants(&second).await;
    groups.extend(stage.groups(2).await);
    for grants in &ignored {
        stage.publish_grants(grants).await;
    }
    stage.publish_grants(&third).await;
    groups.extend(stage.groups(2).await);
    let report = stage
        .report_of(&id, |report| {
            report.grants_read.map(|read| read.record) == Some(2)
        })
        .await;
    let held = numbers(&report.held);
    assert!(held.iter().all(|slot| [5, 6].contains(slot)), "{held:?}");
    running.until_sampled(7).await;
    stage.finish().await;
    assert_eq!(running.end().await.unwrap().groups, 7);
    assert_eq!(slots(&groups), [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_takes_over_by_its_record_for_any_producer() {
    let mut stage = Stage::new().await;
    let mut running = start(stage.setup(ScriptedEngine::new(Script::default())));
    let id = running.id.clone();
    stage.version(0).await;
    let other = stage.grants("l2", 1, "another-producer", &[]);
    let late = stage.grants("l1", 2, &id, &any([90], 0));
    let own = stage.grants("l2", 2, &id, &any([1], 0));
    stage
        .publish_grants(&stage.grants("l1", 1, &id, &any([0], 0)))
        .await;
    running.until_sampled(1).await;
    stage.publish_grants(&other).await;
    stage.publish_grants(&late).await;
    stage.publish_grants(&own).await;
    running.until_sampled(1).await;
    assert_eq!(slots(&stage.groups(2).await), [0, 1]);
    stage.finish().await;
    assert_eq!(running.end().await.unwrap().groups, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_withdrawn_before_it_was_begun_is_not_sampled() {
    let mut stage = Stage::new().await;
    let hold = Arc::new(Semaphore::new(0));
    let script = Script {
        hold: Some(Arc::clone(&hold)),
        ..Default::default()
    };
    let mut running = start(stage.setup(ScriptedEngine::new(script)));
    let id = running.id.clone();
    stage.version(0).await;
    let number = stage.grant(&id, &any(0..9, 0)).await;
    let report = stage
        .report_of(&id, |report| {
            report.grants_read.map(|read| read.record) == Some(number)
        })
        .await;
    assert_eq!(numbers(&report.held), (0..9).collect::<Vec<_>>());
    let groups = CALL as u64;
    running
        .until(|event| *event == ProducerEvent::Sampling { groups })
        .await;
    // Slots 0 to 2 are being sampled; slot 2 is taken away all the same.
    let left = [0, 1, 3, 4, 5, 9];
    let number = stage.grant(&id, &any(left, 0)).await;
    let report = stage
        .report_of(&id, |report| {
            report.grants_read.map(|read| read.record) == Some(number)
        })
        .await;
    assert_eq!(numbers(&report.held), left);
    hold.add_permits(100);
    // Slot 2 comes late, which the learner notices.
    let groups = stage.groups(7).await;
    assert_eq!(slots(&groups), [0, 1, 2, 3, 4, 5, 9]);
    let report = stage
        .report_of(&id, |report| numbers(&report.held).is_empty())
        .await;
    for none in [&report.failed, &report.given_back] {
        assert!(numbers(none).is_empty(), "{report:?}");
    }
    stage.finish().await;
    assert_eq!(running.end().await.unwrap().groups, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_granted_again_while_it_is_sampled_is_sampled_once() {
    let mut stage = Stage::new().await;
    let hold = Arc::new(Semaphore::new(0));
    let script = Script {
        hold: Some(Arc::clone(&hold)),
        ..Default::default()
    };
    let mut running = start(stage.setup(ScriptedEngine::new(script)));
    let id = running.id.clone();
    stage.version(0).await;
    stage.grant(&id, &any([0, 1], 0)).await;
    running
        .until(|event| *event == ProducerEvent::Sampling { groups: 2 })
        .await;
    stage.grant(&id, &[]).await;
    let number = stage.grant(&id, &any(0..4, 0)).await;
    let report = stage
        .report_of(&id, |report| {
            report.grants_read.map(|read| read.record) == Some(number)
        })
        .await;
    assert_eq!(numbers(&report.held), [0, 1, 2, 3]);
    hold.add_permits(100);
    assert_eq!(slots(&stage.groups(4).await), [0, 1, 2, 3]);
    stage
        .report_of(&id, |report| numbers(&report.held).is_empty())
        .await;
    stage.finish().await;
    assert_eq!(running.end().await.unwrap().groups, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_waits_for_the_announcement_of_its_version() {
    let mut stage = Stage::new().await;
    let engine = ScriptedEngine::new(Script::default());
    let loads = engine.loads();
    let mut running = start(stage.setup(engine));
    let id = running.id.clone();
    // Nothing is announced yet.
    let leases = [(0, 0, 0), (1, 0, 0), (8, 2, 1), (12, 3, 2)];
    let number = stage.grant(&id, &leases).await;
    let report = stage
        .report_of(&id, |report| {
            report.grants_read.map(|read| read.record) == Some(number)
        })
        .await;
    assert_eq!(numbers(&report.held), [0, 1, 8, 12]);
    for (version, slots_of_it) in [(0, vec![0, 1]), (1, vec![8]), (2, vec![12])] {
        stage.version(version).await;
        running.until_sampled(slots_of_it.len() as u64).await;
        running.until_waiting_at(version).await;
        let groups = stage.groups(slots_of_it.len()).await;
        assert_eq!(slots(&groups), slots_of_it);
        for group in groups {
            assert_eq!(group.headers.max_policy_version.0, version);
        }
    }
    running.cancel.cancel();
    assert_eq!(running.end().await.unwrap().groups, 4);
    assert_eq!(*loads.lock().unwrap(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_repeat_while_nothing_changes() {
    let mut stage = Stage::new().await;
    let hold = Arc::new(Semaphore::new(0));
    let script = Script {
        hold: Some(Arc::clone(&hold)),
        ..Default::default()
    };
    let running = start(stage.setup(ScriptedEngine::new(script)));
    let id = running.id.clone();
    stage.version(0).await;
    let number = stage.grant(&id, &any([3], 0)).await;
    stage
        .report_of(&id, |report| {
            report.grants_read.map(|read| read.record) == Some(number)
        })
        .await;
    // The group is being sampled all the time.
    let mut reports = Vec::new();
    for _ in 0..3 {
        reports.push(stage.next_report(&id).await);
    }
    for report in &reports {
        let heartbeat = &report.heartbeat;
        assert_eq!(heartbeat.grants_read.map(|read| read.record), Some(number));
        assert_eq!(numbers(&heartbeat.held), [3]);
        assert!(!heartbeat.leaving);
    }
    let gaps = reports
        .windows(2)
        .map(|pair| pair[1].sent_ms - pair[0].sent_ms);
    // A busy machine may delay one of them, but not all.
    let gap = Duration::from_millis(gaps.min().unwrap() as u64);
    let wanted = Duration::from_millis(500)..=Duration::from_millis(1_900);
    assert!(wanted.contains(&gap), "{gap:?}");
    hold.add_permits(1);
    stage.groups(1).await;
    running.cancel.cancel();
    running.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_of_one_run_agree_on_what_a_slot_is() {
    let mut stage = Stage::new().await;
    let mut digests = Vec::new();
    for change in 0..4 {
        let mut setup = stage.setup(ScriptedEngine::new(Script::default()));
        match change {
            2 => setup.seed += 1,
            3 => setup.rollout.group_size += 1,
            _ => {}
        }
        let running = start(setup);
        digests.push(stage.next_report(&running.id).await.heartbeat.slots_sha256);
        running.cancel.cancel();
        running.end().await.unwrap();
    }
    assert_eq!(digests[0], digests[1], "two processes of the same settings");
    let different: BTreeSet<_> = digests.iter().map(ToString::to_string).collect();
    assert_eq!(different.len(), 3, "{digests:?}");
}

// Fails: groups of a call that is given up before the engine was asked are neither published nor
// failed, and the last report says that they are held instead of given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_before_anything_was_sampled_gives_back_the_call() {
    let mut stage = Stage::new().await;
    let script = Script {
        pruned: BTreeSet::from([1]),
        ..Default::default()
    };
    let engine = ScriptedEngine::new(script);
    let mut asked = engine.asked();
    let running = start(stage.setup(engine));
    let id = running.id.clone();
    stage.version(1).await;
    stage
        .publish_grants(&stage.grants(LEAD, 1, &id, &any(0..4, 1)))
        .await;
    // Version 1 is pruned, and the producer waits for another one.
    timeout(PATIENCE, asked.wait_for(|version| *version == 1))
        .await
        .unwrap()
        .unwrap();
    running.cancel.cancel();
    assert_eq!(running.end().await.unwrap().groups, 0);
    let last = stage.last_report(&id).await;
    assert_eq!(numbers(&last.given_back), [0, 1, 2, 3], "{last:?}");
    assert!(numbers(&last.held).is_empty(), "{last:?}");
}
