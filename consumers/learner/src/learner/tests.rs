//! Whole runs of a learner on a recorded log, in this process.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    path::Path,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vintage_control::{
    LoraSettings, Offset, Partition, PartitionResume, Plan, PolicyVersion, RecordId, RejectReason,
    Training, UpdateResult,
};
use vintage_model::{ModelConfig, ParamSet};
use vintage_settings::{Device, LearnerConfig, SourceKind};
use vintage_store::{Records, Store, Weights};
use vintage_trajectory::{BadClass, BadRecord, Identity, PolicySpan};

use super::{Learner, LearnerSummary};
use crate::{
    error::{Error, Result},
    intake::fixture,
    outlet::Outlet,
    settings::Settings,
    source::{Durability, DurableLog, Incoming, Inputs, Source},
};

mod slots;
mod stops;
mod ways;

const STEPS: u64 = 5;

/// Recorded log in memory, in its one order.
struct Recorded(std::vec::IntoIter<Incoming>);

impl Recorded {
    fn from(log: &[Incoming], resume: &[PartitionResume]) -> Self {
        let wanted = |incoming: &&Incoming| {
            let at = resume
                .iter()
                .find(|at| at.partition == incoming.record.partition);
            at.is_none_or(|at| incoming.record.offset >= at.resume)
        };
        let wanted: Vec<_> = log.iter().filter(wanted).cloned().collect();
        Self(wanted.into_iter())
    }
}

#[async_trait]
impl Source for Recorded {
    async fn next(&mut self) -> Result<Option<Incoming>> {
        // An await at which the learner can be killed, as there is when a file is read.
        tokio::task::yield_now().await;
        Ok(self.0.next())
    }

    fn is_recorded(&self) -> bool {
        true
    }
}

/// Returns a log with every case that matters for planning: groups for any update, for a specific
/// one, too early and too late; stale groups; duplicates; split groups whose parts differ in rows,
/// arrive late or never; records that cannot be read.
fn log() -> Vec<Incoming> {
    let mut log: Vec<Incoming> = Vec::new();
    let mut offsets = [0_i64; 3];
    let mut put = |partition: usize, mut incoming: Incoming| {
        incoming.record.partition = Partition(partition as i32);
        incoming.record.offset = Offset(offsets[partition]);
        offsets[partition] += 1;
        log.push(incoming);
    };
    for seq in 0..60_u64 {
        let partition = (seq % 3) as usize;
        let mut rows = [fixture::row(seq, 0), fixture::row(seq, 1)];
        for row in &mut rows {
            row.batch = match seq % 10 {
                3 => 2,
                7 => 4,
                8 => 0,
                _ => -1,
            };
            row.policy_spans[0].version = PolicyVersion(if seq == 20 { 0 } else { seq / 8 });
            row.behavior_logprobs[0] -= seq as f32 / 16.0;
        }
        if seq == 11 {
            rows[1].reward = f32::NAN;
        }
        if seq % 6 == 5 {
            put(partition, fixture::message(0, seq, (1, 2), &rows[..1]));
            if seq != 5 {
                let other = (seq % 4) as usize % 3;
                put(other, fixture::message(0, seq, (2, 2), &rows[1..]));
            }
        } else {
            put(partition, fixture::message(0, seq, (1, 1), &rows));
        }
        if seq % 7 == 6 {
            put(partition, fixture::group(0, seq - 3));
            let mut broken = fixture::group(0, 0);
            broken.message = Err(BadRecord {
                class: BadClass::BadHeaders,
                identity: Identity::default(),
                detail: "no headers".to_owned(),
            });
            put(2, broken);
        }
    }
    log
}

fn settings() -> Settings {
    let mut settings = fixture::settings();
    settings.learner = LearnerConfig {
        steps: STEPS,
        checkpoint_every: 2,
        keep_versions: 1,
        keep_checkpoints: 1,
        max_age: Some(2),
        prompts_per_update: 3,
        ..settings.learner
    };
    settings.pin_every = u64::MAX;
    settings
}

/// Settings of a learner of these logs: with an archive, one group of every update comes from it.
fn settings_of(logs: &Logs) -> Settings {
    let mut settings = settings();
    settings.learner.device = logs.device;
    if logs.blended.is_some() {
        settings.blended = Some("other".to_owned());
        settings.learner.source = SourceKind::Blend;
        settings.learner.blend_share = 1.0 / 3.0;
    }
    if logs.lora {
        settings.learner.lora = lora().lora.into();
    }
    settings
}

/// Returns settings for adapters on two kinds of layers.
fn lora() -> Training {
    Training {
        lora: Some(LoraSettings {
            rank: 2,
            alpha: 4.0,
            target_modules: vec!["q_proj".to_owned(), "down_proj".to_owned()],
        }),
        ..Training::default()
    }
}

