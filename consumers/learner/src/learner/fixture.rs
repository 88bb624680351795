//! Whole runs of a learner on a recorded log, in this process, for tests. Those of
//! `consumers/learner-gpu` include it.

use std::{
    future::{Future, poll_fn},
    path::Path,
    pin::pin,
    task::Poll,
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vintage_control::{
    LoraSettings, Offset, Partition, PartitionResume, Plan, PolicyVersion, Training, UpdateResult,
};
use vintage_learner::{
    CpuOnly, Devices, DurableLog, Extent, Incoming, Inputs, Learner, LearnerSettings,
    LearnerSummary, Outlet, Recording, Replayed, Result, RolloutSource, replay,
};
use vintage_model::{DecoderConfig, ParamSet};
use vintage_settings::{Device, LearnerConfig, PublishConfig, SourceKind};
use vintage_store::{Records, Store, Weights};
use vintage_trajectory::{BadClass, BadRecord, Identity};

use crate::intake::fixture;

pub(crate) const STEPS: u64 = 5;

/// Recorded log in memory, in its one order. Parts of it are at hand, so that an update is recorded
/// while the next is computed, and parts have to be waited for.
pub(crate) struct Recorded(std::vec::IntoIter<Incoming>);

impl Recorded {
    pub(crate) fn from(log: &[Incoming], resume: &[PartitionResume]) -> Self {
        let wanted = |incoming: &&Incoming| {
            let at = resume
                .iter()
                .find(|at| at.partition == incoming.record.partition);
            at.is_none_or(|at| incoming.record.offset >= at.resume)
        };
        let wanted: Vec<_> = log.iter().filter(wanted).cloned().collect();
        Self(wanted.into_iter())
    }

    fn is_at_hand(&self) -> bool {
        let next = self.0.as_slice().first();
        next.is_some_and(|next| next.record.offset.0 % 8 >= 4)
    }
}

#[async_trait]
impl RolloutSource for Recorded {
    async fn next(&mut self) -> Result<Option<Incoming>> {
        let is_at_hand = self.is_at_hand();
        let next = self.0.next();
        if !is_at_hand {
            // An await at which the learner can be killed, as there is when a file is read.
            tokio::task::yield_now().await;
        }
        Ok(next)
    }

    fn at_hand(&mut self) -> Result<Option<Incoming>> {
        let is_at_hand = self.is_at_hand();
        Ok(is_at_hand.then(|| self.0.next()).flatten())
    }

    fn is_recorded(&self) -> bool {
        true
    }
}

/// Returns a log with every case that matters for planning: groups for any update, for a specific
/// one, too early and too late; stale groups; duplicates; split groups whose parts differ in rows,
/// arrive late or never; records that cannot be read.
pub(crate) fn log() -> Vec<Incoming> {
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

pub(crate) fn settings() -> LearnerSettings {
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
pub(crate) fn settings_of(logs: &Logs) -> LearnerSettings {
    let mut settings = settings();
    settings.learner.device = logs.device;
    if logs.blended.is_some() {
        settings.blended = Some("other".to_owned());
        settings.learner.source = SourceKind::Blend;
        settings.learner.blend_share = 1.0 / 3.0;
    }
    settings.learner.publish = logs.publish;
    if logs.lora {
        settings.learner.lora = lora().lora.into();
    }
    (logs.adjust)(&mut settings.learner);
    settings
}

/// Returns settings for adapters on two kinds of layers.
pub(crate) fn lora() -> Training {
    Training {
        lora: Some(LoraSettings {
            rank: 2,
            alpha: 4.0,
            target_modules: vec!["q_proj".to_owned(), "down_proj".to_owned()],
        }),
        ..Training::default()
    }
}

pub(crate) async fn begin(folder: &Path) -> Store {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let config = DecoderConfig::tiny(16);
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
pub(crate) struct Logs<'a> {
    pub(crate) own: &'a [Incoming],
    pub(crate) blended: Option<&'a [Incoming]>,
    pub(crate) lora: bool,
    pub(crate) publish: PublishConfig,
    /// Changes more settings.
    pub(crate) adjust: fn(&mut LearnerConfig),
    pub(crate) device: Device,
    pub(crate) devices: &'static dyn Devices,
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
            publish: PublishConfig::default(),
            adjust: |_| {},
            device: Device::Cpu,
            devices: &CpuOnly,
        }
    }
}

pub(crate) async fn live(store: Store, writer: String, logs: Logs<'_>) -> Result<LearnerSummary> {
    let (learner, inputs) = open(store, writer, logs).await?;
    learner.run(inputs, &CancellationToken::new()).await
}

pub(crate) async fn open(
    store: Store,
    writer: String,
    logs: Logs<'_>,
) -> Result<(Learner, Inputs)> {
    let (tell, _events) = mpsc::unbounded_channel();
    let name: vintage_control::Name = "lead".parse().unwrap();
    let learner = Learner::open(
        settings_of(&logs),
        writer,
        Records::new(store.clone(), name.clone()),
        Weights::new(store, name),
        Outlet::without_log(tell),
        &[],
        logs.devices,
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
pub(crate) fn run_process<'a>(
    folder: &Path,
    polls: usize,
    logs: impl Into<Logs<'a>>,
) -> Option<LearnerSummary> {
    let logs = logs.into();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let mut learner = pin!(live(store, format!("process-{polls}"), logs));
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
pub(crate) type RunRecords = (Vec<Plan>, Vec<UpdateResult>, Vec<u8>);

pub(crate) fn outcome(folder: &Path) -> RunRecords {
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

pub(crate) fn run_in<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Checks that learners killed at every `step`-th await reach the expected outcome after a restart.
/// `dead` inspects what each leaves before the restart.
pub(crate) fn killed_at_every<'a>(
    step: usize,
    expected: &RunRecords,
    logs: impl Fn() -> Logs<'a>,
    dead: impl Fn(&Path),
) {
    let mut polls = 1;
    loop {
        let folder = tempfile::tempdir().unwrap();
        run_in(begin(folder.path()));
        if run_process(folder.path(), polls, logs()).is_some() {
            break;
        }
        dead(folder.path());
        run_process(folder.path(), usize::MAX, logs()).unwrap();
        assert!(
            outcome(folder.path()) == *expected,
            "killed at point {polls}"
        );
        polls += step;
    }
    assert!(polls > 60, "only {polls} points");
}

/// Replays what a learner did in `folder`.
pub(crate) fn replayed(folder: &Path, log: &[Incoming], devices: &'static dyn Devices) -> Replayed {
    run_in(async {
        let store = Store::open(folder.to_str().unwrap()).unwrap();
        let name: vintage_control::Name = "lead".parse().unwrap();
        let extent = Extent::read(&store, &name, &name).await.unwrap();
        let recording = Recording {
            source: &mut Recorded::from(log, &[]),
            start: &[],
            blended: None,
            extent: &extent,
        };
        let (records, weights) = (
            Records::new(store.clone(), name.clone()),
            Weights::new(store, name),
        );
        replay(&records, &weights, recording, devices, |_| {})
            .await
            .unwrap()
    })
}