async fn begin(folder: &Path) -> Store {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let config = ModelConfig::tiny(16);
    let params = ParamSet::init(&config, 3).unwrap();
    let files = vec![
        ("model.safetensors", params.to_safetensors().unwrap().into()),
        ("config.json", config.to_json().into_bytes().into()),
    ];
    let weights = Weights::new(store.clone(), "lead".parse().unwrap());
    let _created = weights.publish(PolicyVersion::ZERO, files).await.unwrap();
    store
}

/// Inputs and modes of one learner process: its log, and an archive that provides one group of
/// every update.
#[derive(Clone, Copy)]
struct Logs<'a> {
    own: &'a [Incoming],
    blended: Option<&'a [Incoming]>,
    lora: bool,
    device: Device,
}

impl<'a> From<&'a Vec<Incoming>> for Logs<'a> {
    fn from(own: &'a Vec<Incoming>) -> Self {
        own.as_slice().into()
    }
}

impl<'a> From<&'a [Incoming]> for Logs<'a> {
    fn from(own: &'a [Incoming]) -> Self {
        Self {
            own,
            blended: None,
            lora: false,
            device: Device::Cpu,
        }
    }
}

async fn live(store: Store, writer: String, logs: Logs<'_>) -> Result<LearnerSummary> {
    let (learner, inputs) = open(store, writer, logs).await?;
    learner.run(inputs, &CancellationToken::new()).await
}

async fn open(store: Store, writer: String, logs: Logs<'_>) -> Result<(Learner, Inputs)> {
    let (tell, _told) = mpsc::unbounded_channel();
    let name: vintage_control::Name = "lead".parse().unwrap();
    let learner = Learner::open(
        settings_of(&logs),
        writer,
        Records::new(store.clone(), name.clone()),
        Weights::new(store, name),
        Outlet::without_log(tell),
        &[],
    )
    .await?;
    let source = Recorded::from(logs.own, &learner.resume_points());
    let mut inputs = Inputs::new(Box::new(source), Box::new(DurableLog));
    if let Some(blended) = logs.blended {
        let source = Recorded::from(blended, &learner.blended_resume_points());
        inputs.blended = Some(Box::new(source));
    }
    Ok((learner, inputs))
}

/// Runs a learner process that dies at its `polls`-th await; returns `None` if it died. Disk
/// operations that it had begun are completed by then, as the kernel would complete them.
fn life<'a>(folder: &Path, polls: usize, logs: impl Into<Logs<'a>>) -> Option<LearnerSummary> {
    let logs = logs.into();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let mut learner = pin!(live(store, format!("life-{polls}"), logs));
        let mut left = polls;
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            learner.as_mut().poll(context).map(Some)
        })
        .await
        .map(|ended| ended.unwrap())
    })
}

/// Plans without their writers, results without their times, and the bytes of the last version.
type Outcome = (Vec<Plan>, Vec<UpdateResult>, Vec<u8>);

fn outcome(folder: &Path) -> Outcome {
    let read = |path: String| std::fs::read(folder.join(path)).unwrap();
    let plans = (0..STEPS).map(|update| {
        let plan: Plan =
            serde_json::from_slice(&read(format!("plans/lead/{update}.json"))).unwrap();
        Plan {
            writer: String::new(),
            ..plan
        }
    });
    let results = (0..STEPS).map(|update| {
        let result: UpdateResult =
            serde_json::from_slice(&read(format!("results/lead/{update}.json"))).unwrap();
        UpdateResult {
            wait_seconds: 0.0,
            update_seconds: 0.0,
            record_seconds: 0.0,
            finished_at_ms: 0,
            ..result
        }
    });
    let weights = read(format!("weights/lead/{STEPS}/model.safetensors"));
    (plans.collect(), results.collect(), weights)
}

fn run_in<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Checks that learners killed at every `step`-th await reach the expected outcome after a restart.
/// `dead` inspects what each leaves before the restart.
fn killed_at_every<'a>(
    step: usize,
    expected: &Outcome,
    logs: impl Fn() -> Logs<'a>,
    dead: impl Fn(&Path),
) {
    let mut polls = 1;
    loop {
        let folder = tempfile::tempdir().unwrap();
        run_in(begin(folder.path()));
        if life(folder.path(), polls, logs()).is_some() {
            break;
        }
        dead(folder.path());
        life(folder.path(), usize::MAX, logs()).unwrap();
        assert!(
            outcome(folder.path()) == *expected,
            "killed at point {polls}"
        );
        polls += step;
    }
    assert!(polls > 60, "only {polls} points");
}

/// Checks that planning on a recorded log is a function of log and seed: a learner that is killed
/// at any await and restarted writes the plans, results and weights of one that was never killed.
#[test]
fn killed_between_any_two_steps_it_plans_what_it_would_have_planned() {
    let log = log();
    let whole = tempfile::tempdir().unwrap();
    run_in(begin(whole.path()));
    let summary = life(whole.path(), usize::MAX, &log).unwrap();
    assert!(summary.finished && !summary.ended, "{summary:?}");
    let expected = outcome(whole.path());
    let reasons: Vec<_> = expected
        .0
        .iter()
        .flat_map(|plan| &plan.rejections)
        .collect();
    for reason in [
        RejectReason::Duplicate,
        RejectReason::BadHeaders,
        RejectReason::BadReward,
        RejectReason::BatchFull,
        RejectReason::TooStale,
        RejectReason::Incomplete,
    ] {
        let met = reasons.iter().any(|refused| refused.reason == reason);
        assert!(met, "{} did not occur: {reasons:#?}", reason.as_str());
    }
    let dies_at = |polls| {
        let folder = tempfile::tempdir().unwrap();
        run_in(begin(folder.path()));
        let died = life(folder.path(), polls, &log).is_none();
        if died {
            life(folder.path(), usize::MAX, &log).unwrap();
            assert!(
                outcome(folder.path()) == expected,
                "killed at point {polls}"
            );
        }
        died
    };
    // In parallel, because nearly all of the time is spent waiting for the disk.
    let mut polls = 1;
    loop {
        let died = std::thread::scope(|scope| {
            let lives = (polls..polls + 16).map(|polls| scope.spawn(move || dies_at(polls)));
            let lives: Vec<_> = lives.collect();
            let died = lives.into_iter().map(|life| life.join().unwrap());
            died.filter(|died| *died).count()
        });
        polls += died;
        if died < 16 {
            break;
        }
    }
    assert!(polls > 60, "only {polls} points");
}

/// Checks that processes in one folder, each of which dies one await later than the one before,
/// reach the outcome of a process that was never killed.
#[test]
fn killed_again_and_again_it_comes_to_the_same_end() {
    let log = log();
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_in(begin(whole.path()));
    run_in(begin(folder.path()));
    life(whole.path(), usize::MAX, &log).unwrap();
    let mut polls = 1;
    while life(folder.path(), polls, &log).is_none() {
        polls += 1;
    }
    assert!(outcome(folder.path()) == outcome(whole.path()));
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let left = run_in(store.list("checkpoints/lead")).unwrap();
    assert_eq!(left.len(), 2, "older checkpoints are pruned: {left:?}");
}

/// Checks that a recorded log that ends before all updates are done ends the learner, and that the
/// learner resumes once the log is longer and reads nothing twice.
#[test]
fn it_ends_with_the_log_and_goes_on_with_more_of_it() {
    let log = log();
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_in(begin(whole.path()));
    run_in(begin(folder.path()));
    life(whole.path(), usize::MAX, &log).unwrap();
    let first = life(folder.path(), usize::MAX, &log[..log.len() / 4]).unwrap();
    assert!(first.ended && !first.finished, "{first:?}");
    let second = life(folder.path(), usize::MAX, &log).unwrap();
    assert!(second.finished, "{second:?}");
    assert!(outcome(folder.path()) == outcome(whole.path()));
}

/// Checks that the staleness of another lineage's tokens is measured from the newest version met of
/// that lineage.
#[test]
fn staleness_is_taken_within_the_lineage_that_sampled() {
    let log: Vec<_> = (0..6_u64)
        .map(|seq| {
            let mut rows = [fixture::row(seq, 0), fixture::row(seq, 1)];
            for row in &mut rows {
                row.policy = "other".to_owned();
                row.policy_spans = vec![PolicySpan {
                    start: 0,
                    version: PolicyVersion([40, 47, 41, 42, 50, 43][seq as usize]),
                }];
            }
            fixture::message(seq as i64, seq, (1, 1), &rows)
        })
        .collect();
    let mut settings = fixture::settings();
    settings.learner.lineages = vec!["other".parse().unwrap()];
    settings.learner.max_age = Some(8);
    let mut intake = crate::intake::Intake::new(settings, &[], &BTreeMap::new());
    for incoming in &log[..5] {
        intake
            .take(incoming.clone(), crate::intake::Announced::Any)
            .unwrap();
    }
    assert_eq!(intake.known()[0].version, PolicyVersion(50));
    let chosen = intake.choose(PolicyVersion(0), 2).unwrap();
    let oldest: Vec<_> = chosen.iter().map(|group| group.min_version().0).collect();
    assert_eq!(
        oldest,
        [47, 42],
        "40 and 41 are more than 8 updates older than 50"
    );
    let reasons: Vec<_> = intake.drain_refused().iter().map(|r| r.reason).collect();
    assert_eq!(reasons, [RejectReason::TooStale; 2]);
}
